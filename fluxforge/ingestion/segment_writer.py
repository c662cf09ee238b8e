"""Segments on one storage: durable appends, rotation, closing."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fluxforge.errors import JournalFencedError, StorageError
from fluxforge.ingestion.claims import claim_segment, discard_empty, seal_segment
from fluxforge.layout import SegmentName, hour_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from fluxforge.ingestion.claims import SegmentFolders
    from fluxforge.storage import Journal, StorageBackend

logger = logging.getLogger(__name__)

FENCED_TRIES = 3
"""So many segments may be taken over by others, one after another, before something is wrong."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Whole lines on their way to a segment.

    Attributes
    ----------
    data
        The lines.
    frames
        How many there are.
    """

    data: bytes
    frames: int


@dataclass
class _Segment:
    """The segment that is being written."""

    journal: Journal
    name: SegmentName
    opened: datetime


class SegmentWriter:
    """Writes batches into the segments of one source on one storage, from one thread at a time.

    Parameters
    ----------
    storage, folders
        Where to write.
    source_name
        The exchange; for messages.
    max_bytes, max_seconds
        A segment is closed at this size or age, and when the UTC hour changes; one batch may
        exceed the size.
    clock
        The time now, UTC.

    Attributes
    ----------
    segments
        How many were closed into the ready folder.
    """

    def __init__(
        self,
        storage: StorageBackend,
        folders: SegmentFolders,
        source_name: str,
        *,
        max_bytes: float,
        max_seconds: float,
        clock: Callable[[], datetime],
    ) -> None:
        self.segments = 0
        self._storage = storage
        self._folders = folders
        self._source_name = source_name
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._clock = clock
        self._segment: _Segment | None = None
        self._unsealed: list[Journal] = []
        self._last_name: SegmentName | None = None
        self._failed_append = False

    @property
    def has_content(self) -> bool:
        """Whether the segment that is being written holds anything."""
        return self._segment is not None and self._segment.journal.size > 0

    @property
    def has_ended(self) -> bool:
        """Whether a segment waits to be closed."""
        return bool(self._unsealed)

    # Appending

    def append(self, batch: Batch) -> None:
        """Make a batch durable.

        Raises
        ------
        StorageError
            If the storage refuses. Only the same batch may follow then; it will be there once.
        """
        if not self._failed_append:  # an object store may still carry a failed one out
            self.rotate_if_due()
        self._failed_append = True
        for _ in range(FENCED_TRIES):
            self.open()
            if self.try_append(batch.data):
                self._failed_append = False
                self.rotate_if_due()
                return
        raise JournalFencedError(
            f"{self._source_name}: {FENCED_TRIES} segments in a row were taken over by another "
            "collector: look whether two machines' clocks disagree"
        )

    def open(self) -> Journal:
        """Return the journal of the segment that is being written, or of a new one."""
        if self._segment is None:
            now = self._clock()
            name, journal = claim_segment(self._storage, self._folders, now, self._last_name)
            self._last_name = name
            self._segment = _Segment(journal, name, now)
            logger.debug("%s: opened %s", self._source_name, journal.key)
        return self._segment.journal

    def try_append(self, data: bytes) -> bool:
        """Append to the open segment.

        Returns
        -------
        bool
            False if another collector took the segment over: it does not hold `data` and never
            will. What it held before is safe, and the next segment is a new one.
        """
        journal = self.open()
        try:
            journal.append(data)
        except JournalFencedError:
            logger.warning(
                "%s: another collector took %s over; going on in a new segment",
                self._source_name,
                journal.key,
            )
            self._segment = None
            with suppress(StorageError):
                journal.close()
            return False
        return True

    def take_back(self) -> None:
        """Undo a failed append, so that another batch may follow; only on a disk.

        Raises
        ------
        StorageError
            If the disk refuses.
        """
        if self._failed_append and self._segment is not None:
            self._segment.journal.drop_torn_tail()  # cuts off what lies behind the last append
        self._failed_append = False

    # Rotating

    def rotate_if_due(self) -> None:
        """End the segment where it is large or old enough, or its hour has passed."""
        segment = self._segment
        if segment is None or not segment.journal.size:
            return
        now = self._clock()
        age = (now - segment.opened).total_seconds()
        if (
            segment.journal.size >= self._max_bytes
            or age >= self._max_seconds
            or segment.name.hour != hour_of(now)
        ):
            self.end()

    def end(self) -> None:
        """End the segment; :meth:`seal_ended` closes it into the ready folder."""
        # From here on it is only ever sealed: a seal that failed may have done its work all the
        # same, and what was appended afterwards would be there twice.
        if self._segment is not None:
            journal, self._segment = self._segment.journal, None
            self._unsealed.append(journal)

    def seal_ended(self) -> None:
        """Close the segments that have ended into the ready folder.

        Raises
        ------
        StorageError
            If one cannot be closed; call this again.
        """
        while self._unsealed:
            journal = self._unsealed[0]
            if journal.size:
                self._seal(journal)
            else:
                discard_empty(self._storage, journal, self._folders.ready)
            self._unsealed.pop(0)

    def tend(self) -> None:
        """Rotate where it is due, though nothing new has come."""
        self.rotate_if_due()
        self.seal_ended()

    def rotate(self) -> None:
        """Close the segment into the ready folder."""
        self.end()
        self.seal_ended()

    def close(self) -> None:
        """Close the segment into the ready folder; the next batch opens another."""
        self.rotate()

    def abandon(self) -> None:
        """Let go of everything; what is durable is found by the next recovery."""
        self.end()
        for journal in self._unsealed:
            with suppress(StorageError):
                journal.close()
        self._unsealed.clear()
        self._failed_append = False

    def _seal(self, journal: Journal) -> None:
        try:
            destination = seal_segment(journal, self._folders.ready)
        except JournalFencedError:
            logger.warning(
                "%s: another collector closes %s, which it took over",
                self._source_name,
                journal.key,
            )
            return
        self.segments += 1
        logger.info("%s: closed %s", self._source_name, destination)
