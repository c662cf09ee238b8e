"""What panels show, as plain values: computed and tested without a browser."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fluxforge.analytics.book import Book

_OLD_SECONDS = 30.0
"""A channel that has been silent for longer is marked."""


def ladder_state(book: Book, depth: int) -> dict[str, Any]:
    """Return an order book as text: its levels, best first, with each one's share of the largest.

    >>> from datetime import UTC, datetime
    >>> from fluxforge.analytics.book import Book
    >>> side = pl.DataFrame({"price": [100.5], "size": [2.0]})
    >>> now = datetime(2026, 8, 9, tzinfo=UTC)
    >>> book = Book("x", "A", side, side.with_columns(price=pl.lit(101.0)), now, "c", now, True)
    >>> ladder_state(book, 5)["bids"], ladder_state(book, 5)["spread"]
    ([['100.5', '2', 100]], 'spread 0.5')
    """
    sides = book.bids.head(depth), book.asks.head(depth)
    largest = max((size for side in sides for size in side["size"]), default=1.0)
    places = max((_places(price) for side in sides for price in side["price"]), default=0)
    bids, asks = (
        [
            [f"{price:.{places}f}", _text(size), round(100 * size / largest)]
            for price, size in side.rows()
        ]
        for side in sides
    )
    doubt = "" if book.complete else ", incomplete"
    return {
        "title": f"{book.source} {book.symbol}, {book.ts_event:%H:%M:%S.%f} UTC{doubt}",
        "depth": depth,
        "bids": bids,
        "asks": asks,
        "mid": "" if book.mid is None else f"{book.mid:.{places + 1}f}",
        "spread": "" if book.spread is None else f"spread {_text(round(book.spread, places))}",
    }


def ladder_rows(state: Mapping[str, Any]) -> list[list[str]]:
    """Return what a ladder shows, from the highest price to the lowest."""
    asks = [["ask", *level[:2]] for level in reversed(state.get("asks", []))]
    return [*asks, *(["bid", *level[:2]] for level in state.get("bids", []))]


def candle_state(bars: pl.DataFrame, title: str) -> dict[str, Any]:
    """Return bars as ``[seconds since 1970, open, high, low, close, volume]``.

    Parameters
    ----------
    bars
        ``ts_start, open, high, low, close, volume`` of one symbol.
    """
    rows = bars.drop_nulls("open").select(
        pl.col("ts_start").dt.epoch("s"), "open", "high", "low", "close", "volume"
    )
    return {"title": f"{title} (UTC)", "bars": [list(row) for row in rows.rows()]}


def candle_rows(state: Mapping[str, Any]) -> list[list[str]]:
    """Return the ten bars that came last."""
    return [
        [f"{datetime.fromtimestamp(at, UTC):%H:%M:%S}", *(_text(value) for value in values)]
        for at, *values in state.get("bars", [])[-10:]
    ]


def monitor_state(status: Mapping[str, Any]) -> dict[str, Any]:
    """Return a capture's status as text: a row a source, and the age of each channel.

    Parameters
    ----------
    status
        What ``Capture.status()`` returns, as a dictionary.
    """
    each = status.get("sources") or [status]
    running, error = bool(status.get("running")), str(status.get("error") or "")
    head = ["", "frames", "a second", "MB", "lag", "gaps", "missing", "reconnects", "spool", "for"]
    rows = [
        [
            str(one.get("source", "")),
            f"{one.get('frames', 0):,}",
            f"{one.get('rate', 0.0):,.0f}",
            f"{one.get('bytes', 0) / 1e6:,.1f}",
            f"{one.get('lag', 0.0):.1f} s",
            f"{one.get('gaps', 0):,}",
            f"{one.get('missing', 0):,}",
            f"{one.get('reconnects', 0):,}",
            f"{one.get('spool', 0) / 1e6:,.1f} MB",
            _span(one.get("seconds", 0.0)),
        ]
        for one in each
    ]
    ages = [
        [name, f"{age:.1f} s", running and age > _OLD_SECONDS]
        for name, age in (status.get("ages") or {}).items()
    ]
    return {
        "title": f"Capture of {status.get('source', '')}: {'running' if running else 'stopped'}",
        "running": running,
        "error": error,
        "head": head,
        "rows": rows,
        "warn": [bool(one.get("gaps")) for one in each],
        "ages": ages,
        "segment": str(status.get("segment") or ""),
    }


def monitor_rows(state: Mapping[str, Any]) -> list[list[str]]:
    """Return what a monitor shows."""
    ages = [[f"age of {name}", age] for name, age, _ in state.get("ages", [])]
    return [state.get("head", []), *state.get("rows", []), *ages]


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _places(value: float) -> int:
    """Return how many decimals a price has."""
    return len(_text(value).partition(".")[2])


def _text(value: float) -> str:
    """Return a number as a person writes it."""
    return f"{value:.10f}".rstrip("0").rstrip(".")
