"""Reading: one symbol, a slice of it, bars of it; from one file, and from a thousand."""

from __future__ import annotations

import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from benchmarks.data import ONE, SLICE, fill_book, fill_trades
from benchmarks.measure import compare, repeat, seconds
from fluxforge import Lake
from fluxforge.simulator import local_exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.measure import Line

OHLC = f"""
SELECT time_bucket(INTERVAL '1s', ts_event) AS second, arg_min(price, ts_event) AS open,
    max(price) AS high, min(price) AS low, arg_max(price, ts_event) AS close, sum(size) AS volume
FROM coinbase.trades WHERE symbol = '{ONE}' GROUP BY 1
"""
_COLUMNS = ("price", "size")


def bars(rows: pl.LazyFrame) -> pl.DataFrame:
    """Return bars of one second, as an analyst would write it."""
    price = pl.col("price")
    second = pl.col("ts_event").dt.truncate("1s")
    return rows.group_by(second).agg(
        price.first().alias("open"), price.max().alias("high"), price.min().alias("low"),
        price.last().alias("close"), pl.col("size").sum(),
    ).collect()  # fmt: skip


def lines(rows: int, runs: int, rounds: int) -> Iterator[Line]:
    """Yield the lines of one table of eight symbols, against plain Polars, DuckDB and ArcticDB."""
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(path=folder)
        fill_trades(lake, rows)
        version = lake.catalog.open("coinbase", "trades")
        paths = version.locate(version.files)
        low, high = (datetime.fromisoformat(at) for at in SLICE)
        is_one, event = pl.col("symbol") == ONE, pl.col("ts_event")
        plain = pl.scan_parquet(paths).filter(is_one)

        def ours(**bounds: Any) -> pl.LazyFrame:
            return lake.scan("coinbase", "trades", symbols=[ONE], **bounds)

        def versus(
            name: str, target: str, work: Callable[[], object], peer: Any, limit: float, **more: Any
        ) -> Iterator[Line]:
            yield from compare(name, target, work, peer, limit, runs=runs, rounds=rounds, **more)

        whole = lambda: ours().select(_COLUMNS).collect()
        plainly = lambda: plain.select(_COLUMNS).collect()
        yield from versus(
            "scan, one symbol, two columns", "1.3 x plain Polars + 2 ms", whole, plainly, 1.3,
            allowance=0.002,
        )  # fmt: skip
        sliced = lambda: ours(start=low, end=high).select(_COLUMNS).collect()
        by_sql = lambda: lake.sql(OHLC).pl()
        by_scan = lambda: bars(ours())
        arctic = _arctic(Path(folder) / "arctic", plain.collect(), low, high)
        if arctic is None:
            print("(arcticdb is not installed: pip install arcticdb)")
            by_hand = lambda: _plain_duckdb(paths)
            yield from versus("bars of 1 s, sql", "1.5 x plain DuckDB", by_sql, by_hand, 1.5)
            cut = plain.filter(event >= low, event < high).select(_COLUMNS)
            yield from versus("scan, a slice", "1.5 x plain Polars", sliced, cut.collect, 1.5)
            return
        yield from versus(
            "plain Polars, one symbol", "2.2 x ArcticDB", plainly, arctic["whole"], 2.2
        )
        yield from versus(
            "scan, a slice of one symbol", "1.5 x ArcticDB", sliced, arctic["slice"], 1.5
        )
        yield from versus("bars of 1 s, scan", "1.5 x ArcticDB", by_scan, arctic["bars"], 1.5)
        yield from versus("bars of 1 s, sql", "2.5 x ArcticDB", by_sql, arctic["bars"], 2.5)


def _plain_duckdb(paths: list[str]) -> pl.DataFrame:
    import duckdb

    with duckdb.connect() as database:
        query = OHLC.replace("coinbase.trades", f"read_parquet({paths})")
        frame: pl.DataFrame = database.sql(query).pl()
        return frame


def _arctic(
    folder: Path, rows: pl.DataFrame, low: datetime, high: datetime
) -> dict[str, Any] | None:
    try:
        import arcticdb
        import pandas as pd
    except ImportError:
        return None
    frame = rows.select("ts_event", "ts_recv", *_COLUMNS, "seq", "trade_id").to_pandas()
    for name in ("ts_event", "ts_recv"):
        frame[name] = frame[name].dt.tz_localize(None).astype("datetime64[ns]")
    library = arcticdb.Arctic(f"lmdb://{folder}").create_library("trades")
    library.write(ONE, frame.set_index("ts_event").sort_index())
    span = tuple(pd.Timestamp(at).tz_localize(None) for at in (low, high))
    columns = list(_COLUMNS)
    asked = {
        "open": ("price", "first"), "high": ("price", "max"), "low": ("price", "min"),
        "close": ("price", "last"), "volume": ("size", "sum"),
    }  # fmt: skip

    def resampled() -> object:
        query = arcticdb.QueryBuilder().resample("1s").agg(asked)
        return library.read(ONE, query_builder=query).data

    return {
        "whole": lambda: library.read(ONE, columns=columns).data,
        "slice": lambda: library.read(ONE, columns=columns, date_range=span).data,
        "bars": resampled,
    }


def live(changes: int, runs: int) -> Iterator[Line]:
    """Yield what the last rows cost while a capture runs, and books of many level changes."""
    with tempfile.TemporaryDirectory() as folder, local_exchange("coinbase", rate=2000) as venue:
        lake = Lake(path=folder, overrides=[f"ingestion.sources.coinbase.url={venue.url}"])
        capture = lake.capture("coinbase")
        while lake.tail("coinbase", "trades", 20).height < 20:
            time.sleep(1)

        def later() -> float:
            time.sleep(1)
            return 1000 * seconds(lambda: lake.tail("coinbase", "trades", 20))

        name = "tail(20) a second later, at 2,000 frames a second"
        yield from repeat(name, "50 ms", later, 50, "ms", runs=3 * runs)
        capture.stop()
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(path=folder)
        fill_book(lake, changes)
        books = lambda: seconds(lambda: lake.books("coinbase", ONE, every="1s"))
        yield from repeat(f"books of {changes:,} level changes", "2 s", books, 2, "s", runs=runs)
        end = lambda: seconds(lambda: lake.book("coinbase", ONE))
        yield from repeat(
            f"book after {changes:,} level changes", "0.5 s", end, 0.5, "s", runs=runs
        )


def first_query(folder: Path) -> pl.DataFrame:
    """Ask a lake that nothing is known of."""
    return Lake(path=folder).sql(OHLC).pl()


def growth(rows: int, commits: int, runs: int) -> Iterator[Line]:
    """Yield what many commits cost the first query, as ETLs leave them and after ``optimize``."""
    with tempfile.TemporaryDirectory() as folder:
        fill_trades(Lake(path=folder), rows, commits)
        first = lambda: seconds(lambda: first_query(Path(folder)))
        before = [first() for _ in range(runs)]
        tables = lambda: 1000 * seconds(Lake(path=folder).tables)
        yield from repeat(f"tables() at {commits} commits", "100 ms", tables, 100, "ms", runs=runs)
        Lake(path=folder).optimize()
        after = [first() for _ in range(runs)]
        ratios = iter([mine / other for mine, other in zip(before, after, strict=True)])
        note = f"{1000 * min(before):.0f} ms before, {1000 * min(after):.0f} ms after"
        name = f"first query after {commits} commits"
        yield from repeat(
            name, "2 x after optimize", lambda: next(ratios), 2, "x", runs=runs, note=note
        )
