"""What a market is made of: instruments, books, trades and the steps it moves by.

Prices are whole ticks and sizes whole units, so that nothing is ever rounded.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE_DECIMALS = 8
"""Sizes are counted in units of 10**-8 of the base currency."""

_UNITS = 10**SIZE_DECIMALS
_WELL_KNOWN = {
    "BTC-USD": (65_083.67, 2, 2_867.5),
    "ETH-USD": (1_919.41, 2, 19_976.0),
    "SOL-USD": (151.27, 2, 310_000.0),
    "XRP-USD": (2.1843, 4, 41_000_000.0),
    "DOGE-USD": (0.17352, 5, 160_000_000.0),
}


@dataclass(frozen=True)
class Instrument:
    """What a product is made of.

    Attributes
    ----------
    product
        The venue's name of it, as ``BTC-USD``.
    price
        Where its market starts, in ticks.
    decimals
        Decimals of a price: a tick is ``10 ** -decimals``.
    day_volume
        What it turns over in a day, in units of ``10 ** -SIZE_DECIMALS``.
    """

    product: str
    price: int
    decimals: int
    day_volume: int

    @classmethod
    def named(cls, product: str) -> Instrument:
        """Return the instrument of any product: a name always means the same one.

        Examples
        --------
        >>> Instrument.named("BTC-USD").price
        6508367
        >>> Instrument.named("NEW-USD") == Instrument.named("NEW-USD")
        True
        """
        if product in _WELL_KNOWN:
            price, decimals, volume = _WELL_KNOWN[product]
        else:
            rng = random.Random(product)  # noqa: S311
            price = 10 ** rng.uniform(-1, 2.5)
            decimals = max(2, 4 - math.floor(math.log10(price)))
            volume = 10 ** rng.uniform(6, 7.5) / price
        return cls(product, round(price * 10**decimals), decimals, round(volume * _UNITS))


class MarketTrade(NamedTuple):
    """One print: `buys` says that the aggressor bought, so that its maker sold."""

    trade_id: int
    price: int
    size: int
    buys: bool
    time_ns: int


@dataclass(slots=True)
class PriceRange:
    """What prices did over a span of time: five minutes, or the day so far.

    `start` is in seconds since the Unix epoch.
    """

    start: int
    open: int
    high: int
    low: int
    close: int
    volume: int

    def add(self, price: int, size: int) -> None:
        """Take a trade in."""
        self.high = max(self.high, price)
        self.low = min(self.low, price)
        self.close = price
        self.volume += size


class Quote(NamedTuple):
    """The last price and the top of a book, as of one step, with the day's volume and range."""

    price: int
    bid: int
    bid_size: int
    ask: int
    ask_size: int
    day_volume: int
    day_open: int
    day_low: int
    day_high: int


@dataclass(slots=True)
class Step:
    """What happened to a product in one step.

    Attributes
    ----------
    number
        Counted from 0 for each product.
    time_ns
        When, in nanoseconds since the Unix epoch.
    bids, asks
        The levels that changed and their new sizes, 0 for one that is gone; best price first.
    trades
        The prints of the step, oldest first.
    quote
        Set where a ticker is due: after trades, and after some of the moves of the top.
    texts
        For a feed to keep what it made of this step, so that many readers share it.
    """

    number: int
    time_ns: int
    bids: list[tuple[int, int]]
    asks: list[tuple[int, int]]
    trades: list[MarketTrade]
    quote: Quote | None
    texts: dict[str, str] = field(default_factory=dict)


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
            price = self._sign * key
            yield price, self.sizes[price]
