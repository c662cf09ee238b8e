"""Between the sockets and the writer: frames bounded in bytes, flushed on a schedule.

When the writer falls behind, the sockets are not read, and TCP makes the venue wait. Nothing is
dropped, and memory stays bounded.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from fluxforge.errors import StorageError, StorageFullError
from fluxforge.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fluxforge.ingestion.log_writer import LogWriter

logger = logging.getLogger(__name__)

BUFFER_BYTES = 16_000_000
"""What may wait for the writer, over all sockets of a source; then they are not read."""

FLUSH_BYTES = 4_000_000
"""Flush without waiting for the interval once this much is buffered."""

WRITE_TIMEOUT_SECONDS = 60.0
"""How long a storage may refuse before a capture gives up."""

LAST_WRITE_TIMEOUT_SECONDS = 10.0
"""The same for what is left when a capture stops, and for an object store to take it."""

REMINDER_SECONDS = 60.0
"""How often to say that a full disk or spool keeps the venue waiting."""

RETRY = RetryPolicy(first=0.2, cap=5.0)
_SHORTEST_DELAY, _FULL_DELAY = 0.05, 0.5  # to look for room costs nothing


class FrameBuffer:
    """Takes frames from any number of sockets on one event loop, and flushes them in a thread.

    Parameters
    ----------
    writer
        Holds the frames until they are flushed.
    interval
        Seconds between flushes; a well-filled buffer is flushed sooner.
    limit
        Accept this many frames and no more; None: no limit.

    Attributes
    ----------
    frames, bytes
        How much has been accepted.
    complete
        Set once the limit has been reached.
    """

    def __init__(self, writer: LogWriter, interval: float, limit: int | None = None) -> None:
        self.frames = 0
        self.bytes = 0
        self.complete = asyncio.Event()
        self._writer = writer
        self._interval = interval
        self._limit = limit
        self._flush_wanted = asyncio.Event()
        self._waiting: list[Callable[[], object]] = []

    @property
    def has_room(self) -> bool:
        """Whether sockets should be read."""
        return self._writer.buffered_bytes < BUFFER_BYTES or self.complete.is_set()

    def add(self, frames: Sequence[tuple[int, bytes]], conn: str) -> int:
        """Take frames of one connection with their capture times; return how many are wanted."""
        if self._limit is not None:
            frames = frames[: self._limit - self.frames]
        if frames:
            self.bytes += self._writer.write_all(frames, conn)
            self.frames += len(frames)
            if self.frames == self._limit:
                self.complete.set()
            if self._writer.buffered_bytes >= FLUSH_BYTES:
                self._flush_wanted.set()
        return len(frames)

    def when_room(self, resume: Callable[[], object]) -> None:
        """Call `resume` once there is room again."""
        self._waiting.append(resume)

    async def keep_flushing(self, timeout: float) -> None:
        """Flush until cancelled.

        A full disk or spool is no reason to end: someone frees the disk, or the object store
        answers one day, and until then the venue waits.
        """
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._flush_wanted.wait(), self._interval)
            self._flush_wanted.clear()
            await self._flush(timeout, wait_for_room=True)

    async def finish(self, timeout: float) -> None:
        """Write what is left and close the segment, trying for `timeout` seconds at each."""
        writer = self._writer
        try:
            with suppress(StorageError):  # the writer's close has the last word
                await self._flush(timeout, wait_for_room=False)
            await asyncio.to_thread(writer.close, timeout)
        except StorageError as exc:
            lost = writer.buffered_frames
            await asyncio.to_thread(writer.abandon)
            if not lost:
                raise
            raise type(exc)(
                f"{exc}; {lost:,} {writer.source_name} frames were received and could not be "
                f"written. The {writer.flushed_frames:,} before them are safe"
            ) from exc
        finally:
            self._make_room()

    async def _flush(self, timeout: float, *, wait_for_room: bool) -> None:
        source, delays = self._writer.source_name, RETRY.delays()
        failing_since = told_at = 0.0
        give_up_at: float | None = None
        while True:
            try:
                await asyncio.to_thread(self._writer.flush)
            except StorageError as exc:
                now = time.monotonic()
                if not failing_since or now - told_at >= REMINDER_SECONDS:
                    told_at = now
                    logger.warning("%s: cannot write, holding the frames: %s", source, exc)
                failing_since = failing_since or now
                delay = max(_SHORTEST_DELAY, next(delays))
                if wait_for_room and isinstance(exc, StorageFullError):
                    delay, give_up_at = min(delay, _FULL_DELAY), None
                elif give_up_at is None:
                    give_up_at = now + timeout
                if give_up_at is not None and now + delay > give_up_at:
                    logger.error("%s: nothing could be written for %g s", source, timeout)
                    raise
                await asyncio.sleep(delay)
            else:
                if failing_since:
                    held = time.monotonic() - failing_since
                    logger.warning("%s: writing again after %.1f s, nothing lost", source, held)
                return
            finally:
                self._make_room()

    def _make_room(self) -> None:
        while self._waiting and self.has_room:
            self._waiting.pop(0)()
