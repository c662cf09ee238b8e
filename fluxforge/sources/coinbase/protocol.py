"""What to say to Coinbase Advanced Trade, and how to read what it says. No I/O here."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, ClassVar

from fluxforge.errors import ConfigError
from fluxforge.sources.base import (
    FrameSummary,
    Source,
    Subscription,
    VenueLimits,
    check_channels,
    check_products,
    in_parts,
)
from fluxforge.sources.session import Lost, Refused, Send, Session
from fluxforge.sources.tokens import Signer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fluxforge.sources.session import Event

_HEARTBEATS, _BOOK = "heartbeats", "level2"
_CHANNELS = (_HEARTBEATS, "ticker", "ticker_batch", _BOOK, "market_trades", "candles", "status")
_PRIVATE = ("user", "futures_balance_summary")
_OTHER_NAMES = {"l2_data": _BOOK, "orderbook": _BOOK, "trades": "market_trades"}
_PRODUCT = re.compile(r"[A-Z0-9]+(?:-[A-Z0-9]+)+")

# The venue states no limit. Thirty is what others run with. Each subscription to a book begins
# with a snapshot of up to 5 MB: ten of them keep the burst after a connect near 50 MB, which is
# read in seconds, and a lost connection costs ten books and not all of them.
_PRODUCTS_PER_SOCKET, _BOOKS_PER_SOCKET = 30, 10

_HEAD = re.compile(
    rb'\{"channel":"([A-Za-z0-9_]+)",(?:"client_id":"[^"\\]*",)?'
    rb'"timestamp":"[^"\\]*","sequence_num":(0|[1-9][0-9]{0,17}),"events":'
)


class Coinbase(Source):
    """Coinbase Advanced Trade, market data."""

    name: ClassVar[str] = "coinbase"
    limits: ClassVar[VenueLimits] = VenueLimits(
        connections_per_second=8.0,
        messages_per_second=8.0,
        silence_seconds=15.0,  # heartbeats come every second
        first_sequence=0,
    )

    def plan(self, products: Sequence[str], channels: Sequence[str]) -> list[Subscription]:
        """Spread products over sockets; each has all channels of its products, and heartbeats."""
        for name in channels:
            if name in _PRIVATE:
                raise ConfigError(f"coinbase: channel {name!r} is about an account; leave it out")
        checked = check_channels(self.name, channels, _CHANNELS, _OTHER_NAMES)
        wanted = tuple(dict.fromkeys((_HEARTBEATS, *checked)))
        names = check_products(self.name, products, _PRODUCT, "BTC-USD")
        size = _BOOKS_PER_SOCKET if _BOOK in wanted else _PRODUCTS_PER_SOCKET
        return [Subscription(part, wanted) for part in in_parts(names, size)]

    def session(self, subscription: Subscription) -> CoinbaseSession:
        """Return the conversation over a new connection."""
        return CoinbaseSession(subscription)

    def summarize(self, frame: bytes) -> FrameSummary:
        """Read a frame's kind and number, by its first bytes where it begins as usual."""
        head = _HEAD.match(frame)
        if head is not None:
            return FrameSummary(head[1].decode(), int(head[2]))
        try:
            content = json.loads(frame.decode())
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            return FrameSummary(None, None)
        if content.get("type") == "error":
            message = content.get("message")
            return FrameSummary("error", None, message if isinstance(message, str) else None)
        kind, number = content.get("channel"), content.get("sequence_num")
        numbered = type(number) is int and 0 <= number < 1 << 63
        return FrameSummary(kind if isinstance(kind, str) else None, number if numbered else None)


class CoinbaseSession(Session):
    """One connection to Coinbase: all its frames are numbered together, from 0, without a hole."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._expected = 0
        self._refused: set[str] = set()

    def opening(self) -> list[str]:
        """Return one message a channel, heartbeats first.

        They are signed if ``COINBASE_API_KEY_NAME`` and ``COINBASE_API_PRIVATE_KEY`` are in the
        environment, each with a token of its own.
        """
        ordered = sorted(self._subscription.channels, key=lambda channel: channel != _HEARTBEATS)
        return self._requests(("subscribe", channel) for channel in ordered)

    def read(self, frame: bytes) -> list[Event]:
        """Check the number of a frame, and whether products are refused.

        After a gap every book of the connection is in doubt: new snapshots are asked for. A number
        below the expected one is late or repeated: it neither opens nor fills a gap.
        """
        summary = SOURCE.summarize(frame)
        if summary.kind == "error":
            # "authentication failure" is the answer to a refused token and to a channel that the
            # venue does not have: both stay wrong.
            message = summary.message or "an error without a message"
            return [Refused(message, fatal="authentication" in message.lower())]
        events = self._refusals(frame) if summary.kind == "subscriptions" else []
        number, expected = summary.sequence, self._expected
        if number is None:
            return events
        self._expected = max(expected, number + 1)
        if number > expected:
            events.append(Lost("number", first=expected, last=number - 1))
            if _BOOK in self._subscription.channels:
                again = (("unsubscribe", _BOOK), ("subscribe", _BOOK))
                events.append(Send(tuple(self._requests(again))))
        return events

    def _refusals(self, frame: bytes) -> list[Event]:
        """Return the products that an acknowledged channel is without; each is told once."""
        try:
            acknowledged = json.loads(frame)["events"][0]["subscriptions"]
            listed = {
                _book_of(product)
                for channel, products in acknowledged.items()
                if channel in self._subscription.channels and channel != _HEARTBEATS
                for product in products
            }
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return []
        if not listed:
            return []
        wanted = {product: _book_of(product) for product in self._subscription.products}
        refused = [p for p, book in wanted.items() if book not in listed and p not in self._refused]
        self._refused.update(refused)
        return [Refused("it is not among the acknowledged", product) for product in refused]

    def _requests(self, wanted: Iterable[tuple[str, str]]) -> list[str]:
        signer = Signer.from_environment("COINBASE_API", issuer="cdp")
        messages = []
        for kind, channel in wanted:
            message: dict[str, Any] = {"type": kind}
            if channel != _HEARTBEATS:
                message["product_ids"] = list(self._subscription.products)
            message["channel"] = channel
            if signer is not None:
                message["jwt"] = signer.token()
            messages.append(json.dumps(message, separators=(",", ":")))
        return messages


def _book_of(product: str) -> str:
    """Return the product under which the venue answers: the books against USDC are those in USD."""
    return product.removesuffix("C") if product.endswith("-USDC") else product


SOURCE = Coinbase()
