"""Order books of limited depth, checked by the checksum that Kraken sends with each change.

The rules are in docs.kraken.com, "Spot WebSocket v2: Book" and "Book checksum": after each frame
the book is cut to the subscribed depth, and the checksum is the CRC32 of the ten best asks from
low to high and the ten best bids from high to low, each as price and quantity with the point and
leading zeros removed.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left, insort
from datetime import UTC, datetime
from itertools import product
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import polars as pl

    from fluxforge.sources.session import Evidence

DEPTHS = (10, 25, 100, 500, 1000)
"""The depths that can be subscribed to."""

_CHECKED = 10
_DECIMALS = (8, *range(8), *range(9, 13))
SILENCE_SECONDS = 60.0
"""How long a book may be without a change before a new snapshot is asked for."""


class ChecksumBook:
    """One symbol's book, its numbers as the venue wrote them.

    >>> book = ChecksumBook(depth=10)
    >>> book.apply([(45283.5, "45283.5", "0.10000000")], [(45283.6, "45283.6", "0.01500000")])
    >>> book.checksum()
    3773946991
    """

    def __init__(self, depth: int) -> None:
        self._bids, self._asks = _Side(depth, -1.0), _Side(depth, 1.0)

    def apply(
        self, bids: Iterable[tuple[float, str, str]], asks: Iterable[tuple[float, str, str]]
    ) -> None:
        """Set levels, a price, its text and that of its quantity; 0 removes; and cut the rest."""
        self._bids.apply(bids)
        self._asks.apply(asks)

    def checksum(self) -> int:
        """Return the checksum as the venue computes it."""
        return zlib.crc32((self._asks.text() + self._bids.text()).encode())


class _Side:
    def __init__(self, depth: int, sign: float) -> None:
        self._depth, self._sign = depth, sign
        self._keys: list[float] = []  # best first
        self._texts: dict[float, str] = {}

    def apply(self, levels: Iterable[tuple[float, str, str]]) -> None:
        keys, texts = self._keys, self._texts
        for price, price_text, size_text in levels:
            key, digits = price * self._sign, _digits(size_text)
            if digits:
                if key not in texts:
                    insort(keys, key)
                texts[key] = _digits(price_text) + digits
            elif texts.pop(key, None) is not None:
                del keys[bisect_left(keys, key)]
        while len(keys) > self._depth:
            del texts[keys.pop()]

    def text(self) -> str:
        return "".join([self._texts[key] for key in self._keys[:_CHECKED]])


def _digits(number: str) -> str:
    return number.replace(".", "").lstrip("0")


def depth_of(levels: int) -> int:
    """Return the depth that was subscribed to, from the levels of a snapshot's longer side."""
    return next((depth for depth in DEPTHS if depth >= levels), levels)


def checked_runs(rows: pl.DataFrame) -> pl.DataFrame:
    """Find out in which times books are right, by the checksums in their rows.

    Parameters
    ----------
    rows
        Rows of the table ``orderbook``, of any symbols and connections, in the table's order.

    Returns
    -------
    polars.DataFrame
        ``conn, channel, symbol, start, end, known_by``, times of capture. `known_by` is null for
        a run in which nothing is missing; else the run begins with a loss, which is known by
        ``"checksum"`` (the book is unknown up to the next snapshot) or, where a book had fallen
        silent and a new snapshot differs from it, by ``"age"``.
    """
    import polars as pl

    key = pl.struct("conn", "symbol", "ts_recv")
    frames = (
        rows.drop_nulls(["side", "price", "size"])
        .sort("conn", "symbol", "ts_recv", maintain_order=True)
        .with_columns(((pl.col("position") == 0) | (key != key.shift())).cum_sum().alias("frame"))
        .group_by("conn", "symbol", "frame", maintain_order=True)
        .agg(
            pl.col("ts_recv", "checksum").first(),
            pl.col("is_snapshot").any(),
            pl.struct(pl.col("side") == "bid", "price", "size").alias("levels"),
        )
    )
    runs = [
        (conn, symbol, *run)
        for (conn, symbol), book in frames.group_by("conn", "symbol", maintain_order=True)
        for run in _runs(book)
    ]
    text, moment = pl.String(), pl.Datetime("us", "UTC")
    schema = {"conn": text, "symbol": text, "start": moment, "end": moment, "known_by": text}
    return pl.DataFrame(runs, schema, orient="row").with_columns(channel=pl.lit("orderbook"))


def _runs(frames: pl.DataFrame) -> Iterator[tuple[datetime, datetime, Evidence | None]]:
    """Yield the first and the last time of each run of one book, and with what loss it begins.

    Decimals of prices and quantities, which a table of floats does not hold, are those with which
    a snapshot's own checksum is right; where there are none, nothing is claimed.
    """
    book: ChecksumBook | None = None
    scales: tuple[int, int] | None = None
    begun: datetime | None = None
    known_by: Evidence | None = None
    last = datetime.min.replace(tzinfo=UTC)
    columns = frames.select("ts_recv", "checksum", "is_snapshot", "levels")
    for time, checksum, is_snapshot, levels in columns.iter_rows():
        loss: Evidence | None = None
        if is_snapshot:
            silent = (time - last).total_seconds() >= SILENCE_SECONDS
            if book is not None and silent and book.checksum() != checksum:
                loss = "age"
            scales = _scales_of(levels, checksum, scales)
            book = None if scales is None else _book_of(levels, scales)
        elif book is not None and scales is not None:
            book.apply(*_levels(levels, scales))
            if checksum is not None and book.checksum() != checksum:
                loss, book = "checksum", None
        if begun is None:
            begun = time
        elif loss or (is_snapshot and known_by == "checksum"):
            yield begun, last, known_by
            begun, known_by = time, loss
        last = time
    if begun is not None:
        yield begun, last, known_by


def _levels(
    levels: list[dict[str, Any]], scales: tuple[int, int]
) -> tuple[list[tuple[float, str, str]], list[tuple[float, str, str]]]:
    price_scale, size_scale = 10.0 ** scales[0], 10.0 ** scales[1]
    sides: tuple[list[tuple[float, str, str]], list[tuple[float, str, str]]] = ([], [])
    for is_bid, price, size in map(dict.values, levels):
        level = price, f"{price * price_scale:.0f}", f"{size * size_scale:.0f}"
        sides[not is_bid].append(level)
    return sides


def _book_of(levels: list[dict[str, Any]], scales: tuple[int, int]) -> ChecksumBook:
    bids, asks = _levels(levels, scales)
    book = ChecksumBook(depth_of(max(len(bids), len(asks))))
    book.apply(bids, asks)
    return book


def _scales_of(
    levels: list[dict[str, Any]], checksum: int | None, usual: tuple[int, int] | None
) -> tuple[int, int] | None:
    candidates = [usual] if usual else []
    candidates += [(price, size) for size, price in product(_DECIMALS, range(13))]
    return next((s for s in candidates if _book_of(levels, s).checksum() == checksum), None)
