"""What to say to Kraken, and how to read what it says. No I/O here.

Facts are from docs.kraken.com, "Spot WebSocket v2", and from recorded traffic of 2026.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, ClassVar

from fluxforge.sources.base import (
    BookRules,
    Source,
    Subscription,
    VenueLimits,
    check_channels,
    check_products,
)
from fluxforge.sources.kraken.book import ChecksumBook
from fluxforge.sources.session import Lost, Refused, Send, Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fluxforge.sources.session import Event

_PRODUCT = re.compile(r"[A-Z0-9]+/[A-Z0-9]+")
_CHANNELS = ("book", "trade", "ticker", "ohlc", "instrument")
_DEPTH, _INTERVAL = 100, 1
_PRODUCTS_PER_SOCKET = 50


class Kraken(Source):
    """Kraken, spot market data over WebSocket v2."""

    name: ClassVar[str] = "kraken"
    limits: ClassVar[VenueLimits] = VenueLimits(
        connections_per_second=1.0,
        messages_per_second=5.0,
        silence_seconds=15.0,  # heartbeats come every second
        ping_seconds=30.0,
        book_silence_seconds=60.0,  # heartbeats go on when a book has died
    )
    book: ClassVar[BookRules] = BookRules(cut=True)

    def plan(self, products: Sequence[str], channels: Sequence[str]) -> list[Subscription]:
        """Spread products over sockets; each has all channels of its products."""
        wanted = check_channels(self.name, channels, _CHANNELS)
        names = check_products(self.name, products, _PRODUCT, "BTC/USD")
        return [
            Subscription(tuple(names[start : start + _PRODUCTS_PER_SOCKET]), wanted)
            for start in range(0, len(names), _PRODUCTS_PER_SOCKET)
        ]

    def session(self, subscription: Subscription) -> KrakenSession:
        """Return the conversation over a new connection."""
        return KrakenSession(subscription)


class KrakenSession(Session):
    """One connection to Kraken.

    A lost change of a book shows in the venue's checksum of the ten best levels; what lies below
    them is not covered. Trades are numbered without a hole per pair.
    """

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._books: dict[str, ChecksumBook] = {}
        self._depths: dict[str, int] = {}
        self._trades: dict[str, int] = {}

    def opening(self) -> list[str]:
        """Return one message a channel."""
        return [self._request("subscribe", channel) for channel in self._subscription.channels]

    def read(self, frame: bytes) -> list[Event]:
        """Check acknowledgements, checksums and trade numbers."""
        try:
            content = json.loads(frame, parse_float=str)  # the checksum is over the digits
            if "method" in content:
                return self._answer(content)
            match content.get("channel"):
                case "book":
                    return [
                        event for book in content["data"] for event in self._book(content, book)
                    ]
                case "trade":
                    return self._trade(content["data"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass  # it is stored, and the ETL says what is wrong with it
        return []

    def renew_book(self, symbol: str) -> list[Event]:
        """Return what asks for a new snapshot of a book."""
        self._books.pop(symbol, None)
        messages = (
            self._request("unsubscribe", "book", [symbol]),
            self._request("subscribe", "book", [symbol]),
        )
        return [Send(messages)]

    def ping(self) -> str:
        """Return the venue's own ping."""
        return '{"method":"ping"}'

    def _request(self, method: str, channel: str, symbols: Sequence[str] | None = None) -> str:
        params: dict[str, Any] = {"channel": channel}
        if channel != "instrument":
            params["symbol"] = list(symbols or self._subscription.products)
        if channel == "book":
            params["depth"] = _DEPTH
        if channel == "ohlc":
            params["interval"] = _INTERVAL
        return json.dumps({"method": method, "params": params}, separators=(",", ":"))

    def _answer(self, content: dict[str, Any]) -> list[Event]:
        if content["method"] != "subscribe":
            return []
        if not content["success"]:
            return [Refused(str(content.get("error")), content.get("symbol"))]
        if depth := content["result"].get("depth"):
            self._depths[content["result"]["symbol"]] = depth
        return []

    def _book(self, frame: dict[str, Any], data: dict[str, Any]) -> list[Event]:
        symbol = data["symbol"]
        bids, asks = (
            [(str(level["price"]), str(level["qty"])) for level in data[side]]
            for side in ("bids", "asks")
        )
        if frame["type"] == "snapshot":
            self._books[symbol] = ChecksumBook(self._depths.get(symbol, _DEPTH))
        book = self._books.get(symbol)
        if book is None:
            return []  # a change on its way while a new snapshot is awaited
        book.apply(bids, asks)
        if book.checksum() == data["checksum"]:
            return []
        return [Lost("checksum", "orderbook", symbol), *self.renew_book(symbol)]

    def _trade(self, trades: list[dict[str, Any]]) -> list[Event]:
        events: list[Event] = []
        for trade in trades:
            symbol, number = trade["symbol"], int(trade["trade_id"])
            last = self._trades.get(symbol)
            if last is not None and number > last + 1:
                events.append(Lost("number", "trades", symbol, last + 1, number - 1))
            self._trades[symbol] = max(number, last or 0)
        return events


SOURCE = Kraken()
