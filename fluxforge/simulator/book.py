"""One side of an order book in whole ticks and units, and what a subscriber sees of its top."""

from __future__ import annotations

from bisect import bisect_left
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


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

    def copy(self) -> BookSide:
        """Return a side of its own with the same levels."""
        side = BookSide(self._sign)
        side._keys, side.sizes = list(self._keys), dict(self.sizes)
        return side


class DepthView:
    """The best levels of one side, as a subscriber to a limited depth sees them."""

    def __init__(self, side: BookSide, depth: int) -> None:
        self._side = side.copy()
        self._depth = depth
        self.levels = self._top()

    def _top(self) -> dict[int, int]:
        return dict(islice(self._side.levels(), self._depth))

    def apply(self, changes: Iterable[tuple[int, int]]) -> dict[int, int]:
        """Take in what changed, and return what that means for the view: new sizes by price.

        A level that has left the view has size 0, whether it is gone or only too far from the top.
        """
        for price, size in changes:
            self._side.put(price, size)
        before, self.levels = self.levels, self._top()
        changed = {price: 0 for price in before if price not in self.levels}
        return changed | {p: size for p, size in self.levels.items() if before.get(p) != size}

    def holds(self, price: int) -> bool:
        """Tell whether the book has a level, in view or below."""
        return price in self._side.sizes
