"""The folder of a spool: segments, and notes on batches whose outcome is unknown.

::

    active/       the segment that is being written, one for each collector
    ready/        closed ones, which wait to be shipped
    quarantine/   ends of lines that a crash cut short; shipped too
    unsettled/    notes

It is a small lake of its own on the local disk, with the same journals and leases: what a
collector leaves that dies is recovered by the next one on this machine, and nobody touches what a
living one is writing.
"""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from fluxforge.errors import (
    FileExistsAlreadyError,
    FileMissingError,
    SegmentError,
    StorageError,
    StorageUnavailableError,
)
from fluxforge.ingestion.claims import SegmentFolders
from fluxforge.ingestion.recovery import recover_segments
from fluxforge.ingestion.segment_writer import Batch, SegmentWriter
from fluxforge.layout import SegmentName, join_key
from fluxforge.storage.disk import translated
from fluxforge.storage.local import LocalStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fluxforge.ingestion.recovery import Recovered
    from fluxforge.storage import Lease

MEGABYTE = 1_000_000
_UNSETTLED = "unsettled"
_FOLDERS = ("active", "ready", "quarantine", _UNSETTLED)


class SpoolFullError(StorageUnavailableError):
    """The spool holds as much as it may: whoever brings more has to wait."""


@dataclass(frozen=True)
class Place:
    """Where a batch was being appended: a journal of the object store, and the part's number."""

    journal: str
    part: int


@dataclass(frozen=True)
class Note:
    """A durable copy of a batch that may be in the object store, or may not.

    Attributes
    ----------
    key
        Where it lies in the spool.
    lease
        Held by the collector that may still settle it; the next one to look may do so after that.
    """

    key: str
    lease: Lease


@dataclass(frozen=True)
class UnsettledBatch:
    """What a note says.

    Attributes
    ----------
    place
        Where the batch was being appended.
    data
        Its lines.
    """

    place: Place
    data: bytes

    def to_bytes(self) -> bytes:
        r"""Write a note: the place on the first line, then the batch as it is.

        Examples
        --------
        >>> UnsettledBatch(Place("active/segment_20251203T14_00001.ndjson", 3), b"{}\n").to_bytes()
        b'{"journal":"active/segment_20251203T14_00001.ndjson","part":3}\n{}\n'
        """
        fields = {"journal": self.place.journal, "part": self.place.part}
        return json.dumps(fields, separators=(",", ":")).encode() + b"\n" + self.data

    @classmethod
    def from_bytes(cls, content: bytes) -> UnsettledBatch:
        """Read a note.

        Raises
        ------
        SegmentError
            If it is none.
        """
        head, _, data = content.partition(b"\n")
        try:
            fields = json.loads(head)
            return cls(Place(str(fields["journal"]), int(fields["part"])), data)
        except (ValueError, KeyError, TypeError) as exc:
            raise SegmentError(f"not a note of the spool: {head[:80]!r}") from exc


class Spool:
    """Frames of one source that wait on the local disk. All methods are safe from any thread.

    Parameters
    ----------
    root
        The folder; collectors of the same source on the same lake share it.
    source_name
        The exchange; for messages.
    max_mb
        How many megabytes of 10^6 bytes may wait, those of other collectors included.
    segment_max_mb, segment_max_seconds
        When a segment is closed.
    clock
        The time now, UTC.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        source_name: str,
        max_mb: float,
        segment_max_mb: float = 100,
        segment_max_seconds: float = 300,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.storage = LocalStorage(root)
        self.folders = SegmentFolders(*_FOLDERS[:3])
        self._max_mb = max_mb
        self._lock = threading.RLock()
        self._segments = SegmentWriter(
            self.storage,
            self.folders,
            source_name,
            max_bytes=segment_max_mb * MEGABYTE,
            max_seconds=segment_max_seconds,
            clock=clock,
        )

    def __repr__(self) -> str:
        return f"<Spool {self.path}: {self.size / MEGABYTE:,.1f} MB>"

    @property
    def path(self) -> str:
        """The folder."""
        return self.storage.get_full_path()

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return sum(file.size for file in self.storage.list_entries())

    @property
    def is_open(self) -> bool:
        """Whether there is a segment of this collector that is not closed."""
        with self._lock:
            return self._segments.has_content or self._segments.has_ended

    def count_frames(self) -> int:
        """Count the frames that wait; this reads them all."""
        frames = 0
        for folder in (self.folders.active, self.folders.ready, _UNSETTLED):
            for key in self.storage.list_files(folder):
                path = Path(self.storage.get_full_path(key))
                with suppress(FileMissingError):  # shipped just now
                    with translated(str(path)), path.open("rb") as lines:
                        frames += sum(1 for _ in lines)
                    frames -= folder == _UNSETTLED  # its first line says where the batch was going
        return frames

    def prepare(self) -> Recovered:
        """Make the folder, and recover what collectors left that have ended.

        Raises
        ------
        StorageError
            If nothing can be written there.
        """
        with self._named():
            self.storage.mkdir(self.folders.active)
            self.storage.mkdir(self.folders.ready)
            lease = self.storage.acquire_lease(join_key(self.folders.active, "collector"))
            if lease is not None:
                lease.release()
        return self.recover()

    def recover(self) -> Recovered:
        """Close the segments of collectors that have ended, so that they can be shipped."""
        with self._named():
            return recover_segments(self.storage, self.folders)

    def remove_if_empty(self) -> None:
        """Leave no empty folders behind; another collector makes them anew."""
        root = Path(self.path)
        for folder in (*(root / name for name in _FOLDERS), root):
            with suppress(OSError):
                folder.rmdir()

    # Filling

    def append(self, batch: Batch, *, bounded: bool = True) -> None:
        """Make a batch durable.

        Raises
        ------
        SpoolFullError
            If it does not fit, and the bound counts.
        StorageError
            If the disk refuses. Only the same batch may follow, here or elsewhere.
        """
        with self._lock, self._named():
            self._check_room(len(batch.data), bounded=bounded)
            try:
                self._segments.append(batch)
            except StorageError:
                # At once: the batch may go elsewhere now, and a crash must not find it here too.
                with suppress(StorageError):
                    self._segments.take_back()
                raise

    def tend(self) -> None:
        """Close the segment where it is due."""
        with self._lock, self._named():
            self._segments.take_back()
            self._segments.tend()

    def rotate(self) -> None:
        """Close the segment, so that it can be shipped."""
        with self._lock, self._named():
            self._segments.take_back()
            self._segments.rotate()

    def abandon(self) -> None:
        """Let go of the segment; the next recovery closes it."""
        with self._lock:
            self._segments.abandon()

    def _check_room(self, size: int, *, bounded: bool) -> None:
        if bounded and self.size + size > self._max_mb * MEGABYTE:
            raise SpoolFullError(
                f"{self.path} is full ({self._max_mb:,g} MB), so that the venue has to wait until "
                "the object store answers: ingestion.spool_max_mb sets how much may wait"
            )

    # Notes

    def write_note(self, place: Place, data: bytes, *, bounded: bool = True) -> Note:
        """Keep a batch that may be in the object store already.

        Raises
        ------
        SpoolFullError
            If it does not fit, and the bound counts.
        StorageError
            If the disk refuses.
        """
        segment = place.journal.rpartition("/")[2].removesuffix(".ndjson")
        key = join_key(_UNSETTLED, f"{segment}.{place.part:08d}.ndjson")
        with self._named():
            self._check_room(len(data), bounded=bounded)
            lease = self.storage.acquire_lease(key)
            if lease is None:
                raise StorageUnavailableError(f"{key} is being settled by another collector")
            try:
                self.storage.write_bytes(key, UnsettledBatch(place, data).to_bytes())
            except BaseException:
                lease.release()
                raise
        return Note(key, lease)

    def drop_note(self, note: Note) -> None:
        """Forget a batch that is in the object store, or in a segment of the spool."""
        with self._named():
            self.storage.delete(note.key)
        note.lease.release()

    def unsettled(self) -> Iterator[tuple[Note, UnsettledBatch]]:
        """Yield the notes that no living collector holds; each is released after its turn."""
        for key in self.storage.list_files(_UNSETTLED):
            with self._named():
                lease = self.storage.acquire_lease(key)
            if lease is None:
                continue
            with lease:
                try:
                    yield Note(key, lease), UnsettledBatch.from_bytes(self.storage.read_bytes(key))
                except FileMissingError:
                    continue  # settled just now

    def note_to_segment(self, note: Note, batch: UnsettledBatch) -> None:
        """Turn a batch that is not in the object store into a segment that waits to be shipped.

        It is a segment of its own. A crash on the way makes another one of the same content,
        which is the same segment to the ETL.
        """
        name = SegmentName.parse(batch.place.journal)
        if name is None:
            raise SegmentError(f"{batch.place.journal} does not have the name of a segment")
        with self._named():
            while True:
                try:
                    key = join_key(self.folders.ready, str(name))
                    self.storage.write_bytes(key, batch.data, exclusive=True)
                    break
                except FileExistsAlreadyError:
                    name = name.next()
        self.drop_note(note)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Say of the disk's errors that they are about the spool."""
        try:
            yield
        except SpoolFullError:
            raise
        except StorageError as exc:
            raise type(exc)(
                f"the spool in {self.path}: {exc}. ingestion.spool_dir chooses another place"
            ) from exc
