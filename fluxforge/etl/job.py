"""The ETL of one source: every waiting segment, exactly once."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from fluxforge.config import Role
from fluxforge.errors import (
    CommitConflictError,
    ConfigError,
    FileExistsAlreadyError,
    FluxForgeError,
    SegmentError,
)
from fluxforge.etl.commit import Done, SourceCommits
from fluxforge.etl.executors import outcomes
from fluxforge.etl.optimize import MANY_FILES, optimize_table
from fluxforge.etl.report import EtlReport, SegmentReport, SegmentsFailedError
from fluxforge.etl.work import GroupRows, SegmentGroup, work_folder
from fluxforge.segments import Quarantined, SegmentStore, retry_name
from fluxforge.segments.tries import LONGEST_IN_WORK, Tries, TriesJournal
from fluxforge.signals import deferred_interrupts
from fluxforge.sources import get_source
from fluxforge.storage.disk import translated
from fluxforge.storage.factory import storage_for
from fluxforge.transform.scan import Scan
from fluxforge.transform.schema import LEDGER, SEQUENCES

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import Executor
    from pathlib import Path

    from fluxforge.segments import Claim
    from fluxforge.storage.base import StorageBackend

LEAST_MEMORY_MB = 64
_MOST_SEGMENTS = 500
_MEMORY_PER_BYTE = 4  # of segments whose rows share files: beyond their memory, rows spill
_GROUP_BYTES = 64_000_000
_GROUPS = 16

logger = logging.getLogger(__name__)


@dataclass
class _Run:
    """What a run has done of what `waiting`; `broken` where its executor can do no more."""

    waiting: int
    on_progress: Callable[[int, int], None] | None
    reports: list[SegmentReport] = field(default_factory=list)
    failures: dict[str, Exception] = field(default_factory=dict)
    poisonous: dict[str, SegmentError] = field(default_factory=dict)
    broken: bool = False
    set_aside: int = 0

    @property
    def done(self) -> int:
        return len(self.reports) + len(self.failures)

    def add(self, report: SegmentReport) -> None:
        self.reports.append(report)
        self.tell()

    def fail(self, errors: Mapping[str, Exception]) -> None:
        self.failures |= errors
        if errors:
            self.tell()

    def tell(self) -> None:
        if self.on_progress is not None:
            self.on_progress(self.done, max(self.done, self.waiting))


class ETLJob:
    """Takes a source's segments from ``ready/`` into its tables.

    Parameters
    ----------
    storage
        Where segments and tables lie. Where it was made from a configuration in which the ETL
        has storages of its own, those are meant; or
    storage_input, storage_output
        where segments lie, and where tables do.
    input_path
        The folder of waiting segments (:func:`~fluxforge.storage.factory.get_etl_input_path`).
        Its last part is the source's name.
    output_path
        The folder of the source's tables (:func:`~fluxforge.storage.factory.get_etl_output_path`).
    delete_after_processing
        False: keep each segment, compressed, in the archive.
    memory_limit_mb, threads
        What the transformation of a segment may use; 0 threads: all processors.
    executor
        Runs the transformation, as any executor of :mod:`concurrent.futures`, or Dask's; None:
        this process does, on all its cores. A local lake must have one path that all workers
        share. On an object store each worker takes the credentials of its own environment.
    on_progress
        Called with the number of segments done and of those that were waiting.

    Raises
    ------
    ConfigError
        If it is not clear where to read and write.
    UnknownSourceError
        If no source has the name that `input_path` ends in.

    Examples
    --------
    >>> from fluxforge.storage.memory import MemoryStorage
    >>> job = ETLJob(
    ...     storage=MemoryStorage(),
    ...     input_path="raw/ready/coinbase",
    ...     output_path="processed/coinbase",
    ... )
    >>> job.process_all_segments().segments
    0
    """

    def __init__(
        self,
        *,
        storage: StorageBackend | None = None,
        storage_input: StorageBackend | None = None,
        storage_output: StorageBackend | None = None,
        input_path: str,
        output_path: str,
        delete_after_processing: bool = True,
        memory_limit_mb: int = 1024,
        threads: int = 0,
        executor: Executor | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        if storage is not None:
            storage_input = storage_input or storage_for(storage, Role.ETL_INPUT)
            storage_output = storage_output or storage_for(storage, Role.ETL_OUTPUT)
        if storage_input is None or storage_output is None:
            raise ConfigError("give storage=, or both storage_input= and storage_output=")
        read_from, write_to = storage_input, storage_output
        self._input = read_from
        self._layout, self.source = read_from.layout.around(input_path)
        self._segments = SegmentStore(read_from, self._layout, self.source)
        self._tries = TriesJournal(read_from, self._layout, self.source)
        self._output = write_to
        self._output_path = output_path
        self._delete = delete_after_processing
        self._memory_limit_mb = memory_limit_mb
        self._threads = threads
        self._executor = executor
        self._on_progress = on_progress
        self._tables = get_source(self.source).tables
        if memory_limit_mb < LEAST_MEMORY_MB:
            raise ConfigError(
                f"etl.memory_limit_mb={memory_limit_mb} is too little: at least {LEAST_MEMORY_MB}"
            )
        if executor is not None:
            read_from.__reduce__()  # says so now if workers cannot share it
            write_to.__reduce__()

    @cached_property
    def commits(self) -> SourceCommits:
        """The tables, kept open from batch to batch; those of a job that is done may be given."""
        return SourceCommits(self._output, self._output_path, self._tables)

    def process_all_segments(
        self, *, stop: threading.Event | None = None, back_off: bool = False
    ) -> EtlReport:
        """Process every segment that waits.

        A segment that fails stays in ``processing/`` and does not keep the others waiting. After
        some tries it is set aside; :meth:`take_back` lets it be tried again.

        Parameters
        ----------
        stop
            Set it, from another thread, to end after the batch in work.
        back_off
            Leave alone for a while what has failed before.

        Raises
        ------
        SegmentsFailedError
            At the end, if there were such segments; its ``report`` tells of the others.
        StorageError
            At once, if a storage fails: no segment could be processed.
        """
        started = time.monotonic()
        known = self._tries.read()
        now = datetime.now(UTC)
        seen = {
            name
            for name, one in known.items()
            if one.not_before is None or (back_off and one.not_before > now)
        }
        # What comes meanwhile is the next round's: a capture may never end.
        here = self._segments.waiting()
        found = [one for one in here if one.name not in seen]
        waiting = {one.name for one in found}
        run = _Run(len(waiting), self._on_progress)
        run.set_aside = sum(one.name in known and known[one.name].aside for one in here)
        batch_bytes = self._group_bytes * (1 if self._executor is None else _GROUPS)
        while waiting and not run.broken and not (stop is not None and stop.is_set()):
            claims = self._segments.claim(_MOST_SEGMENTS, batch_bytes, found)
            if not claims:
                break
            waiting -= {claim.name for claim in claims}
            try:
                with deferred_interrupts():
                    self._process(claims, known, run)
            finally:
                for claim in claims:
                    claim.release()
            if waiting:
                found = [one for one in self._segments.waiting() if one.name in waiting]
        if run.reports:
            self._optimize()
        report = EtlReport.of(self.source, run.reports, time.monotonic() - started, run.set_aside)
        if run.failures:
            raise SegmentsFailedError(run.failures, report) from next(iter(run.failures.values()))
        return report

    def _optimize(self) -> None:
        """Join files where a table has grown many small ones; a bounded part of them at a time."""
        for table, snapshot in self.commits.written():
            try:
                optimize_table(
                    table, table.path, snapshot, least_files=MANY_FILES, most_batches=1,
                    memory_limit_mb=self._memory_limit_mb, threads=self._threads,
                )  # fmt: skip
            except FluxForgeError as exc:
                logger.warning("%s: %s", table.path, exc)

    def take_back(self) -> list[str]:
        """Let segments that were set aside, or wait after a failure, be tried again."""
        names = sorted(self._tries.read())
        for name in names:
            self._tries.clear(name)
        return names

    def retry_quarantine(self) -> EtlReport:
        """Bring the lines in quarantine through the ETL once more, with all that waits.

        They become a segment of their own, so that the ledger accounts for them. Once it is
        committed their file goes; lines that are refused again are in that segment's file.
        """
        self._settle_quarantine()
        for stored in self._segments.list("quarantine"):
            records = self._input.read_bytes(stored.key).splitlines()
            lines = [Quarantined.read(record).content + b"\n" for record in records]
            name = retry_name(stored.name)
            # A blank line of its own, that spells its name: the same lines may come again.
            blank = "".join(" \t"[int(bit)] for bit in f"{int(name[-15:-7], 16):032b}").encode()
            if not self._input.exists(
                self._input.join_path(self._layout.processing(self.source), name)
            ):
                key = self._input.join_path(self._layout.ready(self.source), name)
                with suppress(FileExistsAlreadyError):
                    content = b"".join([*lines, blank + b"\n"])
                    self._input.write_bytes(key, content, exclusive=True)
        try:
            return self.process_all_segments()
        finally:
            self._settle_quarantine()

    def _settle_quarantine(self) -> None:
        """Delete the files in quarantine whose lines the ledger has under their segment's name."""
        names = {retry_name(stored.name): stored for stored in self._segments.list("quarantine")}
        done, taken = self.commits.in_ledger(dict.fromkeys(names, "")) if names else (set(), set())
        for name in done | taken:
            self._input.delete(names[name].key)

    @property
    def _group_bytes(self) -> int:
        """How many bytes of segments share files."""
        memory = self._memory_limit_mb * 1_000_000 // _MEMORY_PER_BYTE
        return memory if self._executor is None else min(memory, _GROUP_BYTES)

    def _process(self, claims: list[Claim], known: dict[str, Tries], run: _Run) -> None:
        waiting = {claim.name: claim for claim in claims}
        digests = {}
        for name in self.commits.committed([LEDGER], waiting)[LEDGER]:
            with self._fetched(waiting[name]) as path:
                digests[name] = Scan.of(path).digest
        self._settle(digests, waiting, run)
        for claim in [one for one in waiting.values() if one.orphan]:
            if datetime.now(UTC) - claim.stored.modified > LONGEST_IN_WORK:
                reason = f"it was claimed more than {LONGEST_IN_WORK.days} days ago"
                self._tries.set_aside(claim.name, f"{reason}: look whether tables have its rows")
                run.set_aside += 1
                del waiting[claim.name]
        batch = self._transform(waiting, run)
        digests = {name: one.digest for done in batch for name, one in done.rows.accounts.items()}
        dropped = self._settle(digests, waiting, run)
        firsts = {digest: name for name, digest in reversed(digests.items())}
        copies = {
            name: waiting.pop(name)
            for name, digest in digests.items()
            if name in waiting and firsts[digest] != name
        }
        if dropped or copies:
            batch = self._transform(waiting, run)
        added, failed = self.commits.commit(batch)
        run.fail(failed)
        for name, error in failed.items():  # by a damaged table, and not by another's commit
            if not isinstance(error, CommitConflictError):
                self._tries.failed(known.get(name), name, error)
        for done in batch:
            for name, account in done.rows.accounts.items():
                if name not in failed:
                    self._finish(waiting[name], account.digest, account.quarantined)
                    mine = SegmentReport.of(name, account)
                    run.add(mine if name in added else SegmentReport(name, committed=False))
        if copies:
            self._settle({name: digests[name] for name in copies}, copies, run)
        for name, error in run.poisonous.items():
            self._tries.failed(known.get(name), name, error)
        for name in known.keys() & {report.segment for report in run.reports}:
            self._tries.clear(name)
        run.poisonous.clear()

    def _settle(
        self,
        digests: dict[str, str],
        waiting: dict[str, Claim],
        run: _Run,
    ) -> bool:
        """Finish segments that the ledger has; set those aside whose names it has for others."""
        done, taken = self.commits.in_ledger(digests) if digests else (set(), set())
        if done:
            self.commits.settle()  # whoever committed them may have died before this
        for name in sorted(done):
            self._finish(waiting.pop(name), digests[name])
            run.add(SegmentReport(name, committed=False))
        for name in sorted(taken):
            del waiting[name]
            self._tries.set_aside(name, "the tables have another segment of this name")
            run.set_aside += 1
        return bool(done or taken)

    def _transform(self, claims: Mapping[str, Claim], run: _Run) -> list[Done]:
        """Transform segments in groups; those that fail are tried one by one."""
        batch: list[Done] = []
        groups = self._groups(claims)
        while groups:
            failed = []
            for group, outcome in outcomes(groups, self._executor):
                if isinstance(outcome, GroupRows):
                    batch.append(Done(group, outcome))
                elif isinstance(outcome, SegmentError) and len(group.segments) > 1:
                    failed += list(group.halves())
                else:
                    run.fail(dict.fromkeys(group.segments, outcome))
                    run.broken |= not isinstance(outcome, SegmentError)
                    if isinstance(outcome, SegmentError):
                        run.poisonous |= dict.fromkeys(group.segments, outcome)
            groups = failed
        return batch

    def _groups(self, claims: Mapping[str, Claim]) -> list[SegmentGroup]:
        skip = self.commits.committed([*self._tables.channels, SEQUENCES], claims)
        groups: list[dict[str, tuple[str, int]]] = [{}]
        size = 0
        for name, claim in claims.items():
            if groups[-1] and size + claim.size > self._group_bytes:
                groups.append({})
                size = 0
            groups[-1][name] = claim.key, claim.size
            size += claim.size
        return [
            SegmentGroup(
                self.source, self._tables, self._input, self._layout, self._output,
                self._output_path, segments, self._memory_limit_mb,
                self._threads or (0 if self._executor is None else 1),
                skip=skip, made=self.commits.made,
            )
            for segments in groups
            if segments
        ]  # fmt: skip

    @contextmanager
    def _fetched(self, claim: Claim) -> Iterator[Path]:
        with work_folder() as work, translated(f"the work on {claim.name}"):
            yield self._input.fetch(claim.key, work)

    def _finish(self, claim: Claim, digest: str, quarantined: int = 0) -> None:
        """Let a segment go: every line of it is in a table or in quarantine, durably."""
        if quarantined:
            self._segments.keep_one_quarantine(claim.name, digest)
        if not self._delete:
            with self._fetched(claim) as path:
                self._segments.archive(claim.name, path, digest)
        self._segments.finish(claim)
