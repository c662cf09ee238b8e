"""The writer of segments: buffered lines, durable appends, rotation."""

from __future__ import annotations

import threading
import time
from collections import deque
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Self

from fluxforge.errors import UsageError
from fluxforge.ingestion.claims import SegmentFolders
from fluxforge.ingestion.segment_writer import Batch, SegmentWriter
from fluxforge.ingestion.spool.relay import Relay
from fluxforge.segments import Envelope
from fluxforge.storage.objects import ObjectStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from fluxforge.ingestion.spool.spool import Spool
    from fluxforge.storage import StorageBackend

MEGABYTE = 1_000_000
BATCH_BYTES = 4 * MEGABYTE
"""The most that one append carries, unless a single line is longer."""


class LogWriter:
    r"""Writes captured frames into segments, on any storage.

    :meth:`write` only buffers; what :meth:`flush` returned for is durable. A segment is closed
    into the ready folder when it is large or old enough, when the UTC hour changes, and on
    :meth:`close`. All methods may be called from any thread.

    A failed flush loses nothing and doubles nothing: its lines stay first in line for the next.
    After :meth:`close` the writer can be used again; it opens a new segment. As a context manager
    it closes at the end, and abandons what cannot be written even then.

    Parameters
    ----------
    storage
        Where to write.
    active_path, ready_path
        Keys of the folders for the segment being written and for closed ones.
    source_name
        The exchange; for messages.
    quarantine_path
        Key of the source's quarantine folder, whose names are not used again; by default the
        sibling of `ready_path`.
    segment_max_mb
        Close a segment at this size, in megabytes of 10^6 bytes; one batch may exceed it.
    segment_max_seconds
        Close a segment this long after it was opened.
    other_paths
        Further folders whose names are not used again; by default the siblings of `ready_path`
        that are called ``processing`` and ``archive``.
    clock
        The time now, UTC.
    spool
        Where lines wait, durable, while an object store does not answer; see
        :mod:`fluxforge.ingestion.spool.relay`. A flush then raises only where the store refuses
        for good, or the spool is full or broken. What still waits there at the close is shipped
        by the next writer with the same spool.

    Raises
    ------
    UsageError
        If there is a spool, and `storage` is no object store.

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
        quarantine_path: str | None = None,
        segment_max_mb: float = 100,
        segment_max_seconds: float = 300,
        other_paths: Sequence[str] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        spool: Spool | None = None,
    ) -> None:
        folders = SegmentFolders.around(active_path, ready_path, quarantine_path, other_paths)
        self.source_name = source_name
        segments = SegmentWriter(
            storage,
            folders,
            source_name,
            max_bytes=segment_max_mb * MEGABYTE,
            max_seconds=segment_max_seconds,
            clock=clock,
        )
        self._relay = None
        if spool is not None:
            if not isinstance(storage, ObjectStorage):
                raise UsageError(f"{storage!r} is no object store: it needs no spool")
            self._relay = Relay(storage, folders, segments, spool, source_name)
        self._out = self._relay or segments

        self._buffer_lock = threading.Lock()  # held for moments; write() takes only this one
        self._pending: deque[bytes] = deque()
        self._buffered_bytes = 0
        self._buffered_frames = 0

        self._io_lock = threading.RLock()  # held while the storage works
        self._in_flight: Batch | None = None
        self._flushed_frames = 0
        self._flushed_bytes = 0

    def __repr__(self) -> str:
        return (
            f"<LogWriter {self.source_name}: {self.flushed_frames:,} frames written, "
            f"{self.buffered_frames:,} buffered, {self.segments} segments closed>"
        )

    @property
    def buffered_bytes(self) -> int:
        """Bytes that a crash would lose now."""
        return self._buffered_bytes

    @property
    def buffered_frames(self) -> int:
        """Frames that a crash would lose now."""
        return self._buffered_frames

    @property
    def flushed_frames(self) -> int:
        """Frames that are durable, since the writer was made."""
        return self._flushed_frames

    @property
    def flushed_bytes(self) -> int:
        """Bytes that are durable, since the writer was made."""
        return self._flushed_bytes

    @property
    def segments(self) -> int:
        """Segments closed into the ready folder, since the writer was made."""
        return self._out.segments

    @property
    def spooled_frames(self) -> int:
        """Frames that the last close had to leave in the spool."""
        return self._relay.left_frames if self._relay else 0

    def write(self, frame: bytes | str, *, capture_ns: int | None = None, conn: str = "") -> None:
        """Buffer one frame; :meth:`flush` makes it durable.

        Parameters
        ----------
        frame
            What the venue sent, stored byte for byte.
        capture_ns
            When it was received, nanoseconds since the Unix epoch, UTC; by default now.
        conn
            The connection it came over.
        """
        data = frame.encode("utf-8", "surrogatepass") if isinstance(frame, str) else frame
        captured = time.time_ns() if capture_ns is None else capture_ns
        line = Envelope(captured, conn, data).line()
        with self._buffer_lock:
            self._pending.append(line)
            self._buffered_bytes += len(line)
            self._buffered_frames += 1

    def flush(self) -> None:
        """Make everything written before this call durable, and rotate where it is due.

        Raises
        ------
        StorageError
            If the storage refuses. Everything that is not durable stays buffered, in order, and
            the next flush begins with it.
        """
        with self._io_lock:
            self._finish_append()
            goal = self._flushed_frames + self._buffered_frames  # later frames wait their turn
            while self._flushed_frames < goal:
                self._append_next()
            self._out.tend()

    def rotate(self) -> None:
        """Close the current segment into the ready folder; the next flush opens another.

        Raises
        ------
        StorageError
            If the segment cannot be closed; it is tried again at the next flush.
        """
        with self._io_lock:
            self._finish_append()
            self._out.rotate()

    def close(self) -> None:
        """Flush, and close the current segment.

        With a spool, an object store that does not answer is no error.

        Raises
        ------
        StorageError
            If the storage refuses. Nothing is lost by that: close again, or :meth:`abandon`.
        """
        with self._io_lock:
            if self._relay is not None:
                self._relay.take_everything()
            self.flush()
            self._out.close()

    def abandon(self) -> None:
        """Give up what could not be written, after a :meth:`close` that failed.

        Buffered frames are lost. What is durable but not in the ready folder stays in the active
        folder, where the next recovery finds it.
        """
        with self._io_lock:
            with self._buffer_lock:
                self._pending.clear()
                self._buffered_bytes = self._buffered_frames = 0
            self._in_flight = None
            self._out.abandon()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except BaseException:
            self.abandon()
            raise

    # Appending

    def _finish_append(self) -> None:
        """Repeat an append that failed, before anything else happens to its journal.

        An object store may still carry the failed one out; the journal tells the two apart.
        """
        if self._in_flight is not None:
            self._append_next()

    def _append_next(self) -> None:
        if self._in_flight is None:
            self._in_flight = self._take_batch()
        batch = self._in_flight
        self._out.append(batch)
        self._in_flight = None
        self._flushed_frames += batch.frames
        self._flushed_bytes += len(batch.data)
        with self._buffer_lock:
            self._buffered_bytes -= len(batch.data)
            self._buffered_frames -= batch.frames

    def _take_batch(self) -> Batch:
        with self._buffer_lock:
            count = size = 0
            for line in self._pending:
                if count and size + len(line) > BATCH_BYTES:
                    break
                count += 1
                size += len(line)
            batch = Batch(b"".join(islice(self._pending, count)), count)
            for _ in range(count):
                self._pending.popleft()
            return batch
