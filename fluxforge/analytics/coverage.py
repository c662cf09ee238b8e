"""In which times nothing is missing: from what a venue numbers, and what each table holds."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping

LATEST = timedelta(seconds=1)
"""How late an event may be received; Coinbase's came up to 0.96 s after their time, as measured."""

_TIME = pl.Datetime("us", "UTC")
_SCOPE = ("conn", "channel", "symbol")
_SPAN = ("table", "symbol", "conn")


def unbroken_runs(sequences: pl.DataFrame) -> pl.DataFrame:
    """Return the unbroken runs of a source's numbers over all segments.

    A segment's own runs continue each other where no number is missing between them.

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
    reached = pl.col("last_seq").shift().over(_SCOPE)
    goes_on = reached.is_between(pl.col("seq") - 1, pl.col("seq")).fill_null(value=False)
    numbered = (
        sequences.sort("ts_recv", "seq")
        .with_columns(epoch=(pl.col("is_restart") & ~goes_on).cum_sum().over(_SCOPE))
        .sort("seq", "last_seq", maintain_order=True)
        .with_columns(reached=pl.col("last_seq").cum_max().shift().over(*_SCOPE, "epoch"))
    )
    skips = (pl.col("seq") > pl.col("reached") + 1).fill_null(value=False)
    return (
        numbered.with_columns(run=skips.cum_sum().over(*_SCOPE, "epoch"))
        .group_by(*_SCOPE, "epoch", "run")
        .agg(
            pl.col("seq").min().alias("first_seq"),
            pl.col("last_seq").max(),
            pl.col("ts_recv").min().cast(_TIME).alias("start"),
            pl.col("last_recv").max().cast(_TIME).alias("end"),
        )
        .drop("epoch", "run")
        .sort("conn", "start")
    )


def find_coverage(runs: pl.DataFrame, tables: Mapping[str, pl.LazyFrame]) -> pl.DataFrame:
    """Return the spans in which a table misses nothing; see :meth:`fluxforge.Lake.coverage`.

    A span begins with the first row of the symbol on its connection, and for an order book with a
    snapshot; it ends with the last frame of the run. Where a venue numbers nothing that tells of
    a table, a span is from its first row to its last.

    Parameters
    ----------
    runs
        What :func:`unbroken_runs` returns.
    tables
        The tables of the source with ``symbol, conn, ts_recv``, all rows, by name.
    """
    seen = pl.concat(pl.collect_all([_first_rows(name, frame) for name, frame in tables.items()]))
    whole = runs.filter(pl.col("symbol").is_null()).select("conn", "start", "end")
    own = runs.drop_nulls("symbol").select("conn", "symbol", "start", "end", table="channel")
    numbered = (
        pl.concat([seen.join(whole, on="conn"), seen.join(own, on=_SPAN)], how="diagonal")
        .filter(
            pl.col("first") <= pl.col("end"),
            ~pl.col("is_snapshot") | (pl.col("first") >= pl.col("start")),
        )
        .group_by(*_SPAN, "start", "end")
        .agg(pl.col("first").min())
        .select(*_SPAN, pl.max_horizontal("start", "first").alias("start"), "end")
    )
    others = seen.join(numbered, on=_SPAN, how="anti").group_by(_SPAN)
    unnumbered = others.agg(start=pl.col("first").min(), end=pl.col("last").max())
    return pl.concat([numbered, unnumbered]).sort("start", "conn", "table", "symbol")


def bridged(spans: pl.DataFrame, gaps: pl.DataFrame) -> pl.DataFrame:
    """Join the spans on both sides of each gap that a backfill has filled in their table.

    Parameters
    ----------
    spans
        What :func:`find_coverage` returns.
    gaps
        What :meth:`fluxforge.Lake.gaps` returns.
    """
    filled = gaps.explode("repaired").select(
        "conn", pl.col("repaired").alias("table"), pl.col("symbol").alias("of"),
        pl.col("received_before").alias("end"),
    ).drop_nulls("table")  # fmt: skip
    ordered = spans.sort(*_SPAN, "start").with_row_index("span")
    found = ordered.join(filled, on=["conn", "table", "end"])
    found = found.filter(pl.col("of").is_null() | (pl.col("of") == pl.col("symbol")))
    goes_on = pl.col("span").is_in(found["span"].implode()).shift(fill_value=False).over(_SPAN)
    return (
        ordered.with_columns(whole=(~goes_on).cum_sum())
        .group_by(*_SPAN, "whole")
        .agg(pl.col("start").min(), pl.col("end").max())
        .drop("whole")
        .sort("start", "conn", "table", "symbol")
    )


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
