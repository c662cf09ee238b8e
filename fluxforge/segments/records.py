"""What is known of segments: where they lie, who holds them, their digests and bad lines."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

from fluxforge.errors import SegmentError
from fluxforge.layout import SegmentName
from fluxforge.report import Report

if TYPE_CHECKING:
    from datetime import datetime

    from fluxforge.layout import State
    from fluxforge.storage import Lease, StoredFile

_DIGEST = re.compile(r"[0-9a-f]{12}\.ndjson")


@dataclass(frozen=True)
class StoredSegment:
    """One segment in a listing; ``key`` is its file, or, mirrored in ``active``, its folder."""

    name: str
    key: str
    size: int
    modified: datetime
    state: State


class Claim:
    """A segment in ``processing/`` that this worker holds until :meth:`release`.

    As a context manager it is released at the end. What is released and not finished is taken up
    again by the next claim.

    Attributes
    ----------
    stored
        The file as it was when it was claimed.
    orphan
        Whether another worker died over it.
    """

    def __init__(self, stored: StoredFile, lease: Lease, *, orphan: bool) -> None:
        self.stored = stored
        self.orphan = orphan
        self._lease = lease

    @property
    def name(self) -> str:
        """What it is called."""
        return self.stored.name

    @property
    def key(self) -> str:
        """Where it lies."""
        return self.stored.key

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.stored.size

    def release(self) -> None:
        """Let other workers have it. Releasing twice is allowed."""
        self._lease.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<Claim {self.key}{', an orphan' if self.orphan else ''}>"


@dataclass(frozen=True, repr=False)
class RecoveryReport(Report):
    """What a recovery found.

    Attributes
    ----------
    segments
        Keys of the segments that it put into the ready folder.
    torn
        Keys of the quarantine files for lines that a crash cut short.
    problems
        What was passed over, and why.
    """

    segments: tuple[str, ...] = ()
    torn: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def summary(self) -> str:
        """Say in one line what came of it."""
        counts = (len(self.segments), len(self.torn), len(self.problems))
        return "{} segments recovered, {} torn lines, {} problems".format(*counts)

    def __add__(self, other: RecoveryReport) -> RecoveryReport:
        return RecoveryReport(
            *(getattr(self, each.name) + getattr(other, each.name) for each in fields(self))
        )


@dataclass(frozen=True)
class Quarantined:
    """One line that no table could take, and why."""

    line: int
    reason: str
    content: bytes

    def record(self) -> bytes:
        r"""Write it as a line of a quarantine file; the content can be restored byte for byte.

        The line ends in a checksum of all before it.

        >>> Quarantined(7, "not JSON", b"oops").record()
        b'{"line":7,"reason":"not JSON","text":"oops","sha256":"d0adb16d0ac0fdb2"}\n'
        """
        fields: dict[str, Any] = {"line": self.line, "reason": self.reason}
        try:
            fields["text"] = self.content.decode()
        except UnicodeDecodeError:
            fields["base64"] = b64encode(self.content).decode()
        line = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()[:-1]
        return b'%s,"sha256":"%s"}\n' % (line, _checksum(line))

    @classmethod
    def read(cls, record: bytes) -> Quarantined:
        """Read what :meth:`record` wrote."""
        fields = json.loads(record)
        content = fields["text"].encode() if "text" in fields else b64decode(fields["base64"])
        return cls(fields["line"], fields["reason"], content)

    @staticmethod
    def is_intact(record: bytes) -> bool:
        """Tell whether a line is as it was written; those of before checksums only end in ``}``."""
        line, mark, checksum = record.rpartition(b',"sha256":"')
        if not mark:
            return record.endswith(b"}\n")
        return checksum == _checksum(line) + b'"}\n'


def _checksum(line: bytes) -> bytes:
    return hashlib.sha256(line).hexdigest()[:16].encode()


def quarantine_name(segment: str, digest: str) -> str:
    """Name the quarantine file of a segment: the same for each attempt, so that none adds twice.

    >>> quarantine_name("segment_20251203T14_00001.ndjson", "9f86d081884c7d65")
    'segment_20251203T14_00001-9f86d081884c.ndjson'
    """
    return f"{segment.removesuffix('.ndjson')}-{digest[:12]}.ndjson"


def retry_name(quarantine: str) -> str:
    """Name the segment as which the lines of a quarantine file go through the ETL once more.

    >>> retry_name("segment_20251203T14_00001_9f86d081-9f86d081884c.ndjson")
    'segment_20251203T14_00001_1517898c.ndjson'
    """
    segment, _, digest = quarantine.removesuffix(".ndjson").rpartition("-")
    name = SegmentName.parse(f"{segment}.ndjson")
    if name is None:
        raise SegmentError(f"{quarantine} is not the name of a file in quarantine")
    return str(name.derive(f"retry:{digest}"))


def is_quarantine_name(name: str) -> bool:
    """Tell whether :func:`quarantine_name` made a name, whatever folder stands before it.

    >>> is_quarantine_name("raw/quarantine/x/segment_20251203T14_00001-9f86d081884c.ndjson")
    True
    >>> is_quarantine_name("segment_20251203T14_00001.ndjson")
    False
    """
    segment, _, digest = name.rpartition("-")
    return bool(SegmentName.parse(f"{segment}.ndjson") and _DIGEST.fullmatch(digest))
