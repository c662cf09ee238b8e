"""What is inside a segment: envelopes, identities and quarantine records.

A segment is NDJSON, one line a frame::

    {"capture_ns":1763844318000088634,"conn":"01JD…","data":<the frame, byte for byte>}

Ingestion writes segments and ETL reads them; neither knows the other. They meet in this format.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fluxforge.errors import SegmentError
from fluxforge.layout import SegmentName

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CHUNK = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{12}\.ndjson")


@dataclass(frozen=True)
class Envelope:
    """One captured frame.

    Attributes
    ----------
    capture_ns
        Nanoseconds since the Unix epoch, UTC, when the frame was received.
    conn
        The socket it came over; a new one for each connection.
    frame
        The frame as the venue sent it.
    """

    capture_ns: int
    conn: str
    frame: bytes

    def line(self) -> bytes:
        r"""Write the envelope as a segment's line, newline included.

        The frame is spliced in, not parsed. One that cannot be a JSON object on one line is
        stored escaped, under ``raw`` (text) or ``raw_base64`` (bytes that are not UTF-8).

        Examples
        --------
        >>> Envelope(1, "A", b'{"channel":"ticker"}').line()
        b'{"capture_ns":1,"conn":"A","data":{"channel":"ticker"}}\n'
        >>> Envelope(1, "A", b"hello").line()
        b'{"capture_ns":1,"conn":"A","raw":"hello"}\n'
        """
        head = b'{"capture_ns":%d,"conn":%s,' % (self.capture_ns, json.dumps(self.conn).encode())
        if _fits_one_line(self.frame):
            return head + b'"data":' + self.frame + b"}\n"
        try:
            text = self.frame.decode()
        except UnicodeDecodeError:
            encoded = base64.b64encode(self.frame)
            return head + b'"raw_base64":"' + encoded + b'"}\n'
        return head + b'"raw":' + json.dumps(text).encode() + b"}\n"

    @classmethod
    def parse(cls, line: bytes) -> Envelope:
        """Read a line that :meth:`line` wrote; the frame comes back byte for byte.

        Raises
        ------
        SegmentError
            If the line is not an envelope.
        """
        line = line.rstrip(b"\r\n")
        head, mark, rest = line.partition(b',"data":')
        try:
            if mark and rest.endswith(b"}") and _fits_one_line(rest[:-1]):
                fields = json.loads(head + b"}")
                return cls(int(fields["capture_ns"]), str(fields["conn"]), rest[:-1])
            fields = json.loads(line)
            if "raw_base64" in fields:
                frame = base64.b64decode(fields["raw_base64"], validate=True)
            else:
                frame = str(fields["raw"]).encode()
            return cls(int(fields["capture_ns"]), str(fields["conn"]), frame)
        except (ValueError, KeyError, TypeError) as exc:
            raise SegmentError(f"not a segment's line: {line[:80]!r}") from exc


def _fits_one_line(frame: bytes) -> bool:
    if not (frame.startswith(b"{") and frame.endswith(b"}")) or b"\n" in frame or b"\r" in frame:
        return False
    if frame.isascii():
        return True
    try:
        frame.decode()
    except UnicodeDecodeError:
        return False
    return True


def new_connection_id() -> str:
    """Return a fresh identity for a socket: a ULID, so that later ones sort later.

    Examples
    --------
    >>> len(new_connection_id())
    26
    """
    number = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


class _ArrowReader(io.RawIOBase):
    """Lets Python's own buffered reader find the lines in an Arrow stream, which knows none."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data: bytes = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def open_segment(path: Path) -> Iterator[BinaryIO]:
    """Open a segment for reading, decompressed if its name ends in ``.zst``."""
    if path.suffix != ".zst":
        with path.open("rb") as file:
            yield file
        return
    import pyarrow as pa

    with pa.CompressedInputStream(pa.OSFile(str(path)), "zstd") as stream:
        yield io.BufferedReader(_ArrowReader(stream), _CHUNK)


def read_segment(path: Path) -> Iterator[Envelope]:
    """Yield the envelopes of a segment in order.

    Raises
    ------
    SegmentError
        At the first line that is not an envelope.
    """
    with open_segment(path) as file:
        for line in file:
            if line.strip():
                yield Envelope.parse(line)


@dataclass(frozen=True)
class Fingerprint:
    """What a segment is, whatever its name: a digest of its bytes.

    A name can come back after its segment was deleted; a digest cannot. Two copies of one segment
    share it, so that both together are committed once.

    Attributes
    ----------
    digest
        The first 32 hexadecimal digits of the SHA-256 of the content.
    size
        Bytes.
    lines
        Lines that are not blank, counted independently of any parser.
    longest
        Bytes of the longest line.
    """

    digest: str
    size: int
    lines: int
    longest: int

    @classmethod
    def of(cls, path: Path) -> Fingerprint:
        """Read a file once, in bounded memory."""
        digest, size, lines, longest = hashlib.sha256(), 0, 0, 0
        blank, length = True, 0
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
                first, *others = chunk.split(b"\n")
                blank = blank and not first.strip()
                length += len(first)
                for piece in others:
                    lines += not blank
                    longest = max(longest, length)
                    blank, length = not piece.strip(), len(piece)
        return cls(digest.hexdigest()[:32], size, lines + (not blank), max(longest, length))


@dataclass(frozen=True)
class Quarantined:
    """One line that no table could take, and why."""

    line: int
    reason: str
    content: bytes

    def record(self) -> bytes:
        r"""Write it as a line of a quarantine file; the content can be restored byte for byte.

        Examples
        --------
        >>> Quarantined(7, "not JSON", b"oops").record()
        b'{"line":7,"reason":"not JSON","text":"oops"}\n'
        """
        fields: dict[str, Any] = {"line": self.line, "reason": self.reason}
        try:
            fields["text"] = self.content.decode()
        except UnicodeDecodeError:
            fields["base64"] = base64.b64encode(self.content).decode()
        return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def quarantine_name(segment: str, digest: str) -> str:
    """Name the quarantine file of a segment: the same for each attempt, so that none adds twice.

    Examples
    --------
    >>> quarantine_name("segment_20251203T14_00001.ndjson", "9f86d081884c7d65")
    'segment_20251203T14_00001-9f86d081884c.ndjson'
    """
    return f"{segment.removesuffix('.ndjson')}-{digest[:12]}.ndjson"


def is_quarantine_name(name: str) -> bool:
    """Tell whether :func:`quarantine_name` made a name, whatever folder stands before it.

    Examples
    --------
    >>> is_quarantine_name("raw/quarantine/x/segment_20251203T14_00001-9f86d081884c.ndjson")
    True
    >>> is_quarantine_name("segment_20251203T14_00001.ndjson")
    False
    """
    segment, _, digest = name.rpartition("-")
    return bool(SegmentName.parse(f"{segment}.ndjson") and _DIGEST.fullmatch(digest))
