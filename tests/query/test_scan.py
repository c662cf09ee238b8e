from __future__ import annotations

import shutil
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

from fluxforge import Lake
from fluxforge.errors import (
    QueryError,
    UnknownSourceError,
    UnknownSymbolError,
    UnknownTableError,
)
from fluxforge.tables import Table

if TYPE_CHECKING:
    from collections.abc import Callable

TABLES = ("candles", "orderbook", "segments", "sequences", "status", "ticker", "trades")


@pytest.fixture
def copied(filled_lake: Lake, tmp_path: Path) -> Lake:
    """Return a lake that may be spoilt."""
    shutil.copytree(str(filled_lake.config.storage.base_dir), tmp_path, dirs_exist_ok=True)
    return Lake(overrides=[f"storage.base_dir={tmp_path}"])


def spoil(lake: Lake, table: str, unwanted: Callable[[Any], bool]) -> int:
    """Cut off the files that a query must not open; return how many there are."""
    catalog = lake.catalog.open("coinbase", table)
    files = [file for file in catalog.files if unwanted(file)]
    for path in catalog.locate(files):
        Path(path).write_bytes(b"spoilt")
    return len(files)


def test_files_without_the_symbol_are_not_opened(filled_lake: Lake, copied: Lake) -> None:
    assert spoil(copied, "trades", lambda file: file.least["symbol"] != "BTC-USD") == 1
    expected = filled_lake.scan("coinbase", "trades").filter(symbol="BTC-USD").collect()
    assert_frame_equal(copied.scan("coinbase", "trades", symbols=["BTC-USD"]).collect(), expected)
    with pytest.raises(pl.exceptions.ComputeError):
        copied.scan("coinbase", "trades").collect()


def test_files_of_another_time_are_not_opened(filled_lake: Lake, copied: Lake) -> None:
    ticker = filled_lake.scan("coinbase", "ticker").collect()
    files = copied.catalog.open("coinbase", "ticker").files
    start = max(file.least["ts_event"] for file in files)
    assert spoil(copied, "ticker", lambda file: file.greatest["ts_event"] < start) == 3
    expected = ticker.filter(pl.col("ts_event") >= start)
    assert 0 < expected.height < ticker.height
    assert_frame_equal(copied.scan("coinbase", "ticker", start=start).collect(), expected)


def test_only_the_columns_asked_for_are_read(filled_lake: Lake) -> None:
    scan = filled_lake.scan("coinbase", "orderbook", symbols=["BTC-USD"]).select("price")
    plan = scan.explain()
    assert "PROJECT 2/" in plan  # price, and symbol for the filter
    assert "SELECTION: " in plan
    assert scan.collect().columns == ["price"]


@pytest.mark.parametrize(
    "bound",
    [
        lambda at: at,
        lambda at: at.replace(tzinfo=None),
        lambda at: at.astimezone(timezone(timedelta(hours=5))),
        lambda at: at.isoformat(),
    ],
    ids=["UTC", "without a zone", "another zone", "text"],
)
def test_bounds_of_time(filled_lake: Lake, bound: Callable[[datetime], Any]) -> None:
    every = filled_lake.scan("coinbase", "ticker").collect()
    times = every["ts_event"].sort()
    low, high = times[100], times[200]
    found = filled_lake.scan("coinbase", "ticker", start=bound(low), end=bound(high)).collect()
    event = pl.col("ts_event")
    assert_frame_equal(found, every.filter((event >= low) & (event < high)))
    assert found.height >= 100


def test_a_day_is_a_bound_too(filled_lake: Lake) -> None:
    today = datetime.now(UTC).date()
    scan = filled_lake.scan("coinbase", "ticker", start=today - timedelta(days=1))
    assert scan.collect().height == filled_lake.scan("coinbase", "ticker").collect().height
    assert filled_lake.scan("coinbase", "ticker", end=date(2020, 1, 1)).collect().is_empty()


def test_one_symbol_may_be_written_plainly(filled_lake: Lake) -> None:
    one = filled_lake.scan("coinbase", "ticker", symbols="BTC-USD").collect()
    assert one["symbol"].unique().to_list() == ["BTC-USD"]
    both = filled_lake.scan("coinbase", "ticker", symbols=["BTC-USD", "ETH-USD"]).collect()
    assert both.height == filled_lake.scan("coinbase", "ticker").collect().height
    with pytest.raises(UnknownSymbolError, match="no symbol 'DOGE-USD'"):
        filled_lake.scan("coinbase", "ticker", symbols=["DOGE-USD"])


@pytest.mark.parametrize("table", TABLES)
def test_an_empty_lake_answers_with_the_same_columns(
    filled_lake: Lake, tmp_path: Path, table: str
) -> None:
    empty = Lake(overrides=[f"storage.base_dir={tmp_path / 'absent'}"])
    for raw in (False, True):
        frame = empty.scan("coinbase", table, raw=raw).collect()
        assert frame.is_empty()
        assert frame.schema == filled_lake.scan("coinbase", table, raw=raw).collect_schema()
    assert not (tmp_path / "absent").exists()


def test_an_empty_lake_has_typed_summaries(filled_lake: Lake, tmp_path: Path) -> None:
    empty = Lake(overrides=[f"storage.base_dir={tmp_path / 'absent'}"])
    assert empty.tables().is_empty()
    assert empty.tables().schema == filled_lake.tables().schema
    assert empty.gaps("coinbase").is_empty()
    assert empty.gaps("coinbase").schema == filled_lake.gaps("coinbase").schema
    assert empty.optimize() == []
    assert empty.vacuum() == {}


def test_every_table_begins_alike(filled_lake: Lake) -> None:
    moment = pl.Datetime("us", "UTC")
    for table in ("candles", "orderbook", "status", "ticker", "trades"):
        schema = filled_lake.scan("coinbase", table).collect_schema()
        assert list(schema.items())[:5] == [
            ("symbol", pl.String),
            ("ts_event", moment),
            ("ts_recv", moment),
            ("seq", pl.Int64),
            ("conn", pl.String),
        ]


def test_the_first_trade_of_a_key_is_shown(filled_lake: Lake) -> None:
    every = filled_lake.scan("coinbase", "trades", raw=True).collect()
    shown = filled_lake.scan("coinbase", "trades").collect()
    firsts = every.sort("ts_recv", "seq").unique(["symbol", "trade_id"], keep="first")
    assert shown.height == firsts.height < every.height
    assert_frame_equal(shown, firsts.drop("is_repeat"), check_row_order=False)


def test_the_last_candle_of_a_key_is_shown(filled_lake: Lake) -> None:
    every = filled_lake.scan("coinbase", "candles", raw=True).collect()
    shown = filled_lake.scan("coinbase", "candles").collect()
    lasts = every.sort("ts_recv", "seq").unique(["symbol", "start"], keep="last")
    assert shown.height == lasts.height < every.height
    assert_frame_equal(shown, lasts, check_row_order=False)


def test_earlier_versions(filled_lake: Lake) -> None:
    newest = filled_lake.tables().filter(channel="ticker")["version"].item()
    heights = [
        filled_lake.scan("coinbase", "ticker", version=version).collect().height
        for version in range(newest + 1)
    ]
    assert heights[0] == 0
    assert heights == sorted(set(heights))
    assert heights[-1] == filled_lake.scan("coinbase", "ticker").collect().height
    with pytest.raises(UnknownTableError, match=f"no version {newest + 1}"):
        filled_lake.scan("coinbase", "ticker", version=newest + 1)


def test_a_column_that_came_later_is_null_before(copied: Lake) -> None:
    opened = copied.catalog.open("coinbase", "ticker")
    table = Table(opened.table.storage, opened.table.path)
    table.ensure(opened.schema.append(pa.field("mood", pa.float64())))
    scanned = copied.scan("coinbase", "ticker").collect()
    assert scanned["mood"].null_count() == scanned.height > 0
    queried = copied.sql("SELECT count(*), count(mood) FROM coinbase.ticker").fetchall()
    assert queried == [(scanned.height, 0)]


def test_what_does_not_exist(filled_lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(UnknownSourceError, match="did you mean 'coinbase'"):
        filled_lake.scan("coinbsae", "ticker")
    with pytest.raises(UnknownTableError, match="did you mean 'trades'"):
        filled_lake.scan("coinbase", "trade")
    with pytest.raises(UnknownTableError, match="did you mean 'trades'"):
        filled_lake.scan("coinbase", "trade", version=1)
    with pytest.raises(UnknownTableError, match="there are: candles"):
        filled_lake.scan("coinbase", "x")
    with pytest.raises(QueryError, match="'yesterday' is not a time"):
        filled_lake.scan("coinbase", "ticker", start="yesterday")
    empty = Lake(overrides=[f"storage.base_dir={tmp_path}"])
    with pytest.raises(UnknownTableError, match="has no version 3"):
        empty.scan("coinbase", "ticker", version=3)


@pytest.mark.parametrize("name", ["lake [1]", "a*b?", "a b#c", "100%"])
def test_a_lake_may_lie_in_a_folder_of_any_name(
    filled_lake: Lake, tmp_path: Path, name: str
) -> None:
    shutil.copytree(str(filled_lake.config.storage.base_dir), tmp_path / name)
    lake = Lake(overrides=[f"storage.base_dir='{tmp_path / name}'"])
    expected = filled_lake.scan("coinbase", "ticker").collect()
    assert expected.height > 0
    assert_frame_equal(lake.scan("coinbase", "ticker").collect(), expected)
    assert lake.sql("SELECT count(*) FROM coinbase.ticker").fetchall() == [(expected.height,)]
