"""What object stores have in common while journals last: reads in pieces, and journals."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from fluxforge.errors import FileExistsAlreadyError, FileMissingError, StorageUnavailableError
from fluxforge.layout import join_key
from fluxforge.storage import object_journal
from fluxforge.storage.base import StorageBackend, own_key
from fluxforge.storage.disk import translated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fluxforge.storage.base import Journal

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
    """The storage contract over an object store, with journals."""

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

    def has_object(self, key: str) -> bool:
        """Tell whether there is an object of exactly that key."""
        try:
            self.get_range(key, 0, 1)
        except FileMissingError:
            return False
        return True

    def get_object(self, key: str, start: int = 0, end: int | None = None) -> bytes:
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

    def download(self, key: str, path: Path) -> None:
        def write() -> None:
            with translated(str(path)), path.open("wb") as file:
                for piece in self.read_pieces(key):
                    file.write(piece)

        _until_stable(write)

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


def _until_stable(read: Callable[[], T]) -> T:
    """Read again where the object was replaced between two ranges."""
    for _ in range(_READ_ATTEMPTS - 1):
        try:
            return read()
        except ObjectReplacedError:
            continue
    return read()
