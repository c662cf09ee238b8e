from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from fluxforge import Lake
from fluxforge.errors import QueryError, UnknownTableError
from fluxforge.query.engine import fetch

if TYPE_CHECKING:
    from pathlib import Path

TABLES = ("candles", "orderbook", "segments", "sequences", "status", "ticker", "trades")


@pytest.mark.parametrize("table", TABLES)
def test_views_show_what_scans_show(filled_lake: Lake, table: str) -> None:
    view = filled_lake.sql(f"SELECT * FROM coinbase.{table}").pl()
    assert_frame_equal(view, filled_lake.scan("coinbase", table).collect(), check_row_order=False)


@pytest.mark.parametrize("table", ["candles", "trades"])
def test_raw_views_show_every_row(filled_lake: Lake, table: str) -> None:
    view = filled_lake.sql(f"SELECT * FROM coinbase.{table}_raw").pl()
    every = filled_lake.scan("coinbase", table, raw=True).collect()
    assert_frame_equal(view, every, check_row_order=False)


@pytest.mark.parametrize("table", TABLES)
def test_an_empty_lake_has_every_view(filled_lake: Lake, tmp_path: Path, table: str) -> None:
    empty = Lake(overrides=[f"storage.base_dir={tmp_path}"])
    frame = empty.sql(f"SELECT * FROM coinbase.{table}").pl()
    assert frame.is_empty()
    assert frame.schema == filled_lake.sql(f"SELECT * FROM coinbase.{table}").pl().schema


def test_names_are_read_as_sql_reads_them(filled_lake: Lake) -> None:
    [(plain,)] = filled_lake.sql("SELECT count(*) FROM coinbase.ticker").fetchall()
    [(quoted,)] = filled_lake.sql('SELECT count(*) FROM "coinbase"."ticker"').fetchall()
    [(loud,)] = filled_lake.sql("SELECT COUNT(*) FROM COINBASE.Ticker").fetchall()
    assert plain == quoted == loud > 0
    named = "WITH t AS (FROM coinbase.trades) SELECT count(*) FROM t"
    [(joined,)] = filled_lake.sql(f"{named} JOIN coinbase.ticker USING (symbol)").fetchall()
    assert joined > 0


def test_a_connection_has_all_views(filled_lake: Lake) -> None:
    mine = pl.DataFrame({"symbol": ["BTC-USD"]})
    with filled_lake.connect() as database:
        names = database.sql(
            "SELECT view_name FROM duckdb_views() WHERE schema_name = 'coinbase' ORDER BY 1"
        ).fetchall()
        joined = database.sql("SELECT count(*) FROM coinbase.ticker JOIN mine USING (symbol)")
        [(count,)] = joined.fetchall()
    assert [name for (name,) in names] == sorted([*TABLES, "candles_raw", "trades_raw"])
    assert mine.height < count < filled_lake.scan("coinbase", "ticker").collect().height


def test_times_are_utc(filled_lake: Lake) -> None:
    [(zone,)] = filled_lake.sql("SELECT current_setting('TimeZone')").fetchall()
    assert zone == "UTC"


def test_pushdown_reaches_the_files(filled_lake: Lake) -> None:
    with filled_lake.connect() as database:
        [(_, plan)] = database.execute(
            "EXPLAIN SELECT price FROM coinbase.ticker WHERE symbol = 'BTC-USD'"
        ).fetchall()
    scan = plan[plan.index("READ_PARQUET") :]
    assert "symbol" in scan
    assert "FILTER" not in plan[: plan.index("READ_PARQUET")]
    assert "best_bid" not in plan


@pytest.mark.parametrize(
    ("query", "error", "words"),
    [
        ("SELECT 1 FROM coinbase.traeds", UnknownTableError, "trades"),
        ("SELECT 1 FROM trades", UnknownTableError, "coinbase.trades"),
        ("SELECT 1 FROM nasdaq.trades", UnknownTableError, "trades"),
        ("SELECT prise FROM coinbase.trades", UnknownTableError, "price"),
        ("SELEC 1", QueryError, "syntax error"),
        ("", QueryError, "no statement"),
        ("SELECT 1 FROM query", UnknownTableError, "query"),
    ],
)
def test_what_is_wrong_is_named(
    filled_lake: Lake, query: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        filled_lake.sql(query)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    assert not isinstance(caught.value, duckdb.Error)


def test_other_statements_than_queries(filled_lake: Lake) -> None:
    assert filled_lake.sql("SET threads = 1").fetchall() == []
    assert filled_lake.sql("CREATE TABLE t AS SELECT 7 AS x; FROM t").fetchall() == [(7,)]


def test_a_value_that_cannot_be_computed(filled_lake: Lake) -> None:
    with pytest.raises(QueryError, match="Could not convert") as caught:
        fetch(filled_lake.catalog, "SELECT CAST(conn AS INTEGER) FROM coinbase.ticker")
    assert "\n" not in str(caught.value)
