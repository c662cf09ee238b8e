"""Storage on any other filesystem that fsspec knows: Google, Azure, and many more.

``backend: gcs`` with ``base_dir: bucket/prefix`` is all it takes, if the filesystem keeps two
promises that the storage contract rests on: a file appears whole or not at all, and creating one
exclusively (``pipe_file(…, mode="create")``) lets exactly one of several writers win. Object
stores keep the first by nature; gcsfs, adlfs and s3fs the second. To find out about another::

    class TestMyStorage(StorageConformance):
        @pytest.fixture
        def storage(self):
            return FsspecStorage("my-protocol", "container/new-prefix", user=…)

and the hooks of :class:`fluxforge.testing.StorageConformance` for access beside the storage.
"""

from __future__ import annotations

import errno
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec

from fluxforge.errors import (
    AccessDeniedError,
    ConfigError,
    FileExistsAlreadyError,
    FileMissingError,
    FluxForgeError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)
from fluxforge.layout import join_key
from fluxforge.storage.base import StorageBackend, StoredFile
from fluxforge.storage.lease import LEASE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

_MODIFIED = ("LastModified", "last_modified", "updated", "mtime", "created")
_NEVER = datetime.fromtimestamp(0, UTC)


class FsspecStorage(StorageBackend):
    """Files below one path of an fsspec filesystem.

    Parameters
    ----------
    protocol
        What fsspec calls it: ``"gcs"``, ``"abfs"`` …
    base
        Container and prefix; the container must exist.
    lease_seconds
        How long a lease outlives a holder that died without releasing it.
    **options
        What the filesystem's own constructor takes.

    Raises
    ------
    ConfigError
        If fsspec knows no such protocol, the package for it is missing, or it refuses the options.
    """

    def __init__(
        self, protocol: str, base: str, *, lease_seconds: float = LEASE_SECONDS, **options: Any
    ) -> None:
        super().__init__(lease_seconds)
        self.backend_type = protocol
        self.base_path = base.removeprefix(f"{protocol}://").strip("/")
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
        path = self._path(key)
        with _translated(key):
            size = int(self._filesystem.info(path)["size"])
            end = size if end is None else min(end, size)
            data = self._filesystem.cat_file(path, start=start, end=end) if start < end else b""
        if len(data) != max(0, end - start):
            raise StorageUnavailableError(f"{key}: read {len(data)} of {end - start} bytes")
        return bytes(data)

    def download(self, key: str, path: Path) -> None:
        with _translated(key):
            self._filesystem.get_file(self._path(key), str(path))
            size = int(self._filesystem.info(self._path(key))["size"])
        if path.stat().st_size != size:
            raise StorageUnavailableError(f"{key}: read {path.stat().st_size} of {size} bytes")

    def put_object(self, key: str, content: bytes | Path, *, exclusive: bool = False) -> bool:
        path, mode = self._path(key), "create" if exclusive else "overwrite"
        with _translated(key):
            if isinstance(content, Path):
                self._filesystem.put_file(str(content), path, mode=mode)
            else:
                self._filesystem.pipe_file(path, content, mode=mode)
        return True

    def delete_object(self, key: str) -> None:
        try:
            with _translated(key):
                self._filesystem.rm_file(self._path(key))
        except FileMissingError:
            return

    def scan(
        self, path: str, *, recursive: bool = True, name_prefix: str = ""
    ) -> Iterator[StoredFile]:
        folder = f"{path}/" if path else ""
        for info in self._list(path, recursive=recursive):
            key = self._key(info)
            if info["type"] == "directory":
                key += "/"
            if key.startswith(folder + name_prefix) and key != folder:
                yield StoredFile(key, int(info["size"]), _modified(info))

    def _list(self, path: str, *, recursive: bool) -> list[dict[str, Any]]:
        """List a folder; one that is absent is empty, but a missing container is an error."""
        place = self._path(path)
        try:
            with _translated(path or self.base_path):
                self._filesystem.invalidate_cache()
                if recursive:
                    return list(self._filesystem.find(place, detail=True).values())
                return list(self._filesystem.ls(place, detail=True))
        except FileMissingError:
            self._check_container()
            return []

    def _check_container(self) -> None:
        container = self._root.lstrip("/").partition("/")[0]
        with _translated(container):
            if not self._filesystem.exists(container):
                raise StorageError(
                    f"there is no {self.backend_type}://{container}: create it, or change "
                    "storage.base_dir"
                )

    def _key(self, info: dict[str, Any]) -> str:
        name = str(info["name"]).rstrip("/")
        return name.removeprefix(self._root).lstrip("/")

    def get_filesystem(self) -> Any:
        return self._filesystem


def _modified(info: dict[str, Any]) -> datetime:
    """Return when a file was written, by whatever name its filesystem has for it."""
    for name in _MODIFIED:
        value = info.get(name)
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, (int, float)):
            return datetime.fromtimestamp(value, UTC)
        if isinstance(value, datetime):
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return _NEVER


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Turn what fsspec raises into our errors; what is not known for good may be tried again."""
    try:
        yield
    except FluxForgeError:
        raise
    except FileNotFoundError as exc:
        raise FileMissingError(f"there is no file {what}") from exc
    except FileExistsError as exc:
        raise FileExistsAlreadyError(f"{what} exists already") from exc
    except PermissionError as exc:
        raise AccessDeniedError(f"no permission for {what}: check the credentials") from exc
    except OSError as exc:
        if exc.errno == errno.EINVAL:  # how s3fs words a failed precondition
            raise FileExistsAlreadyError(f"{what} exists already") from exc
        if exc.errno == errno.ENOSPC:
            raise StorageFullError(f"no space left for {what}: free some") from exc
        raise StorageUnavailableError(f"no whole answer for {what}: {exc}") from exc
    except Exception as exc:
        raise StorageUnavailableError(f"no whole answer for {what}: {exc}") from exc
