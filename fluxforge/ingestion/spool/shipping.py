"""Bringing what waits in a spool to the object store, each line once."""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from fluxforge.errors import FileExistsAlreadyError, FileMissingError, SegmentError
from fluxforge.ingestion.claims import first_free_name, following_names
from fluxforge.layout import SegmentName, join_key
from fluxforge.storage.disk import translated

if TYPE_CHECKING:
    from fluxforge.ingestion.claims import SegmentFolders
    from fluxforge.ingestion.spool.spool import Spool
    from fluxforge.storage.objects import ObjectStorage

logger = logging.getLogger(__name__)


class Shipper:
    """Moves closed segments, notes and quarantined lines of a spool to the store.

    Several collectors on one machine may ship from one spool: each file is leased while it is on
    its way. A crash between the upload and the removal here repeats the upload; the ETL knows a
    segment by its content and takes it once.

    Parameters
    ----------
    store, folders
        Where to.
    spool
        Where from.
    source_name
        The exchange; for messages.

    Attributes
    ----------
    segments
        How many were put into the ready folder.
    """

    def __init__(
        self, store: ObjectStorage, folders: SegmentFolders, spool: Spool, source_name: str
    ) -> None:
        self.segments = 0
        self._store = store
        self._folders = folders
        self._spool = spool
        self._source_name = source_name

    def ship_next(self) -> bool:
        """Bring one file to the store; False where none waits that is not on its way already.

        Raises
        ------
        StorageError
            If the store or the disk refuses; nothing is lost, and it is next in line again.
        """
        return self._settle_note() or self._ship_segment() or self._ship_quarantine()

    def _settle_note(self) -> bool:
        for note, batch in self._spool.unsettled():
            if self._is_stored(batch.place.journal, batch.place.part, batch.data):
                self._spool.drop_note(note)
            else:
                self._spool.note_to_segment(note, batch)
            return True
        return False

    def _is_stored(self, journal: str, part: int, data: bytes) -> bool:
        try:
            return self._store.resolve_append(journal, part, data)
        except FileMissingError:
            # The store remembers a journal for a week. Twice is better than not at all.
            logger.warning(
                "%s: nobody knows any more whether %d frames are in %s; they are stored, maybe "
                "for the second time",
                self._source_name,
                data.count(b"\n"),
                journal,
            )
            return False

    def _ship_segment(self) -> bool:
        for key in self._spool.storage.list_files(self._spool.folders.ready):
            lease = self._spool.storage.acquire_lease(key)
            if lease is None:
                continue
            with lease:
                path = Path(self._spool.storage.get_full_path(key))
                if not path.is_file():
                    continue
                destination = self._upload(path)
                self._spool.storage.delete(key)
            self.segments += 1
            logger.info("%s: brought %s from the spool", self._source_name, destination)
            return True
        return False

    def _upload(self, path: Path) -> str:
        """Store a segment under a free name, unless it is there; return its key."""
        own = SegmentName.parse(path.name)
        if own is None:
            raise SegmentError(f"{path} does not have the name of a segment: move it elsewhere")
        if earlier := self._find_earlier(path, own.hour):
            return earlier
        at = datetime.strptime(f"{own.hour}+0000", "%Y%m%dT%H%z")
        for name in following_names(first_free_name(self._store, self._folders, at)):
            key = join_key(self._folders.ready, str(name))
            try:
                self._store.write_file(path, key, exclusive=True)
            except FileExistsAlreadyError:
                if self._is_same(key, path):
                    return key  # an upload that went unanswered
                continue
            return key
        raise FileExistsAlreadyError(f"no name is free in {self._folders.ready}")

    def _find_earlier(self, path: Path, hour: str) -> str:
        """Return where the segment lies already: its upload went unanswered, or was the last."""
        size = path.stat().st_size
        for file in self._store.list_entries(self._folders.ready, recursive=False):
            name = SegmentName.parse(file.key)
            if name and name.hour == hour and file.size == size and self._is_same(file.key, path):
                return file.key
        return ""

    def _is_same(self, key: str, path: Path) -> bool:
        try:
            with translated(str(path)), path.open("rb") as file:
                for piece in self._store.read_pieces(key):
                    if piece != file.read(len(piece)):
                        return False
                return not file.read(1)
        except FileMissingError:
            return False  # an ETL has just taken it

    def _ship_quarantine(self) -> bool:
        for key in self._spool.storage.list_files(self._spool.folders.quarantine):
            path = Path(self._spool.storage.get_full_path(key))
            try:
                # The name holds a digest of what is in it: the same again is the same.
                self._store.write_file(path, join_key(self._folders.quarantine, path.name))
            except FileMissingError:
                continue  # another collector has just shipped it
            self._spool.storage.delete(key)
            return True
        return False
