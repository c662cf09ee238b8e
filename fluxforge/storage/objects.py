"""What every object store has in common: whole objects under names, and nothing else.

An object store can put a whole object, refuse to replace one, read a range, copy, delete and list.
:class:`ObjectStorage` builds the rest of the storage contract from those: journals
(:mod:`fluxforge.storage.object_journal`), leases (:mod:`fluxforge.storage.object_lease`), reads in
pieces and moves. A new store implements the abstract methods below, which take raw keys: valid,
but maybe one of the storage's own names.
"""

from __future__ import annotations

import uuid
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fluxforge.errors import FileExistsAlreadyError, StorageUnavailableError
from fluxforge.layout import join_key
from fluxforge.storage import object_journal
from fluxforge.storage.base import StorageBackend, StoredFile, own_key
from fluxforge.storage.disk import translated
from fluxforge.storage.object_lease import LEASE_SECONDS, LeaseKeeper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fluxforge.storage.base import Journal, Lease

T = TypeVar("T")

RANGE_BYTES = 8 << 20
"""The most bytes that one read request asks for."""

_READ_ATTEMPTS = 3


@dataclass(frozen=True)
class Piece:
    """A range of an object, as one request returned it.

    Attributes
    ----------
    data
        The bytes of the range; fewer than asked for only where the object ends.
    total
        The size of the whole object in bytes.
    version
        What distinguishes this content from what may replace it; empty where that is unknown.
    """

    data: bytes
    total: int
    version: str


class ObjectReplacedError(StorageUnavailableError):
    """The object was replaced between two ranges of one read; reading it again is right."""


class ObjectStorage(StorageBackend):
    """The storage contract over an object store.

    Parameters
    ----------
    lease_seconds
        How long a lease outlives a holder that died without releasing it.
    """

    def __init__(self, lease_seconds: float = LEASE_SECONDS) -> None:
        self._leases = LeaseKeeper(self, lease_seconds)

    # What a store implements

    @abstractmethod
    def get_range(self, key: str, start: int, end: int, version: str = "") -> Piece:
        """Return the bytes from `start` up to, not including, `end`, as far as the object goes.

        Raises
        ------
        FileMissingError
            If there is no such object.
        ObjectReplacedError
            If `version` is given and the object is not of that version any more.
        """

    @abstractmethod
    def put_object(self, key: str, content: bytes | Path, *, exclusive: bool = False) -> bool:
        """Store a whole object: some bytes, or a local file.

        Returns
        -------
        bool
            True if no request is left in doubt. False if an earlier attempt went unanswered, so
            that the store may still carry it out, at some later time.

        Raises
        ------
        FileExistsAlreadyError
            If `exclusive` and another writer's object has that key.
        """

    @abstractmethod
    def copy_object(self, source: str, destination: str) -> None:
        """Copy within the store, whole or not at all, and never over another object.

        Raises
        ------
        FileMissingError
            If `source` is not there.
        FileExistsAlreadyError
            If `destination` is.
        """

    @abstractmethod
    def delete_object(self, key: str) -> None:
        """Delete an object; deleting what is not there is no error."""

    @abstractmethod
    def has_object(self, key: str) -> bool:
        """Tell whether there is an object of exactly that key."""

    @abstractmethod
    def scan(
        self, path: str, *, recursive: bool = True, name_prefix: str = ""
    ) -> Iterator[StoredFile]:
        """Yield the objects below `path`, the storage's own ones too, in any order.

        `name_prefix` keeps those whose key goes on with it after ``path/``.

        Raises
        ------
        StorageError
            If the listing cannot be read to its end.
        """

    @abstractmethod
    def scan_folders(self, path: str) -> Iterator[str]:
        """Yield the names of the folders directly below `path`."""

    # Whole files

    def read_bytes(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        return self.read_object(own_key(key), start, end)

    def read_object(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Return the bytes of an object, own ones too; see :meth:`read_bytes`."""
        return _until_stable(lambda: b"".join(self.read_pieces(key, start, end)))

    def read_pieces(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield the content of an object, own ones too, in pieces of at most 8 MiB.

        Raises
        ------
        FileMissingError
            If there is no such object.
        ObjectReplacedError
            If it is replaced meanwhile; what was yielded is then void.
        StorageUnavailableError
            If fewer bytes arrive than the object has.
        """
        version = ""
        while end is None or start < end:
            stop = start + RANGE_BYTES if end is None else min(end, start + RANGE_BYTES)
            piece = self.get_range(key, start, stop, version)
            expected = max(0, min(stop, piece.total) - start)
            if len(piece.data) != expected:
                raise StorageUnavailableError(
                    f"{key}: read {len(piece.data)} of {expected} bytes at {start}"
                )
            yield piece.data
            start, version = stop, piece.version
            if start >= piece.total:
                return

    def write_bytes(self, key: str, data: bytes, *, exclusive: bool = False) -> None:
        self.put_object(own_key(key), data, exclusive=exclusive)

    def write_file(self, path: str | Path, key: str, *, exclusive: bool = False) -> None:
        local = Path(path)
        with translated(str(path)):
            local.stat()  # a missing source is told apart from a missing destination
            self.put_object(own_key(key), local, exclusive=exclusive)

    def fetch(self, key: str, directory: Path) -> Path:
        """Download `key` into a folder of its own below `directory`; see the contract."""
        own_key(key)
        folder = Path(directory) / uuid.uuid4().hex[:12]  # two keys may share their last part
        name = key.rsplit("/", 1)[-1]
        return _until_stable(lambda: self._download(key, folder, name))

    def _download(self, key: str, folder: Path, name: str) -> Path:
        pieces = self.read_pieces(key)
        first = next(pieces, b"")  # a missing object leaves no folder behind
        with translated(str(folder)):
            folder.mkdir(parents=True, exist_ok=True)
            temporary = folder / f".{name[:200]}.part"
            try:
                with temporary.open("wb") as file:
                    file.write(first)
                    for piece in pieces:
                        file.write(piece)
                return temporary.replace(folder / name)
            except BaseException:
                temporary.unlink(missing_ok=True)
                folder.rmdir()
                raise

    def move(self, source: str, destination: str) -> None:
        self.copy_object(own_key(source), own_key(destination))
        self.delete_object(source)

    def exists(self, key: str) -> bool:
        path = join_key(key)
        if path and self.has_object(path):
            return True
        return any(_is_visible(file.key) for file in self.scan(path))

    def delete(self, key: str) -> None:
        self.delete_object(own_key(key))

    def list_entries(self, path: str = "", *, recursive: bool = True) -> list[StoredFile]:
        found = self.scan(join_key(path), recursive=recursive)
        return sorted(file for file in found if _is_visible(file.key))

    def list_folders(self, path: str = "") -> list[str]:
        folders = self.scan_folders(join_key(path))
        return sorted(name for name in folders if not name.startswith("."))

    def mkdir(self, path: str) -> None:
        join_key(path)  # a valid key; the folder itself comes with its first object

    # Growing files and claims

    def acquire_lease(self, key: str) -> Lease | None:
        return self._leases.acquire(own_key(key))

    def create_journal(self, key: str) -> Journal:
        lease = self.acquire_lease(key)
        if lease is None:
            raise FileExistsAlreadyError(f"{key} is being written by another collector")
        try:
            return object_journal.create(self, key, lease)
        except BaseException:
            lease.release()
            raise

    def list_journals(self, path: str) -> list[str]:
        return object_journal.list_keys(self, join_key(path))

    def take_over_journal(self, key: str) -> Journal | None:
        lease = self.acquire_lease(key)
        if lease is None:
            return None
        try:
            journal = object_journal.take_over(self, key, lease)
        except BaseException:
            lease.release()
            raise
        if journal is None:
            lease.release()
        return journal

    def resolve_append(self, key: str, number: int, data: bytes) -> bool:
        """Settle an append whose outcome was lost; see :func:`object_journal.resolve_append`."""
        return object_journal.resolve_append(self, own_key(key), number, data)


def _is_visible(key: str) -> bool:
    return not any(name.startswith(".") for name in key.split("/"))


def _until_stable(read: Callable[[], T]) -> T:
    """Read again where the object was replaced between two ranges."""
    for _ in range(_READ_ATTEMPTS - 1):
        try:
            return read()
        except ObjectReplacedError:
            continue
    return read()
