"""What a venue's server side is made of: options, one object an exchange, one a connection.

A venue is a module beside this one, named after its source, whose ``VENUE`` is a class derived from
:class:`Venue`. It says what a client's messages mean, and what the market looks like in its words;
which steps a connection has still to read and what is due when is kept here.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from time import gmtime, strftime
from typing import TYPE_CHECKING, Any, ClassVar

from fluxforge.errors import UnknownSourceError, UsageError
from fluxforge.simulator.faults import parse_faults
from fluxforge.simulator.market import Market, MarketReader, ProductMarket
from fluxforge.sources import get_source, source_names

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fluxforge.simulator.market import Step

SECOND = 1_000_000_000

_MODEL_RATE = 100.0
_RECORDED_PACE = 1.0
_IDLE_STEPS = 25
_NEVER = 1 << 63


@dataclass(frozen=True)
class ExchangeOptions:
    """How a local exchange runs.

    Attributes
    ----------
    host, port
        Where it listens; port 0 takes a free one.
    replay
        Segments to replay, ``.ndjson`` or ``.ndjson.zst``; none for the market model.
    once
        Stop when the last recording was served to its end; of the model, when one client has gone.
    rate
        Frames a second of each connection of the model (100), or in a replay a multiple of the
        recorded pace (1). 0 is as fast as the client reads.
    seed
        What the model's market does: the same for the same seed, but for the times.
    faults
        What goes wrong, as ``"drop@500, silence@900:20"``; see :mod:`fluxforge.simulator.faults`.
    filter
        In a replay, send only what the client subscribed to. It is given a second after its last
        message to say all of it. The recorded sequence numbers stay, holes and all.
    frames
        Of the model, close each connection after that many frames.
    clock
        Nanoseconds since the Unix epoch.

    Raises
    ------
    UsageError
        If options are out of range or exclude one another.
    """

    host: str = "127.0.0.1"
    port: int = 0
    replay: tuple[Path, ...] = ()
    once: bool = False
    rate: float | None = None
    seed: int = 1
    faults: str = ""
    filter: bool = False
    frames: int | None = None
    clock: Callable[[], int] = time.time_ns

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise UsageError(f"port {self.port} is not between 0 and 65535")
        if self.rate is not None and not 0 <= self.rate < float("inf"):
            raise UsageError(f"rate {self.rate} is not a number from 0 up")
        if self.filter and not self.replay:
            raise UsageError("filter needs a replay: the market model always sends what was asked")
        if self.frames is not None and (self.replay or self.frames < 1):
            raise UsageError("frames is for the market model, and at least 1")
        parse_faults(self.faults)

    @property
    def pace(self) -> float:
        """The rate, with its default filled in."""
        if self.rate is not None:
            return float(self.rate)
        return _RECORDED_PACE if self.replay else _MODEL_RATE


@dataclass(eq=False, slots=True)
class Topic:
    """What a connection is subscribed to: one channel of one product."""

    channel: str
    product: str
    since: int = _NEVER  # the first step that it sends
    due: int = _NEVER  # where it is sent at regular times
    period: int = 0
    state: Any = None  # the venue's


class Session(ABC):
    """The venue's side of one connection: what the client says, and the frames that it gets.

    What is to be sent is put into `outbox`, in whatever form :meth:`seal` makes a frame of.
    """

    streamed: ClassVar[tuple[str, ...]]
    """The channels that are sent step by step, in the order in which a step makes frames."""

    def __init__(self, venue: Venue, path: str = "") -> None:
        self.venue = venue
        self.path = path
        self.clock = venue.market.clock
        self.topics: dict[tuple[str, str], Topic] = {}
        self.outbox: deque[Any] = deque()
        self._readers: dict[str, MarketReader] = {}
        self._flowing: list[tuple[MarketReader, list[Topic]]] = []
        self._turn = 0
        self._due = _NEVER

    def greet(self) -> None:  # noqa: B027
        """Queue what the venue says first; the market model does, a replay does not."""

    @abstractmethod
    def receive(self, message: str | bytes) -> None:
        """Take a client's message; what it causes comes out of :meth:`next_frame`."""

    @abstractmethod
    def on_step(self, topic: Topic, step: Step) -> None:
        """Put what a step means for a topic into the outbox."""

    @abstractmethod
    def on_time(self, topic: Topic, due: int) -> None:
        """Put what a topic sends at regular times into the outbox."""

    def seal(self, item: Any, *, numbered: bool = True) -> str:
        """Make a frame; `numbered` where it takes the connection's next number, if any."""
        return str(item)

    @abstractmethod
    def wants(self, frame: bytes) -> bool:
        """Tell whether a recorded frame is one that the client subscribed to."""

    @abstractmethod
    def odd_item(self, kind: str, amount: float) -> Any:
        """Return what no market caused: of a channel that nobody knows, or a large snapshot."""

    def fits(self, conn: str) -> bool:
        """Tell whether a recorded connection is one to this connection's address."""
        return True

    @property
    def subscribed(self) -> bool:
        """Whether the client is subscribed to anything."""
        return bool(self.topics)

    def market(self, product: str) -> ProductMarket:
        """Return the market of a product."""
        return self.venue.market.product(product)

    def open_topic(self, channel: str, product: str, seconds: float = 0) -> Topic:
        """Subscribe: to every step from now on, or to what is sent every so many seconds."""
        topic = self.topics.setdefault((channel, product), Topic(channel, product))
        if channel in self.streamed:
            topic.since = self.market(product).steps
            if product not in self._readers:
                self._readers[product] = MarketReader(self.market(product))
        if seconds:
            topic.period = int(seconds * SECOND)
            topic.due = self.clock() + topic.period
        self._topics_changed()
        return topic

    def close_topic(self, channel: str, product: str) -> None:
        """Unsubscribe; from what was not subscribed to, too."""
        self.topics.pop((channel, product), None)
        if product in self._readers and not self._streamed(product):
            self._readers.pop(product).close()
        self._topics_changed()

    def _streamed(self, product: str) -> list[Topic]:
        topics = (self.topics.get((channel, product)) for channel in self.streamed)
        return [topic for topic in topics if topic]

    def _topics_changed(self) -> None:
        self._due = min((topic.due for topic in self.topics.values()), default=_NEVER)
        self._flowing = [(one, self._streamed(name)) for name, one in self._readers.items()]

    def close(self) -> None:
        """Let the market forget this connection."""
        for reader in self._readers.values():
            reader.close()

    def next_frame(self) -> str | None:
        """Return the next frame of this connection, None if there is nothing to say just now."""
        if self.clock() >= self._due:
            self._run_timer()
        while not self.outbox:
            if not self._read_step():
                return None
        return self.seal(self.outbox.popleft())

    def _read_step(self) -> bool:
        """Read a step of the next product that has one."""
        streams = self._flowing
        for _ in range(len(streams)):
            self._turn = (self._turn + 1) % len(streams)
            reader, topics = streams[self._turn]
            step = reader.next_step()
            if step is not None:
                for topic in topics:
                    if topic.since <= step.number:
                        self.on_step(topic, step)
                return True
        return False

    def _run_timer(self) -> None:
        topic = min(self.topics.values(), key=lambda one: one.due)
        due, topic.due = topic.due, topic.due + topic.period
        self._due = min(one.due for one in self.topics.values())
        self.on_time(topic, due)

    def idle_market(self, product: str) -> ProductMarket:
        """Return a product's market, moved on a little where nobody reads its steps."""
        market = self.market(product)
        market.idle(_IDLE_STEPS)
        return market

    def extra_frame(self, kind: str, amount: float, *, numbered: bool) -> str:
        """Make a frame for a fault; see :mod:`fluxforge.simulator.faults`."""
        if kind == "malformed":
            text = self.seal(self.odd_item("unknown", amount), numbered=False)
            return text[: text.rindex("}", 0, -1) + 1]
        return self.seal(self.odd_item(kind, amount), numbered=numbered)


class Venue:
    """The server side of a venue, for one running exchange: what all its connections share."""

    session: ClassVar[type[Session]]
    path: ClassVar[str] = ""
    """Where clients connect to, after host and port."""
    listing: ClassVar[str] = ""
    """The path of the REST call for its instruments; no fault meets it."""
    subscribe_seconds: ClassVar[float] = 60.0
    """How long a client may wait with its first subscription."""

    def __init__(self, options: ExchangeOptions) -> None:
        self.market = Market(options.seed, options.clock)
        self.started_ns = options.clock()

    def open_session(self, path: str = "") -> Session:
        """Return the venue's side of a new connection to a path, its query included."""
        return self.session(self, path)

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, str]:
        """Return status and text of the venue's answer to a REST call."""
        return 404, dumps({"error": f"no such path: {path}"})

    def recorded_answer(self, frame: bytes) -> tuple[str, str] | None:
        """Return what a recorded line is the REST answer to, and its text; None for a frame."""
        return None

    def recorded_key(self, path: str, query: dict[str, str]) -> str:
        """Return what a REST call asks for, in the words of :meth:`recorded_answer`."""
        return path


def large_book(amount: float, row: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return bids and asks of so many megabytes, where a level is as long as `row`."""
    ranks = range(1, int(amount * 1_000_000 / len(row) / 2) + 2)
    bids, asks = (
        [(2_000_000_000 + sign * rank, 150_000_000) for rank in ranks] for sign in (-1, 1)
    )
    return bids, asks


@lru_cache(maxsize=4)
def _second_text(seconds: int) -> str:
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(seconds))


def utc_text(time_ns: int, digits: int = 9) -> str:
    """Write a time in UTC, to so many digits of a second.

    >>> utc_text(1786309549253283580), utc_text(1786309549253283580, 6)
    ('2026-08-09T21:05:49.253283580', '2026-08-09T21:05:49.253283')
    """
    seconds, part = divmod(time_ns, SECOND)
    return f"{_second_text(seconds)}.{f'{part:09d}'[:digits]}"


def dumps(content: Any) -> str:
    """Write JSON as venues do, without spaces."""
    return json.dumps(content, separators=(",", ":"))


class _ReplaySession(Session):
    """The side of a venue of which there are recordings alone."""

    streamed = ()
    subscribed = False

    def receive(self, message: str | bytes) -> None:
        self.subscribed = True

    def on_step(self, topic: Topic, step: Step) -> None:
        pass

    def on_time(self, topic: Topic, due: int) -> None:
        pass

    def wants(self, frame: bytes) -> bool:
        return True

    def odd_item(self, kind: str, amount: float) -> Any:
        raise UsageError(f"a venue without a server side has no {kind!r} frames")


class _ReplayVenue(Venue):
    session = _ReplaySession


def find_venue(source: str, *, replay: bool = False) -> type[Venue]:
    """Return the server side of a source; one without can `replay` recordings."""
    venue = _venue(source)
    if venue is None:
        get_source(source)  # where there is no such source either, that is the better message
        if replay:
            return _ReplayVenue
        spoken = ", ".join(name for name in source_names() if _venue(name))
        raise UnknownSourceError(
            f"there is no local exchange for {source!r}, only for: {spoken}; recordings of it can "
            "be replayed: --replay FILE"
        )
    return venue


def _venue(source: str) -> type[Venue] | None:
    module = f"{__package__}.{source}"
    if not source.isidentifier() or not find_spec(module):
        return None
    return getattr(import_module(module), "VENUE", None)
