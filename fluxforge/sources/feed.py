"""What a venue brings to the local exchange: its side of a connection, in its own words."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from fluxforge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fluxforge.sources.faults import Fault

ExtraKind = Literal["malformed", "unknown", "large"]

_MODEL_RATE = 100.0
_RECORDED_PACE = 1.0


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
        What goes wrong; see :mod:`fluxforge.sources.faults`.
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
    faults: tuple[Fault, ...] = ()
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

    @property
    def pace(self) -> float:
        """The rate, with its default filled in."""
        if self.rate is not None:
            return float(self.rate)
        return _RECORDED_PACE if self.replay else _MODEL_RATE


class FeedSession(ABC):
    """The venue's side of one connection: what the client says, and the frames it gets."""

    @property
    @abstractmethod
    def subscribed(self) -> bool:
        """Whether the client is subscribed to anything."""

    @abstractmethod
    def receive(self, message: str | bytes) -> None:
        """Take a client's message; what it causes comes out of :meth:`next_frame`."""

    @abstractmethod
    def next_frame(self) -> str | None:
        """Return the next frame of this connection, None if there is nothing to say just now.

        Raises
        ------
        SlowConsumerError
            If the market went on without this connection.
        """

    @abstractmethod
    def wants(self, frame: bytes) -> bool:
        """Tell whether a recorded frame is one that the client subscribed to."""

    @abstractmethod
    def extra_frame(self, kind: ExtraKind, amount: float, *, numbered: bool) -> str:
        """Make a frame for a fault; `numbered` where it takes the connection's next number."""

    @abstractmethod
    def close(self) -> None:
        """Let go of whatever the connection held."""


class ExchangeFeed(ABC):
    """The server side of a venue, for one running exchange."""

    subscribe_seconds: ClassVar[float]
    """How long a client may wait with its first subscription."""

    @abstractmethod
    def open_session(self) -> FeedSession:
        """Return the venue's side of a new connection."""
