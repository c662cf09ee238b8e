"""Segments: each is at the destination once, whatever it is called there.

What a segment is, its content says and not its name: two collectors that never met give the same
names. A namesake at the destination with other content is left as it is, and the newcomer takes
another name. Segments that are being written or processed are not touched.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fluxforge.errors import FileExistsAlreadyError, FileMissingError, SegmentError
from fluxforge.layout import SegmentName, join_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from typing import Literal

    from fluxforge.storage.base import StoredFile
    from fluxforge.sync.places import Place
    from fluxforge.sync.report import Counters
    from fluxforge.sync.transfer import Transfer

    SettledState = Literal["ready", "archive", "quarantine"]

SETTLED_STATES: tuple[SettledState, ...] = ("ready", "archive", "quarantine")
"""The states in which a file is whole and nobody works on it, in the order of a segment's life."""

_TRIES = 10_000  # far more names than a source opens in an hour

logger = logging.getLogger(__name__)


class _HeldError(Exception):
    """Another worker, or one that died a moment ago, holds a segment of that name."""


@dataclass(frozen=True)
class Segment:
    """A file of a source, in one of the settled states."""

    state: SettledState
    source: str
    file: StoredFile


class SegmentSync:
    """The copying or moving of all segments of one place to another.

    Parameters
    ----------
    source, destination
        The places.
    transfer
        Copies between their storages.
    counters
        Is told of every file.
    delete
        Delete each segment at the source once its copy was read back.
    dry_run
        Only tell what would be done.
    """

    def __init__(
        self,
        source: Place,
        destination: Place,
        transfer: Transfer,
        counters: Counters,
        *,
        delete: bool,
        dry_run: bool,
    ) -> None:
        self._source = source
        self._destination = destination
        self._transfer = transfer
        self._counters = counters
        self._delete = delete
        self._dry_run = dry_run
        self._listings: dict[tuple[SettledState, str], list[StoredFile]] = {}

    def list_segments(self) -> list[Segment]:
        """Return what is to be copied, the oldest of each state and source first."""
        segments = []
        for state in SETTLED_STATES:
            for source in self._source.storage.list_folders(self._source.layout.state(state, "")):
                folder = self._source.layout.state(state, source)
                for file in self._source.storage.list_entries(folder, recursive=False):
                    if state != "ready" or _is_segment(file.name):
                        segments.append(Segment(state, source, file))
        return segments

    def run(self, segment: Segment) -> None:
        """Copy or move one segment, unless it is there already.

        Raises
        ------
        SegmentError
            If what is at the destination looks like a damaged copy of it. Nothing is deleted then.
        StorageError
            If a storage fails; running again carries on.
        """
        try:
            with self._claim(self._source, segment, segment.file.name):
                self._settle(segment)
        except _HeldError as exc:
            logger.info("%s is left for later: %s is held", segment.file.key, exc)
            self._counters.skipped(segment.file.key)
        except FileMissingError:
            logger.info("%s was taken by an ETL meanwhile", segment.file.key)
            self._counters.settled()

    def _claim(self, place: Place, segment: Segment, name: str) -> AbstractContextManager[object]:
        """Keep a place's ETL away from a segment while it is moved."""
        if not self._delete or self._dry_run or segment.state != "ready":
            return nullcontext()
        key = join_key(place.layout.processing(segment.source), name)
        claim = place.storage.acquire_lease(key)
        if claim is None:
            raise _HeldError(place.storage.get_full_path(key))
        return claim

    def _settle(self, segment: Segment) -> None:
        try:
            self._provide(segment)
        except FileExistsAlreadyError:  # another writer took the name since the listing
            self._listings.clear()
            self._provide(segment)
        if self._delete:
            if not self._dry_run:
                self._source.storage.delete(segment.file.key)
            self._counters.deleted(segment.file.key)

    def _provide(self, segment: Segment) -> None:
        if self._find_copy(segment) is not None:
            self._counters.skipped(segment.file.key)
        else:
            self._copy(segment)

    def _find_copy(self, segment: Segment) -> StoredFile | None:
        """Return the file at the destination that has the segment's content, if there is one."""
        others = [
            other
            for other in self._present(segment)
            if _may_share_content(segment.state, segment.file.name, other.name)
        ]
        for other in others:
            if self._transfer.are_equal(segment.file, other):
                return other
        for other in others:
            namesake = other.name == segment.file.name
            if namesake and self._transfer.begin_alike(segment.file, other):
                raise SegmentError(
                    f"{self._destination.storage.get_full_path(other.key)} begins as "
                    f"{segment.file.key} does and goes on otherwise, as a damaged copy would: "
                    "delete it and sync again"
                )
        return None

    def _present(self, segment: Segment) -> list[StoredFile]:
        """Return what the destination has of this state and source, as first listed."""
        known = (segment.state, segment.source)
        if known not in self._listings:
            storage, layout = self._destination.storage, self._destination.layout
            folders = [layout.state(segment.state, segment.source)]
            if segment.state == "ready":  # an ETL may be at work on what came by an earlier sync
                folders.append(layout.processing(segment.source))
            self._listings[known] = [
                file for folder in folders for file in storage.list_entries(folder, recursive=False)
            ]
        return self._listings[known]

    def _copy(self, segment: Segment) -> None:
        """Copy a segment under the first name that is free."""
        folder = self._destination.layout.state(segment.state, segment.source)
        present = self._present(segment)
        taken = {file.name for file in present}
        for name in self._names(segment):
            if name in taken:
                continue
            key = join_key(folder, name)
            with self._claim(self._destination, segment, name):  # until it was read back
                if not self._dry_run:
                    self._transfer.copy(segment.file.key, key)
            present.append(replace(segment.file, key=key))
            self._counters.copied(key, segment.file.size)
            return
        raise SegmentError(f"no name is free for {segment.file.name} in {folder}")

    def _names(self, segment: Segment) -> Iterator[str]:
        """Yield the names that the copy may have, the best first."""
        name = segment.file.name
        yield name
        parsed = SegmentName.parse(name)
        if segment.state == "ready" and parsed is not None:
            for _ in range(_TRIES):
                parsed = parsed.next()
                yield str(parsed)
        else:
            stem, dot, suffix = name.partition(".")
            yield f"{stem}-{self._source.storage.digest(segment.file.key)[:12]}{dot}{suffix}"


def _is_segment(name: str) -> bool:
    return name.endswith(".ndjson") and SegmentName.parse(name) is not None


def _may_share_content(state: SettledState, name: str, other: str) -> bool:
    """Tell whether the other name is one that a copy can have been given."""
    if state != "ready":
        return other.startswith(name.partition(".")[0])
    one, two = SegmentName.parse(name), SegmentName.parse(other)
    return one is not None and two is not None and one.hour == two.hour
