"""Storage on any other filesystem that fsspec knows: Google, Azure, and many more.

``backend: gcs`` with ``base_dir: bucket/prefix`` is all it takes, if the filesystem keeps two
promises that the storage contract rests on: a file appears whole or not at all, and creating one
exclusively (``pipe_file(…, mode="create")``) lets exactly one of several writers win. Object
stores keep the first by nature; gcsfs, adlfs and s3fs the second, which is tried out before the
first file. To find out about another, run :class:`fluxforge.testing.StorageConformance` on it.
"""

from __future__ import annotations

import errno
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec

from fluxforge.errors import (
    ConfigError,
    FileExistsAlreadyError,
    FileMissingError,
    StorageError,
    StorageUnavailableError,
    Translation,
    translated,
)
from fluxforge.layout import join_key
from fluxforge.storage.base import StorageBackend, StorageOptions, StoredFile
from fluxforge.storage.disk import FILE_ERRORS
from fluxforge.storage.objects import LEASE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

_MODIFIED = ("LastModified", "last_modified", "updated", "mtime", "created")
_ERRORS = (
    Translation(  # how s3fs words a failed precondition
        OSError, FileExistsAlreadyError, "{what} exists already", lambda e: e.errno == errno.EINVAL
    ),
    Translation(  # not every filesystem numbers its errors
        PermissionError, FILE_ERRORS[-1].raised, FILE_ERRORS[-1].message
    ),
    *FILE_ERRORS,
    Translation(
        (TypeError, ValueError, NotImplementedError),
        ConfigError,
        "{what}: this filesystem cannot do what a lake needs ({reason}): choose another "
        "storage.backend",
    ),
    # What is not known for good may be tried again.
    Translation(Exception, StorageUnavailableError, "no whole answer for {what}: {reason}"),
)


class FsspecStorage(StorageBackend):
    """Files below one path of an fsspec filesystem: a container that exists, and a prefix.

    `options` are what the filesystem's own constructor takes; tables are opened with those that
    are text.
    """

    def __init__(
        self, protocol: str, base: str, *, lease_seconds: float = LEASE_SECONDS, **options: Any
    ) -> None:
        super().__init__(lease_seconds)
        self.backend_type = protocol
        self.base_path = base.removeprefix(f"{protocol}://").strip("/")
        self._options = options
        settings = {"use_listings_cache": False, "skip_instance_cache": True} | options
        try:
            self._filesystem, root = fsspec.url_to_fs(f"{protocol}://{self.base_path}", **settings)
        except (ImportError, TypeError, ValueError) as exc:
            raise ConfigError(
                f"storage.backend {protocol!r} cannot be used ({exc}): use 'local', 's3', or "
                "another protocol that fsspec knows"
            ) from exc
        self._root = str(root).rstrip("/")

    def get_full_path(self, key: str = "") -> str:
        return str(self._filesystem.unstrip_protocol(self._path(join_key(key))))

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}" if key else self._root

    def get_object(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        size, data = self._size(key), b""
        end = size if end is None else min(end, size)
        if start < end:
            with translated(_ERRORS, key):
                data = bytes(self._filesystem.cat_file(self._path(key), start=start, end=end))
        _check_size(len(data), max(0, end - start), key)
        return data

    def download(self, key: str, path: Path) -> None:
        size = self._size(key)
        with translated(_ERRORS, key):
            self._filesystem.get_file(self._path(key), str(path))
        _check_size(path.stat().st_size, size, key)

    def _size(self, key: str) -> int:
        with translated(_ERRORS, key):
            info = self._filesystem.info(self._path(key))
            if info["type"] == "directory":
                raise FileMissingError(f"there is no file {key}")
            return int(info["size"])

    def put_object(self, key: str, content: bytes | Path, *, exclusive: bool = False) -> None:
        path, mode = self._path(key), "create" if exclusive else "overwrite"
        with translated(_ERRORS, key):
            if isinstance(content, Path):
                self._filesystem.put_file(str(content), path, mode=mode)
            else:
                self._filesystem.pipe_file(path, content, mode=mode)

    def delete_object(self, key: str) -> None:
        try:
            with translated(_ERRORS, key):
                self._filesystem.rm_file(self._path(key))
        except FileMissingError:
            return

    def scan(
        self, path: str, *, recursive: bool = True, name_prefix: str = ""
    ) -> Iterator[StoredFile]:
        folder = f"{path}/" if path else ""
        for info in self._list(path, recursive=recursive):
            key = str(info["name"]).rstrip("/").removeprefix(self._root).lstrip("/")
            if info["type"] == "directory":
                key += "/"
            if key.startswith(folder + name_prefix) and key != folder:
                yield StoredFile(key, int(info["size"]), _modified(info))

    def _list(self, path: str, *, recursive: bool) -> list[dict[str, Any]]:
        """List a folder; one that is absent is empty, but a missing container is an error."""
        place = self._path(path)
        try:
            with translated(_ERRORS, path or self.base_path):
                self._filesystem.invalidate_cache()
                if recursive:
                    return list(self._filesystem.find(place, detail=True).values())
                return list(self._filesystem.ls(place, detail=True))
        except FileMissingError:
            container = self._root.lstrip("/").partition("/")[0]
            with translated(_ERRORS, container):
                if self.backend_type != "memory" and not self._filesystem.exists(container):
                    raise StorageError(
                        f"there is no {self.backend_type}://{container}: create it, or change "
                        "storage.base_dir"
                    ) from None
            return []

    def get_storage_options(self) -> dict[str, str]:
        stated = self._options.items()
        return StorageOptions({name: value for name, value in stated if isinstance(value, str)})

    def get_filesystem(self) -> Any:
        return self._filesystem


def _check_size(found: int, size: int, key: str) -> None:
    if found != size:
        raise StorageUnavailableError(f"{key}: read {found} of {size} bytes")


def _modified(info: dict[str, Any]) -> datetime:
    """Return when a file was written, by whatever name its filesystem has for it."""
    value = next((info[name] for name in _MODIFIED if info.get(name)), 0)
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return datetime.fromtimestamp(float(value), UTC)
