"""One side of an order book in whole ticks and units."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class BookSide:
    """One side of a book: sizes by price, with its best price at hand."""

    __slots__ = ("_keys", "_sign", "changed", "sizes")

    def __init__(self, sign: int) -> None:
        self._sign = sign  # 1 for bids and -1 for asks: either way the best key is the last
        self._keys: list[int] = []
        self.sizes: dict[int, int] = {}
        self.changed: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def best(self) -> int:
        """The price at the top."""
        return self._sign * self._keys[-1]

    def at_rank(self, rank: int) -> int:
        """Return the price of a level, 0 being the best."""
        return self._sign * self._keys[-1 - min(rank, len(self._keys) - 1)]

    def put(self, price: int, size: int) -> None:
        """Set the size at a price, 0 to remove the level, and note the change."""
        key = self._sign * price
        if size:
            if price not in self.sizes:
                self._keys.insert(bisect_left(self._keys, key), key)
            self.sizes[price] = size
        elif self.sizes.pop(price, 0):
            del self._keys[bisect_left(self._keys, key)]
        self.changed[price] = size

    def cancel_beyond(self, limit: int) -> None:
        """Remove the levels that are better than a price."""
        keys, key = self._keys, self._sign * limit
        while keys[-1] > key:
            price = self._sign * keys.pop()
            del self.sizes[price]
            self.changed[price] = 0

    def take_changes(self) -> list[tuple[int, int]]:
        """Return what changed since the last call, best price first."""
        changed = sorted(self.changed.items(), reverse=self._sign > 0)
        self.changed = {}
        return changed

    def levels(self) -> Iterator[tuple[int, int]]:
        """Yield price and size of every level, best first."""
        for key in reversed(self._keys):
            yield self._sign * key, self.sizes[self._sign * key]
