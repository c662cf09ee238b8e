"""Journals on an object store: a log of numbered parts that is linear without any lock.

The journal ``raw/active/x/segment.ndjson`` is made of objects beside that name::

    .segment.ndjson.00000000.part     the head: this journal exists, and who writes it
    .segment.ndjson.00000001.part     what the first append added
    .segment.ndjson.00000002.part
    .segment.ndjson.00000003.part     empty: the journal ends before this number

Every part is created exclusively, so append N happens if and only if nothing had that number. An
empty part can never be an append: whoever creates one under the next number ends the journal. A
writer that was thought dead and comes back finds the number taken, and is fenced: each append
that returned is in the journal, the one that was refused is not.

Sealing ends the journal, assembles its parts into the destination, and removes them, the head
first: an ended journal that lacks its head or a part has been assembled. The end itself is kept as
a record where another process than the writer sealed it, or where a request of the writer may
still be under way: it tells a late writer how many parts were taken (:func:`resolve_append`) and
keeps a late request from starting the journal anew. Records are removed after a week.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from fluxforge.errors import (
    FileExistsAlreadyError,
    FileMissingError,
    JournalFencedError,
    StorageError,
)
from fluxforge.storage.base import Journal, own_key
from fluxforge.storage.disk import translated

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fluxforge.storage.lease import Lease
    from fluxforge.storage.objects import ObjectStorage

logger = logging.getLogger(__name__)

RECORD_AGE = timedelta(days=7)
"""How long the end of a journal that is gone is remembered."""

_HEAD = 0
_PART = re.compile(r"\.(.+)\.(\d{8,})\.part")
_TRANSFERS = 8
_FENCE_ATTEMPTS = 100


def part_key(key: str, number: int) -> str:
    """Return the key of one part of a journal.

    Examples
    --------
    >>> part_key("raw/active/coinbase/segment_20251203T14_00001.ndjson", 1)
    'raw/active/coinbase/.segment_20251203T14_00001.ndjson.00000001.part'
    """
    folder, slash, name = key.rpartition("/")
    return f"{folder}{slash}.{name}.{number:08d}.part"


@dataclass
class PartLog:
    """What one listing shows of a journal.

    Attributes
    ----------
    has_head
        Whether the journal's first object is there.
    sizes
        The bytes of each part that holds data, by number.
    end
        The number of the empty part that ends the journal; None while it is open.
    newest
        When the last of its objects was written.
    """

    has_head: bool = False
    sizes: dict[int, int] = field(default_factory=dict)
    end: int | None = None
    newest: datetime = field(default_factory=lambda: datetime.fromtimestamp(0, UTC))

    def add(self, number: int, size: int, modified: datetime) -> None:
        """Take in one object of the journal."""
        if number == _HEAD:
            self.has_head = True
        elif size:
            self.sizes[number] = size
        else:
            self.end = number
        self.newest = max(self.newest, modified)

    @property
    def is_absent(self) -> bool:
        """Whether there is no trace of the journal."""
        return not self.has_head and not self.sizes and self.end is None

    @property
    def is_record(self) -> bool:
        """Whether only the end is left, to be remembered for a while."""
        return self.end is not None and not self.has_head and not self.sizes

    @property
    def is_assembled(self) -> bool:
        """Whether the parts are in a sealed file already, and what is left waits to be removed."""
        return self.end is not None and not (self.has_head and len(self.sizes) == self.end - 1)

    def next_number(self, key: str) -> int:
        """Return the number after the last part, having seen that none is missing."""
        last = (self.end or len(self.sizes) + 1) - 1
        if sorted(self.sizes) != list(range(1, last + 1)):
            raise StorageError(
                f"journal {key}: of parts 1 to {max(self.sizes, default=0)} only "
                f"{len(self.sizes)} are there; the others were deleted by hand"
            )
        return last + 1


def _read_log(storage: ObjectStorage, key: str) -> PartLog:
    folder, _, name = key.rpartition("/")
    log = PartLog()
    for file in storage.scan(folder, recursive=False, name_prefix=f".{name}."):
        match = _PART.fullmatch(file.name)
        if match and match[1] == name:
            log.add(int(match[2]), file.size, file.modified)
    return log


def list_keys(storage: ObjectStorage, path: str) -> list[str]:
    """Return the keys of the journals below `path`, and forget records that are old enough."""
    logs: dict[str, PartLog] = {}
    for file in storage.scan(path):
        if match := _PART.fullmatch(file.name):
            folder = file.key[: -len(file.name)]
            log = logs.setdefault(folder + match[1], PartLog())
            log.add(int(match[2]), file.size, file.modified)
    for key, log in logs.items():
        if log.is_record and log.end and log.newest < datetime.now(UTC) - RECORD_AGE:
            storage.delete_object(part_key(key, log.end))
    return sorted(key for key, log in logs.items() if not log.is_record)


def create(storage: ObjectStorage, key: str, lease: Lease) -> ObjectJournal:
    """Start a journal whose lease is held.

    Raises
    ------
    FileExistsAlreadyError
        If there is a file of that name, a journal, or the record of one.
    """
    if storage.has_object(key) or not _read_log(storage, key).is_absent:
        raise FileExistsAlreadyError(f"{key} exists already")
    head = json.dumps({"journal": key, "writer": f"{socket.gethostname()}/{os.getpid()}"})
    settled = storage.put_object(part_key(key, _HEAD), head.encode(), exclusive=True)
    return ObjectJournal(storage, key, lease, PartLog(has_head=True), settled=settled)


def take_over(storage: ObjectStorage, key: str, lease: Lease) -> ObjectJournal | None:
    """End a journal whose writer let its lease go, so that it can be sealed.

    Returns
    -------
    ObjectJournal or None
        None where there is nothing to seal: no such journal, or one that was assembled already,
        whose leftovers are then removed.
    """
    log = _fence(storage, key)
    if log.is_absent or log.is_record:
        return None
    if log.is_assembled:
        _remove_parts(storage, key, log)
        return None
    return ObjectJournal(storage, key, lease, log, settled=False)


def _fence(storage: ObjectStorage, key: str) -> PartLog:
    """End a journal where nobody has, and return it; one that is absent stays so."""
    for _ in range(_FENCE_ATTEMPTS):
        log = _read_log(storage, key)
        if log.is_absent or log.end is not None:
            return log
        number = log.next_number(key)
        try:
            storage.put_object(part_key(key, number), b"", exclusive=True)
        except FileExistsAlreadyError:
            continue  # its writer is alive and was faster, or another took it over
        log.end = number
        return log
    raise StorageError(f"journal {key}: its writer is alive and faster than a takeover")


def resolve_append(storage: ObjectStorage, key: str, number: int, data: bytes) -> bool:
    """Settle an append whose outcome was lost, for good.

    A writer that got no answer (:class:`StorageUnavailableError`) and then gave the journal up,
    or died, leaves it open whether its data is in the journal. This finds out, and where it is
    not, makes sure that it never will be: the journal is ended if need be, and its recovery will
    seal what it holds.

    Parameters
    ----------
    storage
        Where the journal is, or was.
    key
        The journal's key.
    number
        :attr:`ObjectJournal.next_part` before the append.
    data
        What was appended. A writer tries nothing else under that number.

    Returns
    -------
    bool
        True: the data is in the journal, or in what it was sealed into. False: it is not, and
        will not be.

    Raises
    ------
    FileMissingError
        If nothing is known of the journal: its writer sealed it itself (after which it has no
        append left to ask about), or it was sealed more than a week ago.
    """
    log = _read_log(storage, key)
    if log.end is None and number not in log.sizes:
        log = _fence(storage, key)
    if log.is_absent:
        raise FileMissingError(f"nothing is known of journal {key}")
    if number in log.sizes:
        try:
            return storage.get_object(part_key(key, number)) == data
        except FileMissingError:
            log = _read_log(storage, key)  # sealed just now
    return log.end is not None and number < log.end


class ObjectJournal(Journal):
    """A journal whose appends are objects; see the module.

    An append that raises :class:`StorageUnavailableError` may still be carried out by the store.
    Appending exactly the same data again adds it once. Until then the journal takes nothing else
    and cannot be sealed. A writer that gives up instead keeps :attr:`key`, :attr:`next_part` and
    the data for :func:`resolve_append`. After :class:`JournalFencedError` the data is not in the
    journal, and belongs into another one.
    """

    def __init__(
        self, storage: ObjectStorage, key: str, lease: Lease, log: PartLog, *, settled: bool
    ) -> None:
        self.key = key
        self._storage = storage
        self._lease = lease
        self._sizes = dict(log.sizes)
        self._kept: dict[int, int] = {}  # parts that a dropped tail shortened, and to how much
        self._next = log.next_number(key)
        self._ended = log.end is not None
        self._ending = False  # whether an attempt to end it went unanswered
        self._settled = settled  # whether nothing can come late: the end need not be remembered
        self._assembled_before = self._ended  # whether the destination may be our own doing
        self._pending = b""  # an append that went unanswered
        self._closed = ""

    @property
    def next_part(self) -> int:
        """The number that the next append will have."""
        return self._next

    @property
    def size(self) -> int:
        return sum(self._kept.get(number, size) for number, size in self._sizes.items())

    def append(self, data: bytes) -> None:
        self._check_open()
        if self._ended:
            raise JournalFencedError(f"journal {self.key} has ended: start another one")
        if self._pending and data != self._pending:
            raise StorageError(
                f"journal {self.key}: the outcome of the last append is unknown; "
                "append the same data again first"
            )
        if not data:
            return
        self._pending = data
        try:
            part = part_key(self.key, self._next)
            self._settled &= self._storage.put_object(part, data, exclusive=True)
        except FileExistsAlreadyError as exc:
            self._settled = False
            if not self._includes(data):
                self._pending = b""
                self._closed = "another process took it over"
                raise JournalFencedError(f"journal {self.key}: {self._closed}") from exc
        except StorageError:
            self._settled = False
            raise
        self._pending = b""
        self._sizes[self._next] = len(data)
        self._next += 1

    def _includes(self, data: bytes) -> bool:
        """Tell whether an earlier, unanswered attempt at the next part was carried out."""
        try:
            return self._storage.get_object(part_key(self.key, self._next)) == data
        except FileMissingError:  # sealed by another process since; its end tells what it took
            end = _read_log(self._storage, self.key).end
            return end is not None and self._next < end

    def torn_tail(self) -> bytes:
        self._check_open()
        tail = b""
        for _, content in self._contents_backwards():
            tail = content + tail
            if b"\n" in content:
                break
        return tail[tail.rfind(b"\n") + 1 :]

    def drop_torn_tail(self) -> None:
        self._check_open()
        for number, content in self._contents_backwards():
            self._kept[number] = content.rfind(b"\n") + 1
            if self._kept[number]:
                break

    def _contents_backwards(self) -> Iterator[tuple[int, bytes]]:
        for number in sorted(self._sizes, reverse=True):
            yield number, self._read_part(number)

    def _read_part(self, number: int) -> bytes:
        try:
            content = self._storage.get_object(part_key(self.key, number))
        except FileMissingError as exc:
            raise JournalFencedError(f"journal {self.key}: another process sealed it") from exc
        return content[: self._kept.get(number, len(content))]

    def seal(self, destination: str) -> None:
        own_key(destination)
        self._check_open()
        if self._pending:
            raise StorageError(
                f"journal {self.key}: the outcome of the last append is unknown; "
                "append the same data again before sealing"
            )
        self._end()
        with tempfile.TemporaryDirectory(prefix="fluxforge-") as folder:
            whole = self._assemble(Path(folder) / "journal")
            try:
                self._storage.put_object(destination, whole, exclusive=True)
            except FileExistsAlreadyError:
                own = self._assembled_before and _has_content(self._storage, destination, whole)
                if not own:
                    raise
            except StorageError:
                self._assembled_before = True
                raise
        self._closed = f"it was sealed as {destination}"
        self._clear_away()
        self._lease.release()

    def _end(self) -> None:
        if self._ended:
            return
        try:
            self._settled &= self._storage.put_object(
                part_key(self.key, self._next), b"", exclusive=True
            )
        except FileExistsAlreadyError as exc:
            self._settled = False
            if not self._ending:  # otherwise it is what an unanswered attempt of ours wrote
                self._closed = "another process took it over"
                raise JournalFencedError(f"journal {self.key}: {self._closed}") from exc
        except StorageError:
            self._settled, self._ending = False, True
            raise
        self._ended = True

    def _assemble(self, path: Path) -> Path:
        """Write all parts into a local file, holding only a few of them in memory at once."""
        numbers = iter(sorted(self._sizes))
        with translated(str(path)), path.open("wb") as file, ThreadPoolExecutor(_TRANSFERS) as pool:
            while batch := list(islice(numbers, _TRANSFERS)):
                for content in pool.map(self._read_part, batch):
                    file.write(content)
        if path.stat().st_size != self.size:
            raise StorageError(f"journal {self.key}: its parts changed while they were read")
        return path

    def _clear_away(self) -> None:
        """Remove the parts; what stays behind is removed by the next recovery."""
        log = PartLog(sizes=self._sizes)
        try:
            _remove_parts(self._storage, self.key, log)
            if self._settled:
                self._storage.delete_object(part_key(self.key, self._next))
        except StorageError as exc:
            logger.warning("journal %s %s; parts are left: %s", self.key, self._closed, exc)

    def close(self) -> None:
        self._closed = self._closed or "it is closed"
        self._lease.release()

    def _check_open(self) -> None:
        if self._closed:
            fenced = self._closed.startswith("another")
            kind = JournalFencedError if fenced else StorageError
            raise kind(f"journal {self.key}: {self._closed}")


def _remove_parts(storage: ObjectStorage, key: str, log: PartLog) -> None:
    """Remove a journal that has been assembled: the head, which says so, before the parts."""
    storage.delete_object(part_key(key, _HEAD))
    with ThreadPoolExecutor(_TRANSFERS) as pool:
        list(pool.map(storage.delete_object, [part_key(key, number) for number in log.sizes]))


def _has_content(storage: ObjectStorage, key: str, path: Path) -> bool:
    """Tell whether an object is the same, byte for byte, as a local file."""
    if not storage.has_object(key):
        return False
    with path.open("rb") as file:
        for piece in storage.read_pieces(key):
            if piece != file.read(len(piece)):
                return False
        return not file.read(1)
