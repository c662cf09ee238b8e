"""What object stores have in common while journals last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluxforge.errors import FileExistsAlreadyError
from fluxforge.layout import join_key
from fluxforge.storage import object_journal
from fluxforge.storage.base import StorageBackend, own_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fluxforge.storage.base import Journal

_PIECE = 8 << 20


class ObjectStorage(StorageBackend):
    """The storage contract over an object store, with journals."""

    def has_object(self, key: str) -> bool:
        """Tell whether there is an object of exactly that key."""
        folder, _, name = key.rpartition("/")
        found = self.scan(folder, recursive=False, name_prefix=name)
        return any(file.key == key for file in found)

    def read_pieces(self, key: str) -> Iterator[bytes]:
        """Yield the content of an object that nobody replaces."""
        start = 0
        while piece := self.get_object(key, start, start + _PIECE):
            yield piece
            start += len(piece)

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
