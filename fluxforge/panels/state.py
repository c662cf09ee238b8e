"""What panels show, as plain values: computed and tested without a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fluxforge.analytics.book import Book


def ladder_state(book: Book, depth: int) -> dict[str, Any]:
    """Return an order book as text: its levels, best first, with each one's share of the largest.

    Examples
    --------
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
    bids, asks = (
        [[_text(price), _text(size), round(100 * size / largest)] for price, size in side.rows()]
        for side in sides
    )
    doubt = "" if book.complete else ", incomplete"
    return {
        "title": f"{book.source} {book.symbol}, {book.ts_event:%H:%M:%S.%f} UTC{doubt}",
        "depth": depth,
        "bids": bids,
        "asks": asks,
        "mid": "" if book.mid is None else _text(book.mid),
        "spread": "" if book.spread is None else f"spread {_text(book.spread)}",
    }


def candle_state(
    bars: pl.DataFrame, shown: Mapping[int, tuple[float, ...]], title: str
) -> tuple[dict[str, Any], dict[int, tuple[float, ...]]]:
    """Return the bars that a chart does not show yet, and what it shows then.

    Parameters
    ----------
    bars
        ``ts_start, open, high, low, close, volume`` of one symbol.
    shown
        Bars by their start, in seconds since 1970, as the last call returned them.
    """
    rows = bars.drop_nulls("open").select(
        pl.col("ts_start").dt.epoch("s"), "open", "high", "low", "close", "volume"
    )
    now = {row[0]: row for row in rows.rows()}
    whole = not shown or bool(shown.keys() - now.keys())
    changed = now if whole else {at: row for at, row in now.items() if shown.get(at) != row}
    return {"title": title, "whole": whole, "bars": [list(row) for row in changed.values()]}, now


def monitor_state(status: Mapping[str, Any]) -> dict[str, Any]:
    """Return a capture's status as named values, the worrying ones marked.

    Parameters
    ----------
    status
        What ``Capture.status()`` returns, as a dictionary.
    """
    rows: list[list[Any]] = []
    for name, value in status.items():
        if name in ("source", "running") or value is None:
            continue
        if isinstance(value, dict):
            rows += [[f"{name} {key}", _text(part), False] for key, part in value.items()]
        else:
            rows.append(
                [name.replace("_", " "), _text(value), name in ("gaps", "error") and bool(value)]
            )
    state = "running" if status.get("running") else "stopped"
    return {"title": f"capture of {status.get('source', '')}: {state}", "rows": rows}


def _text(value: Any) -> str:
    """Return a number as a person writes it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.10f}".rstrip("0").rstrip(".")
