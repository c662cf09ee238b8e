"""How much of a table on S3 a query fetches, counted on the wire."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl
import pytest

from fluxforge import Lake
from fluxforge.config.schema import QueryConfig
from fluxforge.etl.writers import ParquetWriter
from fluxforge.tables import Table
from fluxforge.transform.database import open_database

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.s3.conftest import Place
    from tests.support.fault_proxy import FaultProxy

pytestmark = pytest.mark.s3

SYMBOLS, HOURS, UPDATES = 8, 24, 10_000  # updates of a symbol in an hour
SYMBOL, START, END = (
    "S3-USD",
    datetime(2026, 8, 9, 10, tzinfo=UTC),
    datetime(2026, 8, 9, 11, tzinfo=UTC),
)
MOST = 0.20

AN_HOUR = """
    CREATE OR REPLACE TEMP TABLE updates AS SELECT
        'S' || s || '-USD' AS symbol,
        TIMESTAMPTZ '2026-08-09 00:00:00Z' + to_hours($hour)
            + to_microseconds((random() * 3.6e9)::BIGINT) AS ts_event,
        TIMESTAMPTZ '2026-08-09 00:00:00Z' + to_hours($hour) AS ts_recv,
        i::BIGINT AS seq,
        'c' AS conn,
        CASE WHEN random() < 0.5 THEN 'bid' ELSE 'ask' END AS side,
        round(60000 + random() * 5000, 2) AS price,
        round(random() * 2, 8) AS size,
        false AS is_snapshot,
        DATE '2026-08-09' AS date
    FROM range($symbols) a(s), range($updates) b(i)
"""


def fill(table: Table, work: Path) -> None:
    """Commit a day of eight symbols, a segment an hour, as the ETL would."""
    with open_database(work) as database:
        for hour in range(HOURS):
            wanted = {"hour": hour, "symbols": SYMBOLS, "updates": UPDATES}
            database.execute(AN_HOUR, wanted)
            snapshot = table.ensure(database.table("updates").limit(0).to_arrow_table().schema)
            files = ParquetWriter(table.storage, table.path, work).write(database, "updates")
            assert table.commit(snapshot, files, [f"hour {hour}"], {})


def by_scan(lake: Lake) -> int:
    rows = lake.scan("coinbase", "orderbook", symbols=[SYMBOL], start=START, end=END).collect()
    assert rows.width == 14
    return rows.height


def by_filter(lake: Lake) -> int:
    """Ask as someone does who knows Polars and not ``scan``'s arguments."""
    rows = lake.scan("coinbase", "orderbook").filter(
        pl.col("symbol") == SYMBOL, pl.col("ts_event") >= START, pl.col("ts_event") < END
    )
    return rows.collect().height


def by_sql(lake: Lake) -> int:
    query = (
        f"SELECT * FROM coinbase.orderbook WHERE symbol = '{SYMBOL}' "
        f"AND ts_event >= '{START}' AND ts_event < '{END}'"
    )
    return len(lake.sql(query).fetchall())


def test_one_symbol_and_one_hour_of_a_day(place: Place, proxy: FaultProxy, tmp_path: Path) -> None:
    fill(Table(place.storage(), "processed/coinbase/orderbook"), tmp_path)
    config = place.through(proxy).config()

    def share(read: Callable[[Lake], int]) -> float:
        cache = QueryConfig(cache_dir=str(tmp_path / uuid.uuid4().hex))  # nothing was read before
        lake = Lake(config=replace(config, query=cache))
        [total] = lake.tables()["bytes"]
        assert total > 20_000_000
        before = proxy.bytes_received
        assert read(lake) == UPDATES
        return float((proxy.bytes_received - before) / total)

    assert 0 < share(by_scan) < MOST
    assert 0 < share(by_sql) < MOST
    [report] = Lake(config=config).optimize()
    assert (report.files_before, report.files_after) == (HOURS, 1)
    assert 0 < share(by_scan) < MOST
    assert 0 < share(by_filter) < MOST
    assert 0 < share(by_sql) < MOST
