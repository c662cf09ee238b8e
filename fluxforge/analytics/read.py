"""What :class:`fluxforge.Lake` answers about books, bars and coverage: reads, then computes.

Each function takes the lake's own way to scan a table, so that live rows and cached files are
found here as they are elsewhere.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

import polars as pl

from fluxforge.analytics.bars import BarKind, check_length, make_bars
from fluxforge.analytics.books import book_at, book_features, book_snapshots, epochs
from fluxforge.analytics.coverage import bridged, find_coverage, unbroken_runs
from fluxforge.errors import UnknownTableError, UsageError
from fluxforge.sources import get_source
from fluxforge.sources.base import BookRules

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from fluxforge.analytics.book import Book
    from fluxforge.analytics.books import Epoch

BOOKS = "orderbook"
SEQUENCES = "sequences"
_KEYED = ("trades", "orderbook", "ticker", "candles", "status")
_moment = pl.coalesce("ts_event", "ts_recv")
_LATE = timedelta(minutes=1)
"""How long before a snapshot from elsewhere the changes may begin that follow it by number."""

_NEXT = timedelta(minutes=10)
"""How far the frame is looked for that comes next."""


class Scan(Protocol):
    """The part of :meth:`fluxforge.Lake.scan` that is used here."""

    def __call__(
        self,
        source: str,
        table: str,
        *,
        symbols: Sequence[str] | None = None,
        instruments: Sequence[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        raw: bool = False,
    ) -> pl.LazyFrame:
        """Return a table as a lazy frame."""


def read_book(
    scan: Scan,
    source: str,
    symbol: str,
    at: datetime | None = None,
    depth: int | None = 10,
    held: dict[tuple[str, str], pl.DataFrame] | None = None,
) -> Book:
    """Return the order book at a moment; see :meth:`fluxforge.Lake.book`.

    Parameters
    ----------
    held
        The newest book of each symbol as the last call left it: only what came since is read.
    """
    # Checksums are of whole books: those are followed from their snapshot on.
    if at is not None or held is None or get_source(source).book.runs is not None:
        found = epochs_of(scan, source, symbol, start=at, end=at, last=True)
    else:
        found = epochs_of(scan, source, symbol, base=held.get((source, symbol)))
        if found:
            held[source, symbol] = found[-1].keyframe(found[-1].times.height - 1)
    return book_at(found, source, symbol, at, depth)


def read_books(
    scan: Scan,
    source: str,
    symbol: str,
    every: str,
    start: datetime | None,
    end: datetime | None,
    depth: int,
) -> pl.DataFrame:
    """Return the order book at regular times; see :meth:`fluxforge.Lake.books`."""
    check_length(every)
    found = epochs_of(scan, source, symbol, start=start, end=end)
    return _between(book_snapshots(found, every, depth), "ts", start, end)


def read_features(
    scan: Scan,
    source: str,
    symbol: str,
    start: datetime | None,
    end: datetime | None,
    levels: int,
    size: float,
) -> pl.DataFrame:
    """Return features of each change of a book; see :meth:`fluxforge.Lake.book_features`."""
    found = epochs_of(scan, source, symbol, start=start, end=end)
    return _between(book_features(found, levels, size), "ts_event", start, end)


def read_bars(
    scan: Scan,
    sources: Sequence[str],
    symbols: Sequence[str] | None,
    every: str | float,
    kind: BarKind,
    start: datetime | None,
    end: datetime | None,
    *,
    empty: bool,
    snapshots: bool,
    gaps: Callable[[str], pl.DataFrame],
    instruments: Sequence[str] | None = None,
) -> pl.DataFrame:
    """Return bars of trades; see :meth:`fluxforge.Lake.bars`."""
    trades, spans = [], []
    for source in sources:
        rows = scan(
            source, "trades", symbols=symbols, instruments=instruments, start=start, end=end
        )
        if not snapshots:
            rows = since_capture(rows, scan(source, "trades", raw=True))
        covered = read_coverage(scan, source, gaps, ["trades"])
        trades.append(
            rows.select(
                pl.lit(source).alias("source"),
                "symbol",
                "instrument",
                *("ts_event", "ts_recv"),
                pl.col("trade_id").cast(pl.String),
                *("price", "size", "side"),
            ).collect()
        )
        spans.append(covered.select(pl.lit(source).alias("source"), "symbol", "start", "end"))
    return make_bars(pl.concat(trades), pl.concat(spans), every, kind, empty=empty)


def since_capture(trades: pl.LazyFrame, captured: pl.LazyFrame) -> pl.LazyFrame:
    """Leave out what a first snapshot brought from before the capture: others are missing there.

    `captured` has all trades of the sources, so that it tells when each symbol's capture began, and
    which of the snapshot's a backfill brought once more, with all others of their time.
    """
    keys = [name for name in ("source", "market", "symbol") if name in trades.collect_schema()]
    begun = captured.group_by(keys).agg(pl.col("ts_recv").min().alias("begun"))
    again = captured.filter("is_repeat", ~pl.col("is_snapshot")).select(*keys, "trade_id").unique()
    inside = ~pl.col("is_snapshot") | (pl.col("ts_event") >= pl.col("begun")) | pl.col("filled")
    return (
        trades.join(begun, on=keys, maintain_order="left")
        .join(
            again.with_columns(filled=True),
            on=[*keys, "trade_id"],
            how="left",
            maintain_order="left",
        )
        .filter(inside)
        .drop("begun", "filled")
    )


def read_coverage(
    scan: Scan,
    source: str,
    gaps: Callable[[str], pl.DataFrame],
    tables: Sequence[str] | None = None,
) -> pl.DataFrame:
    """Return the spans in which nothing is missing; see :meth:`fluxforge.Lake.coverage`."""
    frames = {}
    for name in tables or _KEYED:
        try:
            frames[name] = scan(source, name, raw=True)
        except UnknownTableError:
            continue  # this venue has no such table
    runs, rules = unbroken_runs(scan(source, SEQUENCES).collect()), get_source(source).book
    if rules.runs is not None and BOOKS in frames:
        runs = pl.concat([runs, rules.runs(frames[BOOKS].collect())], how="diagonal")
    spans = find_coverage(runs, frames)
    broken = spans.select("table", "symbol", "conn").is_duplicated().any()
    return bridged(spans, gaps(source)) if broken else spans


def epochs_of(
    scan: Scan,
    source: str,
    symbol: str,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    base: pl.DataFrame | None = None,
    last: bool = False,
) -> list[Epoch]:
    """Return the books of a symbol that are needed to know it from `start` to `end`.

    With `base`, a keyframe, only what was received after it is read: the book goes on from there.
    With `last`, each connection's book is right at the end only.
    """
    if start is not None and end is not None and end < start:
        raise UsageError("start is after end: nothing can lie between them")
    rules = get_source(source).book
    every = rows = scan(source, BOOKS, symbols=[symbol], raw=True)
    received, following = pl.col("ts_recv"), None
    if end is not None:
        # The frame that comes next tells that nothing is missing before it.
        after = rows.filter(_moment > end, _moment <= end + _NEXT).select(received.min())
        following = after.collect().item()
        rows = rows.filter(_moment <= end)
    if following is not None:
        rows = rows.filter(received != following)
    if start is not None:
        rows = rows.filter(received >= _first_needed(rows, start))
    if last and base is None and rules == BookRules():
        rows = _lasting(rows)
    if following is not None:
        rows = pl.concat([rows, every.filter(received == following)])
    runs = unbroken_runs(scan(source, SEQUENCES).collect())
    market, _, name = symbol.rpartition(":")
    own = (pl.col("symbol") == name) & (pl.col("channel") == BOOKS)
    runs = runs.filter(pl.col("symbol").is_null() | own)
    if base is None:
        found = rows.collect()
    else:
        found = rows.filter(received > base["ts_recv"][0]).collect()
        if found["is_snapshot"].any():  # it may be older than what was received before it
            return epochs_of(scan, source, symbol)
        found = pl.concat([base, found], how="diagonal")
    if market:
        runs = runs.filter(pl.col("conn").is_in(found["conn"].unique().implode()))
    if rules.runs is not None:
        runs = pl.concat([runs, rules.runs(found)], how="diagonal")
    return epochs(found, runs, rules)


def _lasting(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Leave out the frames of which nothing lasts: each of their levels was set again."""
    received = pl.col("ts_recv")
    levels = rows.group_by("conn", "side", "price").agg(received.max(), _moment.max().alias("at"))
    found = levels.collect()
    latest = found.group_by("conn").agg(pl.col("at").max())["at"]  # times never fall
    lasts = received.is_in(found["ts_recv"].unique().implode()) | _moment.is_in(latest.implode())
    return rows.filter(pl.col("is_snapshot") | lasts)


def _first_needed(rows: pl.LazyFrame, start: datetime) -> datetime:
    """Return when the last snapshot before `start` was received, and a little earlier."""
    begun = rows.filter("is_snapshot", _moment <= start)
    last = begun.select(pl.col("ts_recv").max()).collect().item()
    return start - timedelta(days=36500) if last is None else last - _LATE


def _between(
    frame: pl.DataFrame, column: str, start: datetime | None, end: datetime | None
) -> pl.DataFrame:
    if start is not None:
        frame = frame.filter(pl.col(column) >= start)
    return frame if end is None else frame.filter(pl.col(column) < end)
