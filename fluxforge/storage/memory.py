"""Storage that lasts as long as this process, for tests and throwaway lakes."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path

from fluxforge.layout import join_key
from fluxforge.storage.disk import LockFile
from fluxforge.storage.local import LocalStorage

_HOME = "FLUXFORGE_MEMORY"
_PREFIX = "fluxforge-memory-"


class MemoryStorage(LocalStorage):
    """Files that this process and those that it starts share, and that end with it.

    They lie in a folder, so that every library reads them: in memory where the system has a
    folder for that (``/dev/shm``), else among the temporary files.

    Parameters
    ----------
    name
        Storages of one name hold the same files; one without a name has its own.

    Examples
    --------
    >>> storage = MemoryStorage()
    >>> storage.write_bytes("raw/ready/coinbase/a.ndjson", b"{}")
    >>> storage.list_files("raw", "*.ndjson")
    ['raw/ready/coinbase/a.ndjson']
    """

    backend_type = "memory"

    def __init__(self, name: str = "") -> None:
        super().__init__(Path(_home(), *join_key(name or f"lake-{uuid.uuid4().hex}").split("/")))


def _home() -> str:
    """Return the folder of this process and those that it starts."""
    if (home := os.environ.get(_HOME)) and Path(home).is_dir():
        return home
    memory = Path("/dev/shm")  # noqa: S108  (made by mkdtemp, for this user alone)
    parent = memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
    for left in parent.glob(f"{_PREFIX}*"):  # by processes that were killed
        with suppress(OSError):
            if lock := LockFile.acquire(left / ".lock"):
                shutil.rmtree(left, ignore_errors=True)
                lock.release()
    begun = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=parent))
    LockFile.acquire(begun / ".lock")  # before another process finds it; held to the end
    home = os.environ[_HOME] = str(begun.rename(begun.with_name(begun.name[1:])))
    atexit.register(_remove, home, os.getpid())
    return home


def _remove(home: str, owner: int) -> None:
    if os.getpid() == owner:  # and not a fork of it
        shutil.rmtree(home, ignore_errors=True)
