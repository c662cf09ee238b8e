"""What to say to Binance, and how to read what it says. No I/O here.

Facts are from binance/binance-spot-api-docs, ``web-socket-streams.md`` and ``rest-api.md``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

from fluxforge.errors import ConfigError
from fluxforge.sources.base import BookRules, Source, Subscription, VenueLimits
from fluxforge.sources.rest import Instrument, decimals_of
from fluxforge.sources.session import Fetch, NumberCheck, Session, dumps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fluxforge.sources.rest import Calls, Past
    from fluxforge.sources.session import Event, Method

_BOOK, _DEPTH_LIMIT, _PAGE = "depth", 5000, 1000
_STREAMS = {_BOOK: "depth@100ms", "kline": "kline_1m"}
_CHANNELS = {"depthUpdate": _BOOK, "24hrTicker": "ticker"}
_TRADE_IDS = {"aggTrade": "a", "trade": "t"}
_STREAMS_PER_SOCKET = 200  # the venue allows 1,024; fewer make a lost connection cost less
_STREAMS_PER_MESSAGE = 100


class Binance(Source):
    """Binance, spot market data."""

    name: ClassVar[str] = "binance"
    limits: ClassVar[VenueLimits] = VenueLimits(
        connections_per_second=1.0,  # 300 in five minutes
        messages_per_second=4.0,  # 5, pings and pongs counted
        silence_seconds=60.0,  # no heartbeats; a quiet product is quiet
        products_per_socket=_STREAMS_PER_SOCKET,
        snapshots_per_second=0.2,  # each weighs 250 of 6,000 a minute
        channel_silence={_BOOK: 60.0},
    )
    book: ClassVar[BookRules] = BookRules(by_number=True)
    channels = (_BOOK, "aggTrade", "trade", "bookTicker", "ticker", "kline")
    other_names = {"orderbook": _BOOK, "trades": "aggTrade", "candles": "kline"}  # noqa: RUF012
    product = re.compile(r"[A-Z0-9]{5,}")
    example = "BTCUSDT"
    url = "wss://stream.binance.com:9443/stream"
    rest_url = "https://api.binance.com"

    def session(self, subscription: Subscription) -> BinanceSession:
        return BinanceSession(self, subscription)

    def check_channels(self, channels: Sequence[str]) -> tuple[str, ...]:
        """Refuse both kinds of trade together: an aggTrade is one or several trades."""
        if {"aggTrade", "trade"} <= set(channels):
            raise ConfigError(
                "binance: 'aggTrade' and 'trade' are the same trades: choose one of them"
            )
        return super().check_channels(channels)

    def products_per_socket(self, channels: Sequence[str]) -> int:
        return max(1, _STREAMS_PER_SOCKET // len(channels))

    def listing(self) -> Calls[list[Instrument]]:
        answer = yield "/api/v3/exchangeInfo?permissions=SPOT"
        found = []
        for one in answer["symbols"]:
            steps = {key: step for rule in one["filters"] for key, step in rule.items()}
            found.append(
                Instrument(
                    one["symbol"], f"{one['baseAsset']}-{one['quoteAsset']}", "spot",
                    one["baseAsset"], one["quoteAsset"],
                    decimals_of(steps.get("tickSize")), decimals_of(steps.get("stepSize")),
                    one["status"] == "TRADING",
                )
            )  # fmt: skip
        return found

    def check_past(self, tables: Sequence[str], channels: Sequence[str]) -> None:
        """Refuse trades where single ones are captured: REST gives aggregates, numbered apart."""
        if "trades" in tables and "trade" in channels:
            raise ConfigError(
                "binance: only aggregate trades are given again, and they are those of 'trade' "
                "under other numbers: capture 'aggTrade', or backfill candles"
            )

    def past(self, wanted: Past) -> Calls[bool]:
        """Return calls for aggregate trades, from the oldest on, or for candles."""
        (start, end), common = wanted.ms, f"symbol={wanted.symbol}&limit={_PAGE}"
        if wanted.table == "candles":
            times = f"interval={wanted.interval}&startTime={start}&endTime={end - 1}"
            yield f"/api/v3/klines?{common}&{times}"
            return True
        trades = yield f"/api/v3/aggTrades?{common}&startTime={start}&endTime={end - 1}"
        while len(trades) == _PAGE and int(trades[-1]["T"]) < end:
            trades = yield f"/api/v3/aggTrades?{common}&fromId={int(trades[-1]['a']) + 1}"
        return True


class BinanceSession(Session):
    """One connection to Binance.

    A book begins with a REST answer, which is stored as a line of the connection. Its first
    change must hold the number after the answer's; each later one begins where the last ended.
    """

    def __init__(self, source: Binance, subscription: Subscription) -> None:
        super().__init__(source, subscription)
        self._numbers = NumberCheck()
        self._awaited: dict[str, int] = {}  # the first number seen while REST is awaited

    def request(
        self, method: Method, channels: Sequence[str], products: Sequence[str]
    ) -> list[str]:
        streams = [
            f"{product.lower()}@{_STREAMS.get(channel, channel)}"
            for product in products
            for channel in channels
        ]
        return [
            dumps({"method": method.upper(), "params": part, "id": number})
            for number, part in self.numbered(streams, _STREAMS_PER_MESSAGE)
        ]

    def note(self, content: Any) -> list[Event]:
        if "error" in content or "code" in content:
            return self._refusals(content)
        if "depth" in content:
            return self._snapshot(content["depth"], content["response"])
        if "result" in content:
            return []  # a request was granted
        data = content.get("data", content)
        kind = data.get("e", "bookTicker")
        self.heard(_CHANNELS.get(kind, kind))
        if kind == "depthUpdate":
            return self._update(data["s"], int(data["U"]), int(data["u"]))
        if kind in _TRADE_IDS:
            return self._numbers.follow("trades", data["s"], int(data[_TRADE_IDS[kind]]))
        return []

    def _refusals(self, content: dict[str, Any]) -> list[Event]:
        message = str(content.get("error", content).get("msg"))
        streams = self.asked.get(str(content.get("id")), ())
        symbols = dict.fromkeys(stream.partition("@")[0].upper() for stream in streams)
        return [event for symbol in symbols or (None,) for event in self.refused(message, symbol)]

    def _snapshot(self, symbol: str, response: dict[str, Any]) -> list[Event]:
        if "code" in response:
            return self.refused(str(response.get("msg")), symbol)
        number, first = int(response["lastUpdateId"]), self._awaited.pop(symbol, 0)
        # An answer that is older than the first change that was seen is of no use.
        return self._ask(symbol, first) if number < first - 1 else []

    def _update(self, symbol: str, first: int, last: int) -> list[Event]:
        self.heard(_BOOK, symbol)
        begins = self._numbers.reached("orderbook", symbol) is None
        lost = self._numbers.follow("orderbook", symbol, first, last)
        if symbol in self._awaited:
            self._awaited[symbol] = first if lost else self._awaited[symbol]
            return lost
        return [*lost, *self._ask(symbol, first)] if begins or lost else []

    def _ask(self, symbol: str, first: int) -> list[Event]:
        self._awaited[symbol] = first
        return [Fetch(_BOOK, symbol, f"/api/v3/depth?symbol={symbol}&limit={_DEPTH_LIMIT}")]


SOURCE = Binance()
