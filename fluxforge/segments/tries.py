"""Segments that fail: how often they were tried, when next, and which are set aside.

A small file beside the segment in ``processing/``, ``<segment>.tries``, outlives the process.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from fluxforge.errors import FileMissingError, printable

if TYPE_CHECKING:
    from fluxforge.layout import Layout
    from fluxforge.storage.base import StorageBackend

SUFFIX = ".tries"
MOST_TRIES = 5
LONGEST_IN_WORK = timedelta(days=15)
"""A segment that was claimed longer ago may be in tables that no longer remember it."""

_FIRST_PAUSE = timedelta(seconds=30)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tries:
    """What is known of a segment that failed."""

    segment: str  # its name
    tries: int  # how often it failed
    error: str  # the last one
    not_before: datetime | None
    """When a watching ETL tries it again; None: it is set aside, until it is taken back."""

    @property
    def aside(self) -> bool:
        """Whether no ETL tries it again by itself."""
        return self.not_before is None


class TriesJournal:
    """The tries of one source's segments."""

    def __init__(self, storage: StorageBackend, layout: Layout, source: str) -> None:
        self._storage = storage
        self._folder = layout.processing(source)

    def read(self) -> dict[str, Tries]:
        """Return what is known, by segment; a file that cannot be read says nothing."""
        found = {}
        for key in self._storage.list_files(self._folder, f"*{SUFFIX}", recursive=False):
            name = key.rpartition("/")[2].removesuffix(SUFFIX)
            try:
                entry = json.loads(self._storage.read_bytes(key))
                at = entry["not_before"] and datetime.fromisoformat(entry["not_before"])
                found[name] = Tries(name, int(entry["tries"]), str(entry["error"]), at)
            except (ValueError, KeyError, TypeError, FileMissingError):
                logger.warning("%s says nothing", key)
        return found

    def failed(self, known: Tries | None, segment: str, error: Exception) -> None:
        """Note that a segment failed once more; after some tries it is set aside."""
        tries = 1 + (known.tries if known else 0)
        pause = _FIRST_PAUSE * 2 ** (tries - 1)
        not_before = datetime.now(UTC) + pause if tries < MOST_TRIES else None
        self._write(Tries(segment, tries, str(error), not_before))

    def set_aside(self, segment: str, reason: str) -> None:
        """Keep a segment from being tried again."""
        self._write(Tries(segment, 0, reason, None))

    def clear(self, segment: str) -> None:
        """Forget a segment's tries: the next ETL takes it up again."""
        self._storage.delete(self._key(segment))

    def _write(self, tries: Tries) -> None:
        at = tries.not_before.isoformat() if tries.not_before else None
        error = printable(tries.error, 1000)
        entry = {"tries": tries.tries, "error": error, "not_before": at}
        self._storage.write_bytes(self._key(tries.segment), json.dumps(entry).encode())
        logger.warning("%s %s: %s", tries.segment, "waits" if at else "is set aside", error)

    def _key(self, segment: str) -> str:
        return self._storage.join_path(self._folder, segment + SUFFIX)
