"""What to say to Bybit, and how to read what it says. No I/O here.

Facts are from bybit-exchange.github.io/docs/v5, "WebSocket Stream". Each market has an address of
its own, so that a product is written with its market: ``linear:BTCUSDT``.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, ClassVar

from fluxforge.errors import ConfigError
from fluxforge.sources.base import (
    Source,
    Subscription,
    VenueLimits,
    check_channels,
    check_products,
    in_parts,
)
from fluxforge.sources.session import Lost, Refused, Send, Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fluxforge.sources.session import Event

MARKETS = ("spot", "linear", "inverse")

_PRODUCT = re.compile(r"(spot|linear|inverse):[A-Z0-9-]+")
_CHANNELS = ("orderbook", "publicTrade", "tickers", "kline")
_TOPICS = {"orderbook": "orderbook.200", "kline": "kline.1"}
_ARGS_PER_MESSAGE = 10
_PRODUCTS_PER_SOCKET = 50


class Bybit(Source):
    """Bybit v5, public market data."""

    name: ClassVar[str] = "bybit"
    limits: ClassVar[VenueLimits] = VenueLimits(
        connections_per_second=1.0,  # 500 in five minutes
        messages_per_second=5.0,
        silence_seconds=60.0,
        ping_seconds=20.0,
    )

    def plan(self, products: Sequence[str], channels: Sequence[str]) -> list[Subscription]:
        """Spread products over sockets, each of one market.

        Raises
        ------
        ConfigError
            If a product lacks its market: the same name may be in several.
        """
        wanted = check_channels(self.name, channels, _CHANNELS)
        for product in products:
            if product.isalnum():
                markets = ", ".join(f"{market}:{product}" for market in MARKETS)
                raise ConfigError(f"bybit: {product!r} may be in several markets: write {markets}")
        names = check_products(self.name, products, _PRODUCT, "linear:BTCUSDT")
        plans = []
        for market in MARKETS:
            own = [name.partition(":")[2] for name in names if name.startswith(f"{market}:")]
            plans += [
                Subscription(part, wanted, market=market)
                for part in in_parts(own, _PRODUCTS_PER_SOCKET)
            ]
        return plans

    def session(self, subscription: Subscription) -> BybitSession:
        """Return the conversation over a new connection."""
        return BybitSession(subscription)

    def address(self, url: str, subscription: Subscription) -> str:
        """Return the address of the subscription's market."""
        return f"{url.rstrip('/')}/{subscription.market}"


class BybitSession(Session):
    """One connection to one market of Bybit.

    Each topic of a book is numbered without a hole; a snapshot begins anew, wherever it comes.
    """

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._books: dict[str, int] = {}

    def opening(self) -> list[str]:
        """Return messages of as many topics as the venue takes at once."""
        topics = [
            f"{_TOPICS.get(channel, channel)}.{product}"
            for channel in self._subscription.channels
            for product in self._subscription.products
        ]
        return [_request("subscribe", part) for part in in_parts(topics, _ARGS_PER_MESSAGE)]

    def read(self, frame: bytes) -> list[Event]:
        """Check acknowledgements and the numbers of books."""
        if b'"topic":"orderbook' not in frame[:40] and b'"success":false' not in frame:
            return []
        try:
            content = json.loads(frame)
            if content.get("success") is False:
                message = str(content.get("ret_msg"))
                return [Refused(message, _symbol_in(message))]
            topic, data = content["topic"], content["data"]
            number, last = int(data["u"]), self._books.get(topic)
            if content["type"] == "snapshot" or number == 1:
                self._books[topic] = number
            elif last is not None:
                self._books[topic] = number
                if number > last + 1:
                    del self._books[topic]  # until the next snapshot
                    lost = Lost("number", "orderbook", data["s"], last + 1, number - 1)
                    renewal = (_request("unsubscribe", [topic]), _request("subscribe", [topic]))
                    return [lost, Send(renewal)]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass  # it is stored, and the ETL says what is wrong with it
        return []

    def ping(self) -> str:
        """Return the venue's own ping."""
        return '{"op":"ping"}'


def _request(op: str, topics: Sequence[str]) -> str:
    return json.dumps({"op": op, "args": list(topics)}, separators=(",", ":"))


def _symbol_in(message: str) -> str | None:
    """Return the symbol of a refused topic, as "… topic:orderbook.200.NOPEUSDT" names it."""
    found = re.search(r"topic:[\w.]*?\.([A-Z0-9-]+)(?:$|\W)", message)
    return found[1] if found else None


SOURCE = Bybit()
