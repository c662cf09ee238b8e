"""Copying single files between two storages, and telling whether two are equal."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fluxforge.storage.disk import translated

if TYPE_CHECKING:
    from fluxforge.storage.base import StorageBackend, StoredFile

_CHUNK = 8 << 20
_END_BYTES = 64 << 10
_BEGINNING_BYTES = 1024


class Transfer:
    """Files on their way from one storage to another, in bounded memory.

    Parameters
    ----------
    source, destination
        The storages.
    exact
        Compare whole files by their SHA-256. Otherwise two files of one size are equal when they
        begin and end with the same 64 KiB, which a segment's first line alone decides: it names
        its socket and its nanosecond.
    """

    def __init__(self, source: StorageBackend, destination: StorageBackend, *, exact: bool) -> None:
        self.source = source
        self.destination = destination
        self.exact = exact

    def copy(self, key: str, target: str) -> bool:
        """Copy a file under a new key; return whether the copy is equal to the original.

        What was written is read back and compared where this transfer is exact.

        Raises
        ------
        FileExistsAlreadyError
            If the key is taken at the destination.
        """
        with tempfile.TemporaryDirectory(prefix="fluxforge-sync-") as work:
            path = self.source.fetch(key, Path(work))
            expected = _digest_of_path(path) if self.exact else ""
            self.destination.write_file(path, target, exclusive=True)
        return not self.exact or _digest(self.destination, target) == expected

    def are_equal(self, file: StoredFile, copy: StoredFile) -> bool:
        """Tell whether a file of the source and one of the destination have the same content."""
        if file.size != copy.size:
            return False
        if self.exact:
            return self.digest(file) == _digest(self.destination, copy.key)
        return self._agree(file, copy, 0, _END_BYTES) and self._agree(
            file, copy, max(_END_BYTES, file.size - _END_BYTES), file.size
        )

    def digest(self, file: StoredFile) -> str:
        """Return the SHA-256 of a file of the source, in hexadecimal digits."""
        return _digest(self.source, file.key)

    def begin_alike(self, file: StoredFile, other: StoredFile) -> bool:
        """Tell whether two files were the same once: their first lines are equal."""
        length = min(_BEGINNING_BYTES, file.size, other.size)
        return length > 0 and self._agree(file, other, 0, length)

    def _agree(self, file: StoredFile, copy: StoredFile, start: int, end: int) -> bool:
        if start >= min(end, file.size):
            return True
        here = self.source.read_bytes(file.key, start, end)
        return here == self.destination.read_bytes(copy.key, start, end)


def _digest(storage: StorageBackend, key: str) -> str:
    digest, start = hashlib.sha256(), 0
    while chunk := storage.read_bytes(key, start, start + _CHUNK):
        digest.update(chunk)
        start += len(chunk)
    return digest.hexdigest()


def _digest_of_path(path: Path) -> str:
    with translated(str(path)), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
