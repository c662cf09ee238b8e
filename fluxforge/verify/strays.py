"""What lies where nothing reads it, among segments or among tables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fluxforge.layout import join_key
from fluxforge.verify.report import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fluxforge.storage.base import StorageBackend
    from fluxforge.verify.report import Found


def odd_files(storage: StorageBackend, folder: str) -> Found:
    """Name what is neither a file nor a folder, and is never followed: links, pipes, devices."""
    root = Path(storage.get_full_path())
    for entry in _odd(root / folder) if storage.is_local and (root / folder).is_dir() else ():
        kind = "a symbolic link" if entry.is_symlink() else "no regular file"
        where = Path(entry.path).relative_to(root).as_posix()
        yield Finding("odd_file", where, f"{kind}: nothing reads it; move it away")


def _odd(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _odd(entry.path)
        elif not entry.is_file(follow_symlinks=False):
            yield entry


def unknown_sources(home: str, names: Iterable[str]) -> Found:
    """Name the folders of sources that are not known."""
    message = "no source of this name is installed or configured: install it, or move this away"
    for name in sorted(names):
        yield Finding("unknown_source", join_key(home, name), message)
