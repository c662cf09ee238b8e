"""What to say to Coinbase Advanced Trade, and how to read what it says. No I/O here."""

from __future__ import annotations

import difflib
import json
import re
from typing import TYPE_CHECKING, Any, ClassVar

from fluxforge.errors import ConfigError
from fluxforge.sources.base import FrameSummary, Source, Subscription, VenueLimits
from fluxforge.sources.coinbase.signing import Signer
from fluxforge.sources.session import Lost, Refused, Send, Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fluxforge.sources.session import Event

_HEARTBEATS = "heartbeats"
_BOOK = "level2"
_CHANNELS = (_HEARTBEATS, "ticker", "ticker_batch", _BOOK, "market_trades", "candles", "status")
_PRIVATE = ("user", "futures_balance_summary")
_OTHER_NAMES = {"l2_data": _BOOK, "orderbook": _BOOK, "trades": "market_trades"}

# The venue states no limit. Thirty is what others run with. Each subscription to a book begins
# with a snapshot of up to 5 MB: ten of them keep the burst after a connect near 50 MB, which is
# read in seconds, and a lost connection costs ten books and not all of them.
_PRODUCTS_PER_SOCKET = 30
_BOOKS_PER_SOCKET = 10

_PRODUCT = re.compile(r"[A-Z0-9]+(?:-[A-Z0-9]+)+")
_HEAD = re.compile(
    rb'\{"channel":"([A-Za-z0-9_]+)",(?:"client_id":"[^"\\]*",)?'
    rb'"timestamp":"[^"\\]*","sequence_num":(0|[1-9][0-9]{0,17}),"events":'
)
_LARGEST_SEQUENCE = (1 << 63) - 1


class Coinbase(Source):
    """Coinbase Advanced Trade, market data.

    Examples
    --------
    >>> [subscription] = Coinbase().plan(["BTC-USD"], ["ticker"])
    >>> subscription.channels
    ('heartbeats', 'ticker')
    """

    name: ClassVar[str] = "coinbase"
    limits: ClassVar[VenueLimits] = VenueLimits(
        connections_per_second=8.0,
        messages_per_second=8.0,
        silence_seconds=15.0,  # heartbeats come every second
        first_sequence=0,
    )

    def plan(self, products: Sequence[str], channels: Sequence[str]) -> list[Subscription]:
        """Spread products over sockets; each has all channels of its products, and heartbeats.

        Raises
        ------
        ConfigError
            If there is no product or no channel, or one is not written as the venue writes it.
        """
        wanted = tuple(dict.fromkeys((_HEARTBEATS, *_checked_channels(channels))))
        names = list(dict.fromkeys(_checked_products(products)))
        size = _BOOKS_PER_SOCKET if _BOOK in wanted else _PRODUCTS_PER_SOCKET
        return [
            Subscription(tuple(names[start : start + size]), wanted)
            for start in range(0, len(names), size)
        ]

    def session(self, subscription: Subscription) -> CoinbaseSession:
        """Return the conversation over a new connection."""
        return CoinbaseSession(subscription)

    def summarize(self, frame: bytes) -> FrameSummary:
        r"""Read a frame's kind and sequence number.

        Frames that begin as the venue's do are read by their first bytes alone, torn or not; all
        others are parsed.

        Examples
        --------
        >>> Coinbase().summarize(
        ...     b'{"channel":"ticker","timestamp":"2026-08-09T21:05:48Z","sequence_num":7,"events":'
        ... )
        FrameSummary(kind='ticker', sequence=7, message=None)
        >>> Coinbase().summarize(b'{"type":"error","message":"authentication failure"}')
        FrameSummary(kind='error', sequence=None, message='authentication failure')
        """
        head = _HEAD.match(frame)
        if head is not None:
            return FrameSummary(head[1].decode(), int(head[2]))
        try:
            content = json.loads(frame.decode())
        except (ValueError, RecursionError):
            return FrameSummary(None, None)
        if not isinstance(content, dict):
            return FrameSummary(None, None)
        return _summary_of(content)


class CoinbaseSession(Session):
    """One connection to Coinbase: all its frames are numbered together, from 0, without a hole."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._expected = 0

    def opening(self) -> list[str]:
        """Return one message a channel, heartbeats first.

        They are signed if ``COINBASE_API_KEY_NAME`` and ``COINBASE_API_PRIVATE_KEY`` are in the
        environment, each with a token of its own that is valid for two minutes.

        Raises
        ------
        ConfigError
            If the key in the environment is incomplete or unreadable.
        MissingExtraError
            If there is a key, but not the package that signs.

        Examples
        --------
        >>> session = Coinbase().session(Subscription(("BTC-USD",), ("level2",)))
        >>> for message in session.opening():
        ...     print(message)
        {"type":"subscribe","product_ids":["BTC-USD"],"channel":"level2"}
        """
        ordered = sorted(self._subscription.channels, key=lambda channel: channel != _HEARTBEATS)
        return self._requests(*(("subscribe", channel) for channel in ordered))

    def read(self, frame: bytes) -> list[Event]:
        """Check the number of a frame, and whether it is a refusal.

        After a gap every book of the connection is in doubt: new snapshots are asked for. A number
        below the expected one is late or repeated: it neither opens nor fills a gap.
        """
        summary = SOURCE.summarize(frame)
        if summary.kind == "error":
            # "authentication failure" is the answer to a refused token and to a channel that the
            # venue does not have: both stay wrong.
            message = summary.message or "an error without a message"
            return [Refused(message, fatal="authentication" in message.lower())]
        number, expected = summary.sequence, self._expected
        if number is None:
            return []
        self._expected = max(expected, number + 1)
        if number <= expected:
            return []
        lost: list[Event] = [Lost("number", first=expected, last=number - 1)]
        return lost + self.renew_books()

    def renew_books(self) -> list[Event]:
        """Return what asks for new snapshots of all books."""
        if _BOOK not in self._subscription.channels:
            return []
        return [Send(tuple(self._requests(("unsubscribe", _BOOK), ("subscribe", _BOOK))))]

    def _requests(self, *wanted: tuple[str, str]) -> list[str]:
        signer = Signer.from_environment()
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


def _summary_of(content: dict[str, Any]) -> FrameSummary:
    if content.get("type") == "error":
        message = content.get("message")
        return FrameSummary("error", None, message if isinstance(message, str) else None)
    kind, sequence = content.get("channel"), content.get("sequence_num")
    numbered = type(sequence) is int and 0 <= sequence <= _LARGEST_SEQUENCE
    return FrameSummary(kind if isinstance(kind, str) else None, sequence if numbered else None)


def _checked_channels(channels: Iterable[str]) -> list[str]:
    names = list(channels)
    if not names:
        raise ConfigError(f"coinbase: no channels; there are: {', '.join(_CHANNELS)}")
    for name in names:
        if name in _PRIVATE:
            raise ConfigError(
                f"coinbase: channel {name!r} is about an account; FluxForge captures market data"
            )
        if name not in _CHANNELS:
            near = difflib.get_close_matches(name, _CHANNELS, 1)
            right = _OTHER_NAMES.get(name) or (near[0] if near else None)
            hint = f"did you mean {right!r}?" if right else f"there are: {', '.join(_CHANNELS)}"
            raise ConfigError(f"coinbase: unknown channel {name!r}: {hint}")
    return names


def _checked_products(products: Iterable[str]) -> list[str]:
    names = list(products)
    if not names:
        raise ConfigError("coinbase: no products; name at least one, as BTC-USD")
    for name in names:
        if not _PRODUCT.fullmatch(name):
            right = re.sub(r"[^A-Z0-9]+", "-", name.upper()).strip("-")
            hint = f"did you mean {right!r}?" if _PRODUCT.fullmatch(right) else "as BTC-USD"
            raise ConfigError(f"coinbase: {name!r} is not a product of this venue: {hint}")
    return names


SOURCE = Coinbase()
