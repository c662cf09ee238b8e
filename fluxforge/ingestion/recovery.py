"""Recovery: what collectors left in ``active/`` when they ended without closing it.

Every step can be repeated, so a recovery that is cut short is completed by the next one.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fluxforge.errors import JournalFencedError
from fluxforge.ingestion.claims import discard_empty, seal_segment
from fluxforge.layout import SegmentName, join_key
from fluxforge.segments import Quarantined, quarantine_name

if TYPE_CHECKING:
    from fluxforge.ingestion.claims import SegmentFolders
    from fluxforge.storage import Journal, StorageBackend

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recovered:
    """What a recovery found.

    Attributes
    ----------
    segments
        Keys of the segments that it closed into the ready folder.
    torn
        Keys of the quarantine files for lines that a crash cut short.
    """

    segments: tuple[str, ...] = ()
    torn: tuple[str, ...] = ()

    def __add__(self, other: Recovered) -> Recovered:
        return Recovered(self.segments + other.segments, self.torn + other.torn)


def recover_segments(storage: StorageBackend, folders: SegmentFolders) -> Recovered:
    """Close the segments whose collectors are gone; leave those of living ones alone.

    Complete lines go to the ready folder. A torn last line goes to quarantine: no flush ever
    returned for it.

    Raises
    ------
    StorageError
        If the storage refuses; nothing is lost, and the next recovery goes on from there.
    """
    recovered = Recovered()
    for key in storage.list_journals(folders.active):
        if SegmentName.parse(key) is None:
            continue  # not ours
        journal = storage.take_over_journal(key)
        if journal is None:
            continue  # its writer lives, or closed it just now
        try:
            recovered += _close_orphan(storage, folders, journal)
        except JournalFencedError:
            logger.info("another collector recovers %s", key)
            journal.close()
        except BaseException:
            journal.close()
            raise
    return recovered


def _close_orphan(storage: StorageBackend, folders: SegmentFolders, journal: Journal) -> Recovered:
    torn = _quarantine_torn_tail(storage, folders, journal)
    if not journal.size:
        discard_empty(storage, journal, folders.ready)
        return Recovered(torn=torn)
    destination = seal_segment(journal, folders.ready)
    logger.info("recovered %s, whose collector had ended, into %s", journal.key, destination)
    return Recovered((destination,), torn)


def _quarantine_torn_tail(
    storage: StorageBackend, folders: SegmentFolders, journal: Journal
) -> tuple[str, ...]:
    tail = journal.torn_tail()
    if not tail:
        return ()
    segment = journal.key.rpartition("/")[2]
    offset = journal.size - len(tail)
    reason = f"torn: the collector ended while it wrote this line, at byte {offset}"
    # The line's number would need a pass over the segment; the offset is known.
    record = Quarantined(line=0, reason=reason, content=tail).record()
    name = quarantine_name(segment, hashlib.sha256(tail).hexdigest())
    key = join_key(folders.quarantine, name)
    storage.write_bytes(key, record)  # before the tail goes: a crash between repeats this write
    journal.drop_torn_tail()
    logger.warning("%s ended in a torn line; it is in %s", journal.key, key)
    return (key,)
