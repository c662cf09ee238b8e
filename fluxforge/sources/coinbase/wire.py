"""How Coinbase Advanced Trade writes things down: numbers, times and the events of each channel.

All numbers are strings, without trailing zeros. Every function here returns JSON text.
"""

from __future__ import annotations

import json
from functools import lru_cache
from time import gmtime, strftime
from typing import TYPE_CHECKING

from fluxforge.sources.market_parts import SIZE_DECIMALS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fluxforge.sources.market import ProductMarket
    from fluxforge.sources.market_parts import Instrument, MarketTrade, PriceRange, Quote

SECOND = 1_000_000_000


@lru_cache(maxsize=1 << 16)
def number(value: int, decimals: int) -> str:
    """Write a whole count of ticks or units as a decimal.

    Examples
    --------
    >>> number(6508366, 2), number(192000, 2), number(583000, 8)
    ('65083.66', '1920', '0.00583')
    """
    digits = str(value).rjust(decimals + 1, "0")
    return f"{digits[:-decimals]}.{digits[-decimals:]}".rstrip("0").rstrip(".")


@lru_cache(maxsize=1 << 16)
def size(value: int) -> str:
    """Write a size.

    Examples
    --------
    >>> size(20371215), size(0)
    ('0.20371215', '0')
    """
    return number(value, SIZE_DECIMALS)


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(seconds))


def timestamp(time_ns: int) -> str:
    """Write a time as an envelope does: UTC, up to nine decimals, trailing zeros cut.

    Examples
    --------
    >>> timestamp(1786309549253283580)
    '2026-08-09T21:05:49.25328358Z'
    """
    seconds, part = divmod(time_ns, SECOND)
    if not part:
        return f"{_second(seconds)}Z"
    return f"{_second(seconds)}.{part:09d}".rstrip("0") + "Z"


def event_time(time_ns: int) -> str:
    """Write a time as events do: like :func:`timestamp`, in microseconds.

    Examples
    --------
    >>> event_time(1786309548278410999)
    '2026-08-09T21:05:48.27841Z'
    """
    return timestamp(time_ns // 1_000 * 1_000)


def subscriptions(channels: Mapping[str, Sequence[str]]) -> str:
    """Write what a connection is subscribed to."""
    return f'{{"subscriptions":{json.dumps(dict(channels), separators=(",", ":"))}}}'


def heartbeat(time_ns: int, counter: int) -> str:
    """Write a heartbeat; its time has the form that Go gives it.

    Examples
    --------
    >>> print(heartbeat(1786309548854840045, 41691))
    {"current_time":"2026-08-09 21:05:48.854840045 +0000 UTC m=+41691.854840045",...41691}
    """
    now = timestamp(time_ns).replace("T", " ").removesuffix("Z")
    uptime = f"m=+{counter}.{time_ns % SECOND:09d}"
    return f'{{"current_time":"{now} +0000 UTC {uptime}","heartbeat_counter":{counter}}}'


def levels(
    product: str,
    kind: str,
    moment: int,
    decimals: int,
    bids: Iterable[tuple[int, int]],
    asks: Iterable[tuple[int, int]],
) -> str:
    """Write a book or its changes: all bids from the best down, then all offers."""
    head = f'","event_time":"{event_time(moment)}","price_level":"'
    bid, offer = '{"side":"bid' + head, '{"side":"offer' + head
    rows = [
        f'{bid}{number(price, decimals)}","new_quantity":"{size(units)}"}}' for price, units in bids
    ]
    rows += [
        f'{offer}{number(price, decimals)}","new_quantity":"{size(units)}"}}'
        for price, units in asks
    ]
    return f'{{"type":"{kind}","product_id":"{product}","updates":[{",".join(rows)}]}}'


def book_snapshot(market: ProductMarket, moment: int) -> str:
    """Write the whole book of a product."""
    item = market.instrument
    bids, asks = market.bids.levels(), market.asks.levels()
    return levels(item.product, "snapshot", moment, item.decimals, bids, asks)


def large_snapshot(product: str, megabytes: float, moment: int) -> str:
    """Write the snapshot of a book with so many levels that it is at least that large."""
    row = len('{"side":"bid","event_time":"","price_level":"20000000.0","new_quantity":"1.5"},')
    half = int(megabytes * 1_000_000 / (row + len(event_time(moment))) / 2) + 1
    bids = ((2_000_000_000 - rank, 150_000_000) for rank in range(half))
    asks = ((2_000_000_001 + rank, 150_000_000) for rank in range(half))
    return levels(product, "snapshot", moment, 2, bids, asks)


def trades(item: Instrument, kind: str, prints: Sequence[MarketTrade]) -> str:
    """Write trades, newest first; the side is the maker's."""
    rows = [
        f'{{"product_id":"{item.product}","trade_id":"{trade.trade_id}",'
        f'"price":"{number(trade.price, item.decimals)}","size":"{size(trade.size)}",'
        f'"time":"{event_time(trade.time_ns)}","side":"{"SELL" if trade.buys else "BUY"}"}}'
        for trade in reversed(prints)
    ]
    return f'{{"type":"{kind}","trades":[{",".join(rows)}]}}'


def ticker(item: Instrument, kind: str, quote: Quote, *, top_of_book: bool = True) -> str:
    """Write a ticker; batched ones come without the top of the book."""
    decimals = item.decimals
    change = f"{(quote.price - quote.day_open) / quote.day_open * 100:.14f}"
    fields = (
        f'"type":"ticker","product_id":"{item.product}","price":"{number(quote.price, decimals)}",'
        f'"volume_24_h":"{size(quote.day_volume)}","low_24_h":"{number(quote.day_low, decimals)}",'
        f'"high_24_h":"{number(quote.day_high, decimals)}",'
        f'"low_52_w":"{number(min(quote.day_low, item.price * 7 // 10), decimals)}",'
        f'"high_52_w":"{number(max(quote.day_high, item.price * 19 // 10), decimals)}",'
        f'"price_percent_chg_24_h":"{change.rstrip("0").rstrip(".")}"'
    )
    if top_of_book:
        fields += (
            f',"best_bid":"{number(quote.bid, decimals)}"'
            f',"best_ask":"{number(quote.ask, decimals)}"'
            f',"best_bid_quantity":"{size(quote.bid_size)}"'
            f',"best_ask_quantity":"{size(quote.ask_size)}"'
        )
    return f'{{"type":"{kind}","tickers":[{{{fields}}}]}}'


def candles(item: Instrument, kind: str, spans: Iterable[PriceRange]) -> str:
    """Write candles, oldest first."""
    rows = [
        f'{{"start":"{span.start}","high":"{number(span.high, item.decimals)}",'
        f'"low":"{number(span.low, item.decimals)}","open":"{number(span.open, item.decimals)}",'
        f'"close":"{number(span.close, item.decimals)}","volume":"{size(span.volume)}",'
        f'"product_id":"{item.product}"}}'
        for span in spans
    ]
    return f'{{"type":"{kind}","candles":[{",".join(rows)}]}}'


def status(items: Sequence[Instrument], kind: str) -> str:
    """Write the state of some products."""
    rows = []
    for item in items:
        base, quote = item.product.split("-", 1)
        rows.append(
            f'{{"product_type":"SPOT","id":"{item.product}","base_currency":"{base}",'
            f'"quote_currency":"{quote}","base_increment":"{size(1)}",'
            f'"quote_increment":"{number(1, item.decimals)}","display_name":"{base}/{quote}",'
            '"status":"online","status_message":"","min_market_funds":"1"}'
        )
    return f'{{"type":"{kind}","products":[{",".join(rows)}]}}'
