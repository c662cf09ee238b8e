"""What is inside a segment: one line of JSON a frame.

A segment is NDJSON, one line a frame::

    {"capture_ns":1763844318000088634,"conn":"01JD…","data":<the frame, byte for byte>}

Ingestion writes segments and ETL reads them; neither knows the other. They meet in this format.
"""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fluxforge.errors import SegmentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import BinaryIO

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CHUNK = 1 << 20
_NANOSECONDS_APART = 1_000


@dataclass(frozen=True)
class Envelope:
    """One captured frame."""

    capture_ns: int  # nanoseconds since the Unix epoch, UTC, when the frame was received
    conn: str  # the socket it came over; a new one for each connection
    frame: bytes  # the frame as the venue sent it

    def line(self) -> bytes:
        r"""Write the envelope as a segment's line, newline included.

        The frame is spliced in, not parsed. One that cannot be a JSON object on one line is
        stored escaped, under ``raw`` (text) or ``raw_base64`` (bytes that are not UTF-8).

        >>> Envelope(1, "A", b'{"channel":"ticker"}').line()
        b'{"capture_ns":1,"conn":"A","data":{"channel":"ticker"}}\n'
        >>> Envelope(1, "A", b"hello").line()
        b'{"capture_ns":1,"conn":"A","raw":"hello"}\n'
        """
        [line], _ = envelope_lines([(self.capture_ns, self.frame)], self.conn)
        return line

    @classmethod
    def parse(cls, line: bytes) -> Envelope:
        """Read a line that :meth:`line` wrote; the frame comes back byte for byte."""
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


def envelope_lines(
    frames: Iterable[tuple[int, bytes]], conn: str, last_ns: int | None = None
) -> tuple[list[bytes], int]:
    """Write frames of one connection as :meth:`Envelope.line` does.

    Parameters
    ----------
    frames
        When each was received, and what it is.
    conn
        The connection.
    last_ns
        The time of the connection's frame before. Each one's is at least 1,000 more than that of
        the one before it, so that the two name and order a frame to the microsecond.

    Returns
    -------
    tuple of list of bytes and int
        The lines, and the time of the last one.
    """
    name = b',"conn":%s,' % json.dumps(conn).encode()
    head = name + b'"data":'
    lines, at = [], last_ns or 0
    earliest = 0 if last_ns is None else last_ns + _NANOSECONDS_APART
    for captured, frame in frames:
        at = captured if captured > earliest else earliest
        earliest = at + _NANOSECONDS_APART
        if _fits_one_line(frame):
            lines.append(b"".join((b'{"capture_ns":', b"%d" % at, head, frame, b"}\n")))
            continue
        try:
            field, text = b"raw", json.dumps(frame.decode()).encode()
        except UnicodeDecodeError:
            field, text = b"raw_base64", b'"%s"' % base64.b64encode(frame)
        lines.append(b'{"capture_ns":%d%s"%s":%s}\n' % (at, name, field, text))
    return lines, at


def _fits_one_line(frame: bytes) -> bool:
    if not (frame.startswith(b"{") and frame.endswith(b"}")):
        return False
    if frame.find(b"\n") >= 0 or frame.find(b"\r") >= 0:  # faster than `in`
        return False
    return is_text(frame)


def is_text(frame: bytes) -> bool:
    """Tell whether a frame is UTF-8."""
    if frame.isascii():
        return True
    try:
        frame.decode()
    except UnicodeDecodeError:
        return False
    return True


def new_connection_id() -> str:
    """Return a fresh identity for a socket: a ULID, so that later ones sort later.

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
    """Yield the envelopes of a segment in order."""
    with open_segment(path) as file:
        for line in file:
            if line.strip():
                yield Envelope.parse(line)


def pack_segment(path: Path, target: Path) -> Path:
    """Write a segment to `target`, compressed as :func:`open_segment` reads it."""
    import pyarrow as pa

    with (
        path.open("rb") as plain,
        pa.CompressedOutputStream(pa.OSFile(str(target), "wb"), "zstd") as packed,
    ):
        shutil.copyfileobj(plain, packed, _CHUNK)
    return target


def same_content(one: Path, other: Path) -> bool:
    """Tell whether two segments, compressed or not, hold the same bytes."""
    with open_segment(one) as left, open_segment(other) as right:
        while chunk := left.read(_CHUNK):
            if chunk != right.read(_CHUNK):
                return False
        return not right.read(1)
