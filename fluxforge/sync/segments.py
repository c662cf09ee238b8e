"""Segments: each is at the destination once, whatever it is called there.

What a segment is, its content says and not its name. A namesake at the destination with other
content is left as it is, and the newcomer takes a name that follows from its content. Segments
that are being written or processed are not touched.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from fluxforge.errors import FileExistsAlreadyError, FileMissingError, SegmentError
from fluxforge.layout import SegmentName, State, join_key
from fluxforge.segments import SegmentStore, StoredSegment, quarantine_name

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from fluxforge.sync.places import Place
    from fluxforge.sync.transfer import Transfer

SETTLED_STATES: tuple[State, ...] = ("ready", "archive", "quarantine")
"""The states in which a file is whole and nobody works on it, in the order of a segment's life."""

logger = logging.getLogger(__name__)


class _HeldError(Exception):
    """Another worker, or one that died a moment ago, holds a segment of that name."""


@dataclass
class SegmentSync:
    """The copying or moving of one source's segments in one state."""

    source: str
    state: State
    here: Place
    there: Place
    transfer: Transfer
    dry_run: bool
    _present: list[StoredSegment] = field(default_factory=list)

    def list(self) -> list[StoredSegment]:
        """Return what is to be copied, the oldest first."""
        self._look()
        return SegmentStore(*self.here, self.source).list(self.state)

    def run(self, segment: StoredSegment) -> None:
        """Copy or move one segment, unless it is there already; a damaged copy is an error."""
        try:
            with self._claim(self.here, segment.name):
                self._settle(segment)
        except _HeldError as exc:
            logger.info("%s is left for later: %s is held", segment.key, exc)
            self.transfer.counters.skip(segment.key)
        except FileMissingError:
            logger.info("%s was taken by an ETL meanwhile", segment.key)
            self.transfer.counters.settle()

    def _look(self) -> None:
        """List what the destination has."""
        store = SegmentStore(*self.there, self.source)
        self._present = store.list(self.state)
        if self.state == "ready":  # an ETL may be at work on what came by an earlier sync
            self._present += store.list("processing")

    def _claim(self, place: Place, name: str) -> AbstractContextManager[object]:
        """Keep a place's ETL away from a segment while it is moved."""
        if not self.transfer.exact or self.dry_run or self.state != "ready":
            return nullcontext()
        lease = SegmentStore(*place, self.source).lease(name)
        if lease is None:
            raise _HeldError(f"{name} in {place.storage!r}")
        return lease

    def _settle(self, segment: StoredSegment) -> None:
        try:
            self._provide(segment)
        except FileExistsAlreadyError:  # another writer took the name since the listing
            self._look()
            self._provide(segment)
        if self.transfer.exact:
            if not self.dry_run:
                self.here.storage.delete(segment.key)
            self.transfer.counters.deleted.append(segment.key)

    def _provide(self, segment: StoredSegment) -> None:
        if self._has_copy(segment):
            self.transfer.counters.skip(segment.key)
            return
        name = segment.name
        if any(other.name == name for other in self._present):
            name = self._other_name(segment)
        key = join_key(self.there.layout.state(self.state, self.source), name)
        with self._claim(self.there, name):  # until it was read back
            if not self.dry_run:
                self.transfer.copy(segment.key, key)
        self._present.append(replace(segment, name=name, key=key))
        self.transfer.counters.copy(key, segment.size)

    def _has_copy(self, segment: StoredSegment) -> bool:
        """Tell whether the destination has the segment's content, under whatever name."""
        hour = segment.name.split("_")[1]
        if any(
            other.name.split("_")[1] == hour
            and other.size == segment.size
            and self.transfer.are_equal(segment.key, other.key, segment.size)
            for other in self._present
        ):
            return True
        for other in self._present:
            size = min(other.size, segment.size)
            if other.name == segment.name and (
                self.state == "quarantine"  # its name is that of one content
                or self.transfer.begin_alike(segment.key, other.key, size)
            ):
                raise SegmentError(
                    f"{self.there.storage.get_full_path(other.key)} begins as {segment.key} does "
                    "and goes on otherwise, as a damaged copy would: delete it and sync again"
                )
        return False

    def _other_name(self, segment: StoredSegment) -> str:
        digest = self.here.storage.digest(segment.key)
        name = SegmentName.parse(segment.name)
        if self.state == "ready" and name is not None:
            return str(name.derive(digest))
        stem = segment.name.partition(".")[0].partition("-")[0]
        return quarantine_name(f"{stem}.ndjson", digest) + ".zst"
