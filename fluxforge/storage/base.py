"""The storage contract: what ingestion, ETL, tables and readers may ask of a place.

All keys are relative to the storage's root (see :mod:`fluxforge.layout`). A write appears whole
or not at all. Names that begin with a dot are the storage's own (temporaries, leases): they never
show in listings and no caller may use them. A listing is complete or it raises.
"""

from __future__ import annotations

import fnmatch
import hashlib
import re
import shutil
import uuid
from abc import abstractmethod
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from fluxforge.errors import (
    ConfigError,
    FileExistsAlreadyError,
    FileMissingError,
    InvalidKeyError,
)
from fluxforge.layout import Layout, check_key, join_key
from fluxforge.storage.disk import translated
from fluxforge.storage.objects import (
    LEASE_SECONDS,
    Lease,
    LeaseKeeper,
    ObjectStore,
    StoredFile,
)

if TYPE_CHECKING:
    from fluxforge.config import FluxForgeConfig

_SECRET = re.compile("(?i)secret|token|key|password")

__all__ = ["StorageBackend", "StoredFile", "own_key"]

_CHUNK = 8 << 20


class StorageBackend(ObjectStore):
    """A root, local or remote, that holds files under relative keys.

    A new storage implements the four methods of :class:`~fluxforge.storage.objects.ObjectStore`
    and :meth:`get_filesystem`, and passes
    :class:`fluxforge.testing.StorageConformance`. Everything else has a default that is made of
    these five; a storage that can do better overrides it.

    Parameters
    ----------
    lease_seconds
        How long a lease outlives a holder that died without releasing it.
    """

    backend_type: str
    """``"local"``, ``"s3"``, ``"memory"`` or another fsspec protocol."""

    base_path: str
    """The root as a person would write it: a directory, or ``bucket/prefix``."""

    layout: Layout = Layout()
    """What its folders are called; the factory takes it from ``storage.paths``."""

    config: FluxForgeConfig | None = None
    """The configuration that it is the top-level storage of; roles may have others in it."""

    server: str = ""
    """The address of the server, where :attr:`base_path` alone does not say which lake it is."""

    is_local: bool = False
    """Whether it is a disk of this machine or a mount, on which files grow and are renamed."""

    def __init__(self, lease_seconds: float = LEASE_SECONDS) -> None:
        self._leases = LeaseKeeper(self, lease_seconds)
        self._is_exclusive = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to another process without credentials: it takes those of its own environment."""
        raise ConfigError(f"other processes cannot share {self!r}: use local or s3")

    @abstractmethod
    def get_filesystem(self) -> Any:
        """Return an fsspec filesystem that knows :meth:`get_full_path`."""

    # Names

    def get_full_path(self, key: str = "") -> str:
        """Return the path or URL under which other tools find `key`."""
        return f"{self.backend_type}://{join_key(self.base_path, join_key(key))}"

    def join_path(self, *parts: str) -> str:
        """Join parts into a key; see :func:`fluxforge.layout.join_key`."""
        return join_key(*parts)

    # Whole files

    def read_bytes(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Return the bytes of `key` from `start` up to, not including, `end`.

        Raises
        ------
        FileMissingError
            If there is no such file.
        StorageError
            If fewer bytes arrive than the file has: a short read is never an end of file.
        """
        return self.get_object(own_key(key), start, end)

    def write_bytes(self, key: str, data: bytes, *, exclusive: bool = False) -> None:
        """Write a whole file, durable when this returns.

        Raises
        ------
        FileExistsAlreadyError
            If `exclusive` and the key is taken by another's file; of several writers, one wins.
        StorageUnavailableError
            If the storage gave no answer: the file may or may not be there.
        """
        self.put_object(own_key(key), data, exclusive=exclusive)

    def write_file(self, path: str | Path, key: str, *, exclusive: bool = False) -> None:
        """Store a local file under `key`, with the promises of :meth:`write_bytes`."""
        own_key(key)
        with translated(str(path)):
            Path(path).stat()  # a missing source is told apart from a missing destination
        self.put_object(key, Path(path), exclusive=exclusive)

    def fetch(self, key: str, directory: Path) -> Path:
        """Return a local, read-only path with the content of `key`.

        A local storage returns the file itself; others download it into a folder of its own
        below `directory`.

        Raises
        ------
        FileMissingError
            If there is no such file.
        """
        folder = Path(directory) / uuid.uuid4().hex[:12]  # two keys may share their last part
        path = folder / own_key(key).rsplit("/", 1)[-1]
        try:
            with translated(str(folder)):
                folder.mkdir(parents=True)
            self.download(key, path)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return path

    def download(self, key: str, path: Path) -> None:
        """Write the content of one version of `key` to a local path."""
        data = self.get_object(key)
        with translated(str(path)):
            path.write_bytes(data)

    def move(self, source: str, destination: str) -> None:
        """Rename a file; it is never absent from both names.

        Raises
        ------
        FileMissingError
            If `source` is not there (another worker was faster).
        FileExistsAlreadyError
            If `destination` is taken.
        """
        self.copy_object(own_key(source), own_key(destination))
        self.delete_object(source)

    def copy_object(self, source: str, destination: str) -> None:
        """Copy a file, never over another one."""
        with TemporaryDirectory(prefix="fluxforge-") as folder:
            path = Path(folder) / "copy"
            self.download(source, path)
            self.put_object(destination, path, exclusive=True)

    def stat(self, key: str) -> StoredFile:
        """Return the size of a file and when it was last written.

        Raises
        ------
        FileMissingError
            If there is no such file.
        """
        folder, _, name = own_key(key).rpartition("/")
        for file in self.scan(folder, recursive=False, name_prefix=name):
            if file.key == key:
                return file
        raise FileMissingError(f"there is no file {key}")

    def digest(self, key: str) -> str:
        """Return the SHA-256 of a file in hexadecimal digits, in bounded memory."""
        sha, start = hashlib.sha256(), 0
        while chunk := self.read_bytes(key, start, start + _CHUNK):
            sha.update(chunk)
            start += len(chunk)
        return sha.hexdigest()

    def exists(self, key: str) -> bool:
        """Tell whether there is a file under `key`, or at least one below it."""
        path = join_key(key)
        if any(_is_visible(file.key) for file in self.scan(path)):
            return True
        try:
            return bool(path and self.stat(path))
        except FileMissingError:
            return False

    def delete(self, key: str) -> None:
        """Delete a file; deleting what is not there is no error."""
        self.delete_object(own_key(key))

    # Listings

    def list_entries(
        self, path: str = "", *, recursive: bool = True, name_prefix: str = ""
    ) -> list[StoredFile]:
        """Return the files below `path`, sorted by key; an absent path has none.

        Parameters
        ----------
        path
            The folder.
        recursive
            Whether to list its subfolders too.
        name_prefix
            Only what goes on with this after ``path/``; an object store lists nothing else.

        Raises
        ------
        StorageError
            If the listing could not be read to its end. An error never looks like "no files".
        """
        below, _, first = name_prefix.rpartition("/")
        found = self.scan(join_key(path, below), recursive=recursive, name_prefix=first)
        return sorted(file for file in found if _is_visible(file.key))

    def list_files(
        self, path: str = "", pattern: str = "*", *, recursive: bool = True
    ) -> list[str]:
        """Return the keys below `path` whose last part matches `pattern`, sorted."""
        entries = self.list_entries(path, recursive=recursive)
        return [file.key for file in entries if fnmatch.fnmatchcase(file.name, pattern)]

    def list_folders(self, path: str = "") -> list[str]:
        """Return the names (not keys) of the folders directly below `path`, sorted."""
        entries = self.scan(join_key(path), recursive=False)
        folders = {file.key.split("/")[-2] for file in entries if file.key.endswith("/")}
        return sorted(name for name in folders if not name.startswith("."))

    def mkdir(self, path: str) -> None:
        """Make a folder and its parents, where the storage has folders at all.

        Raises
        ------
        ConfigError
            If the place replaces files that it is told to create: data would be lost there.
        """
        join_key(path)  # the folder itself comes with its first file
        if not self._is_exclusive:
            self._check_exclusive()
            self._is_exclusive = True

    def _check_exclusive(self) -> None:
        """Try out that neither a write nor a copy replaces what is there."""
        key, replaced = f".probe-{uuid.uuid4().hex}", 0
        self.put_object(key, b"first", exclusive=True)
        try:
            with suppress(FileExistsAlreadyError):
                self.put_object(key, b"second", exclusive=True)
                replaced += 1
            with suppress(FileExistsAlreadyError):
                self.copy_object(key, key)
                replaced += 1
        finally:
            self.delete_object(key)
        if replaced:
            raise ConfigError(
                f"{self.get_full_path()} replaces files that it is told to create, so that data "
                "would be lost there: choose another storage.backend or server"
            )

    # Claims

    def acquire_lease(self, key: str) -> Lease | None:
        """Claim `key`; None while another living holder has it."""
        return self._leases.acquire(own_key(key))

    # For other libraries

    def sync(self, path: str, after: str = "") -> None:
        """Return when what other libraries wrote is durable: files directly in the folder `path`.

        Names that sort before `after` are left out. An object store's writes are durable when
        they return, so that only disks have something to do.
        """

    def get_storage_options(self) -> dict[str, str]:
        """Return the options under which Polars and deltalake open :meth:`get_full_path`."""
        return {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.get_full_path()}>"


class StorageOptions(dict[str, str]):
    """Options for other libraries, whose secrets are not shown."""

    def __repr__(self) -> str:
        return repr({key: "***" if _SECRET.search(key) else value for key, value in self.items()})


def own_key(key: str) -> str:
    """Check a caller's key for a file: valid, not empty, and not one of the storage's own names."""
    check_key(key)
    names = key.split("/")
    if not key or "" in names:
        raise InvalidKeyError(f"key {key!r} is not the name of a file")
    if any(name.startswith(".") for name in names):
        raise InvalidKeyError(f"key {key!r}: names that begin with a dot are reserved")
    return key


def _is_visible(key: str) -> bool:
    return not key.endswith("/") and not any(name.startswith(".") for name in key.split("/"))
