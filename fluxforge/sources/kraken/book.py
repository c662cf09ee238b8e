"""A Kraken order book of limited depth, and the venue's checksum of it.

The rules are in docs.kraken.com, "Spot WebSocket v2: Book" and "Book checksum": after each frame
the book is cut to the subscribed depth, and the checksum is the CRC32 of the ten best asks from
low to high and the ten best bids from high to low, each as price and quantity with the point and
leading zeros removed.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

DEPTHS = (10, 25, 100, 500, 1000)
"""The depths that can be subscribed to."""

_CHECKED = 10

Level = tuple[str, str]


class ChecksumBook:
    """One symbol's book, its numbers as the venue wrote them.

    Examples
    --------
    >>> book = ChecksumBook(depth=10)
    >>> book.apply([("45283.5", "0.10000000")], [("45283.6", "0.01500000")])
    >>> book.checksum()
    3773946991
    """

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._bids: dict[float, Level] = {}
        self._asks: dict[float, Level] = {}

    def apply(self, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """Set levels, ``price, quantity`` as text, remove those of quantity 0, and cut the rest."""
        for side, levels, best_first in ((self._bids, bids, True), (self._asks, asks, False)):
            for price, size in levels:
                if float(size):
                    side[float(price)] = (price, size)
                else:
                    side.pop(float(price), None)
            if len(side) > self._depth:
                for price_ in sorted(side, reverse=best_first)[self._depth :]:
                    del side[price_]

    def checksum(self) -> int:
        """Return the checksum as the venue computes it."""
        best = [self._asks[price] for price in sorted(self._asks)[:_CHECKED]]
        best += [self._bids[price] for price in sorted(self._bids, reverse=True)[:_CHECKED]]
        text = "".join(number.replace(".", "").lstrip("0") for level in best for number in level)
        return zlib.crc32(text.encode())
