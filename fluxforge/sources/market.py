"""A seeded market that belongs to no venue: books, the trades that hit them, and candles.

A product moves in steps, in whole ticks and units; a venue's feed turns them into its own text. Its
path depends on the seed and its name alone; the clock only says when a step happened, and with that
which candle its trades fall into.

One market is shared by all connections of an exchange. Each reads the steps of a product through a
:class:`MarketReader` of its own, and whoever needs the next step makes it happen.
"""

from __future__ import annotations

import math
import random
import time
from collections import deque
from typing import TYPE_CHECKING

from fluxforge.sources.market_parts import (
    BookSide,
    Instrument,
    MarketTrade,
    PriceRange,
    Quote,
    Step,
)

if TYPE_CHECKING:
    from collections.abc import Callable

CANDLE_SECONDS = 300

_HISTORY = 100
_STEP_VOLATILITY = 1e-5
_TRADE_CHANCE = 0.12
_TICKER_CHANCE = 0.15
_MOST_PRINTS = 15
_SIZE_BITS = 11
_LOG_STEPS = 2_000
_PATIENCE_SECONDS = 30.0


class SlowConsumerError(Exception):
    """A reader fell so far behind the others that the steps it has not read are gone."""


class MarketReader:
    """One reader's place in the steps of a product, from the moment it was opened."""

    __slots__ = ("_market", "position")

    def __init__(self, market: ProductMarket) -> None:
        self._market = market
        self.position = market.steps

    def next_step(self) -> Step | None:
        """Return the next step, made now if need be; None while a slower reader has to catch up.

        Raises
        ------
        SlowConsumerError
            If the others were held up too long and went on without this reader.
        """
        return self._market.read(self)

    def close(self) -> None:
        """Hold nobody up any longer."""
        self._market.forget(self)


class ProductMarket:
    """The market of one product.

    The fair price walks at random. Quotes that it runs over are cancelled before new ones are
    placed behind it, so bids always stay below asks; market orders eat from the top.
    """

    def __init__(self, instrument: Instrument, seed: int, clock: Callable[[], int]) -> None:
        self.instrument = instrument
        self.steps = 0
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
        self.candles: deque[PriceRange] = deque(maxlen=_HISTORY)
        self.trades: deque[MarketTrade] = deque(maxlen=_HISTORY)
        self._last_id = self._rng.randrange(10_000_000, 1_000_000_000)
        self._make_history()
        self._log: deque[Step] = deque()
        self._readers: list[MarketReader] = []
        self._waiting_since: float | None = None

    # Reading

    def reader(self) -> MarketReader:
        """Return a reader of everything that happens from now on."""
        reader = MarketReader(self)
        self._readers.append(reader)
        return reader

    def forget(self, reader: MarketReader) -> None:
        """Drop a reader, and the steps that only it had still to read."""
        if reader in self._readers:
            self._readers.remove(reader)
        self._trim()

    def read(self, reader: MarketReader) -> Step | None:
        """Give a reader its next step; see :meth:`MarketReader.next_step`."""
        if reader not in self._readers:
            raise SlowConsumerError
        if len(self._readers) == 1 and not self._log:
            reader.position += 1
            return self.advance()
        if reader.position == self.steps:
            if len(self._log) >= _LOG_STEPS and not self._make_room():
                return None
            self._waiting_since = None
            self._log.append(self.advance())
        step = self._log[reader.position - self._log[0].number]
        reader.position += 1
        self._trim()
        return step

    def _trim(self) -> None:
        read_by_all = min((r.position for r in self._readers), default=self.steps)
        while self._log and self._log[0].number < read_by_all:
            self._log.popleft()

    def _make_room(self) -> bool:
        """Give the slowest readers time to catch up; when it is over, go on without them."""
        now = time.monotonic()
        if self._waiting_since is None:
            self._waiting_since = now
        if now - self._waiting_since < _PATIENCE_SECONDS:
            return False
        oldest = self._log[0].number
        self._readers = [reader for reader in self._readers if reader.position > oldest]
        self._trim()
        return True

    # Moving

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
        return Quote(
            price=day.close,
            bid=bid,
            bid_size=self.bids.sizes[bid],
            ask=ask,
            ask_size=self.asks.sizes[ask],
            day_volume=day.volume,
            day_open=day.open,
            day_low=day.low,
            day_high=day.high,
        )

    def _price_limits(self) -> tuple[int, int]:
        """Return the highest price that may be bid and the lowest that may be asked."""
        bid = math.floor(self._fair - self._gap / 4)
        return bid, max(bid + 1, math.ceil(self._fair + self._gap / 4))

    def _move_fair_price(self) -> None:
        """Walk, and cancel the quotes that the walk ran over."""
        chance = self._rng.random
        # Three dice stand for a normal distribution: as good here, and faster.
        move = 2.0 * (chance() + chance() + chance()) - 3.0
        self._fair = max(100.0, self._fair * (1.0 + _STEP_VOLATILITY * move))
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
        self._day.add(price, size)
        start = now // (CANDLE_SECONDS * 1_000_000_000) * CANDLE_SECONDS
        if self.candles[-1].start < start:
            self.candles.append(PriceRange(start, price, price, price, price, 0))
        self.candles[-1].add(price, size)
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

    # What was there before the first step

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
        start = now // (CANDLE_SECONDS * 1_000_000_000) * CANDLE_SECONDS
        close = self.instrument.price
        day = self.instrument.day_volume
        for _ in range(_HISTORY):
            opened = max(1, round(close * (1.0 + rng.gauss(0.0, 8e-4))))
            high = round(max(opened, close) * (1.0 + rng.expovariate(4_000.0)))
            low = max(1, round(min(opened, close) * (1.0 - rng.expovariate(4_000.0))))
            volume = max(1, round(day / 288 * rng.expovariate(1.0)))
            self.candles.appendleft(PriceRange(start, opened, high, low, close, volume))
            # A span without a trade has no candle.
            start -= CANDLE_SECONDS * (rng.randint(2, 5) if rng.random() < 0.1 else 1)
            close = opened
        self._day = PriceRange(
            start=self.candles[0].start,
            open=self.candles[0].open,
            high=max(candle.high for candle in self.candles),
            low=min(candle.low for candle in self.candles),
            close=self.instrument.price,
            volume=day,
        )
        bid, ask = self.bids.best, self.asks.best
        times = sorted(now - int(rng.expovariate(1 / 20e9)) for _ in range(_HISTORY))
        for moment in times:
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
        """Return the market of a product.

        Examples
        --------
        >>> market = Market(seed=1).product("BTC-USD")
        >>> market.bids.best < market.asks.best
        True
        """
        if name not in self._products:
            self._products[name] = ProductMarket(Instrument.named(name), self._seed, self.clock)
        return self._products[name]
