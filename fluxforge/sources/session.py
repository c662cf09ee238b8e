"""The conversation with a venue over one connection: what to send, and what each frame means.

A session does no I/O. The collector opens a socket, sends :meth:`Session.opening`, hands every
frame to :meth:`Session.read` in order, asks :meth:`Session.overdue` every second or so, and does
what the events that come back ask for.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

from fluxforge.sources.venue import in_parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fluxforge.sources.venue import Subscription, Venue

Evidence = Literal["number", "checksum", "age"]
"""How a loss is known: by the venue's numbers, by its checksum, or by a silence."""

Method = Literal["subscribe", "unsubscribe"]


@dataclass(frozen=True)
class Lost:
    """Frames that the venue sent and that did not arrive."""

    evidence: Evidence
    table: str | None = None  # what they would have changed; None: anything of the connection
    symbol: str | None = None
    first: int | None = None  # the venue's number of the first missing; None where it has none
    last: int | None = None

    @property
    def frames(self) -> int:
        """How many are missing; 1 where their number is unknown."""
        if self.first is None or self.last is None:
            return 1
        return self.last - self.first + 1

    def __str__(self) -> str:
        scope = " ".join(part for part in (self.symbol, self.table) if part) or "the connection"
        numbers = "" if self.first is None else f", numbers {self.first} to {self.last}"
        return f"{self.frames} lost of {scope}{numbers} (known by {self.evidence})"


@dataclass(frozen=True)
class Refused:
    """The venue's refusal of a request, in its own words."""

    message: str
    symbol: str | None = None  # which it does not serve; None: the whole request
    fatal: bool = False  # whether trying again cannot help


@dataclass(frozen=True)
class Silent:
    """Nothing came of a channel for longer than is usual; a request for a new snapshot follows."""

    channel: str
    symbol: str
    seconds: float

    def __str__(self) -> str:
        return f"nothing of {self.symbol} {self.channel} for {self.seconds:g} s: subscribing again"


@dataclass(frozen=True)
class Send:
    """Messages to send: an answer, or a request for a new snapshot."""

    messages: tuple[str, ...]


@dataclass(frozen=True)
class Fetch:
    """A REST call whose answer belongs into the segment."""

    kind: str
    symbol: str
    path: str  # below :meth:`Source.rest_address`

    def frame(self, answer: bytes) -> bytes:
        """Return the frame that stands for an answer, verbatim inside it; a session reads it."""
        head = f'{{"{self.kind}":"{self.symbol}","response":'
        return b"%s%s}" % (head.encode(), answer.strip())


Event = Lost | Refused | Silent | Send | Fetch


class Session(ABC):
    """One connection's conversation with a venue."""

    def __init__(self, venue: Venue, subscription: Subscription) -> None:
        self.venue = venue
        self.subscription = subscription
        self._heard: set[tuple[str, str]] = set()  # channel and symbol, since the last look
        self._since: dict[tuple[str, str], float] = {}
        self._now = 0.0
        self._refused: set[str] = set()
        self._numbers_of_requests = count(1)
        self.asked: dict[str, tuple[str, ...]] = {}  # by the numbers of requests

    @abstractmethod
    def request(
        self, method: Method, channels: Sequence[str], products: Sequence[str]
    ) -> list[str]:
        """Return the messages of a request, within the venue's limits, freshly signed."""

    def read(self, frame: bytes) -> list[Event]:
        """Take note of a frame, and return what follows from it: nothing, nearly always.

        A frame that cannot be read has no event: it is stored, and the ETL says what is wrong.
        """
        try:
            return self.note(json.loads(frame, parse_float=str))  # checksums are over digits
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return []

    def note(self, content: Any) -> list[Event]:
        """Take note of what a frame says; an error says that it cannot be read."""
        return []

    def numbered(self, items: Sequence[str], size: int) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Divide a request into parts of at most `size`, each with a number for its answer."""
        for part in in_parts(items, size):
            number = next(self._numbers_of_requests)
            self.asked[str(number)] = part
            yield number, part

    def opening(self) -> list[str]:
        """Return the messages to send on the open socket, in order."""
        return self.request("subscribe", self.subscription.channels, self.subscription.products)

    def subscribe(self, products: Sequence[str]) -> list[str]:
        """Return the messages that add products to the open connection, with all its channels."""
        own = self.subscription
        added = [product for product in products if product not in own.products]
        self._refused.difference_update(added)
        self.subscription = replace(own, products=(*own.products, *added))
        return self.request("subscribe", own.channels, added) if added else []

    def unsubscribe(self, products: Sequence[str]) -> list[str]:
        """Return the messages that take products off the open connection."""
        own = self.subscription
        removed = [product for product in own.products if product in products]
        kept = tuple(product for product in own.products if product not in removed)
        self.subscription = replace(own, products=kept)
        return self.request("unsubscribe", own.channels, removed) if removed else []

    def resubscribe(self, channel: str, *symbols: str) -> list[Event]:
        """Return what asks for new snapshots of one channel of some symbols."""
        again = self.request("unsubscribe", [channel], symbols)
        return [Send((*again, *self.request("subscribe", [channel], symbols)))]

    def overdue(self, now: float) -> list[Event]:
        """Return what follows from the silence of channels that should not be silent.

        `now` is of any clock that never goes back. A venue's heartbeats do not count.
        """
        events: list[Event] = []
        own, self._now = self.subscription, now
        self._since.update(dict.fromkeys(self._heard, now))
        self._heard.clear()
        for channel, seconds in self.venue.limits.channel_silence.items():
            for symbol in own.products if channel in own.channels else ():
                key = channel, symbol
                since = self._since.setdefault(key, now)
                if now - since >= seconds and symbol not in self._refused:
                    self._since[key] = now
                    events += [Silent(channel, symbol, seconds), *self.resubscribe(channel, symbol)]
        return events

    def ages(self) -> dict[str, float]:
        """Return how long each channel had been silent when :meth:`overdue` was called last."""
        ages: dict[str, float] = {}
        for (channel, _), since in self._since.items():
            ages[channel] = min(self._now - since, ages.get(channel, self._now))
        return ages

    def heard(self, channel: str, symbol: str = "") -> None:
        """Note that a channel, of a symbol where that is known, is alive."""
        self._heard.add((channel, symbol))

    def refused(self, message: str, symbol: str | None = None) -> list[Event]:
        """Return the refusal of a symbol; it is told once, and the symbol's silence is none."""
        if symbol in self._refused:
            return []
        if symbol is not None:
            self._refused.add(symbol)
        return [Refused(message, symbol)]

    def ping(self) -> str | None:
        """Return the venue's own kind of ping, to be sent every ``limits.ping_seconds``."""
        return None


def dumps(content: object) -> str:
    """Write a message as JSON without spaces."""
    return json.dumps(content, separators=(",", ":"))


class NumberCheck:
    """Finds what is missing in numbers that run without a hole, one run per table and symbol.

    Examples
    --------
    >>> check = NumberCheck()
    >>> check.follow("trades", "BTC/USD", 7), check.follow("trades", "BTC/USD", 10)
    ([], [Lost(evidence='number', table='trades', symbol='BTC/USD', first=8, last=9)])
    """

    def __init__(self) -> None:
        self._reached: dict[tuple[str, str], int] = {}

    def follow(self, table: str, symbol: str, first: int, last: int | None = None) -> list[Event]:
        """Take note of a frame's numbers; what is late neither opens nor fills a gap."""
        key, last = (table, symbol), first if last is None else last
        reached = self._reached.get(key)
        self._reached[key] = max(last, last if reached is None else reached)
        if reached is None or first <= reached + 1:
            return []
        return [Lost("number", table, symbol, reached + 1, first - 1)]

    def reached(self, table: str, symbol: str) -> int | None:
        """Return the last number of a run; None before its first."""
        return self._reached.get((table, symbol))
