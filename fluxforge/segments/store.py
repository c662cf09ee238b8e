"""The life of one source's segments: open, seal, recover, claim, archive, quarantine, list."""

from __future__ import annotations

import logging
import math
import os
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fluxforge.errors import (
    FileExistsAlreadyError,
    FileMissingError,
    StorageError,
    StorageUnavailableError,
)
from fluxforge.layout import SegmentName, State, join_key
from fluxforge.segments.active import ActiveSegment, Home, LocalSegment
from fluxforge.segments.envelope import pack_segment, same_content
from fluxforge.segments.files import (
    SegmentFile,
    check_folder,
    find_segments,
    is_segment_name,
    size_of,
)
from fluxforge.segments.mirror import MirroredSegment, list_mirrored, take_over_lapsed
from fluxforge.segments.records import (
    Claim,
    RecoveryReport,
    StoredSegment,
    is_quarantine_name,
    quarantine_name,
)
from fluxforge.segments.spool import default_spool_dir, spool_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from fluxforge.layout import Layout
    from fluxforge.storage import Lease, StorageBackend

logger = logging.getLogger(__name__)

Claims = list[Claim]  # in the class, `list` is a method


class SegmentStore:
    """The life of one source's segments over one storage and layout, from open to archived.

    A segment is always written on this machine's disk: below ``active/`` where the lake is local,
    else in a spool, from where it is mirrored to the object store.

    Parameters
    ----------
    storage, layout, source
        Where segments lie, and whose they are.
    spool_dir
        The folder of all spools of this machine; by default in the user's state directory.
    """

    def __init__(
        self,
        storage: StorageBackend,
        layout: Layout,
        source: str,
        *,
        spool_dir: str | Path | None = None,
    ) -> None:
        self.home = Home(storage, layout, source)
        self._storage = storage
        self._spool_dir = spool_dir
        self._last: SegmentName | None = None

    def __repr__(self) -> str:
        return f"<SegmentStore {self.home.source} in {self._storage!r}>"

    @property
    def folder(self) -> Path:
        """Where on this machine's disk segments grow."""
        if self._storage.is_local:
            return Path(self._storage.get_full_path(self.home.folder("active")))
        parent = Path(self._spool_dir) if self._spool_dir else default_spool_dir()
        ready = self._storage.get_full_path(self.home.folder("ready"))
        return parent / spool_name(ready, self._storage.server)

    # Ingestion

    def prepare(self) -> None:
        """Fail now, and not at the first flush, where nothing can be written."""
        active = self.home.folder("active")
        self._storage.mkdir(active)
        self._storage.mkdir(self.home.folder("ready"))
        lease = self._storage.acquire_lease(join_key(active, "collector"))
        if lease is not None:
            lease.release()
        with self._spool_errors():
            check_folder(self.folder)

    def open(self, at: datetime) -> ActiveSegment:
        """Begin a segment under a name that nobody has or had; nothing is listed for it."""
        name = SegmentName.new(at, 1)
        if self._last is not None and self._last.hour == name.hour:
            name = SegmentName.new(at, self._last.counter + 1)
        self._last = name
        with self._spool_errors():
            file = SegmentFile.create(self.folder / str(name))
        logger.debug("%s: opened %s", self.home.source, file.path)
        return self._segment(file, adopted=False)

    def spool_bytes(self) -> int:
        """Return how many bytes wait on this disk for the object store; 0 on a local lake."""
        return 0 if self._storage.is_local else size_of(self.folder)

    def adopt(self) -> tuple[list[ActiveSegment], RecoveryReport]:
        """Take over the segments on this machine's disk whose writers have ended."""
        found, strays = find_segments(self.folder)
        segments, problems = [], strays
        for path in found:
            try:
                with self._spool_errors():
                    file = SegmentFile.adopt(path)
            except StorageError as exc:
                problems.append(str(exc))
                continue
            if file is not None:
                segments.append(self._segment(file, adopted=True))
        return segments, RecoveryReport(problems=tuple(problems))

    def recover(self) -> RecoveryReport:
        """Bring to ``ready/`` what dead captures left: on this disk, and on the object store.

        Living writers' segments are left alone; on an object store that is who has renewed their
        lease. Every step can be repeated, so that the next recovery completes one that is cut
        short. One bad file or segment does not keep the others from it.
        """
        segments, report = self.adopt()
        for position, segment in enumerate(segments):
            try:
                report += self._settle(segment)
            except StorageUnavailableError:
                for rest in segments[position + 1 :]:
                    rest.release()
                raise
        return report + self.recover_others()

    def recover_others(self) -> RecoveryReport:
        """Take over the segments on the object store whose owners' leases have lapsed."""
        if self._storage.is_local:
            return RecoveryReport()
        return take_over_lapsed(self.home, lambda name: (self.folder / name).exists())

    def _settle(self, segment: ActiveSegment) -> RecoveryReport:
        path = segment.file.path
        try:
            with self._spool_errors():
                while segment.advance():
                    pass
        except StorageUnavailableError:
            segment.release()
            raise
        except StorageError as exc:
            segment.release()
            return RecoveryReport(problems=(str(exc),))
        if segment.ready:
            logger.info("recovered %s, whose writer had ended, into %s", path, segment.ready)
        return RecoveryReport(
            (segment.ready,) if segment.ready else (), (segment.torn,) if segment.torn else ()
        )

    def _segment(self, file: SegmentFile, *, adopted: bool) -> ActiveSegment:
        if self._storage.is_local:
            return LocalSegment(self.home, file)
        return MirroredSegment(self.home, file, adopted=adopted)

    @contextmanager
    def _spool_errors(self) -> Iterator[None]:
        """Say of the spool's errors which setting chooses another place."""
        try:
            yield
        except StorageError as exc:
            if self._storage.is_local or str(self.folder) not in str(exc):
                raise
            raise type(exc)(f"{exc}. ingestion.spool_dir chooses another place") from exc

    # ETL

    def waiting(self) -> list[StoredSegment]:
        """Return the segments that wait or are in work: a dead worker's first, the oldest first."""
        return self.list("processing") + self.list("ready")

    def list(self, state: State) -> list[StoredSegment]:
        """Return the segments in one state, the oldest first; other files are left out.

        In ``active``, a mirrored segment has the size of what is on the object store.
        """
        if state == "active" and not self._storage.is_local:
            return sorted(list_mirrored(self.home), key=_age)
        folder = self.home.folder(state)
        found = [
            StoredSegment(file.name, file.key, file.size, file.modified, state)
            for file in self._storage.list_entries(folder, recursive=False)
            if belongs_in(state, file.name)
        ]
        return sorted(found, key=_age)

    def claim(
        self,
        max_segments: int = 1,
        max_bytes: float = math.inf,
        among: Iterable[StoredSegment] | None = None,
    ) -> Claims:
        """Take segments that wait, a dead worker's first and then the oldest; hold them.

        Segments that other living workers hold are passed over. Give each back with
        :meth:`finish`, once every line of it is in a table or in quarantine, or with
        :meth:`Claim.release`. One segment may have more than `max_bytes`; `among` is what
        :meth:`waiting` returned, or a part of it. Where the storage fails, nothing is held.
        """
        claims: Claims = []
        held, size = set[str](), 0
        try:
            for segment in self.waiting() if among is None else among:
                if len(claims) >= max_segments:
                    break
                if segment.name in held:
                    continue
                if claims and size + segment.size > max_bytes:
                    break
                if claim := self._claim(segment):
                    claims.append(claim)
                    held.add(segment.name)
                    size += claim.size
        except BaseException:
            for claim in claims:
                claim.release()
            raise
        return claims

    def lease(self, name: str) -> Lease | None:
        """Keep every worker from a segment; None while one that lives has it."""
        return self._storage.acquire_lease(self.home.key("processing", name))

    def _claim(self, segment: StoredSegment) -> Claim | None:
        key = self.home.key("processing", segment.name)
        lease = self.lease(segment.name)
        if lease is None:
            logger.debug("%s is held by another worker", segment.name)
            return None
        try:
            if segment.state == "ready":
                self._to_processing(segment, key)
            else:
                logger.info("%s was left in processing: taking it up again", segment.name)
            return Claim(self._storage.stat(key), lease, orphan=segment.state == "processing")
        except FileMissingError:
            logger.debug("%s: another worker has done it", segment.name)
        except FileExistsAlreadyError:
            logger.warning("%s is still in processing: its namesake in ready waits", segment.name)
        except BaseException:
            lease.release()
            raise
        lease.release()
        return None

    def _to_processing(self, segment: StoredSegment, key: str) -> None:
        if self._storage.is_local:
            # From now on its time is that of its claim, as a copy's is on an object store.
            with suppress(FileNotFoundError):
                os.utime(self._storage.get_full_path(segment.key))
            self._storage.move(segment.key, key)
            return
        self._storage.copy_object(segment.key, key)
        # This worker may have slept beyond its lease: another one has done the segment since, and
        # what lies there now may have come later. What was copied before goes, nothing else.
        self._delete_only(segment.key, segment.size, segment.modified)

    def finish(self, claim: Claim) -> None:
        """Delete a claimed segment, every line of which is in a table or in quarantine.

        Only what was read goes: another file under that name stays.
        """
        self._delete_only(claim.key, claim.size, claim.stored.modified)
        claim.release()

    def _delete_only(self, key: str, size: int, modified: datetime) -> None:
        try:
            found = self._storage.stat(key)
        except FileMissingError:
            return  # a worker that took this one for dead was faster
        if (found.size, found.modified) == (size, modified):
            self._storage.delete(key)
        else:
            logger.error("%s is not what was read under this name: left as it is", key)

    def archive(self, name: str, path: Path, digest: str) -> str:
        """Keep a segment whose rows are committed, compressed; return its key.

        Running it again for the same segment adds nothing. Another segment of the same name is
        kept beside it, with its digest in its name.
        """
        with tempfile.TemporaryDirectory(prefix="fluxforge-archive-") as work:
            packed = pack_segment(path, Path(work) / f"{name}.zst")
            key = self.home.key("archive", packed.name)
            try:
                self._storage.write_file(packed, key, exclusive=True)
            except FileExistsAlreadyError:
                stored = Path(work) / "stored"
                stored.mkdir()
                if not same_content(self._storage.fetch(key, stored), path):
                    key = self.home.key("archive", quarantine_name(name, digest) + ".zst")
                    self._storage.write_file(packed, key)
        return key

    def quarantine(self, name: str, digest: str, records: Iterable[bytes]) -> str:
        """Keep the lines of a segment that no table takes; return the key, empty if there are none.

        The same segment's lines have the same name however often they are tried, so that no
        attempt adds to another's; a copy of the segment under another name finds them too.
        """
        with tempfile.TemporaryDirectory(prefix="fluxforge-quarantine-") as work:
            path = Path(work) / quarantine_name(name, digest)
            with path.open("wb") as file:
                file.writelines(records)
            if not path.stat().st_size:
                return ""
            if copies := self._quarantined(path.name):
                return copies[0]
            key = self.home.key("quarantine", path.name)
            self._storage.write_file(path, key)
        logger.warning("%s: lines that no table takes are in %s", name, key)
        return key

    def keep_one_quarantine(self, name: str, digest: str) -> None:
        """Delete what workers wrote twice who had copies of one segment at the same time.

        They hold the same lines. All workers keep the first by name, so that one always stays.
        """
        for key in self._quarantined(quarantine_name(name, digest))[1:]:
            self._storage.delete(key)

    def _quarantined(self, name: str) -> Sequence[str]:
        """Return the quarantine files of a segment's content, under all names of its hour."""
        hour, digest = name[: len("segment_YYYYMMDDTHH_")], name.rpartition("-")[2]
        folder = self.home.folder("quarantine")
        found = self._storage.list_entries(folder, recursive=False, name_prefix=hour)
        return [file.key for file in found if file.name.endswith(f"-{digest}")]


def _age(segment: StoredSegment) -> tuple[SegmentName | None, str]:
    plain = f"{segment.name.rpartition('-')[0]}.ndjson"  # of a quarantine file
    return SegmentName.parse(segment.name) or SegmentName.parse(plain), segment.name


def belongs_in(state: State, name: str) -> bool:
    """Tell whether a file of this name is a segment in this state."""
    if state == "quarantine":
        return is_quarantine_name(name)
    if state != "archive":
        return is_segment_name(name)
    plain = name.removesuffix(".zst")
    # A namesake with other content bears its digest, as quarantine files do.
    return plain != name and (is_segment_name(plain) or is_quarantine_name(plain))
