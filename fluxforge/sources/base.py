"""The source contract: what an exchange's folder under ``sources/`` has to say.

A source is a folder (or a package with a ``fluxforge.sources`` entry point) that holds

- ``protocol.py``: what to send and how to read what comes, without any I/O;
- ``frames.sql``: how to read the kind, sequence number and time of a frame;
- ``<table>.sql``: one file a table, which says in its head which frames it takes.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from typing import TYPE_CHECKING, ClassVar, Literal

from fluxforge.errors import TableError

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEAD = re.compile(r"^-- (\w+): *(.*)$", re.MULTILINE)
_SHAPE = re.compile(r"from_json\(\s*\w+\s*,\s*'(.*?)'\s*\)", re.DOTALL)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


@dataclass(frozen=True)
class Channel:
    """One table of a source, as its ``.sql`` file declares it.

    The head of the file holds lines of the form ``-- word: value``:

    ``takes``
        the kinds of frame it reads, separated by commas;
    ``rows``
        the JSON path of the lists its rows come from: a frame without one goes to quarantine;
    ``key``
        optional: ``symbol, trade_id; first wins`` or ``…; last wins``.
    """

    name: str
    sql: str
    takes: tuple[str, ...]
    rows: str
    key: tuple[str, ...] = ()
    keep: Literal["first", "last"] | None = None

    @classmethod
    def from_sql(cls, name: str, sql: str) -> Channel:
        """Read a channel from its file's text.

        Raises
        ------
        TableError
            If the head lacks ``takes`` or ``rows``, or the key names no winner.
        """
        head = dict(_HEAD.findall(sql))
        missing = [word for word in ("takes", "rows") if not head.get(word)]
        if missing:
            raise TableError(f"{name}.sql lacks a line '-- {missing[0]}: …' at its head")
        key, _, winner = head.get("key", "").partition(";")
        keep: Literal["first", "last"] | None = None
        if key:
            match winner.strip():
                case "first wins":
                    keep = "first"
                case "last wins":
                    keep = "last"
                case other:
                    raise TableError(f"{name}.sql: key needs 'first wins' or 'last wins': {other}")
        return cls(
            name=name,
            sql=sql,
            takes=_words(head["takes"]),
            rows=head["rows"].strip(),
            key=_words(key),
            keep=keep,
        )

    @cached_property
    def known_fields(self) -> frozenset[str]:
        """Every field name in the shapes that the SQL reads with ``from_json``."""
        names: set[str] = set()

        def collect(shape: object) -> None:
            if isinstance(shape, dict):
                names.update(shape)
                for value in shape.values():
                    collect(value)
            elif isinstance(shape, list):
                for value in shape:
                    collect(value)

        for text in _SHAPE.findall(self.sql):
            collect(json.loads(text))
        return frozenset(names)


@dataclass(frozen=True)
class FrameSummary:
    """What the collector needs to know of a frame, read without parsing it.

    Attributes
    ----------
    kind
        The venue's word for the kind of frame, ``"error"`` for a refusal, None if unreadable.
    sequence
        The venue's number of this frame on its connection; None where it has none.
    message
        The venue's own words, for errors.
    """

    kind: str | None
    sequence: int | None
    message: str | None = None


@dataclass(frozen=True)
class Subscription:
    """What one socket subscribes to."""

    products: tuple[str, ...]
    channels: tuple[str, ...]


@dataclass(frozen=True)
class VenueLimits:
    """What the venue allows and what to expect of it.

    Attributes
    ----------
    connections_per_second, messages_per_second
        Rates that the collector keeps below.
    silence_seconds
        How long a healthy connection may be without a single frame.
    first_sequence
        The number of the first frame of a connection; None where frames are not numbered.
    """

    connections_per_second: float
    messages_per_second: float
    silence_seconds: float
    first_sequence: int | None


@dataclass(frozen=True)
class SourceTables:
    """The SQL of a source: how to read a frame, and its channels.

    The head of ``frames.sql`` holds ``-- control:``, the kinds of frame that make no rows, and
    ``-- fields:``, the fields that every frame may have.
    """

    frames_sql: str
    control: tuple[str, ...]
    fields: tuple[str, ...]
    channels: dict[str, Channel] = field(default_factory=dict)

    @classmethod
    def from_package(cls, package: str) -> SourceTables:
        """Read ``frames.sql`` and every ``<table>.sql`` that lies in a package."""
        files = {
            entry.name.removesuffix(".sql"): entry.read_text(encoding="utf-8")
            for entry in resources.files(package).iterdir()
            if entry.name.endswith(".sql")
        }
        frames = files.pop("frames", None)
        if frames is None:
            raise TableError(f"{package} has no frames.sql")
        head = dict(_HEAD.findall(frames))
        return cls(
            frames_sql=frames,
            control=_words(head.get("control", "")),
            fields=_words(head.get("fields", "")),
            channels={name: Channel.from_sql(name, sql) for name, sql in sorted(files.items())},
        )

    def channel_of(self, kind: str) -> Channel | None:
        """Return the channel that takes frames of this kind."""
        return next((c for c in self.channels.values() if kind in c.takes), None)


class Source(ABC):
    """One exchange. Stateless: what belongs to a connection lives with the connection."""

    name: ClassVar[str]
    limits: ClassVar[VenueLimits]

    @cached_property
    def tables(self) -> SourceTables:
        """The source's SQL files."""
        return SourceTables.from_package(type(self).__module__.rpartition(".protocol")[0])

    @abstractmethod
    def plan(self, products: Sequence[str], channels: Sequence[str]) -> list[Subscription]:
        """Spread products and channels over as many sockets as the venue needs.

        Raises
        ------
        ConfigError
            If a channel is not one of the venue's, with the nearest right name.
        """

    @abstractmethod
    def subscribe_frames(self, subscription: Subscription) -> list[str]:
        """Return the messages to send on a new socket, in order, freshly signed if need be."""

    @abstractmethod
    def summarize(self, frame: bytes) -> FrameSummary:
        """Read a frame's kind and sequence number without parsing all of it."""

    @abstractmethod
    def is_fatal(self, summary: FrameSummary) -> bool:
        """Tell whether an error frame means that trying again cannot help."""
