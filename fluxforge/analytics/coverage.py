"""In which times nothing is missing: from what a venue numbers, and what each table holds."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping

_TIME = pl.Datetime("us", "UTC")


def unbroken_runs(sequences: pl.DataFrame) -> pl.DataFrame:
    """Return the unbroken runs of a source's numbers over all segments.

    Parameters
    ----------
    sequences
        The table ``sequences`` of one source.

    Returns
    -------
    polars.DataFrame
        ``conn, channel, symbol, first_seq, last_seq, start, end``; `channel` and `symbol` are
        null where the venue numbers a whole connection. Times are those of capture, UTC.
    """
    return _run("runs", sequences=sequences)


def find_coverage(runs: pl.DataFrame, tables: Mapping[str, pl.LazyFrame]) -> pl.DataFrame:
    """Return the spans in which a table misses nothing; see :meth:`fluxforge.Lake.coverage`.

    Parameters
    ----------
    runs
        What :func:`unbroken_runs` returns.
    tables
        The tables of the source with ``symbol, conn, ts_recv``, all rows, by name.
    """
    seen = [_first_rows(name, frame) for name, frame in tables.items()]
    return _run("coverage", runs=runs, seen=pl.concat(pl.collect_all(seen)))


def _first_rows(name: str, frame: pl.LazyFrame) -> pl.LazyFrame:
    """Return when each symbol was first seen on each connection; of a book, each snapshot."""
    book = name == "orderbook"
    first = pl.col("ts_recv").filter("is_snapshot").unique() if book else pl.col("ts_recv").min()
    seen = frame.group_by("symbol", "conn").agg(first.alias("first"), last=pl.col("ts_recv").max())
    if book:
        seen = seen.explode("first").drop_nulls("first")
    return seen.select(
        pl.lit(name).alias("table"), "symbol", "conn", "first", "last", is_snapshot=pl.lit(book)
    )


def _run(name: str, **frames: pl.DataFrame) -> pl.DataFrame:
    import duckdb

    query = resources.files(__package__).joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        for table, frame in frames.items():
            database.register(table, frame.to_arrow())
        found: pl.DataFrame = database.sql(query).pl()
    return found.with_columns(pl.col("start", "end").cast(_TIME))
