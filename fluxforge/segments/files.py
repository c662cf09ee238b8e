"""A segment as a file on this machine's disk: it grows by whole appends, held by one process."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from fluxforge.errors import FileExistsAlreadyError, StorageError
from fluxforge.layout import SegmentName
from fluxforge.storage.disk import (
    LockFile,
    rename_exclusively,
    sync_directory,
    sync_file,
    translated,
)

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

_TAIL_CHUNK = 1 << 16
_COPY_CHUNK = 1 << 20


class SegmentFile:
    """A segment's file, locked for as long as this lives; the lock dies with its process.

    Attributes
    ----------
    path
        Where it lies.
    size
        Bytes of whole lines that are durable.
    torn
        What follows them: the rest of a line that a crash cut short.
    closed
        Whether nothing more is appended.
    """

    def __init__(self, path: Path, lock: LockFile, file: FileIO) -> None:
        self.path = path
        self.closed = False
        self._lock = lock
        self._file = file  # unbuffered: what a failed write left must not follow later
        self._dirty = False
        end = file.seek(0, os.SEEK_END)
        self.torn = self._read_tail(end)
        self.size = end - len(self.torn)

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make a new file."""
        with translated(str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = LockFile.acquire(_lock_path(path))
            if lock is None:
                raise FileExistsAlreadyError(f"{path} is being written by another process")
            try:
                segment = cls(path, lock, path.open("x+b", buffering=0))
                sync_directory(path.parent)
            except BaseException:
                lock.release()
                raise
        return segment

    @classmethod
    def adopt(cls, path: Path) -> Self | None:
        """Take over a file whose process has ended; None where it lives, or the file is gone."""
        with translated(str(path)):
            lock = LockFile.acquire(_lock_path(path))
            if lock is None:
                return None
            try:
                segment = cls(path, lock, path.open("r+b", buffering=0))
                sync_file(segment._file)  # its last writes may not have reached the disk yet
            except FileNotFoundError:
                lock.release()
                return None
            except BaseException:
                lock.release()
                raise
        segment.closed = True
        return segment

    def append(self, *parts: bytes | memoryview) -> None:
        """Add whole lines: durable when this returns, absent when it raises."""
        if self.closed:
            raise StorageError(f"{self.path} is closed")
        with translated(str(self.path)):
            self._drop_failed_append()
            self._dirty = True
            for part in parts:  # not joined: what a full disk refuses is tried again and again
                rest = memoryview(part)
                while rest:
                    rest = rest[self._file.write(rest) :]
            sync_file(self._file)
        self._dirty = False
        self.size += sum(map(len, parts))

    def close(self) -> None:
        """Append nothing more; the file stays locked."""
        if not self.closed:
            with translated(str(self.path)):
                self._drop_failed_append()
            self.closed = True

    def read_lines(self, start: int, limit: int) -> bytes:
        """Return whole durable lines from `start` on: `limit` bytes at most, or one longer line."""
        with translated(str(self.path)), self.path.open("rb") as file:
            file.seek(start)
            data = file.read(min(limit, self.size - start))
            if not data.endswith(b"\n") and b"\n" in data:
                return data[: data.rindex(b"\n") + 1]
            while not data.endswith(b"\n"):
                rest = file.readline(self.size - start - len(data))
                if not rest:
                    raise StorageError(f"{self.path} is shorter than the {self.size} bytes it had")
                data += rest
        return data

    def count_lines(self) -> int:
        """Count the lines of the file."""
        with translated(str(self.path)), self.path.open("rb") as file:
            return sum(1 for _ in file)

    def drop_torn(self) -> None:
        """Cut off what follows the last whole line."""
        with translated(str(self.path)):
            self._file.truncate(self.size)
            sync_file(self._file)
        self.torn = b""

    def move(self, target: Path) -> None:
        """Rename the file, never over another, and let go of it."""
        self._file.close()  # Windows renames no open file
        with translated(str(target)):
            target.parent.mkdir(parents=True, exist_ok=True)
            rename_exclusively(self.path, target)
            sync_directory(target.parent)
            sync_directory(self.path.parent)
        self._lock.release()

    def remove(self) -> None:
        """Delete the file for good, and let go of it."""
        self._file.close()
        with translated(str(self.path)):
            self.path.unlink(missing_ok=True)
            sync_directory(self.path.parent)
        self._lock.release()

    def split(self, offset: int, name: str) -> Self | None:
        """Let what lies beyond `offset` be a file of another name, and delete this one.

        Returns
        -------
        SegmentFile or None
            The other file; None where nothing lies beyond, or another process has taken it up
            after an earlier attempt.
        """
        target = self.path.with_name(name)
        if offset < self.size and self.path.exists():
            temporary = target.with_name(f".{name}.tmp")
            with translated(str(target)):
                with self.path.open("rb") as source, temporary.open("wb") as copy:
                    source.seek(offset)
                    shutil.copyfileobj(source, copy, _COPY_CHUNK)
                    sync_file(copy)
                with suppress(FileExistsError):  # an earlier attempt went this far
                    rename_exclusively(temporary, target)
                temporary.unlink(missing_ok=True)
                sync_directory(target.parent)
        self.remove()
        return type(self).adopt(target)

    def release(self) -> None:
        """Let go of the file as it is; the next process that looks takes it over."""
        self._file.close()
        self._lock.release()

    def _drop_failed_append(self) -> None:
        if self._dirty:
            self._file.truncate(self.size)
            sync_file(self._file)
            self._dirty = False
        self._file.seek(self.size)

    def _read_tail(self, end: int) -> bytes:
        tail = b""
        position = end
        while position > 0 and b"\n" not in tail:
            start = max(0, position - _TAIL_CHUNK)
            self._file.seek(start)
            tail = self._file.read(position - start) + tail
            position = start
        return tail[tail.rfind(b"\n") + 1 :]


def find_segments(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the segments' files directly in a folder, sorted, and what else is there."""
    found, others = [], []
    with translated(str(folder)):
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return [], []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if is_segment_name(entry.name) and entry.is_file(follow_symlinks=False):
                found.append(folder / entry.name)
            else:
                others.append(f"{folder / entry.name} is not a segment's file: move it elsewhere")
    return found, others


def check_folder(folder: Path) -> None:
    """Raise the error that a new segment would meet."""
    with translated(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        lock = LockFile.acquire(_lock_path(folder / "collector"))
        if lock is not None:
            lock.release()


def is_segment_name(name: str) -> bool:
    """Tell whether a name is exactly that of a segment, without folder or suffix."""
    return str(SegmentName.parse(name)) == name


def is_held(path: Path) -> bool:
    """Tell whether a living process has a segment's file; who may not find out takes it so."""
    try:
        lock = LockFile.acquire(_lock_path(path))
    except OSError:
        return True
    if lock is not None:
        lock.release()
    return lock is None


def size_of(folder: Path) -> int:
    """Return the bytes of all segments' files in a folder."""
    size = 0
    for path in find_segments(folder)[0]:
        with suppress(FileNotFoundError):
            size += path.stat().st_size
    return size


def _lock_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.lease")
