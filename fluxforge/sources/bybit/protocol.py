"""What to say to Bybit, and how to read what it says. No I/O here.

Facts are from bybit-exchange.github.io/docs/v5, "WebSocket Stream". Each market has an address of
its own, so that a product is written with its market: ``linear:BTCUSDT``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

from fluxforge.sources.base import Source, Subscription, VenueLimits
from fluxforge.sources.rest import Instrument, decimals_of
from fluxforge.sources.session import Lost, Send, Session, dumps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fluxforge.sources.rest import Calls, Past
    from fluxforge.sources.session import Event, Method

_BOOK = "orderbook"
_TOPICS = {_BOOK: "orderbook.200", "kline": "kline.1"}
_TOPIC = re.compile(rb'\{\s*"topic"\s*:\s*"(\w+)\.')
_ARGS_PER_MESSAGE = 10
_REFUSED_TOPIC = re.compile(r"topic:([\w.-]+)")


class Bybit(Source):
    """Bybit v5, public market data."""

    name: ClassVar[str] = "bybit"
    limits: ClassVar[VenueLimits] = VenueLimits(
        connections_per_second=1.0,  # 500 in five minutes
        messages_per_second=5.0,
        silence_seconds=60.0,
        products_per_socket=50,
        ping_seconds=20.0,
        channel_silence={_BOOK: 60.0},
    )
    channels = (_BOOK, "publicTrade", "tickers", "kline")
    other_names = {"trades": "publicTrade", "ticker": "tickers", "candles": "kline"}  # noqa: RUF012
    product = re.compile(r"[A-Z0-9-]+")
    example = "linear:BTCUSDT"
    markets = ("spot", "linear", "inverse")
    url = "wss://stream.bybit.com/v5/public"
    rest_url = "https://api.bybit.com"

    def session(self, subscription: Subscription) -> BybitSession:
        return BybitSession(self, subscription)

    def address(self, url: str, subscription: Subscription) -> str:
        return f"{url.rstrip('/')}/{subscription.market}"

    def listing(self) -> Calls[list[Instrument]]:
        found: list[Instrument] = []
        for market in self.markets:
            cursor: str | None = ""
            while cursor is not None:
                query = f"category={market}&limit=1000" + (f"&cursor={cursor}" if cursor else "")
                result = (yield f"/v5/market/instruments-info?{query}")["result"]
                found += [_instrument(one, market) for one in result["list"]]
                cursor = result.get("nextPageCursor") or None
        return found

    def past(self, wanted: Past) -> Calls[bool]:
        """Return the call for candles, or for the newest trades: there are no older ones."""
        start, end = wanted.ms
        query = f"category={wanted.market}&symbol={wanted.symbol}&limit=1000"
        if wanted.table == "trades":
            answer = yield f"/v5/market/recent-trade?{query}"
            return any(int(trade["time"]) <= start for trade in answer["result"]["list"])
        size = {1440: "D", 10_080: "W"}.get(wanted.minutes, wanted.minutes)
        yield f"/v5/market/kline?{query}&interval={size}&start={start}&end={end - 1}"
        return True

    def complaint(self, answer: Any) -> str | None:
        return str(answer.get("retMsg")) if answer.get("retCode") else None


def _instrument(one: dict[str, Any], market: str) -> Instrument:
    base, quote, lot = one["baseCoin"], one["quoteCoin"], one["lotSizeFilter"]
    ends = one["symbol"].rpartition("-")[2] if "Futures" in one.get("contractType", "") else "PERP"
    return Instrument(
        one["symbol"], f"{base}-{quote}" + ("" if market == "spot" else f"-{ends}"), market,
        base, quote, decimals_of(one["priceFilter"]["tickSize"]),
        decimals_of(lot.get("qtyStep") or lot.get("basePrecision")), one["status"] == "Trading",
    )  # fmt: skip


class BybitSession(Session):
    """One connection to one market of Bybit.

    Each topic of a book is numbered without a hole; a snapshot begins anew, wherever it comes.
    """

    def __init__(self, source: Bybit, subscription: Subscription) -> None:
        super().__init__(source, subscription)
        self._books: dict[str, int] = {}  # the last number of each topic
        self._silent: dict[str, int] = {}  # the last number of a topic when it fell silent

    def request(
        self, method: Method, channels: Sequence[str], products: Sequence[str]
    ) -> list[str]:
        topics = [
            f"{_TOPICS.get(channel, channel)}.{product}"
            for channel in channels
            for product in products
        ]
        return self._messages(method, topics)

    def read(self, frame: bytes) -> list[Event]:
        topic = _TOPIC.match(frame)
        if topic is None or topic[1].decode() == _BOOK:
            return super().read(frame)
        self.heard(topic[1].decode())
        return []

    def note(self, content: Any) -> list[Event]:
        if content.get("success") is False:
            return self._refusal(content)
        topic, data = content["topic"], content["data"]
        self.heard(topic.partition(".")[0])
        number = int(data["u"])
        return self._book(
            topic, data["s"], number, whole=content["type"] == "snapshot" or number == 1
        )

    def resubscribe(self, channel: str, *symbols: str) -> list[Event]:
        """Return what asks for new snapshots; changes that come until then belong to no book."""
        for topic in (f"{_TOPICS.get(channel, channel)}.{symbol}" for symbol in symbols):
            if topic in self._books:
                self._silent[topic] = self._books.pop(topic)
        return super().resubscribe(channel, *symbols)

    def ping(self) -> str:
        return '{"op":"ping"}'

    def _messages(
        self, method: str, topics: Sequence[str], size: int = _ARGS_PER_MESSAGE
    ) -> list[str]:
        return [
            dumps({"req_id": str(number), "op": method, "args": part})
            for number, part in self.numbered(topics, size)
        ]

    def _refusal(self, content: dict[str, Any]) -> list[Event]:
        """Tell what is refused, and ask again for the others: a message is refused as a whole."""
        message = str(content.get("ret_msg"))
        topics = self.asked.pop(str(content.get("req_id")), ())
        wrong = [topic for topic in _REFUSED_TOPIC.findall(message) if topic in topics]
        wrong = wrong or list(topics[: len(topics) == 1])
        events: list[Event] = []
        if "already" not in message.lower():
            symbols = [topic.rpartition(".")[2] for topic in wrong] or [_symbol_in(message)]
            events = [event for symbol in symbols for event in self.refused(message, symbol)]
        others = [topic for topic in topics if topic not in wrong]
        if content.get("op") == "subscribe" and others:
            # One at a time where the venue does not say which of them is wrong.
            size = _ARGS_PER_MESSAGE if wrong else 1
            events.append(Send(tuple(self._messages("subscribe", others, size))))
        return events

    def _book(self, topic: str, symbol: str, number: int, *, whole: bool) -> list[Event]:
        reached = self._books.get(topic)
        if reached is None and not whole:
            return []  # a change on its way while a new snapshot is awaited
        self.heard(_BOOK, symbol)
        self._books[topic] = number if whole else max(number, reached or 0)
        if whole:
            before = self._silent.pop(topic, number)
            missed = number > before + 1
            return [Lost("age", _BOOK, symbol, before + 1, number - 1)] if missed else []
        if reached is None or number <= reached + 1:
            return []
        del self._books[topic]  # until the next snapshot
        again = (*self._messages("unsubscribe", [topic]), *self._messages("subscribe", [topic]))
        return [Lost("number", _BOOK, symbol, reached + 1, number - 1), Send(again)]


def _symbol_in(message: str) -> str | None:
    found = _REFUSED_TOPIC.search(message)
    return found[1].rpartition(".")[2] if found else None


SOURCE = Bybit()
