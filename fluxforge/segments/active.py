"""A segment from its opening until it waits in ``ready/``."""

from __future__ import annotations

import hashlib
import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fluxforge.errors import FileExistsAlreadyError, SegmentError
from fluxforge.layout import SegmentName, join_key
from fluxforge.segments.records import Quarantined, quarantine_name

if TYPE_CHECKING:
    from fluxforge.layout import Layout, State
    from fluxforge.segments.files import SegmentFile
    from fluxforge.storage import StorageBackend

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Home:
    """Where the segments of one source lie."""

    storage: StorageBackend
    layout: Layout
    source: str

    def folder(self, state: State) -> str:
        """Return the folder of the segments in one state."""
        return self.layout.state(state, self.source)

    def key(self, state: State, name: str) -> str:
        """Return the key of a segment in one state."""
        return join_key(self.folder(state), name)

    def quarantine_torn(self, file: SegmentFile) -> str:
        """Bring the rest of a line that a crash cut short to quarantine; return its key."""
        reason = f"torn: the collector ended while it wrote this line, at byte {file.size}"
        # The line's number would need a pass over the segment; the offset is known.
        record = Quarantined(line=0, reason=reason, content=file.torn).record()
        name = quarantine_name(file.path.name, hashlib.sha256(file.torn).hexdigest())
        key = self.key("quarantine", name)
        self.storage.write_bytes(key, record)  # before the tail goes: a crash repeats this write
        file.drop_torn()
        logger.warning("%s ended in a torn line; it is in %s", file.path, key)
        return key


class ActiveSegment(ABC):
    """A segment that lies on this machine's disk, and is on its way to ``ready/``.

    Attributes
    ----------
    file
        Its lines.
    ready
        Where it waits for the ETL; empty until then, and where nothing was in it.
    torn
        Where the rest of a torn line went.
    settled
        Whether this machine has nothing more to do for it.
    """

    def __init__(self, home: Home, file: SegmentFile) -> None:
        self.file = file
        self.ready = ""
        self.torn = ""
        self.settled = False
        self._home = home

    @property
    def lost(self) -> bool:
        """Whether others have ended it, so that its writer should begin another."""
        return False

    @property
    def pending(self) -> int:
        """Bytes that only this machine has."""
        return 0

    @property
    def name(self) -> SegmentName:
        """The segment's name."""
        name = SegmentName.parse(self.file.path.name)
        if name is None:
            raise SegmentError(f"{self.file.path} does not have the name of a segment")
        return name

    def advance(self) -> bool:
        """Do the next thing that brings it to ``ready/``; False where nothing is left for now."""
        if self.settled:
            return False
        if self.file.torn:
            self.torn = self._home.quarantine_torn(self.file)
        return self._advance()

    @abstractmethod
    def _advance(self) -> bool: ...

    def release(self) -> None:
        """Let go of it as it is: the next recovery goes on from there."""
        self.file.release()


class LocalSegment(ActiveSegment):
    """A segment on the lake's own disk: it is renamed into ``ready/``."""

    def _advance(self) -> bool:
        if not self.file.closed:
            return False
        if self.file.size:
            self._rename(self.name)
        else:
            self.file.remove()
        self.settled = True
        return False

    def _rename(self, name: SegmentName) -> None:
        key = self._home.key("ready", str(name))
        try:
            self.file.move(Path(self._home.storage.get_full_path(key)))
        except FileExistsAlreadyError:
            if name != self.name:
                raise
            self._rename(name.derive("taken"))  # a name without a random part, by chance
        else:
            self.ready = key
