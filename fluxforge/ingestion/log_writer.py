"""The writer of segments: buffered lines, durable appends, rotation."""

from __future__ import annotations

import logging
import math
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from fluxforge.config import Role
from fluxforge.errors import SpoolFullError, StorageError, StorageUnavailableError, UsageError
from fluxforge.ingestion.pending import PendingLines
from fluxforge.ingestion.uploader import Uploader
from fluxforge.layout import hour_of
from fluxforge.segments import RecoveryReport, SegmentStore
from fluxforge.storage.factory import create_storage_backend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from fluxforge.config import FluxForgeConfig
    from fluxforge.segments.active import ActiveSegment
    from fluxforge.storage import StorageBackend

logger = logging.getLogger(__name__)

MEGABYTE = 1_000_000
CLOSE_SECONDS = 10.0
"""How long :meth:`LogWriter.close` waits for an object store that makes no progress."""


class LogWriter:
    r"""Writes captured frames into segments, on any storage.

    :meth:`write` only buffers; what :meth:`flush` returned for is durable on this machine's disk.
    A segment is closed into the ready folder when it is large or old enough, when the UTC hour
    changes, and on :meth:`close`. All methods may be called from any thread.

    On an object store, what was flushed is mirrored every few seconds by a thread of this writer's
    own. A store that does not answer never makes a flush fail: segments wait on this disk, in
    ``spool_dir``, and what still waits there after the close is sent by the next capture on this
    machine.

    A failed flush loses nothing: its lines come first in the next. A closed writer can be used
    again. As a context manager it closes at the end, and abandons what cannot be written even then.

    Parameters
    ----------
    storage
        Where to write.
    active_path, ready_path
        Keys of the folders for the segment being written and for closed ones; both end in the
        name of the source. The other states' folders are those of the storage's layout, or the
        siblings of `ready_path`.
    source_name
        The exchange; for messages.
    segment_max_mb
        Close a segment at this size, in megabytes of 10^6 bytes; one batch may exceed it.
    segment_max_seconds
        Close a segment this long after it was opened.
    spool_dir, spool_max_mb
        Where segments wait for an object store, and how much may wait there.
    mirror_interval_seconds
        How often to send what was flushed on to an object store.
    clock
        The time now, UTC.

    Attributes
    ----------
    flushed_frames, flushed_bytes
        What is durable, since the writer was made.
    spooled_frames
        What the last close had to leave on this disk.

    Raises
    ------
    UsageError
        If the paths are of different sources, or an argument has another name now.

    Examples
    --------
    >>> import tempfile
    >>> from fluxforge.storage.local import LocalStorage
    >>> storage = LocalStorage(tempfile.mkdtemp())
    >>> with LogWriter(
    ...     storage=storage,
    ...     active_path="raw/active/coinbase",
    ...     ready_path="raw/ready/coinbase",
    ...     source_name="coinbase",
    ... ) as writer:
    ...     writer.write('{"channel":"ticker"}', capture_ns=1, conn="A")
    >>> [key] = storage.list_files("raw/ready")
    >>> storage.read_bytes(key)
    b'{"capture_ns":1,"conn":"A","data":{"channel":"ticker"}}\n'
    """

    def __init__(
        self,
        *,
        storage: StorageBackend,
        active_path: str,
        ready_path: str,
        source_name: str,
        segment_max_mb: float = 100,
        segment_max_seconds: float = 300,
        spool_dir: str | Path | None = None,
        spool_max_mb: float = 1024,
        mirror_interval_seconds: float = 5,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        layout, source = storage.layout.around(ready_path, active_path)
        self.source_name = source_name
        self.flushed_frames = self.flushed_bytes = 0
        self.spooled_frames = 0
        self._store = SegmentStore(storage, layout, source, spool_dir=spool_dir)
        self._is_local = storage.is_local
        self._max_bytes = segment_max_mb * MEGABYTE
        self._max_seconds = segment_max_seconds
        self._spool_max_bytes = spool_max_mb * MEGABYTE
        self._mirror_interval = mirror_interval_seconds
        self._clock = clock

        self._pending = PendingLines()  # write() takes only its lock
        self._io_lock = threading.RLock()  # held while the disk works
        self._segment: ActiveSegment | None = None
        self._opened = clock()
        self._closed: list[ActiveSegment] = []  # on a local lake, until they are renamed
        self._uploader: Uploader | None = None
        self._segments = 0

    def __new__(cls, **options: Any) -> Self:  # noqa: D102
        if "output_dir" in options:
            raise UsageError(
                "LogWriter(output_dir=…) is LogWriter(storage=…, active_path=…, ready_path=…) now: "
                "see fluxforge.storage.factory.create_storage_backend and get_ingestion_path"
            )
        return super().__new__(cls)

    @classmethod
    def from_config(cls, config: FluxForgeConfig, source: str) -> Self:
        """Return the writer of a source's captures, with everything as configured."""
        storage, settings = create_storage_backend(config, role=Role.INGESTION), config.ingestion
        return cls(
            storage=storage,
            active_path=storage.layout.active(source),
            ready_path=storage.layout.ready(source),
            source_name=source,
            segment_max_mb=settings.segment_max_mb,
            segment_max_seconds=settings.segment_max_seconds,
            spool_dir=settings.spool_dir,
            spool_max_mb=settings.spool_max_mb,
            mirror_interval_seconds=settings.mirror_interval_seconds,
        )

    def __repr__(self) -> str:
        return (
            f"<LogWriter {self.source_name}: {self.flushed_frames:,} frames written, "
            f"{self.buffered_frames:,} buffered, {self.segments} segments closed>"
        )

    @property
    def segment(self) -> str:
        """The name of the segment that is being written; empty between two."""
        segment = self._segment  # another thread may close it meanwhile
        return segment.file.path.name if segment else ""

    @property
    def buffered_frames(self) -> int:
        """Frames that a crash would lose now."""
        return self._pending.frames

    @property
    def buffered_bytes(self) -> int:
        """Bytes that a crash would lose now."""
        return self._pending.bytes

    @property
    def lag_seconds(self) -> float:
        """How long the oldest frame that is not durable has been waiting."""
        return self._pending.oldest_seconds()

    @property
    def segments(self) -> int:
        """How many segments it has brought into the ready folder."""
        return self._segments + (self._uploader.segments if self._uploader else 0)

    @property
    def spooled_bytes(self) -> int:
        """Bytes that are on this disk and not yet on the object store."""
        return self._uploader.pending_bytes if self._uploader else 0

    def write(self, frame: bytes | str, *, capture_ns: int | None = None, conn: str = "") -> None:
        """Buffer one frame; :meth:`flush` makes it durable.

        Parameters
        ----------
        frame
            What the venue sent, stored byte for byte.
        capture_ns
            When it was received, nanoseconds since the Unix epoch, UTC; by default now. At least
            1,000 more than that of the connection's frame before is stored, so that the two name
            and order a frame to the microsecond.
        conn
            The connection it came over.
        """
        data = frame.encode("utf-8", "surrogatepass") if isinstance(frame, str) else frame
        self.write_all([(time.time_ns() if capture_ns is None else capture_ns, data)], conn)

    def write_all(self, frames: Iterable[tuple[int, bytes]], conn: str = "") -> int:
        """Buffer frames of one connection, with their times; return the bytes of their lines."""
        return self._pending.add(frames, conn)

    def prepare(self) -> RecoveryReport:
        """Raise what would keep segments from being written; then do as :meth:`recover` does."""
        self._store.prepare()
        return self.recover()

    def recover(self) -> RecoveryReport:
        """Take up what ended captures left on this disk and on the object store.

        What lay on this disk for an object store is sent by this writer's own thread. Raises
        :class:`StorageError` where the storage does not answer.
        """
        if self._is_local:
            return self._store.recover()
        with self._io_lock:
            segments, report = self._store.adopt()
            if segments:
                self._start_uploader().add(segments)
                self._start_uploader().wake()
        return report + self._store.recover_others()

    def flush(self) -> None:
        """Make everything written before this call durable, and rotate where it is due.

        Raises
        ------
        SpoolFullError
            If as much waits for the object store as may.
        StorageError
            If the disk refuses. Everything that is not durable stays buffered, in order, and the
            next flush begins with it.
        """
        self._flush(bounded=True)

    def _flush(self, *, bounded: bool) -> None:
        with self._io_lock:
            goal = self.flushed_frames + self.buffered_frames  # later ones wait their turn
            self._rotate_if_due()
            while self.flushed_frames < goal:
                self._append_next(bounded=bounded)
                self._rotate_if_due()
            self._settle_closed()

    def rotate(self) -> None:
        """Close the current segment; the next flush opens another.

        On an object store it reaches the ready folder as soon as the store takes it. What cannot
        be closed now raises :class:`StorageError`, and is tried again at the next flush.
        """
        with self._io_lock:
            self._end_segment()
            self._settle_closed()

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Flush, close the current segment, and wait until the object store has all.

        A store that does not answer is no error: ``spooled_frames`` says how much is left on this
        disk, and the next capture on this machine sends it.

        Parameters
        ----------
        timeout
            Seconds without any progress after which to leave the rest.

        Raises
        ------
        StorageError
            If the disk refuses, or the storage does for a reason that does not pass by itself.
            Nothing is lost by that: close again, or :meth:`abandon`.
        """
        with self._io_lock:
            self._flush(bounded=False)
            self.rotate()
            if self._uploader is not None:
                self._leave_uploader(timeout)

    def abandon(self) -> None:
        """Give up what could not be written, after a :meth:`close` that failed.

        Buffered frames are lost. What is durable but not in the ready folder is found by the next
        recovery.
        """
        with self._io_lock:
            self._pending.clear()
            for segment in [*self._closed, *([self._segment] if self._segment else [])]:
                if self._is_local:
                    segment.release()
            self._closed, self._segment = [], None
            if self._uploader is not None:
                uploader, self._uploader = self._uploader, None
                uploader.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.close()
        except BaseException:
            self.abandon()
            raise

    # With the disk

    def _append_next(self, *, bounded: bool) -> None:
        waiting = self._store.spool_bytes() if bounded else 0
        room = self._spool_max_bytes - waiting if bounded else math.inf
        parts = self._pending.next_parts(room)
        size = sum(len(lines) for _, lines in parts)
        if waiting and size > room:  # an empty spool takes a line of any length
            self._end_segment()  # only what is closed leaves the spool
            error = self._uploader and self._uploader.error
            raise SpoolFullError(
                f"the spool in {self._store.folder} is full, so that the venue has to wait until "
                "the object store takes what is in it: ingestion.spool_max_mb sets how much may "
                f"wait{f' ({error})' if error else ''}"
            )
        if self._segment is None:
            now = self._clock()
            self._segment, self._opened = self._store.open(now), now
            if not self._is_local:
                self._start_uploader().add([self._segment])
        self._segment.file.append(*(lines for _, lines in parts))
        self.flushed_frames += sum(count for count, _ in parts)
        self.flushed_bytes += size
        self._pending.drop(parts)

    def _rotate_if_due(self) -> None:
        """Close the segment where it is large or old enough, its hour has passed, or it is lost."""
        segment = self._segment
        if segment is None or not segment.file.size:
            return
        now = self._clock()
        if (
            segment.file.size >= self._max_bytes
            or (now - self._opened).total_seconds() >= self._max_seconds
            or segment.name.hour != hour_of(now)
            or segment.lost
        ):
            self._end_segment()

    def _end_segment(self) -> None:
        if self._segment is None:
            return
        self._segment.file.close()
        if self._is_local:
            self._closed.append(self._segment)
        elif self._uploader is not None:
            self._uploader.wake()
        self._segment = None

    def _settle_closed(self) -> None:
        """Rename what was closed on a local lake into the ready folder."""
        while self._closed:
            segment = self._closed[0]
            segment.advance()
            self._closed.pop(0)
            self._segments += bool(segment.ready)
            logger.info("%s: closed %s", self.source_name, segment.ready or segment.name)

    # With the object store

    def _start_uploader(self) -> Uploader:
        if self._uploader is None:
            self._uploader = Uploader(self.source_name, self._mirror_interval)
        return self._uploader

    def _leave_uploader(self, timeout: float) -> None:
        """Wait for the mirror; say what is left where the store does not take it."""
        uploader = self._start_uploader()
        done = uploader.finish(timeout)
        error = uploader.error
        self.spooled_frames = uploader.leave()
        self._segments, self._uploader = self._segments + uploader.segments, None
        if done:
            with suppress(OSError):
                self._store.folder.rmdir()
            return
        waiting = f"{self.spooled_frames:,} frames wait in {self._store.folder}"
        message = "%s: %s; %s, and the next capture on this machine stores them"
        logger.warning(message, self.source_name, error or "no answer yet", waiting)
        if isinstance(error, StorageError) and not isinstance(error, StorageUnavailableError):
            raise type(error)(str(error)) from error
        if error is not None and not isinstance(error, StorageError):
            raise error
