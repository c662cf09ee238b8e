"""The conversation with a venue over one connection: what to send, and what each frame means.

A session does no I/O. The collector opens a socket, sends :meth:`Session.opening`, hands every
frame to :meth:`Session.read` in order, and does what the events that come back ask for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

Evidence = Literal["number", "checksum", "age"]
"""How a loss is known: by the venue's numbers, by its checksum, or by a silence."""


@dataclass(frozen=True)
class Lost:
    """Frames that the venue sent and that did not arrive.

    Attributes
    ----------
    evidence
        How it is known.
    table, symbol
        What they would have changed; None: anything of the connection.
    first, last
        The venue's numbers of the first and last frame missing; None where it has none.
    """

    evidence: Evidence
    table: str | None = None
    symbol: str | None = None
    first: int | None = None
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
    """The venue's refusal of a request.

    Attributes
    ----------
    message
        The venue's own words.
    symbol
        The one that it does not serve; None: the whole request.
    fatal
        Whether trying again cannot help.
    """

    message: str
    symbol: str | None = None
    fatal: bool = False


@dataclass(frozen=True)
class Send:
    """Messages to send: an answer, or a request for a new snapshot."""

    messages: tuple[str, ...]


@dataclass(frozen=True)
class Fetch:
    """A REST call whose answer belongs into the segment.

    Attributes
    ----------
    url
        What to GET.
    symbol
        What it is about.
    """

    url: str
    symbol: str


Event = Lost | Refused | Send | Fetch


class Session(ABC):
    """One connection's conversation with a venue."""

    @abstractmethod
    def opening(self) -> list[str]:
        """Return the messages to send on the open socket, in order, freshly signed if need be."""

    @abstractmethod
    def read(self, frame: bytes) -> list[Event]:
        """Take note of a frame, and return what follows from it: nothing, nearly always.

        A frame that cannot be read has no event: it is stored all the same.
        """

    def fetched(self, request: Fetch, answer: bytes) -> bytes:
        """Return the frame that stands for a REST answer in the segment.

        It is then given to :meth:`read` like any other.
        """
        raise NotImplementedError(request.url)

    def ping(self) -> str | None:
        """Return the venue's own kind of ping, to be sent every ``limits.ping_seconds``."""
        return None
