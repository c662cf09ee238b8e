"""Storage in this process's memory, for tests and throwaway lakes."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsspec import AbstractFileSystem

from fluxforge.errors import FileExistsAlreadyError, FileMissingError
from fluxforge.layout import join_key
from fluxforge.storage.base import StorageBackend, StoredFile
from fluxforge.storage.lease import LEASE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

_NEVER = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True)
class _Object:
    data: bytes
    modified: datetime


_named: dict[str, dict[str, _Object]] = {}


class MemoryStorage(StorageBackend):
    """Files that last as long as this process.

    Parameters
    ----------
    name
        Storages of one name hold the same files; one without a name has its own.
    lease_seconds
        How long a lease outlives a holder that died without releasing it.

    Examples
    --------
    >>> storage = MemoryStorage()
    >>> storage.write_bytes("raw/ready/coinbase/a.ndjson", b"{}")
    >>> storage.list_files("raw", "*.ndjson")
    ['raw/ready/coinbase/a.ndjson']
    """

    backend_type = "memory"

    def __init__(self, name: str = "", *, lease_seconds: float = LEASE_SECONDS) -> None:
        super().__init__(lease_seconds)
        self.base_path = join_key(name) or "lake"
        self._objects: dict[str, _Object] = _named.setdefault(name, {}) if name else {}
        self._lock = threading.Lock()

    def get_object(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        try:
            return self._objects[key].data[start:end]
        except KeyError:
            raise FileMissingError(f"there is no file {key}") from None

    def put_object(self, key: str, content: bytes | Path, *, exclusive: bool = False) -> bool:
        data = content.read_bytes() if isinstance(content, Path) else bytes(content)
        new = _Object(data, datetime.now(UTC))
        if not exclusive:
            self._objects[key] = new
        elif self._objects.setdefault(key, new) is not new:  # one step: of several, one wins
            raise FileExistsAlreadyError(f"{key} exists already")
        return True

    def delete_object(self, key: str) -> None:
        self._objects.pop(key, None)

    def scan(
        self, path: str, *, recursive: bool = True, name_prefix: str = ""
    ) -> Iterator[StoredFile]:
        folder = f"{path}/" if path else ""
        folders = set()
        for key, stored in list(self._objects.items()):
            if key.startswith(folder + name_prefix):
                first, slash, _ = key[len(folder) :].partition("/")
                if recursive or not slash:
                    yield StoredFile(key, len(stored.data), stored.modified)
                else:
                    folders.add(f"{folder}{first}/")
        yield from (StoredFile(name, 0, _NEVER) for name in folders)

    def get_filesystem(self) -> Any:
        return MemoryView(self)


class MemoryView(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no type hints
    """What other libraries read a :class:`MemoryStorage` through: its full paths, read-only."""

    protocol = "memory"
    cachable = False

    def __init__(self, storage: MemoryStorage) -> None:
        super().__init__()
        self._storage = storage

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """List one folder or one file, as fsspec wants it."""
        key = self._key(path)
        entries = list(self._storage.scan(key, recursive=False))
        if not entries and key:
            parent, name = key.rpartition("/")[::2]
            beside = self._storage.scan(parent, recursive=False, name_prefix=name)
            entries = [file for file in beside if file.key == key]
        if not entries:
            raise FileNotFoundError(path)
        found = [
            {
                "name": f"{self._storage.base_path}/{file.key}".rstrip("/"),
                "size": file.size,
                "type": "directory" if file.key.endswith("/") else "file",
            }
            for file in entries
        ]
        return found if detail else sorted(str(item["name"]) for item in found)

    def _open(self, path: str, mode: str = "rb", **_: Any) -> io.BytesIO:
        if mode != "rb":
            raise OSError(f"this view is read-only: {path!r} cannot be opened as {mode!r}")
        try:
            return io.BytesIO(self._storage.get_object(self._key(path)))
        except FileMissingError as exc:
            raise FileNotFoundError(path) from exc

    def _key(self, path: str) -> str:
        text = str(self._strip_protocol(path)).strip("/")
        return text.removeprefix(self._storage.base_path).strip("/")
