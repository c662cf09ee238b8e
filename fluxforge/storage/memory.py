"""Storage in this process's memory, for tests and throwaway lakes."""

from __future__ import annotations

import io
import threading
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsspec import AbstractFileSystem

from fluxforge.errors import FileExistsAlreadyError, FileMissingError
from fluxforge.layout import join_key
from fluxforge.storage.base import StoredFile
from fluxforge.storage.lease import LEASE_SECONDS
from fluxforge.storage.objects import ObjectReplacedError, ObjectStorage, Piece

if TYPE_CHECKING:
    from collections.abc import Iterator

_NEVER = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True)
class _Object:
    data: bytes
    modified: datetime
    version: str


class MemoryStorage(ObjectStorage):
    """Files that last as long as this object.

    It behaves as an object store does, and shares everything above single objects with the others
    (:class:`fluxforge.storage.objects.ObjectStorage`).

    Parameters
    ----------
    name
        What to call it in paths.
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

    def __init__(self, name: str = "lake", *, lease_seconds: float = LEASE_SECONDS) -> None:
        super().__init__(lease_seconds)
        self.base_path = join_key(name)
        self._objects: dict[str, _Object] = {}
        self._lock = threading.Lock()

    def get_range(self, key: str, start: int, end: int, version: str = "") -> Piece:
        stored = self._get(key)
        if version and version != stored.version:
            raise ObjectReplacedError(f"{key} was replaced while it was read")
        return Piece(stored.data[start:end], len(stored.data), stored.version)

    def put_object(self, key: str, content: bytes | Path, *, exclusive: bool = False) -> bool:
        data = content.read_bytes() if isinstance(content, Path) else bytes(content)
        with self._lock:
            if exclusive and key in self._objects:
                raise FileExistsAlreadyError(f"{key} exists already")
            self._objects[key] = _Object(data, datetime.now(UTC), uuid.uuid4().hex)
        return True

    def copy_object(self, source: str, destination: str) -> None:
        self.put_object(destination, self._get(source).data, exclusive=True)

    def delete_object(self, key: str) -> None:
        with self._lock:
            self._objects.pop(key, None)

    def scan(
        self, path: str, *, recursive: bool = True, name_prefix: str = ""
    ) -> Iterator[StoredFile]:
        folder = f"{path}/" if path else ""
        with self._lock:
            objects = list(self._objects.items())
        folders = set()
        for key, stored in objects:
            if key.startswith(folder + name_prefix):
                first, slash, _ = key[len(folder) :].partition("/")
                if recursive or not slash:
                    yield StoredFile(key, len(stored.data), stored.modified)
                else:
                    folders.add(f"{folder}{first}/")
        yield from (StoredFile(name, 0, _NEVER) for name in folders)

    def get_filesystem(self) -> Any:
        return MemoryView(self)

    def _get(self, key: str) -> _Object:
        try:
            return self._objects[key]
        except KeyError:
            raise FileMissingError(f"there is no file {key}") from None


class MemoryView(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no type hints
    """What other libraries read a :class:`MemoryStorage` through: its full paths, read-only."""

    protocol = "memory"
    cachable = False

    def __init__(self, storage: MemoryStorage) -> None:
        super().__init__()
        self._storage = storage

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """List one folder, as fsspec wants it."""
        key = self._key(path)
        found = [
            {
                "name": f"{self._storage.base_path}/{file.key}".rstrip("/"),
                "size": file.size,
                "type": "directory" if file.key.endswith("/") else "file",
            }
            for file in self._storage.scan(key, recursive=False)
        ]
        if not found:
            if not self._storage.has_object(key):
                raise FileNotFoundError(path)
            name = f"{self._storage.base_path}/{key}"
            size = len(self._storage.get_object(key))
            found.append({"name": name, "size": size, "type": "file"})
        return found if detail else sorted(str(entry["name"]) for entry in found)

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
