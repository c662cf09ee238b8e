"""Taking segments to work on: each by one worker at a time, a dead worker's first."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fluxforge.errors import FileExistsAlreadyError, FileMissingError
from fluxforge.layout import Layout, SegmentName, join_key

if TYPE_CHECKING:
    from collections.abc import Generator

    from fluxforge.storage.base import StorageBackend

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SegmentFolders:
    """Where a source's segments lie, by state."""

    ready: str
    processing: str
    quarantine: str
    archive: str

    @classmethod
    def beside(cls, ready: str, layout: Layout | None = None) -> SegmentFolders:
        """Return the folders of the source that `ready` is of.

        They are those of the layout. Where `ready` is none of its folders, or there is no layout,
        they are the folders beside it, under their usual names.

        Examples
        --------
        >>> SegmentFolders.beside("raw/ready/coinbase", Layout(processing_subdir="work")).processing
        'raw/work/coinbase'
        >>> SegmentFolders.beside("mine/new/coinbase").processing
        'mine/processing/coinbase'
        """
        state, _, source = ready.rpartition("/")
        if layout is None or ready != layout.ready(source):
            layout = Layout(raw=state.rpartition("/")[0])
        return cls(
            ready, layout.processing(source), layout.quarantine(source), layout.archive(source)
        )


@dataclass(frozen=True)
class Claim:
    """A segment in ``processing/`` that this worker holds.

    Attributes
    ----------
    name
        The segment's name.
    key
        Where it lies.
    orphan
        Whether another worker died over it.
    """

    name: str
    key: str
    orphan: bool


def claim_segments(storage: StorageBackend, folders: SegmentFolders) -> Generator[Claim]:
    """Yield the segments that wait, oldest first, each held until the next is asked for.

    Those that a dead worker left in ``processing/`` come first. Segments that other living
    workers hold are passed over.

    Raises
    ------
    StorageError
        If the folders cannot be listed.
    """
    for name in _segment_names(storage, folders.processing):
        yield from _claim(storage, folders, name)
    for name in _segment_names(storage, folders.ready):
        yield from _claim(storage, folders, name)


def count_waiting(storage: StorageBackend, folders: SegmentFolders) -> int:
    """Return how many segments wait or are in work."""
    places = (folders.processing, folders.ready)
    return sum(len(_segment_names(storage, place)) for place in places)


def _segment_names(storage: StorageBackend, folder: str) -> list[str]:
    names = [key.rpartition("/")[2] for key in storage.list_files(folder, "*.ndjson")]
    segments = [(segment, name) for name in names if (segment := SegmentName.parse(name))]
    return [name for _, name in sorted(segments)]


def _claim(storage: StorageBackend, folders: SegmentFolders, name: str) -> Generator[Claim]:
    ready, processing = join_key(folders.ready, name), join_key(folders.processing, name)
    lease = storage.acquire_lease(processing)
    if lease is None:
        logger.debug("%s is held by another worker", name)
        return
    with lease:
        if storage.exists(processing):
            logger.info("%s was left in processing: taking it up again", name)
            yield Claim(name, processing, orphan=True)
        try:
            storage.move(ready, processing)
        except FileMissingError:
            return  # another worker has done it, or it was only the orphan
        except FileExistsAlreadyError:
            logger.warning("%s is still in processing: its namesake in ready waits", name)
            return
        yield Claim(name, processing, orphan=False)
