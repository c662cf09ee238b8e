"""Copying single files between two storages, and telling whether two are equal."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fluxforge.errors import StorageError
from fluxforge.storage.local import LocalStorage

if TYPE_CHECKING:
    from fluxforge.storage.base import StorageBackend
    from fluxforge.sync.report import Counters

_END_BYTES = 64 << 10
_BEGINNING_BYTES = 1024


@dataclass(frozen=True)
class Transfer:
    """Files on their way from one storage to another, in bounded memory.

    Where it is exact, whole files are compared by their SHA-256. Otherwise two files of one size
    are equal when they begin and end with the same 64 KiB, which a segment's first line alone
    decides: it names its socket and its nanosecond.
    """

    source: StorageBackend
    destination: StorageBackend
    exact: bool  # what is moved, and deleted after its copy
    counters: Counters

    def copy(self, key: str, target: str) -> None:
        """Copy a file under a free key; where this is exact, read it back and compare."""
        with tempfile.TemporaryDirectory(prefix="fluxforge-sync-") as work:
            path = self.source.fetch(key, Path(work))
            expected = LocalStorage(path.parent).digest(path.name) if self.exact else ""
            self.destination.write_file(path, target, exclusive=True)
        if self.exact and self.destination.digest(target) != expected:
            self.destination.delete(target)
            raise StorageError(f"{target} was read back with other content than was written")

    def are_equal(self, key: str, copy: str, size: int) -> bool:
        """Tell whether two files of this size have the same content."""
        if self.exact:
            return self.source.digest(key) == self.destination.digest(copy)
        last = max(_END_BYTES, size - _END_BYTES)
        return self._agree(key, copy, 0, min(size, _END_BYTES)) and (
            last >= size or self._agree(key, copy, last, size)
        )

    def begin_alike(self, key: str, other: str, size: int) -> bool:
        """Tell whether two files, the smaller of this size, were the same once."""
        return size > 0 and self._agree(key, other, 0, min(size, _BEGINNING_BYTES))

    def _agree(self, key: str, copy: str, start: int, end: int) -> bool:
        here = self.source.read_bytes(key, start, end)
        return here == self.destination.read_bytes(copy, start, end)
