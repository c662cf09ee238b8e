"""A local disk, or anything mounted like one."""

from __future__ import annotations

import os
import shutil
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fluxforge.errors import (
    FileExistsAlreadyError,
    FileMissingError,
    StorageError,
    StorageUnavailableError,
)
from fluxforge.layout import check_key
from fluxforge.storage.base import StorageBackend, StoredFile, own_key
from fluxforge.storage.disk import (
    LockFile,
    rename_exclusively,
    sync_directory,
    sync_file,
    translated,
)
from fluxforge.storage.objects import Lease, lease_key

if TYPE_CHECKING:
    from collections.abc import Iterator

_COPY_CHUNK = 1 << 20


class LocalStorage(StorageBackend):
    """Files below one directory.

    Parameters
    ----------
    base_dir
        The root; made when first written to. ``~`` is expanded. A drive (``F:/``) is fine.

    Examples
    --------
    >>> import tempfile
    >>> storage = LocalStorage(tempfile.mkdtemp())
    >>> storage.write_bytes("raw/ready/coinbase/a.ndjson", b"{}")
    >>> storage.list_files("raw", "*.ndjson")
    ['raw/ready/coinbase/a.ndjson']
    """

    backend_type = "local"
    is_local = True

    def __init__(self, base_dir: str | Path) -> None:
        super().__init__()
        self.base_path = str(base_dir)
        self._root = Path(base_dir).expanduser().absolute()

    def __reduce__(self) -> tuple[Any, ...]:
        return LocalStorage, (str(self._root),)

    # Names

    def get_full_path(self, key: str = "") -> str:
        return str(self._path(key))

    def _path(self, key: str) -> Path:
        return self._root.joinpath(*check_key(key).split("/")) if key else self._root

    # Whole files

    def get_object(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        with translated(key), self._file(key).open("rb") as file:
            file.seek(start)
            size = os.fstat(file.fileno()).st_size
            wanted = max(0, (size if end is None else min(end, size)) - start)
            data = file.read(wanted)
        if len(data) != wanted:
            raise StorageUnavailableError(f"{key}: read {len(data)} of {wanted} bytes")
        return data

    def put_object(self, key: str, content: bytes | Path, *, exclusive: bool = False) -> None:
        target = self._path(key)
        temporary = target.with_name(f".tmp-{uuid.uuid4().hex}")
        with translated(key):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("xb") as file:
                    if isinstance(content, bytes):
                        file.write(content)
                    else:
                        with content.open("rb") as source:
                            shutil.copyfileobj(source, file, _COPY_CHUNK)
                    sync_file(file)
                if exclusive:
                    rename_exclusively(temporary, target)
                else:
                    temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)
            sync_directory(target.parent)

    def _file(self, key: str) -> Path:
        path = self._path(key)
        if not path.is_file():
            raise FileMissingError(f"there is no file {key}")
        return path

    def fetch(self, key: str, directory: Path) -> Path:
        return self._file(own_key(key))

    def move(self, source: str, destination: str) -> None:
        old, new = self._file(own_key(source)), self._path(own_key(destination))
        with translated(source):
            new.parent.mkdir(parents=True, exist_ok=True)
            try:
                rename_exclusively(old, new)
            except FileExistsError as exc:
                raise FileExistsAlreadyError(f"{destination} exists already") from exc
            sync_directory(new.parent)
            sync_directory(old.parent)

    def delete_object(self, key: str) -> None:
        with translated(key):
            self._path(key).unlink(missing_ok=True)

    def stat(self, key: str) -> StoredFile:
        with translated(key):
            stat = self._file(own_key(key)).stat()
        return StoredFile(key, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC))

    def scan(
        self, path: str, *, recursive: bool = True, name_prefix: str = ""
    ) -> Iterator[StoredFile]:
        with translated(path or self.base_path):
            try:
                entries = list(os.scandir(self._path(path)))
            except (FileNotFoundError, NotADirectoryError):
                return
            for entry in entries:
                if not entry.name.startswith(name_prefix):
                    continue
                key = f"{path}/{entry.name}" if path else entry.name
                is_folder = entry.is_dir(follow_symlinks=False)
                if not is_folder and not entry.is_file(follow_symlinks=False):
                    continue  # a link, a pipe or a device: nothing of ours, and never followed
                if is_folder and recursive:
                    yield from self.scan(key)
                    continue
                with suppress(FileNotFoundError):  # gone since the folder was read
                    stat = os.stat(entry.path)  # noqa: PTH116 -- a path costs twice as much
                    modified = datetime.fromtimestamp(stat.st_mtime, UTC)
                    yield StoredFile(key + "/" * is_folder, stat.st_size, modified)

    def mkdir(self, path: str) -> None:
        with translated(path or self.base_path):
            try:
                self._path(path).mkdir(parents=True, exist_ok=True)
            except FileNotFoundError as exc:  # as below /proc
                raise StorageError(
                    f"no folder can be made at {self._path(path)}: change storage.base_dir"
                ) from exc

    # Claims

    def acquire_lease(self, key: str) -> Lease | None:
        path = self._path(lease_key(own_key(key)))
        with translated(key):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = LockFile.acquire(path)
        return LocalLease(key, lock) if lock else None

    # For other libraries

    def sync(self, path: str, after: str = "") -> None:
        folder = self._path(path)
        with translated(path):
            for entry in os.scandir(folder):
                if entry.name < after or not entry.is_file():
                    continue
                with suppress(FileNotFoundError), Path(entry.path).open("r+b") as file:
                    sync_file(file)
            sync_directory(folder)

    def get_filesystem(self) -> Any:
        import fsspec

        return fsspec.filesystem("file")


class LocalLease(Lease):
    """A lock that the operating system drops with its process."""

    def __init__(self, key: str, lock: LockFile) -> None:
        self.key = key
        self._lock = lock

    def release(self) -> None:
        self._lock.release()
