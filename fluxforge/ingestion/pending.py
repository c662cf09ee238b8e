"""Lines that have been written and not yet flushed."""

from __future__ import annotations

import mmap
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
_BLOCK_BYTES = 1 << 16
_LINES_TOGETHER = 64


class _Block:
    """Lines in memory that the system has back with them: the heap would keep most of it."""

    def __init__(self, size: int) -> None:
        self.memory = mmap.mmap(-1, size)
        self.start = self.frames = 0  # where the lines that are left begin; how many they are

    def lines(self) -> memoryview:
        return memoryview(self.memory)[self.start : self.memory.tell()]


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
        self._blocks: deque[_Block] = deque()
        self._captured: dict[str, int] = {}  # each connection's last capture_ns

    def add(self, frames: Iterable[tuple[int, bytes]], conn: str) -> int:
        """Add frames of one connection, with their times of capture; return the lines' bytes."""
        with self._lock:
            lines, last = envelope_lines(frames, conn, self._captured.pop(conn, None))
            self._captured[conn] = last
            if len(self._captured) > _CONNECTIONS:
                del self._captured[next(iter(self._captured))]
            before = self.bytes
            for at in range(0, len(lines), _LINES_TOGETHER):
                self._write(lines[at : at + _LINES_TOGETHER])
            return self.bytes - before

    def _write(self, lines: list[bytes]) -> None:
        data = b"".join(lines)
        block = self._blocks[-1] if self._blocks else None
        if block is None or block.memory.tell() + len(data) > len(block.memory):
            block = _Block(max(len(data), _BLOCK_BYTES))
            self._blocks.append(block)
        block.memory.write(data)
        block.frames += len(lines)
        self.frames += len(lines)
        self.bytes += len(data)

    def next_parts(self, room: float) -> list[tuple[int, memoryview]]:
        """Return what to append next, one part at least; it stays until it is dropped."""
        parts: list[tuple[int, memoryview]] = []
        size = 0
        with self._lock:
            for block in self._blocks:
                lines = block.lines()
                if parts and size + len(lines) > min(room, BATCH_BYTES):
                    break
                parts.append((block.frames, lines))
                size += len(lines)
        return parts

    def drop(self, parts: list[tuple[int, memoryview]]) -> None:
        """Forget the first parts: they are durable."""
        with self._lock:
            for count, lines in parts:
                block = self._blocks[0]
                block.start += len(lines)
                block.frames -= count
                if not block.frames:  # none has come meanwhile
                    self._blocks.popleft()
                self.frames -= count
                self.bytes -= len(lines)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._blocks.clear()
            self.frames = self.bytes = 0

    def oldest_seconds(self) -> float:
        """Return how long the first line has been waiting."""
        with self._lock:
            if not self._blocks:
                return 0.0
            begin = bytes(self._blocks[0].lines()[:64])
        captured = int(begin[len('{"capture_ns":') : begin.index(b",")])
        return max(0.0, (time.time_ns() - captured) / 1e9)
