"""A seeded market that belongs to no venue: books, the trades that hit them, and candles.

Prices are whole ticks and sizes whole units, so that nothing is ever rounded; a venue turns them
into its own text. A product moves in steps. Its path depends on the seed and its name alone; the
clock only says when a step happened, and with that which candle its trades fall into.

One market is shared by all connections of an exchange. Each reads the steps of a product through a
:class:`MarketReader` of its own, and whoever needs the next step makes it happen.
"""

from __future__ import annotations

import math
import random
import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from fluxforge.simulator.book import BookSide
from fluxforge.simulator.instrument import Instrument

if TYPE_CHECKING:
    from collections.abc import Callable

_MINUTE_NS = 60_000_000_000
_HISTORY_MINUTES = 1_500
_HISTORY_TRADES = 100
_MOST_TRADES = 100_000
_STEP_VOLATILITY = 1e-5
_STEP_REVERSION = 1e-4
_TRADE_CHANCE = 0.12
_TICKER_CHANCE = 0.15
_MOST_PRINTS = 15
_SIZE_BITS = 11
_LOG_STEPS = 2_000
_SLOWEST_SECONDS = 30.0


class SlowConsumerError(Exception):
    """A reader fell so far behind the others that the steps it has not read are gone."""


class MarketTrade(NamedTuple):
    """One print: `buys` says that the aggressor bought, so that its maker sold."""

    trade_id: int
    price: int
    size: int
    buys: bool
    time_ns: int


@dataclass(slots=True)
class PriceRange:
    """What prices did over a span from `start`, in seconds since the Unix epoch."""

    start: int
    open: int
    high: int
    low: int
    close: int
    volume: int

    def add(self, other: PriceRange) -> None:
        """Take in what happened later."""
        self.high = max(self.high, other.high)
        self.low = min(self.low, other.low)
        self.close = other.close
        self.volume += other.volume


class Quote(NamedTuple):
    """The last price, the top of a book, and the day so far, as of one step."""

    price: int
    bid: int
    bid_size: int
    ask: int
    ask_size: int
    day: PriceRange


@dataclass(slots=True)
class Step:
    """What happened to a product in one step.

    `bids` and `asks` are the levels that changed, best price first, with 0 for one that is gone;
    `trades` are oldest first; `quote` is set where a ticker is due. `texts` is where a venue keeps
    what it made of this step, so that many connections share it.
    """

    number: int
    time_ns: int
    bids: list[tuple[int, int]]
    asks: list[tuple[int, int]]
    trades: list[MarketTrade]
    quote: Quote | None
    texts: dict[str, str] = field(default_factory=dict)


class MarketReader:
    """One reader of the steps of a product, from the moment it was opened."""

    def __init__(self, market: ProductMarket) -> None:
        self.unread: deque[Step] = deque()  # made for others, and still to be read
        self._market = market
        market.readers.append(self)

    def next_step(self) -> Step | None:
        """Return the next step, made now if need be; None while a slower reader has to catch up."""
        if self not in self._market.readers:
            raise SlowConsumerError
        if not self.unread and not self._market.share_step():
            return None
        return self.unread.popleft()

    def close(self) -> None:
        """Read no more, and hold nobody up any longer."""
        self.unread.clear()
        if self in self._market.readers:
            self._market.readers.remove(self)


class ProductMarket:
    """The market of one product.

    The fair price walks at random. Quotes that it runs over are cancelled before new ones are
    placed behind it, so bids always stay below asks; market orders eat from the top.
    """

    def __init__(self, instrument: Instrument, seed: int, clock: Callable[[], int]) -> None:
        self.instrument = instrument
        self.steps = 0
        self.readers: list[MarketReader] = []
        self._waiting_since: float | None = None  # since when readers are held up
        self._rng = random.Random(f"{seed}:{instrument.product}")  # noqa: S311
        self._clock = clock
        self._fair = float(instrument.price)
        self._gap = max(1.0, instrument.price * 3e-6)
        # Sizes are drawn from what was drawn once: a logarithm for each level costs too much.
        self._resting = self._draw_sizes(instrument.day_volume / 50_000, spread=1.5)
        self._orders = self._draw_sizes(instrument.day_volume / 500_000, spread=2.0)
        self._limits = self._price_limits()
        self.bids, self.asks = BookSide(1), BookSide(-1)
        self._depths = {side: self._rng.randint(1_200, 2_400) for side in (self.bids, self.asks)}
        self._fill_book()
        self._minutes: deque[PriceRange] = deque(maxlen=2 * _HISTORY_MINUTES)
        self.trades: deque[MarketTrade] = deque(maxlen=_MOST_TRADES)
        self._last_id = self._rng.randrange(10_000_000, 1_000_000_000)
        self._make_history()

    def share_step(self) -> bool:
        """Make the next step for all readers; not while one of them has too much to read yet.

        It is given time to catch up; when that is over, the others go on without it.
        """
        slow = [reader for reader in self.readers if len(reader.unread) >= _LOG_STEPS]
        now = time.monotonic()
        self._waiting_since = (self._waiting_since or now) if slow else None
        if self._waiting_since is not None and now - self._waiting_since < _SLOWEST_SECONDS:
            return False
        self._waiting_since = None
        for reader in slow:
            reader.close()
        step = self.advance()
        for reader in self.readers:
            reader.unread.append(step)
        return True

    def idle(self, steps: int) -> None:
        """Let the market move where nobody reads its steps."""
        for _ in range(0 if self.readers else steps):
            self.advance()

    def advance(self) -> Step:
        """Let the market move by one step."""
        now, chance = self._clock(), self._rng.random
        top = (self.bids.best, self.asks.best)
        self._move_fair_price()
        trades = self._market_order(now) if chance() < _TRADE_CHANCE else []
        self._requote(self.bids, self._limits[0], -1)
        self._requote(self.asks, self._limits[1], 1)
        moved = top != (self.bids.best, self.asks.best)
        ticker = trades or (moved and chance() < _TICKER_CHANCE)
        bids, asks = self.bids.take_changes(), self.asks.take_changes()
        step = Step(self.steps, now, bids, asks, trades, self.quote() if ticker else None)
        self.steps += 1
        return step

    def quote(self) -> Quote:
        """Return the top of the book and the day so far."""
        bid, ask, day = self.bids.best, self.asks.best, self._day
        sizes = self.bids.sizes[bid], self.asks.sizes[ask]
        return Quote(day.close, bid, sizes[0], ask, sizes[1], replace(day))

    def candles(self, seconds: int) -> list[PriceRange]:
        """Return candles of so many seconds, a multiple of 60, oldest first.

        A span without a trade has none; the last one is still running.
        """
        spans: dict[int, PriceRange] = {}
        for minute in self._minutes:
            start = minute.start // seconds * seconds
            if start in spans:
                spans[start].add(minute)
            else:
                spans[start] = replace(minute, start=start)
        return list(spans.values())

    def _price_limits(self) -> tuple[int, int]:
        """Return the highest price that may be bid and the lowest that may be asked."""
        bid = math.floor(self._fair - self._gap / 4)
        return bid, max(bid + 1, math.ceil(self._fair + self._gap / 4))

    def _move_fair_price(self) -> None:
        """Walk, and cancel the quotes that the walk ran over."""
        chance = self._rng.random
        # Three dice stand for a normal distribution: as good here, and faster.
        move = 2.0 * (chance() + chance() + chance()) - 3.0
        # What it is drawn back to keeps one instrument's prices alike at all venues.
        pull = _STEP_REVERSION * (self.instrument.price - self._fair)
        self._fair = max(100.0, self._fair * (1.0 + _STEP_VOLATILITY * move) + pull)
        self._limits = self._price_limits()
        self.bids.cancel_beyond(self._limits[0])
        self.asks.cancel_beyond(self._limits[1])

    def _market_order(self, now: int) -> list[MarketTrade]:
        """Eat from the top of one side."""
        rng = self._rng
        buys = rng.random() < 0.5
        side = self.asks if buys else self.bids
        left = self._orders[rng.getrandbits(_SIZE_BITS)]
        trades: list[MarketTrade] = []
        while left and len(trades) < _MOST_PRINTS:
            price = side.best
            there = side.sizes[price]
            size = min(left, there)
            # More than one order can rest at a price; each prints for itself.
            if size > 1 and rng.random() < 0.3:
                size = rng.randint(1, size)
            left -= size
            side.put(price, there - size)
            trades.append(self._print(price, size, buys, now))
        return trades

    def _print(self, price: int, size: int, buys: bool, now: int) -> MarketTrade:
        self._last_id += 1
        trade = MarketTrade(self._last_id, price, size, buys, now)
        self.trades.append(trade)
        printed = PriceRange(now // _MINUTE_NS * 60, price, price, price, price, size)
        self._day.add(printed)
        if self._minutes[-1].start < printed.start:
            self._minutes.append(printed)
        else:
            self._minutes[-1].add(printed)
        return trade

    def _requote(self, side: BookSide, limit: int, away: int) -> None:
        """Fill the top where it has thinned out, and keep a side alive and at its depth."""
        rng = self._rng
        chance = rng.random
        if side.best != limit and chance() < 0.6:
            side.put(limit, self._resting[rng.getrandbits(_SIZE_BITS)])
        short = len(side) < self._depths[side]
        for _ in range(int(chance() * 3) + 2 * short):
            if not short and chance() < 0.6:
                side.put(side.at_rank(1 + int(chance() * chance() * 60)), 0)
                continue
            far = 400 if chance() < 0.1 else 12
            price = limit - int(away * math.log(1.0 - chance()) * self._gap * far)
            if price > 0:
                side.put(price, self._resting[rng.getrandbits(_SIZE_BITS)])

    def _draw_sizes(self, typical: float, spread: float) -> list[int]:
        """Draw sizes around a typical one; people like round ones."""
        center = math.log(max(2.0, typical))
        sizes = []
        for _ in range(1 << _SIZE_BITS):
            size = int(math.exp(self._rng.gauss(center, spread))) + 1
            grain = 10 ** max(0, len(str(size)) - 2)
            rounded = size // grain * grain
            sizes.append(rounded if self._rng.random() < 0.3 else size)
        return sizes

    def _fill_book(self) -> None:
        for side, limit, away in zip((self.bids, self.asks), self._limits, (-1, 1), strict=True):
            distance = 0
            depth = self._depths[side]
            for rank in range(depth):
                price = limit + away * distance
                if price <= 0:
                    break
                side.put(price, self._resting[self._rng.getrandbits(_SIZE_BITS)])
                spread = self._gap * math.exp(6.0 * rank / depth)
                distance += 1 + int(self._rng.expovariate(1.0) * spread)
            side.take_changes()

    def _make_history(self) -> None:
        """Invent the candles and trades that a subscriber is told of first."""
        rng, now = self._rng, self._clock()
        start = now // _MINUTE_NS * 60
        close = self.instrument.price
        day = self.instrument.day_volume
        for _ in range(_HISTORY_MINUTES):
            opened = max(1, round(close * (1.0 + rng.gauss(0.0, 3e-4))))
            high = round(max(opened, close) * (1.0 + rng.expovariate(8_000.0)))
            low = max(1, round(min(opened, close) * (1.0 - rng.expovariate(8_000.0))))
            volume = max(1, round(day / 1_440 * rng.expovariate(1.0)))
            self._minutes.appendleft(PriceRange(start, opened, high, low, close, volume))
            start -= 60 * (rng.randint(2, 15) if rng.random() < 0.02 else 1)
            close = opened
        first = self._minutes[0]
        self._day = replace(first, volume=0)
        for minute in self._minutes:
            self._day.add(minute)
        bid, ask = self.bids.best, self.asks.best
        for moment in sorted(now - int(rng.expovariate(1 / 20e9)) for _ in range(_HISTORY_TRADES)):
            buys = rng.random() < 0.5
            self._last_id += 1
            price = ask if buys else bid
            size = self._orders[rng.getrandbits(_SIZE_BITS)]
            self.trades.append(MarketTrade(self._last_id, price, size, buys, moment))


class Market:
    """All products of an exchange; each comes to life when it is first asked for."""

    def __init__(self, seed: int, clock: Callable[[], int] = time.time_ns) -> None:
        self.clock = clock
        self._seed = seed
        self._products: dict[str, ProductMarket] = {}

    def product(self, name: str) -> ProductMarket:
        """Return the market of a product."""
        if name not in self._products:
            self._products[name] = ProductMarket(Instrument.named(name), self._seed, self.clock)
        return self._products[name]
