"""Claiming the name of a new segment, and closing a segment into ``ready/``.

Several collectors of one source may write into one lake. A name belongs to whoever creates its
journal; a listing only tells where to begin.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fluxforge.errors import FileExistsAlreadyError, SegmentError
from fluxforge.layout import SegmentName, join_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from fluxforge.layout import Layout
    from fluxforge.storage import Journal, StorageBackend

_TRIES = 1_000  # far more names than others take between a listing and a claim
_QUARANTINE_DIGEST = re.compile(r"-[0-9a-f]+(?=\.ndjson$)")


@dataclass(frozen=True)
class SegmentFolders:
    """Where the segments of one source lie.

    Attributes
    ----------
    active, ready, quarantine
        What ingestion writes to.
    others
        Further folders in which a name of this source may be taken.
    """

    active: str
    ready: str
    quarantine: str
    others: tuple[str, ...] = ()

    @classmethod
    def from_layout(cls, layout: Layout, source: str) -> SegmentFolders:
        """Take the folders of a source from a layout."""
        return cls(
            active=layout.active(source),
            ready=layout.ready(source),
            quarantine=layout.quarantine(source),
            others=(layout.processing(source), layout.archive(source)),
        )

    @classmethod
    def around(
        cls,
        active: str,
        ready: str,
        quarantine: str | None = None,
        others: Sequence[str] | None = None,
    ) -> SegmentFolders:
        """Complete the two folders that a caller must know with their default siblings.

        Examples
        --------
        >>> folders = SegmentFolders.around("raw/active/coinbase", "raw/ready/coinbase")
        >>> folders.quarantine, folders.others
        ('raw/quarantine/coinbase', ('raw/processing/coinbase', 'raw/archive/coinbase'))
        """
        state, _, source = ready.rpartition("/")
        parent = state.rpartition("/")[0]
        if quarantine is None:
            quarantine = join_key(parent, "quarantine", source)
        if others is None:
            others = [join_key(parent, state, source) for state in ("processing", "archive")]
        return cls(join_key(active), join_key(ready), join_key(quarantine), tuple(others))


def claim_segment(
    storage: StorageBackend, folders: SegmentFolders, at: datetime, after: SegmentName | None
) -> tuple[SegmentName, Journal]:
    """Create the journal of a new segment under a name that nobody has or had in this process.

    Parameters
    ----------
    storage, folders
        Where segments lie.
    at
        The time now; its UTC hour goes into the name.
    after
        The last name this process used; a later one of the same hour is chosen.

    Raises
    ------
    StorageError
        If a folder cannot be listed. The counter never starts again because of that.
    """
    name = first_free_name(storage, folders, at)
    if after is not None and after.hour == name.hour and after.counter >= name.counter:
        name = after.next()
    for candidate in following_names(name):
        with suppress(FileExistsAlreadyError):
            journal = storage.create_journal(join_key(folders.active, str(candidate)))
            return candidate, journal
    raise FileExistsAlreadyError(f"no name is free in {folders.active}")


def seal_segment(journal: Journal, ready: str) -> str:
    """Move a journal into `ready` under its own name, or the next free one; return the key."""
    name = SegmentName.parse(journal.key)
    if name is None:
        raise SegmentError(f"{journal.key} does not have the name of a segment")
    for candidate in following_names(name):
        destination = join_key(ready, str(candidate))
        with suppress(FileExistsAlreadyError):
            journal.seal(destination)
            return destination
    raise FileExistsAlreadyError(f"no name is free in {ready}")


def discard_empty(storage: StorageBackend, journal: Journal, ready: str) -> None:
    """Remove a journal that holds nothing.

    It is sealed and then deleted. A crash in between leaves an empty segment in `ready`, which
    costs nobody anything.
    """
    storage.delete(seal_segment(journal, ready))


def first_free_name(storage: StorageBackend, folders: SegmentFolders, at: datetime) -> SegmentName:
    """Return the first name of the hour of `at` that is above all that are taken.

    Raises
    ------
    StorageError
        If a folder cannot be listed. The counter never starts again because of that.
    """
    return SegmentName.first_free(at, _taken_names(storage, folders))


def following_names(name: SegmentName) -> Iterator[SegmentName]:
    """Yield a name and those after it, for as long as one may hope that one of them is free."""
    for _ in range(_TRIES):
        yield name
        name = name.next()


def _taken_names(storage: StorageBackend, folders: SegmentFolders) -> list[str]:
    names = storage.list_journals(folders.active)
    for folder in (folders.ready, folders.quarantine, *folders.others):
        names += storage.list_files(folder, recursive=False)
    return [_QUARANTINE_DIGEST.sub("", name) for name in names]
