from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from fluxforge.simulator import market as market_module
from fluxforge.simulator.market import Market, MarketReader, SlowConsumerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fluxforge.simulator.market import Step

START = 1_786_309_548_000_000_000


def ticking(step_ns: int = 1_000_000) -> Callable[[], int]:
    """Make a clock that moves by the same amount each time it is read."""
    return itertools.count(START, step_ns).__next__


def steps(market: Market, product: str, count: int) -> list[Step]:
    reader = MarketReader(market.product(product))
    found = [reader.next_step() for _ in range(count)]
    assert None not in found
    return [step for step in found if step is not None]


@pytest.mark.parametrize("product", ["BTC-USD", "ETH-USD", "DOGE-USD", "NOBODY-KNOWS"])
def test_the_book_never_crosses_and_stays_deep(product: str) -> None:
    market = Market(seed=3, clock=ticking()).product(product)
    reader = MarketReader(market)
    bids, asks = dict(market.bids.levels()), dict(market.asks.levels())
    assert len(bids) + len(asks) > 2_000
    for _ in range(20_000):
        step = reader.next_step()
        assert step is not None
        for side, changes in ((bids, step.bids), (asks, step.asks)):
            for price, size in changes:
                if size:
                    side[price] = size
                else:
                    side.pop(price, None)
        assert market.bids.best < market.asks.best
    assert bids == dict(market.bids.levels())
    assert asks == dict(market.asks.levels())
    assert max(bids) < min(asks)
    assert len(bids) + len(asks) > 2_000
    assert (min(asks) - max(bids)) / min(asks) < 0.005


def test_the_same_seed_is_the_same_market_whatever_the_clock() -> None:
    def path(seed: int, tick_ns: int) -> list[tuple[object, ...]]:
        return [
            (
                step.bids,
                step.asks,
                [trade[:4] for trade in step.trades],
                step.quote and step.quote[:5],
            )
            for step in steps(Market(seed, ticking(tick_ns)), "BTC-USD", 2_000)
        ]

    assert path(1, 1_000) == path(1, 999_999)
    assert path(1, 1_000) != path(2, 1_000)


def test_a_product_does_not_depend_on_its_neighbours() -> None:
    alone, busy = Market(1, ticking()), Market(1, ticking())
    steps(busy, "ETH-USD", 500)
    first, second = steps(alone, "BTC-USD", 100), steps(busy, "BTC-USD", 100)
    assert [step.bids for step in first] == [step.bids for step in second]


def test_trades_are_dense_and_at_the_top_of_the_book() -> None:
    market = Market(seed=5, clock=ticking()).product("ETH-USD")
    expected = market.trades[-1].trade_id + 1
    reader = MarketReader(market)
    longest = 0
    for _ in range(5_000):
        best_ask, best_bid = market.asks.best, market.bids.best
        step = reader.next_step()
        assert step is not None
        for trade in step.trades:
            assert trade.trade_id == expected
            assert trade.size > 0
            expected += 1
        if step.trades:
            assert step.quote is not None
            prices = [trade.price for trade in step.trades]
            assert prices == sorted(prices, reverse=not step.trades[0].buys)
            # The quotes may have moved by a few gaps before the order came, not by more.
            reach = best_ask // 1_000
            assert best_bid - reach < prices[0] < best_ask + reach
        longest = max(longest, len(step.trades))
    assert 1 < longest <= 15


def test_candles_follow_the_clock_and_the_trades() -> None:
    market = Market(seed=5, clock=ticking(1_000_000_000)).product("BTC-USD")
    known = {candle.start for candle in market.candles(300)}
    assert len(known) >= 100
    assert all(start % 300 == 0 for start in known)
    reader = MarketReader(market)
    volumes: dict[int, int] = {}
    for _ in range(2_000):
        step = reader.next_step()
        assert step is not None
        for trade in step.trades:
            bucket = trade.time_ns // 300_000_000_000 * 300
            volumes[bucket] = volumes.get(bucket, 0) + trade.size
    made = {c.start: c for c in market.candles(300) if c.start not in known}
    assert len(made) >= 5
    for start, candle in made.items():
        assert candle.volume == volumes[start]
        assert candle.low <= min(candle.open, candle.close)
        assert candle.high >= max(candle.open, candle.close)


def test_readers_share_the_steps() -> None:
    market = Market(seed=1, clock=ticking()).product("BTC-USD")
    fast, slow = MarketReader(market), MarketReader(market)
    ahead = [fast.next_step() for _ in range(50)]
    behind = [slow.next_step() for _ in range(50)]
    assert all(one is other for one, other in zip(ahead, behind, strict=True))
    late = MarketReader(market)
    step = late.next_step()
    assert step is not None
    assert step.number == 50


def test_a_reader_waits_for_slower_ones_and_then_goes_on_without_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    market = Market(seed=1, clock=ticking()).product("BTC-USD")
    fast, slow = MarketReader(market), MarketReader(market)
    taken = 0
    while fast.next_step() is not None:
        taken += 1
    first = slow.next_step()
    assert first is not None
    assert first.number == 0
    assert fast.next_step() is not None
    assert fast.next_step() is None

    monkeypatch.setattr(market_module, "_SLOWEST_SECONDS", 0.0)
    step = fast.next_step()
    assert step is not None
    assert step.number == taken + 1
    with pytest.raises(SlowConsumerError):
        slow.next_step()


def test_a_reader_that_left_holds_nobody_up() -> None:
    market = Market(seed=1, clock=ticking()).product("BTC-USD")
    fast, slow = MarketReader(market), MarketReader(market)
    while fast.next_step() is not None:
        pass
    slow.close()
    assert fast.next_step() is not None
