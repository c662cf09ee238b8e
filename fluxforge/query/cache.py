"""Copies of what was read of remote tables' data files, on this machine's disk.

A data file never changes, so that a copy is good for ever. Copies are of blocks, since a query
reads a few columns of a large file. Several processes share a folder without a lock: a block
appears whole, by a rename, ends in a checksum of itself, and is fetched again where it is gone.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import time
import uuid
import zlib
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from fluxforge.errors import StorageUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from fluxforge.config.schema import QueryConfig
    from fluxforge.storage.base import StorageBackend

_BLOCK = 256 << 10
_WHOLE = 4 << 20
"""A file up to this size is one block."""
_CHECKSUM_BYTES = 4
_SUFFIX = ".block"
_TEMPORARY = ".part-"
_LOOKS = 32
"""So often the folder is looked at while as much is added as it may hold."""
_ABANDONED_SECONDS = 3600
_TOUCH_SECONDS = 60

logger = logging.getLogger(__name__)


class FileCache:
    """Blocks of files in a folder, of which the least recently used go first."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._kept = max_bytes  # since the folder was looked at: at first, it must be

    @classmethod
    def configured(cls, config: QueryConfig) -> FileCache | None:
        """Return the cache that ``query:`` in the configuration asks for, if any."""
        if not config.cache_max_mb:
            return None
        chosen = Path(config.cache_dir).expanduser() if config.cache_dir else _user_cache()
        return cls(chosen, int(config.cache_max_mb * 1_000_000))

    def open(self, storage: StorageBackend, key: str, size: int) -> CachedFile:
        """Return a file of a storage, opened for reading."""
        return CachedFile(self, storage, key, size)

    def load(self, name: str) -> bytes | None:
        """Return a block, if it is there and whole, and note that it is used."""
        path = self.folder / name
        try:
            data = path.read_bytes()
            if time.time() - path.stat().st_mtime > _TOUCH_SECONDS:
                os.utime(path)
        except OSError:
            return None
        block, checksum = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
        return block if _checksum(block) == checksum else None

    def keep(self, name: str, block: bytes) -> None:
        """Keep a block, and let the least recently used ones go; a full disk is no error."""
        temporary = self.folder / f"{_TEMPORARY}{uuid.uuid4().hex}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._make_room(len(block) + _CHECKSUM_BYTES)
            temporary.write_bytes(block + _checksum(block))
            temporary.replace(self.folder / name)
        except OSError as exc:
            logger.warning("nothing is kept in %s: %s", self.folder, exc.strerror)
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def files(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Yield the copies that are there, in no order."""
        with suppress(FileNotFoundError):
            for entry in os.scandir(self.folder):
                with suppress(FileNotFoundError):
                    yield Path(entry.path), entry.stat()

    def _make_room(self, size: int) -> None:
        self._kept += size
        if self._kept <= self.max_bytes // _LOOKS:
            return
        self._kept = size
        total = max(size, self.max_bytes // _LOOKS)  # what may come until the next look
        for path, stat in sorted(self.files(), key=lambda one: one[1].st_mtime, reverse=True):
            idle = time.time() - stat.st_mtime > _ABANDONED_SECONDS
            total += stat.st_size
            if total > self.max_bytes or (path.name.startswith(_TEMPORARY) and idle):
                with suppress(OSError):  # others may be faster; on Windows it may be open
                    path.unlink()


def describe_cache(cache: FileCache | None) -> pl.DataFrame:
    """Return a row about a cache, if there is one: see :meth:`fluxforge.Lake.cache`."""
    import polars as pl

    rows = []
    if cache is not None:
        sizes = [stat.st_size for path, stat in cache.files() if path.suffix == _SUFFIX]
        rows.append((str(cache.folder), len(sizes), sum(sizes), cache.max_bytes))
    columns = {"folder": pl.String, "blocks": pl.Int64, "bytes": pl.Int64, "max_bytes": pl.Int64}
    return pl.DataFrame(rows, schema=columns, orient="row")


class CachedFile:
    """A remote file as :class:`pyarrow.PythonFile` takes it, read in blocks that are kept."""

    closed = False

    def __init__(self, cache: FileCache, storage: StorageBackend, key: str, size: int) -> None:
        self._cache, self._storage, self._key, self._size = cache, storage, key, size
        place = f"{storage.server}\n{storage.get_full_path(key)}\n{size}"
        self._name = hashlib.sha256(place.encode()).hexdigest()[:32]
        self._block = _BLOCK if size > _WHOLE else max(size, 1)
        self._at = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, as files do."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def close(self) -> None:
        """Close it."""
        self.closed = True

    def read(self, count: int = -1) -> bytes:
        """Return the next bytes: one request for each run of blocks that are not here."""
        start = min(self._at, self._size)
        end = self._size if count < 0 else min(start + count, self._size)
        if start == end:
            return b""
        first, last = start // self._block, (end - 1) // self._block
        blocks = {number: self._cache.load(self._of(number)) for number in range(first, last + 1)}
        for here, run in groupby(blocks, key=lambda number: blocks[number] is not None):
            if not here:
                blocks |= self._fetch(list(run))
        data = b"".join(block or b"" for block in blocks.values())
        self._at = end
        return data[start - first * self._block : end - first * self._block]

    def _of(self, number: int) -> str:
        return f"{self._name}-{number}{_SUFFIX}"

    def _fetch(self, numbers: list[int]) -> dict[int, bytes]:
        start, end = numbers[0] * self._block, (numbers[-1] + 1) * self._block
        data = self._storage.read_bytes(self._key, start, min(end, self._size))
        if len(data) != min(end, self._size) - start:
            raise StorageUnavailableError(
                f"{self._storage.get_full_path(self._key)} is not the file that was committed: "
                "run `fluxforge verify --deep`"
            )
        step = self._block
        blocks = {number: data[i * step : (i + 1) * step] for i, number in enumerate(numbers)}
        for number, block in blocks.items():
            self._cache.keep(self._of(number), block)
        return blocks


def _checksum(block: bytes) -> bytes:
    return zlib.crc32(block).to_bytes(_CHECKSUM_BYTES)


def _user_cache() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home()) / "fluxforge" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fluxforge"
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))  # a relative one does not count
    return (chosen if chosen.is_absolute() else Path.home() / ".cache") / "fluxforge"
