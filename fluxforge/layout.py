"""Where everything lies: pure names and paths, no disk.

Every path is a *key*: relative to a storage's root, parts separated by ``/`` on every platform.
A storage turns a key into a real path (:meth:`StorageBackend.get_full_path`).
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from fluxforge.errors import InvalidKeyError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

State = Literal["active", "ready", "processing", "archive", "quarantine"]
"""The states of a segment, in the order in which it passes through them."""

STATES: tuple[State, ...] = ("active", "ready", "processing", "archive", "quarantine")

_SEGMENT_NAME = re.compile(r"segment_(\d{8}T\d{2})_(\d{5,})(?:_([0-9a-f]{8}))?\.ndjson")
_WINDOWS_DEVICES = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?", re.IGNORECASE
)
_FORBIDDEN = re.compile(r'[\x00-\x1f\\:*?"<>|]')


def join_key(*parts: str) -> str:
    """Join parts into one clean key.

    Parameters
    ----------
    *parts
        Keys or names; empty parts vanish, so a root that is ``""`` adds nothing.

    >>> join_key("raw", "active/coinbase")
    'raw/active/coinbase'
    >>> join_key("raw", "../secrets")
    Traceback (most recent call last):
    ...
    fluxforge.errors.InvalidKeyError: key 'raw/../secrets' leaves the storage root: remove '..'
    """
    key = "/".join(part for part in parts if part)
    check_key(key)
    return "/".join(name for name in key.split("/") if name)


def check_key(key: str) -> str:
    """Return `key` if it is a valid relative key, else raise :class:`InvalidKeyError`.

    >>> check_key("raw/ready/coinbase")
    'raw/ready/coinbase'
    >>> check_key("F:/raw")
    Traceback (most recent call last):
    ...
    fluxforge.errors.InvalidKeyError: key 'F:/raw' holds ':' which not every disk can store
    """
    if key.startswith(("/", "\\")):
        raise InvalidKeyError(f"key {key!r} is absolute: keys are relative to the storage root")
    for name in key.split("/"):
        if name in (".", ".."):
            raise InvalidKeyError(f"key {key!r} leaves the storage root: remove {name!r}")
        if bad := _FORBIDDEN.search(name):
            raise InvalidKeyError(
                f"key {key!r} holds {bad.group()!r} which not every disk can store"
            )
        if name.endswith((" ", ".")) or _WINDOWS_DEVICES.fullmatch(name):
            raise InvalidKeyError(f"key {key!r}: {name!r} is not a file name on every system")
        try:
            size = len(name.encode())
        except UnicodeEncodeError as exc:
            raise InvalidKeyError(f"key {key!r}: {name!r} is not valid Unicode") from exc
        if size > 255:
            raise InvalidKeyError(f"key {key[:40]!r}…: a name is longer than 255 bytes")
    return key


@dataclass(frozen=True, order=True)
class SegmentName:
    """``segment_<YYYYMMDDTHH>_<NNNNN>_<8 hex>.ndjson``; a name is for life, one for each content.

    It holds the UTC hour in which the segment was opened, the writer's own counter and a random
    part, so that nothing has to be listed to choose it. Names without the random part are read
    just so.

    >>> str(SegmentName("20251203T14", 1, "9f86d081"))
    'segment_20251203T14_00001_9f86d081.ndjson'
    >>> SegmentName.parse("raw/ready/coinbase/segment_20251203T14_00001.ndjson")
    SegmentName(hour='20251203T14', counter=1, token='')
    """

    hour: str
    counter: int
    token: str = ""

    @classmethod
    def parse(cls, text: str) -> SegmentName | None:
        """Read a name, with any folder or ``.zst`` around it; None where it is no segment's."""
        match = _SEGMENT_NAME.match(text.rsplit("/", 1)[-1])
        return cls(match[1], int(match[2]), match[3] or "") if match else None

    @classmethod
    def new(cls, at: datetime, counter: int) -> SegmentName:
        """Return a name that nobody has, for a segment opened at `at`."""
        return cls(hour_of(at), counter, secrets.token_hex(4))

    def derive(self, reason: object) -> SegmentName:
        """Return another name that follows from this one and `reason`, always the same.

        >>> str(SegmentName("20251203T14", 1, "9f86d081").derive(4096))
        'segment_20251203T14_00001_af78663b.ndjson'
        """
        digest = hashlib.sha256(f"{self}:{reason}".encode()).hexdigest()
        return replace(self, token=digest[:8])

    def __str__(self) -> str:
        token = f"_{self.token}" if self.token else ""
        return f"segment_{self.hour}_{self.counter:05d}{token}.ndjson"


def hour_of(at: datetime) -> str:
    """Return the UTC hour of `at` as segment names write it.

    >>> hour_of(datetime(2025, 12, 3, 14, 59, tzinfo=UTC))
    '20251203T14'
    """
    return at.astimezone(UTC).strftime("%Y%m%dT%H")


@dataclass(frozen=True)
class Layout:
    """The keys of one storage: ``raw/<state>/<source>/`` and ``processed/<source>/<channel>/``.

    >>> layout = Layout(raw="raw", processed="processed")
    >>> layout.ready("coinbase")
    'raw/ready/coinbase'
    >>> layout.table("coinbase", "ticker")
    'processed/coinbase/ticker'
    """

    raw: str = "raw"
    processed: str = "processed"
    active_subdir: str = "active"
    ready_subdir: str = "ready"
    processing_subdir: str = "processing"
    archive_subdir: str = "archive"
    quarantine_subdir: str = "quarantine"

    def is_used(self, folders: Iterable[str]) -> bool:
        """Tell from the folders below a storage's root whether a lake has been written there."""
        homes = [self.raw or self.state(state, "") for state in STATES]
        return not {home.split("/")[0] for home in [*homes, self.processed]}.isdisjoint(folders)

    def around(self, ready: str, active: str | None = None) -> tuple[Layout, str]:
        """Return the layout that has these folders, and the source that they are of.

        It is this layout where they are among its folders. Else the states that are not given lie
        beside `ready`, under their usual names.

        >>> Layout(processing_subdir="work").around("raw/ready/coinbase")[0].processing("coinbase")
        'raw/work/coinbase'
        >>> layout, source = Layout().around("mine/new/coinbase")
        >>> layout.processing(source)
        'mine/processing/coinbase'
        """
        home, _, source = join_key(ready).rpartition("/")
        if active is None:
            active = self.active(source)
            if self.ready(source) != join_key(ready):
                active = join_key(home.rpartition("/")[0], "active", source)
        active_home, _, active_source = join_key(active).rpartition("/")
        if active_source != source:
            raise UsageError(
                f"{active!r} and {ready!r} are of different sources: their last parts must agree"
            )
        if (self.active(source), self.ready(source)) == (join_key(active), join_key(ready)):
            return self, source
        parent = home.rpartition("/")[0]
        layout = Layout(
            raw="",
            processed=self.processed,
            active_subdir=active_home,
            ready_subdir=home,
            processing_subdir=join_key(parent, "processing"),
            archive_subdir=join_key(parent, "archive"),
            quarantine_subdir=join_key(parent, "quarantine"),
        )
        return layout, source

    def state(self, state: State, source: str) -> str:
        """Return the folder of a source's segments in one state."""
        if state not in STATES:
            raise UsageError(f"there is no state {state!r}: there are {', '.join(STATES)}")
        folder: str = getattr(self, f"{state}_subdir")
        return join_key(self.raw, folder, source)

    def active(self, source: str) -> str:
        """Return the folder of segments that are being written."""
        return self.state("active", source)

    def ready(self, source: str) -> str:
        """Return the folder of closed segments that wait for the ETL."""
        return self.state("ready", source)

    def processing(self, source: str) -> str:
        """Return the folder of segments that an ETL has claimed."""
        return self.state("processing", source)

    def archive(self, source: str) -> str:
        """Return the folder of compressed segments whose rows are committed."""
        return self.state("archive", source)

    def quarantine(self, source: str) -> str:
        """Return the folder of lines that no table could take."""
        return self.state("quarantine", source)

    def tables(self, source: str) -> str:
        """Return the folder that holds all tables of a source."""
        return join_key(self.processed, source)

    def table(self, source: str, channel: str) -> str:
        """Return the folder of one table."""
        return join_key(self.processed, source, channel)
