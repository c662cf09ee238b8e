"""Flushing on a schedule, and holding on while the storage is in trouble."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from fluxforge.errors import SpoolFullError, StorageError
from fluxforge.ingestion.backoff import Backoff

if TYPE_CHECKING:
    from fluxforge.ingestion.intake import Intake
    from fluxforge.ingestion.log_writer import LogWriter

logger = logging.getLogger(__name__)

WRITE_PATIENCE_SECONDS = 60.0
"""How long a storage may refuse before an ingestion gives up."""

LAST_PATIENCE_SECONDS = 10.0
"""The same for what is left when an ingestion stops."""

REMINDER_SECONDS = 60.0
"""How often to say that a full spool keeps the venue waiting."""

_SHORTEST_DELAY = 0.05
_FULL_SPOOL_DELAY = 0.5  # to look for room costs nothing, and the venue waits


class Flusher:
    """Flushes a writer from an event loop, in a thread: the loop never waits for a disk.

    Parameters
    ----------
    writer, intake
        What is flushed, and who waits for that.
    interval
        Seconds between flushes; a well-filled buffer is flushed sooner.
    """

    def __init__(self, writer: LogWriter, intake: Intake, interval: float) -> None:
        self._writer = writer
        self._intake = intake
        self._interval = interval

    async def run(self, patience: float) -> None:
        """Flush until cancelled.

        A full spool is no reason to end: the object store will answer one day, and until then the
        venue waits.

        Raises
        ------
        StorageError
            Once the storage has refused for `patience` seconds on end.
        """
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._intake.flush_wanted.wait(), self._interval)
            self._intake.flush_wanted.clear()
            await self._flush(patience, waits_for_spool=True)

    async def finish(self) -> None:
        """Write what is left and close the segment.

        Raises
        ------
        StorageError
            If the storage refuses to the end; the message says how many frames it cost.
        """
        try:
            with suppress(StorageError):  # the writer's close has the last word
                await self._flush(LAST_PATIENCE_SECONDS)
            await asyncio.to_thread(self._writer.close)
        except StorageError as exc:
            lost = self._writer.buffered_frames
            await asyncio.to_thread(self._writer.abandon)
            if not lost:
                raise
            source = self._writer.source_name
            raise type(exc)(
                f"{exc}; {lost:,} {source} frames were received and could not be written. "
                f"The {self._writer.flushed_frames:,} before them are safe"
            ) from exc
        finally:
            self._intake.make_room()

    async def _flush(self, patience: float, *, waits_for_spool: bool = False) -> None:
        clock = asyncio.get_running_loop().time
        source, backoff = self._writer.source_name, Backoff(first=0.2, cap=5.0)
        failing_since: float | None = None
        refused_since: float | None = None  # the same, without what is only a full spool
        told_at = 0.0
        while True:
            try:
                await asyncio.to_thread(self._writer.flush)
            except StorageError as exc:
                now = clock()
                if failing_since is None or now - told_at >= REMINDER_SECONDS:
                    told_at = now
                    logger.warning("%s: cannot write, holding the frames: %s", source, exc)
                failing_since = now if failing_since is None else failing_since
                delay = max(_SHORTEST_DELAY, backoff.next_delay())
                if waits_for_spool and isinstance(exc, SpoolFullError):
                    refused_since = None
                    delay = min(delay, _FULL_SPOOL_DELAY)
                elif refused_since is None:
                    refused_since = now
                if refused_since is not None and now + delay - refused_since > patience:
                    logger.error("%s: nothing could be written for %g s", source, patience)
                    raise
                await asyncio.sleep(delay)
            else:
                if failing_since is not None:
                    held = clock() - failing_since
                    logger.warning("%s: writing again after %.1f s, nothing lost", source, held)
                return
            finally:
                self._intake.make_room()
