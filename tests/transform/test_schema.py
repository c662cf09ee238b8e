"""The declared columns are those that the SQL makes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from fluxforge.errors import TableError
from fluxforge.etl.commit import ledger_rows
from fluxforge.sources import get_source, source_names
from fluxforge.sources.tables import Channel
from fluxforge.transform.accounts import Account
from fluxforge.transform.database import open_database, sql
from fluxforge.transform.schema import BOOKKEEPING, bookkeeping_columns, table_schemas
from fluxforge.transform.transform import SegmentRows

if TYPE_CHECKING:
    from pathlib import Path

KINDS = {"TIMESTAMP WITH TIME ZONE": "TIMESTAMPTZ"}


@pytest.mark.parametrize("source", source_names())
def test_each_column_that_the_sql_makes_is_declared_with_its_type(
    source: str, tmp_path: Path
) -> None:
    tables = get_source(source).tables
    with open_database(tmp_path) as database:
        nothing = tmp_path / "segment.ndjson"
        nothing.write_bytes(b"")
        SegmentRows(database, [nothing], tables, tmp_path).read()
        for channel in tables.channels.values():
            made = database.execute(f"DESCRIBE {channel.sql}").fetchall()
            types = {name: KINDS.get(kind, kind) for name, kind, *_ in made}
            assert types.pop("line_no") == "BIGINT", channel.name
            assert types.items() <= channel.columns.items(), channel.name
            assert set(channel.key) <= set(types), channel.name


def test_the_sql_of_the_bookkeeping_makes_every_declared_column(tmp_path: Path) -> None:
    tables = get_source("coinbase").tables
    with open_database(tmp_path) as database:
        SegmentRows(database, [], tables, tmp_path)
        account = Account("digest", 0, 0, 0, 0)
        database.register("accounts", ledger_rows({"segment": account}))
        for name in BOOKKEEPING:
            made = database.execute(f"DESCRIBE {sql(name)}").fetchall()
            types = {column: KINDS.get(kind, kind) for column, kind, *_ in made}
            types.pop("file", None)
            assert types | {"date": "DATE"} == bookkeeping_columns(name)


def test_schemas_are_known_without_a_database(monkeypatch: pytest.MonkeyPatch) -> None:
    table_schemas.cache_clear()
    monkeypatch.setitem(sys.modules, "duckdb", None)
    schemas = table_schemas("coinbase")
    assert schemas["trades"].names[-2:] == ["is_repeat", "date"]
    assert {*BOOKKEEPING} <= {*schemas}


def test_a_table_of_a_venues_own_declares_its_columns() -> None:
    head = "-- takes: fills\n-- rows: $.data\n"
    with pytest.raises(TableError, match=r"fills\.sql lacks a line '-- columns:"):
        Channel.from_sql("fills", head + "SELECT 1")
    channel = Channel.from_sql("fills", head + "-- columns: fee DOUBLE\nSELECT 1")
    assert channel.columns["fee"] == "DOUBLE"
    assert list(channel.columns)[:2] == ["symbol", "ts_event"]


def test_a_column_may_have_another_type_at_a_venue() -> None:
    head = "-- takes: publicTrade\n-- rows: $.data\n-- columns: trade_id VARCHAR\n"
    channel = Channel.from_sql("trades", head + "SELECT 1")
    assert channel.columns["trade_id"] == "VARCHAR"
    assert channel.columns["price"] == "DOUBLE"
