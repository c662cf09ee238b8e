"""Keeping an object store in step with the segments on this machine's disk."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from fluxforge.errors import StorageError, StorageUnavailableError
from fluxforge.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fluxforge.segments.active import ActiveSegment

logger = logging.getLogger(__name__)

RETRY = RetryPolicy(first=0.2, cap=5.0)
"""How a store that does not answer is asked again, without end."""

REMINDER_SECONDS = 60.0
"""How often to say that it still does not."""

_SLOW = 6  # times as long as for a store that refuses, one is waited for that has not answered yet


class Uploader:
    """Mirrors segments from the disk to the object store, in a thread of its own.

    It tries for ever: nothing that the store does keeps a flush from being durable on this disk.
    One bad segment does not keep the others waiting.

    Parameters
    ----------
    source_name
        The exchange; for messages.
    interval
        Seconds between two parts of a segment that grows.

    Attributes
    ----------
    segments
        How many it has brought into the ready folder.
    error
        What the store, or this disk, refused with last; None once all went well again.
    """

    def __init__(self, source_name: str, interval: float) -> None:
        self.segments = 0
        self.error: Exception | None = None
        self._source_name = source_name
        self._interval = interval
        self._changed = threading.Condition()  # guards what follows
        self._segments: list[ActiveSegment] = []
        self._progressed_at = 0.0
        self._awake = False
        self._leaving = False
        self._thread = threading.Thread(
            target=self._run, name=f"{source_name} uploader", daemon=True
        )
        self._thread.start()

    @property
    def pending_bytes(self) -> int:
        """Bytes that only this machine's disk has."""
        return sum(segment.pending for segment in list(self._segments))

    def add(self, segments: Iterable[ActiveSegment]) -> None:
        """Take segments: one that is being written, or ones that an ended capture left."""
        with self._changed:
            self._segments += segments

    def wake(self) -> None:
        """Look at once: a segment has been closed."""
        with self._changed:
            self._awake = True
            self._changed.notify_all()

    def finish(self, timeout: float) -> bool:
        """Wait until all is on the store, as long as it makes progress; False where it is not.

        All segments must have been closed.

        Parameters
        ----------
        timeout
            Seconds without any progress after which to give up on a store that refuses; one that
            only is slow has six times as long for each request.
        """
        self.wake()
        with self._changed:
            began = time.monotonic()
            while self._segments:
                longest = timeout if self.error else _SLOW * timeout
                left = max(began, self._progressed_at) + longest - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def leave(self) -> int:
        """End, and let go of what is left; return how many frames that is."""
        with self._changed:
            self._leaving = True
            self._changed.notify_all()
            left = list(self._segments)
        if not left:
            self._thread.join()
        frames = 0
        for segment in left:
            with suppress(StorageError):  # the store has taken it just now
                frames += segment.file.count_lines()
        return frames

    # In the thread

    def _run(self) -> None:
        delays = RETRY.delays()
        told_at, failing_since = 0.0, 0.0
        wait = self._interval
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._awake or self._leaving, wait)
                if self._leaving:
                    break
                self._awake = False
            error = self._advance_all()
            now = time.monotonic()
            if error is None:
                if failing_since:
                    logger.warning(
                        "%s: the object store has everything again after %.1f s, nothing lost",
                        self._source_name,
                        now - failing_since,
                    )
                delays, wait, failing_since = RETRY.delays(), self._interval, 0.0
            else:
                wait = next(delays)
                if not failing_since or now - told_at >= REMINDER_SECONDS:
                    told_at = now
                    logger.warning(
                        "%s: %s; what has been flushed is safe on this disk, and is sent later",
                        self._source_name,
                        error,
                    )
                failing_since = failing_since or now
            with self._changed:
                self.error = error
                self._changed.notify_all()
        for segment in self._segments:
            with suppress(StorageError):
                segment.release()

    def _advance_all(self) -> Exception | None:
        """Bring every segment as far as it goes now; return what kept one from it."""
        error: Exception | None = None
        for segment in list(self._segments):
            try:
                while not self._leaving and segment.advance():
                    self._progress()
            except StorageUnavailableError as exc:
                return exc.with_traceback(None)  # the others would find no other answer
            except Exception as exc:  # whatever it is, the other segments need this thread
                if not isinstance(exc, StorageError):
                    logger.exception("%s: %s", self._source_name, segment.file.path)
                error = exc.with_traceback(None)  # its frames hold what was to be sent
            if segment.settled:
                self.segments += bool(segment.ready)
                with self._changed:
                    self._segments.remove(segment)
                logger.info("%s: closed %s", self._source_name, segment.ready or segment.name)
                self._progress()
        return error

    def _progress(self) -> None:
        with self._changed:
            self._progressed_at = time.monotonic()
            self._changed.notify_all()
