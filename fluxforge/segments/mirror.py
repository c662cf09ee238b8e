"""Segments on an object store: parts while they grow, whole once they have ended.

While a segment's file grows on its writer's disk (the *owner*), the object store has::

    active/<source>/<name>/head               who writes it; the first to come and the first to go
    active/<source>/<name>/000000000000000    a part: whole lines, under the offset they begin at
    active/<source>/<name>/000000000052431    the next; an empty one is a fence, and nothing follows
    active/<source>/<name>/end                how many bytes the segment has, once that is decided

Nothing ever changes: each object is created exclusively. Parts form a chain from 0, the owner has
one on its way at a time, and repeats one that went unanswered as it was. Where a part is refused,
the size of what lies there says where to go on.

The owner of a closed file that is all there writes ``end``. Others do where its lease has lapsed:
first an empty part at the end of the chain, which the owner's next one must meet, then ``end``.
Of all that try, one wins, and from then on the segment is these bytes, whoever assembles them.
``ready/<name>`` is written after ``end``, with these bytes and no others; then the head goes, then
the parts. A head that is gone while ``end`` is there says that ``ready/<name>`` was written.

An owner that finds an ``end`` below its own makes the rest of its file another segment, whose name
follows from this one's and the offset. It alone removes ``end``, after its file is gone, and only
where none of its requests may still arrive: otherwise ``end`` and the fence stay for ever. Its
file goes before anything is removed here, so that it never has to guess what became of it.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fluxforge.errors import (
    FileExistsAlreadyError,
    FileMissingError,
    SegmentError,
    StorageError,
    StorageUnavailableError,
)
from fluxforge.layout import join_key
from fluxforge.segments.active import ActiveSegment
from fluxforge.segments.files import is_segment_name
from fluxforge.segments.records import RecoveryReport, StoredSegment
from fluxforge.storage.disk import translated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fluxforge.segments.active import Home
    from fluxforge.segments.files import SegmentFile
    from fluxforge.storage import Lease
    from fluxforge.storage.base import StoredFile

logger = logging.getLogger(__name__)

HEAD, END = "head", "end"
PART_BYTES = 1 << 20
"""The most that one part holds, unless a single line is longer; catching up takes twice that."""

_TRIES = 5


@dataclass(frozen=True)
class Objects:
    """What one listing found of a segment."""

    head: bool = False
    end: bool = False
    parts: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, names: dict[str, int]) -> Objects:
        """Read names and sizes; what is no name of this protocol is left out."""
        parts = {int(name): size for name, size in names.items() if _is_part(name)}
        return cls(HEAD in names, END in names, parts)

    @property
    def reach(self) -> int:
        """How many bytes the unbroken chain of parts has."""
        offset = 0
        while size := self.parts.get(offset):
            offset += size
        return offset

    @property
    def fenced(self) -> bool:
        """Whether an empty part ends the chain."""
        return self.reach in self.parts


class Mirror:
    """The objects of one segment."""

    def __init__(self, home: Home, name: str) -> None:
        self.folder = home.key("active", name)
        self.ready = home.key("ready", name)
        self.in_doubt = False  # whether a request may still arrive
        self._storage = home.storage

    def lease(self) -> Lease | None:
        """Claim the segment; None while a living owner or another recovery has it."""
        return self._storage.acquire_lease(self._key(HEAD))

    def list(self) -> Objects:
        """Look what there is."""
        files = self._storage.list_entries(self.folder, recursive=False)
        return Objects.of({file.name: file.size for file in files})

    def put_head(self) -> None:
        """Begin."""
        writer = {"writer": f"{socket.gethostname()}/{os.getpid()}"}
        with suppress(FileExistsAlreadyError):
            self._create(HEAD, json.dumps(writer).encode())

    def put_part(self, offset: int, data: bytes) -> int:
        """Store a part; return the size of what lies there, which another may have put."""
        try:
            self._create(f"{offset:015d}", data)
        except FileExistsAlreadyError:
            return self._storage.stat(self._key(f"{offset:015d}")).size
        return len(data)

    def decide(self, size: int) -> int:
        """Say how many bytes the segment has; return what was said first."""
        try:
            self._create(END, b"%d" % size)
        except FileExistsAlreadyError:
            return self.read_end()
        return size

    def read_end(self) -> int:
        """Return how many bytes the segment has."""
        content = self._storage.read_bytes(self._key(END))
        if not content.isdigit():
            raise SegmentError(f"{self._key(END)} does not hold a size: restore it or remove it")
        return int(content)

    def assemble(self, objects: Objects, end: int, folder: Path) -> Path:
        """Write the first `end` bytes of the chain into a local file."""
        path = folder / "assembled"
        offset = 0
        with translated(str(path)), path.open("wb") as file:
            while offset < end and (size := objects.parts.get(offset)):
                file.write(self._storage.read_bytes(self._key(f"{offset:015d}")))
                offset += size
        if offset != end or path.stat().st_size != end:
            wanted = (
                f"{self.folder}: of {end} bytes, those from {offset} on are missing: restore them"
            )
            raise SegmentError(f"{wanted}, or remove it where the table segments has its name")
        return path

    def publish(self, path: Path) -> None:
        """Write the whole segment to ``ready/``; who comes second had the same bytes."""
        with suppress(FileExistsAlreadyError):
            self._storage.write_file(path, self.ready, exclusive=True)

    def clear(self, objects: Objects, *, whole: bool) -> None:
        """Remove the head, then the parts; only where `whole` is true, fences and the end too."""
        names = [HEAD] if objects.head else []
        names += [f"{at:015d}" for at, size in sorted(objects.parts.items()) if size or whole]
        names += [END] if whole and objects.end else []
        for name in names:
            self._storage.delete(self._key(name))

    def exists(self, name: str) -> bool:
        """Tell whether one of the objects is there."""
        return self._storage.exists(self._key(name))

    def _create(self, name: str, data: bytes) -> None:
        try:
            self._storage.write_bytes(self._key(name), data, exclusive=True)
        except FileExistsAlreadyError:
            raise
        except StorageError:
            self.in_doubt = True
            raise

    def _key(self, name: str) -> str:
        return join_key(self.folder, name)


def take_over(mirror: Mirror) -> bool:
    """Settle a segment whose owner's lease has lapsed; tell whether it was put into ``ready/``.

    The caller holds it. Where some of its bytes are missing, a SegmentError leaves all as it is.
    """
    with suppress(FileMissingError):  # its owner has come back, and settles it meanwhile
        objects = mirror.list()
        if objects.end:
            end: int | None = mirror.read_end()
        elif objects.head or mirror.exists(HEAD):
            end = _fence(mirror, objects)
        else:  # requests that arrived after all was done
            mirror.clear(objects, whole=True)
            return False
        if end is None:
            return False
        objects = mirror.list()  # begun after the decision: it shows all parts, or no head
        # Parts go from the first on: a head beside none came when all was done.
        published = objects.head and end > 0 and bool(objects.parts.get(0))
        if published:
            with tempfile.TemporaryDirectory(prefix="fluxforge-recover-") as work:
                mirror.publish(mirror.assemble(objects, end, Path(work)))
        mirror.clear(objects, whole=False)
        return published
    return False


def _fence(mirror: Mirror, objects: Objects) -> int | None:
    """Keep the owner from going on, and decide the end; None where it lives after all."""
    for _ in range(_TRIES):
        offset = objects.reach
        if objects.fenced or mirror.put_part(offset, b"") == 0:
            return mirror.decide(offset)
        objects = mirror.list()
    return None


def mirrored_files(home: Home) -> dict[str, list[StoredFile]]:
    """Return the objects below ``active/``, by the segment that they are of."""
    active = home.folder("active")
    found: dict[str, list[StoredFile]] = {}
    for file in home.storage.list_entries(active):
        found.setdefault(file.key[len(active) + 1 :].partition("/")[0], []).append(file)
    return found


def list_mirrored(home: Home) -> Iterator[StoredSegment]:
    """Yield the segments that grow on the object store, each with what is there of it."""
    for name, files in mirrored_files(home).items():
        objects = Objects.of({file.name: file.size for file in files})
        if is_segment_name(name) and objects.head:
            newest = max(file.modified for file in files)
            key = home.key("active", name)
            yield StoredSegment(name, key, objects.reach, newest, "active")


def take_over_lapsed(home: Home, is_mine: Callable[[str], bool]) -> RecoveryReport:
    """Settle the segments whose owners' leases have lapsed, but for those of this machine."""
    report = RecoveryReport()
    for name, files in mirrored_files(home).items():
        objects = Objects.of({file.name: file.size for file in files})
        left_over = objects.end and not objects.head and not any(objects.parts.values())
        if left_over or is_mine(name):
            continue  # left_over: a takeover long ago
        if not is_segment_name(name):
            report += RecoveryReport(problems=(f"{files[0].key} belongs to no segment",))
            continue
        mirror = Mirror(home, name)
        lease = mirror.lease()
        if lease is None:
            continue  # its owner lives, or another recovery is at it
        with lease:
            try:
                published = take_over(mirror)
            except StorageUnavailableError:
                raise
            except StorageError as exc:
                report += RecoveryReport(problems=(str(exc),))
                continue
        if published:
            logger.info("recovered %s, whose writer had ended", mirror.ready)
            report += RecoveryReport((mirror.ready,))
    return report


class MirroredSegment(ActiveSegment):
    """A segment whose file is on this machine, and whose home is an object store: its owner's view.

    Attributes
    ----------
    mirrored
        Bytes of the file that are on the object store too.
    """

    def __init__(self, home: Home, file: SegmentFile, *, adopted: bool) -> None:
        super().__init__(home, file)
        self.mirrored = 0
        self._begin(adopted=adopted)

    def _begin(self, *, adopted: bool) -> None:
        self._mirror = Mirror(self._home, self.file.path.name)
        self._mirror.in_doubt = adopted
        self._lease: Lease | None = None
        self._known = not adopted  # what is on the store
        self._head = False
        self._part = 0  # the size of the part on its way
        self._end: int | None = None
        self.mirrored = 0

    @property
    def lost(self) -> bool:  # noqa: D102
        return self._end is not None and not self.file.closed

    @property
    def pending(self) -> int:  # noqa: D102
        return 0 if self.ready else self.file.size - self.mirrored

    def release(self) -> None:  # noqa: D102
        super().release()
        if self._lease is not None:
            self._lease.release()

    def _advance(self) -> bool:
        if self.ready or (self.file.closed and not self.file.size):
            self._clear()
        elif not self._known:
            self._look()
        elif self._end is None and self._has_more():
            self._send()
        elif not self.file.closed:
            return False
        elif self._end is None and self._head:
            self._end = self._mirror.decide(self.file.size)
        elif self._end not in (None, self.file.size):
            self._split(self._end or 0)
        else:
            self._mirror.publish(self.file.path)
            self.ready = self._mirror.ready
        return not self.settled

    def _has_more(self) -> bool:
        # A closed file without a head goes to ready at once; where one may come, it needs an end.
        known = self._head or self._mirror.in_doubt or not self.file.closed
        return known and self.mirrored < self.file.size

    def _look(self) -> None:
        """Find out what an earlier process, or this one before an error, has sent."""
        objects = self._mirror.list()
        self._head, self.mirrored, self._part = objects.head, objects.reach, 0
        if objects.end:
            self._end = self._mirror.read_end()
        elif objects.fenced:
            self._end = self._mirror.decide(self.mirrored)
        self._known = True

    def _send(self) -> None:
        if self._lease is None:
            self._lease = self._mirror.lease()  # without it others may end the segment, no more
        if not self._head:
            self._mirror.put_head()
            self._head = True
        # One that went unanswered is repeated as it was: the next one must meet a fence behind it.
        data = self.file.read_lines(self.mirrored, self._part or PART_BYTES)
        self._part = len(data)
        try:
            size = self._mirror.put_part(self.mirrored, data)
        except FileMissingError:  # refused, and gone: all was settled by others
            self._known = False
            return
        self._part = 0
        self.mirrored += size
        if not size:
            logger.warning("%s: others have ended it; going on in another", self.file.path)
            self._end = self._mirror.decide(self.mirrored)

    def _split(self, end: int) -> None:
        """Make the rest of the file another segment."""
        rest = self.file.split(end, str(self.name.derive(end)))
        if self._lease is not None:
            self._lease.release()
        if rest is None:
            self.settled = True
            return
        self.file = rest
        self._begin(adopted=True)

    def _clear(self) -> None:
        """Remove the file, and then what is on the store."""
        self.file.remove()
        if self._head:
            self._mirror.clear(self._mirror.list(), whole=not self._mirror.in_doubt)
        if self._lease is not None:
            self._lease.release()
        self.settled = True


def _is_part(name: str) -> bool:
    return len(name) >= 15 and name.isascii() and name.isdigit()
