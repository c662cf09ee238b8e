"""What to say to Binance, and how to read what it says. No I/O here.

Facts are from binance/binance-spot-api-docs, ``web-socket-streams.md`` and ``rest-api.md``.
"""

from __future__ import annotations

import json
import re
from itertools import count
from typing import TYPE_CHECKING, ClassVar

from fluxforge.errors import ConfigError
from fluxforge.sources.base import (
    BookRules,
    Source,
    Subscription,
    VenueLimits,
    check_channels,
    check_products,
    in_parts,
)
from fluxforge.sources.session import Fetch, Lost, Refused, Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fluxforge.sources.session import Event

_PRODUCT = re.compile(r"[A-Z0-9]{5,}")
_CHANNELS = ("depth", "aggTrade", "trade", "bookTicker", "ticker", "kline")
_STREAMS = {"depth": "depth@100ms", "kline": "kline_1m"}
_DEPTH_LIMIT = 5000
_STREAMS_PER_SOCKET = 200  # the venue allows 1,024; fewer make a lost connection cost less
_STREAMS_PER_MESSAGE = 100
_REST = "https://api.binance.com"


class Binance(Source):
    """Binance, spot market data."""

    name: ClassVar[str] = "binance"
    limits: ClassVar[VenueLimits] = VenueLimits(
        connections_per_second=1.0,  # 300 in five minutes
        messages_per_second=4.0,  # 5, pings and pongs counted
        silence_seconds=60.0,  # no heartbeats; a quiet product is quiet
    )
    book: ClassVar[BookRules] = BookRules(by_number=True)

    def plan(self, products: Sequence[str], channels: Sequence[str]) -> list[Subscription]:
        """Spread products over sockets; each has all channels of its products.

        Raises
        ------
        ConfigError
            If both kinds of trade are asked for: an aggTrade is one or several trades.
        """
        wanted = check_channels(self.name, channels, _CHANNELS)
        if {"aggTrade", "trade"} <= set(wanted):
            raise ConfigError(
                "binance: 'aggTrade' and 'trade' are the same trades: choose one of them"
            )
        names = check_products(self.name, products, _PRODUCT, "BTCUSDT")
        size = max(1, _STREAMS_PER_SOCKET // len(wanted))
        return [
            Subscription(tuple(names[start : start + size]), wanted)
            for start in range(0, len(names), size)
        ]

    def session(self, subscription: Subscription) -> BinanceSession:
        """Return the conversation over a new connection."""
        return BinanceSession(subscription)


class BinanceSession(Session):
    """One connection to Binance.

    A book begins with a REST answer, which is stored as a line of the connection. Its first
    change must hold the number after the answer's; each later one begins where the last ended.
    """

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._books: dict[str, int | None] = {}  # the last number; None while REST is awaited
        self._begun: dict[str, int] = {}  # the first number seen while REST is awaited
        self._trades: dict[str, int] = {}
        self._ids = count(1)

    def opening(self) -> list[str]:
        """Return as few messages as hold all streams."""
        streams = [
            f"{product.lower()}@{_STREAMS.get(channel, channel)}"
            for product in self._subscription.products
            for channel in self._subscription.channels
        ]
        return [
            json.dumps({"method": "SUBSCRIBE", "params": list(part), "id": next(self._ids)})
            for part in in_parts(streams, _STREAMS_PER_MESSAGE)
        ]

    def read(self, frame: bytes) -> list[Event]:
        """Check acknowledgements, the numbers of books and of trades."""
        try:
            content = json.loads(frame)
            if "error" in content:
                return [Refused(str(content["error"].get("msg")), fatal=False)]
            if "depth" in content:
                return self._snapshot(content["depth"], int(content["response"]["lastUpdateId"]))
            data = content.get("data", {})
            match data.get("e"):
                case "depthUpdate":
                    return self._update(data["s"], int(data["U"]), int(data["u"]))
                case "aggTrade":
                    return self._trade(data["s"], int(data["a"]))
                case "trade":
                    return self._trade(data["s"], int(data["t"]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass  # it is stored, and the ETL says what is wrong with it
        return []

    def fetched(self, request: Fetch, answer: bytes) -> bytes:
        """Return the line that stands for a REST answer, verbatim inside it."""
        return b'{"depth":"%s","response":%s}' % (request.symbol.encode(), answer.strip())

    def _ask(self, symbol: str) -> list[Event]:
        self._books[symbol] = None
        return [Fetch(f"{_REST}/api/v3/depth?symbol={symbol}&limit={_DEPTH_LIMIT}", symbol)]

    def _snapshot(self, symbol: str, number: int) -> list[Event]:
        if number < self._begun.get(symbol, 0) - 1:
            return self._ask(symbol)  # older than the first change that was seen
        self._books[symbol] = number
        return []

    def _update(self, symbol: str, first: int, last: int) -> list[Event]:
        if symbol not in self._books:
            self._begun[symbol] = first
            return self._ask(symbol)
        reached = self._books[symbol]
        if reached is None or last <= reached:
            return []
        self._books[symbol] = last
        if first <= reached + 1:
            return []
        self._begun[symbol] = first
        lost = Lost("number", "orderbook", symbol, reached + 1, first - 1)
        return [lost, *self._ask(symbol)]

    def _trade(self, symbol: str, number: int) -> list[Event]:
        last = self._trades.get(symbol)
        self._trades[symbol] = number
        if last is None or number <= last + 1:
            return []
        return [Lost("number", "trades", symbol, last + 1, number - 1)]


SOURCE = Binance()
