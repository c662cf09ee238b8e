"""Lines that have been written and not yet flushed."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from fluxforge.segments import envelope_lines

if TYPE_CHECKING:
    from collections.abc import Iterable

BATCH_BYTES = 4_000_000
"""The most that one append carries, unless a single line is longer."""

_CONNECTIONS = 1_024  # far more than live at one time
_LINES_TOGETHER = 64
_BYTES_TOGETHER = 64_000


class PendingLines:
    """The lines of a segment that wait to be appended, in order; for any thread.

    Attributes
    ----------
    frames, bytes
        How many there are.
    """

    def __init__(self) -> None:
        self.frames = self.bytes = 0
        self._lock = threading.Lock()  # held for moments
        self._parts: deque[tuple[int, bytes]] = deque()  # a number of lines, and those lines
        self._last: list[bytes] = []  # lines after those, fewer than make a part
        self._last_bytes = 0
        self._captured: dict[str, int] = {}  # each connection's last capture_ns

    def add(self, frames: Iterable[tuple[int, bytes]], conn: str) -> int:
        """Add frames of one connection, with their times of capture; return the lines' bytes."""
        with self._lock:
            lines, last = envelope_lines(frames, conn, self._captured.pop(conn, None))
            self._captured[conn] = last
            if len(self._captured) > _CONNECTIONS:
                del self._captured[next(iter(self._captured))]
            size = sum(map(len, lines))
            self._last += lines
            self._last_bytes += size
            if len(self._last) >= _LINES_TOGETHER or self._last_bytes >= _BYTES_TOGETHER:
                self._fill()
            self.frames += len(lines)
            self.bytes += size
        return size

    def next_parts(self, room: float) -> list[tuple[int, bytes]]:
        """Return what to append next, one part at least; it stays until it is dropped."""
        parts: list[tuple[int, bytes]] = []
        size = 0
        with self._lock:
            self._fill()
            for count, lines in self._parts:
                if parts and size + len(lines) > min(room, BATCH_BYTES):
                    break
                parts.append((count, lines))
                size += len(lines)
        return parts

    def drop(self, parts: list[tuple[int, bytes]]) -> None:
        """Forget the first parts: they are durable."""
        with self._lock:
            for count, lines in parts:
                self._parts.popleft()
                self.frames -= count
                self.bytes -= len(lines)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._parts.clear()
            self._last, self._last_bytes = [], 0
            self.frames = self.bytes = 0

    def oldest_seconds(self) -> float:
        """Return how long the first line has been waiting."""
        with self._lock:
            self._fill()
            if not self._parts:
                return 0.0
            line = self._parts[0][1]
        captured = int(line[len('{"capture_ns":') : line.index(b",")])
        return max(0.0, (time.time_ns() - captured) / 1e9)

    def _fill(self) -> None:
        """Make parts of the last lines: many small objects would hold the heap apart."""
        for start in range(0, len(self._last), _LINES_TOGETHER):
            part = self._last[start : start + _LINES_TOGETHER]
            self._parts.append((len(part), b"".join(part)))
        self._last, self._last_bytes = [], 0
