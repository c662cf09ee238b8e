"""Copying single files between two storages, and telling whether two are equal."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fluxforge.errors import StorageError
from fluxforge.storage.local import LocalStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fluxforge.storage.base import StorageBackend, StoredFile

T = TypeVar("T")
R = TypeVar("R")

_END_BYTES = 64 << 10
_BEGINNING_BYTES = 1024
_WORKERS = 4  # most of a transfer is waiting for a server


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

    def copy(self, key: str, target: str) -> None:
        """Copy a file under a new key; where this transfer is exact, read it back and compare.

        Raises
        ------
        FileExistsAlreadyError
            If the key is taken at the destination.
        StorageError
            If it was read back with other content; the copy is gone then.
        """
        with tempfile.TemporaryDirectory(prefix="fluxforge-sync-") as work:
            path = self.source.fetch(key, Path(work))
            expected = LocalStorage(path.parent).digest(path.name) if self.exact else ""
            self.destination.write_file(path, target, exclusive=True)
        if self.exact and self.destination.digest(target) != expected:
            self.destination.delete(target)
            raise StorageError(f"{target} was read back with other content than was written")

    def are_equal(self, file: StoredFile, copy: StoredFile) -> bool:
        """Tell whether a file of the source and one of the destination have the same content."""
        if file.size != copy.size:
            return False
        if self.exact:
            return self.source.digest(file.key) == self.destination.digest(copy.key)
        return self._agree(file, copy, 0, _END_BYTES) and self._agree(
            file, copy, max(_END_BYTES, file.size - _END_BYTES), file.size
        )

    def begin_alike(self, file: StoredFile, other: StoredFile) -> bool:
        """Tell whether two files were the same once: their first lines are equal."""
        length = min(_BEGINNING_BYTES, file.size, other.size)
        return length > 0 and self._agree(file, other, 0, length)

    def _agree(self, file: StoredFile, copy: StoredFile, start: int, end: int) -> bool:
        if start >= min(end, file.size):
            return True
        here = self.source.read_bytes(file.key, start, end)
        return here == self.destination.read_bytes(copy.key, start, end)


def in_parallel(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield the result for each item, in the order in which they are ready.

    The first error ends it: what has not begun is not begun any more.

    Examples
    --------
    >>> sorted(in_parallel(abs, [-1, 2, -3]))
    [1, 2, 3]
    """
    with ThreadPoolExecutor(_WORKERS, thread_name_prefix="fluxforge-sync") as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
