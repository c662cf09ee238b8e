"""The storage contract: what ingestion, ETL, tables and readers may ask of a place.

All keys are relative to the storage's root (see :mod:`fluxforge.layout`). A write appears whole
or not at all. Names that begin with a dot are the storage's own (temporaries, leases): they never
show in listings and no caller may use them. A listing is complete or it raises.
"""

from __future__ import annotations

import fnmatch
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from fluxforge.errors import InvalidKeyError
from fluxforge.layout import Layout, check_key, join_key

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path
    from types import TracebackType


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


class Lease(ABC):
    """A claim on a key that ends with its holder: released, or lapsed once the holder is dead.

    A lease keeps two workers from doing the same work in vain. Nothing relies on it for
    correctness: commits and journals refuse the second writer by themselves.
    """

    key: str

    @abstractmethod
    def release(self) -> None:
        """Give the key back. Releasing twice is allowed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


class Journal(ABC):
    """A file that grows by whole appends and is then sealed into its final place.

    On a disk it is a file that is appended to and synced. On an object store, where nothing can
    be appended, each append is an object of its own beside the key, and sealing assembles them.
    A journal belongs to one writer at a time; it is held by a lease while that writer lives.
    """

    key: str

    @property
    @abstractmethod
    def size(self) -> int:
        """Bytes that are durable."""

    @abstractmethod
    def append(self, data: bytes) -> None:
        """Add `data`: durable when this returns, absent when it raises.

        After an error the same data may be appended again; it will be there once.

        Raises
        ------
        JournalFencedError
            If another process has taken the journal over. What was appended before is kept.
        """

    @abstractmethod
    def torn_tail(self) -> bytes:
        """Return what follows the last newline: the rest of an append that a crash cut short."""

    @abstractmethod
    def drop_torn_tail(self) -> None:
        """Remove what :meth:`torn_tail` returns."""

    @abstractmethod
    def seal(self, destination: str) -> None:
        """Move the whole content to `destination`, at once, and end the journal.

        Raises
        ------
        FileExistsAlreadyError
            If another file has that name; the journal stays open, to be sealed under another.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the journal without sealing it: the next recovery will find it."""


class StorageBackend(ABC):
    """A root, local or remote, that holds files under relative keys.

    A new storage implements the abstract methods and passes
    :class:`fluxforge.testing.StorageConformance`.
    """

    backend_type: str
    """``"local"``, ``"s3"``, ``"memory"`` or another fsspec protocol."""

    base_path: str
    """The root as a person would write it: a directory, or ``bucket/prefix``."""

    layout: Layout = Layout()
    """What its folders are called; the factory takes it from ``storage.paths``."""

    # Names

    @abstractmethod
    def get_full_path(self, key: str = "") -> str:
        """Return the path or URL under which other tools find `key`."""

    def join_path(self, *parts: str) -> str:
        """Join parts into a key; see :func:`fluxforge.layout.join_key`."""
        return join_key(*parts)

    # Whole files

    @abstractmethod
    def read_bytes(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Return the bytes of `key` from `start` up to, not including, `end`.

        Raises
        ------
        FileMissingError
            If there is no such file.
        StorageError
            If fewer bytes arrive than the file has: a short read is never an end of file.
        """

    @abstractmethod
    def write_bytes(self, key: str, data: bytes, *, exclusive: bool = False) -> None:
        """Write a whole file, durable when this returns.

        Raises
        ------
        FileExistsAlreadyError
            If `exclusive` and the key is taken; of several writers, one wins.
        """

    @abstractmethod
    def write_file(self, path: str | Path, key: str, *, exclusive: bool = False) -> None:
        """Store a local file under `key`, with the promises of :meth:`write_bytes`."""

    @abstractmethod
    def fetch(self, key: str, directory: Path) -> Path:
        """Return a local, read-only path with the content of `key`.

        A local storage returns the file itself; others download it into `directory`.
        """

    @abstractmethod
    def move(self, source: str, destination: str) -> None:
        """Rename a file; it is never absent from both names.

        Raises
        ------
        FileMissingError
            If `source` is not there (another worker was faster).
        FileExistsAlreadyError
            If `destination` is taken.
        """

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Tell whether there is a file under `key`, or at least one below it."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Delete a file; deleting what is not there is no error."""

    @abstractmethod
    def list_entries(self, path: str = "", *, recursive: bool = True) -> list[StoredFile]:
        """Return the files below `path`, sorted by key; an absent path has none.

        Raises
        ------
        StorageError
            If the listing could not be read to its end. An error never looks like "no files".
        """

    def list_files(
        self, path: str = "", pattern: str = "*", *, recursive: bool = True
    ) -> list[str]:
        """Return the keys below `path` whose last part matches `pattern`, sorted."""
        entries = self.list_entries(path, recursive=recursive)
        return [file.key for file in entries if fnmatch.fnmatchcase(file.name, pattern)]

    @abstractmethod
    def list_folders(self, path: str = "") -> list[str]:
        """Return the names (not keys) of the folders directly below `path`, sorted."""

    @abstractmethod
    def mkdir(self, path: str) -> None:
        """Make a folder and its parents, where the storage has folders at all."""

    # Growing files and claims

    @abstractmethod
    def acquire_lease(self, key: str) -> Lease | None:
        """Claim `key`; None while another living holder has it."""

    @abstractmethod
    def create_journal(self, key: str) -> Journal:
        """Start a journal under a name that nobody has.

        Raises
        ------
        FileExistsAlreadyError
            If a file or journal of that name exists, or another writer is about to make it.
        """

    @abstractmethod
    def list_journals(self, path: str) -> list[str]:
        """Return the keys of all journals below `path`, living or abandoned, sorted."""

    @abstractmethod
    def take_over_journal(self, key: str) -> Journal | None:
        """Open an abandoned journal to seal it; None where its writer lives or it is gone."""

    # For other libraries

    def sync(self, path: str, after: str = "") -> None:  # noqa: B027 -- most have nothing to do
        """Return when what other libraries wrote is durable: files directly in the folder `path`.

        Names that sort before `after` are left out. An object store's writes are durable when
        they return, so that only disks have something to do.
        """

    @abstractmethod
    def get_storage_options(self) -> dict[str, str]:
        """Return the options under which Polars and deltalake open :meth:`get_full_path`."""

    @abstractmethod
    def get_filesystem(self) -> Any:
        """Return an fsspec filesystem for this storage."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.get_full_path()}>"


def own_key(key: str) -> str:
    """Check a caller's key for a file: valid, not empty, and not one of the storage's own names.

    Examples
    --------
    >>> own_key("raw/.tmp-1")
    Traceback (most recent call last):
    ...
    fluxforge.errors.InvalidKeyError: key 'raw/.tmp-1': names that begin with a dot are reserved
    """
    check_key(key)
    names = key.split("/")
    if not key or "" in names:
        raise InvalidKeyError(f"key {key!r} is not the name of a file")
    if any(name.startswith(".") for name in names):
        raise InvalidKeyError(f"key {key!r}: names that begin with a dot are reserved")
    return key


def lease_key(key: str) -> str:
    """Return the reserved key beside `key` that a lease on it lives under.

    Examples
    --------
    >>> lease_key("raw/active/coinbase/segment_20251203T14_00001.ndjson")
    'raw/active/coinbase/.segment_20251203T14_00001.ndjson.lease'
    """
    folder, _, name = key.rpartition("/")
    return f"{folder}/.{name}.lease" if folder else f".{name}.lease"
