"""What a durable disk needs below files: syncing, exclusive renames, locks; POSIX and Windows."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, Self

from fluxforge import errors
from fluxforge.errors import (
    AccessDeniedError,
    FileExistsAlreadyError,
    FileMissingError,
    StorageError,
    StorageFullError,
    Translation,
)

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from io import FileIO
    from pathlib import Path

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}

FILE_ERRORS = (
    Translation(FileNotFoundError, FileMissingError, "there is no file {what}"),
    Translation(FileExistsError, FileExistsAlreadyError, "{what} exists already"),
    Translation(
        OSError,
        StorageFullError,
        "no space left for {what} ({reason}): free some and run the same again",
        lambda error: error.errno in _FULL,
    ),
    Translation(
        OSError,
        AccessDeniedError,
        "no permission for {what} ({reason}): change its owner, storage.base_dir or the "
        "credentials",
        lambda error: error.errno in _DENIED,
    ),
)
"""What every filesystem says in the operating system's words."""

_DISK_ERRORS = (
    *FILE_ERRORS,
    Translation(OSError, StorageError, "{what}: {reason} ({filename}): look at storage.base_dir"),
)


def translated(what: str) -> AbstractContextManager[None]:
    """Turn the operating system's errors into FluxForge's, naming what they are about."""
    return errors.translated(_DISK_ERRORS, what)


def sync_file(file: BinaryIO | FileIO) -> None:
    """Return when the file's content has reached the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_directory(folder: Path) -> None:
    """Return when new and renamed entries of a folder have reached the disk.

    Windows has no such call: there, NTFS journals the folder by itself.
    """
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def rename_exclusively(source: Path, target: Path) -> None:
    """Rename without ever replacing another file; a rename that a crash cut short is completed."""
    if sys.platform == "win32":
        source.rename(target)  # refuses to replace, by itself
        return
    try:
        os.link(source, target)
    except FileExistsError:
        if not source.samefile(target):
            raise
    except OSError as exc:
        if exc.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK):
            raise
        # This file system has no hard links. Between the two lines another process could take
        # the name; such disks (FAT, some network mounts) offer nothing better.
        if target.exists():
            raise FileExistsError(errno.EEXIST, "exists", str(target)) from exc
        source.rename(target)
        return
    source.unlink()


class LockFile:
    """A file whose lock the operating system drops when its process dies, however it dies."""

    def __init__(self, path: Path, handle: int) -> None:
        self._path = path
        self._handle: int | None = handle

    @classmethod
    def acquire(cls, path: Path) -> Self | None:
        """Lock `path`, making it where needed; None if a living process has it."""
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            if not _lock(handle):
                os.close(handle)
                return None
            if _is_current(handle, path):
                return cls(path, handle)
            os.close(handle)  # its last owner removed it between our open and our lock

    def release(self) -> None:
        """Unlock and remove the file."""
        if self._handle is None:
            return
        handle, self._handle = self._handle, None
        if sys.platform != "win32":
            self._path.unlink(missing_ok=True)  # while it is locked, so that no other is removed
        os.close(handle)
        if sys.platform == "win32":
            with suppress(OSError):  # Windows removes no file that another process has open
                self._path.unlink(missing_ok=True)


def _is_current(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _lock(handle: int) -> bool:
    """Take an exclusive lock without waiting."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        if exc.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            return False
        raise
    return True
