"""What a storage implements: four methods on whole objects, and what one is in a listing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path


@dataclass(frozen=True, order=True)
class StoredFile:
    """One file in a listing: its key, its size in bytes, and when it was last written (UTC)."""

    key: str
    size: int
    modified: datetime

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rsplit("/", 1)[-1]


class ObjectStore(ABC):
    """Objects under valid keys, reserved names included."""

    @abstractmethod
    def get_object(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Return the bytes of one version of `key`, as :meth:`read_bytes` does."""

    @abstractmethod
    def put_object(self, key: str, content: bytes | Path, *, exclusive: bool = False) -> None:
        """Store some bytes or a local file, as :meth:`write_bytes` does."""

    @abstractmethod
    def delete_object(self, key: str) -> None:
        """Delete a file; deleting what is not there is no error."""

    @abstractmethod
    def scan(
        self, path: str, *, recursive: bool = True, name_prefix: str = ""
    ) -> Iterator[StoredFile]:
        """Yield what is below `path` and goes on with `name_prefix`, in any order.

        Reserved names are included. Where it is not recursive, each folder directly below `path`
        is an entry too, whose key ends with ``/``.
        """
