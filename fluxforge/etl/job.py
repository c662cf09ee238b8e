"""The ETL of one source: every waiting segment, exactly once."""

from __future__ import annotations

import logging
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from fluxforge.config import Role
from fluxforge.errors import (
    CommitConflictError,
    ConfigError,
    SegmentError,
    TableError,
)
from fluxforge.etl.commit import SegmentCommit, is_committed
from fluxforge.etl.report import EtlReport, SegmentReport, SegmentsFailedError
from fluxforge.segments import Fingerprint, SegmentStore
from fluxforge.signals import deferred_interrupts
from fluxforge.sources import get_source
from fluxforge.storage.disk import translated
from fluxforge.storage.factory import storage_for
from fluxforge.transform.transform import transform_segment

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from fluxforge.segments import Claim
    from fluxforge.storage.base import StorageBackend

logger = logging.getLogger(__name__)


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
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        if storage is not None:
            storage_input = storage_input or storage_for(storage, Role.ETL_INPUT)
            storage_output = storage_output or storage_for(storage, Role.ETL_OUTPUT)
        if storage_input is None or storage_output is None:
            raise ConfigError("give storage=, or both storage_input= and storage_output=")
        read_from, write_to = storage_input, storage_output
        self._input = read_from
        self._output = write_to
        layout, self.source = read_from.layout.around(input_path)
        self._segments = SegmentStore(read_from, layout, self.source)
        self._output_path = output_path
        self._delete = delete_after_processing
        self._memory_limit_mb = memory_limit_mb
        self._threads = threads
        self._on_progress = on_progress
        self._tables = get_source(self.source).tables

    def process_all_segments(self, *, stop: threading.Event | None = None) -> EtlReport:
        """Process every segment that waits now.

        A segment that fails stays in ``processing/`` and does not keep the others waiting.

        Parameters
        ----------
        stop
            Set it, from another thread, to end after the segment in work.

        Raises
        ------
        SegmentsFailedError
            At the end, if there were such segments; its ``report`` tells of the others.
        StorageError
            At once, if a storage fails: no segment could be processed.
        """
        started = time.monotonic()
        reports: list[SegmentReport] = []
        failures: dict[str, Exception] = {}
        waiting = len(self._segments.waiting())
        # Closed at once if this raises: a claim that lived on in the traceback would lock the
        # segment for this process's next try.
        with closing(self._segments.claims()) as claims:
            for claim in claims:
                try:
                    with deferred_interrupts():
                        reports.append(self._process(claim))
                except (SegmentError, TableError, CommitConflictError) as exc:
                    logger.info("%s stays in processing: %s", claim.name, exc)
                    failures[claim.name] = exc
                if self._on_progress is not None:
                    done = len(reports) + len(failures)
                    self._on_progress(done, max(done, waiting))
                if stop is not None and stop.is_set():
                    break
        report = EtlReport.of(self.source, reports, time.monotonic() - started)
        if failures:
            raise SegmentsFailedError(failures, report) from next(iter(failures.values()))
        return report

    def _process(self, claim: Claim) -> SegmentReport:
        with (
            translated(f"the work on {claim.name}"),
            tempfile.TemporaryDirectory(prefix="fluxforge-etl-") as name,
        ):
            work_dir = Path(name)
            path = self._input.fetch(claim.key, work_dir)
            fingerprint = Fingerprint.of(path)
            if is_committed(self._output, self._output_path, fingerprint.digest):
                report = SegmentReport(claim.name, committed=False)
            else:
                report = self._transform(claim, path, fingerprint, work_dir)
            # Every line is in a table or in quarantine now, and only now may the segment go.
            if not self._delete:
                self._segments.archive(claim.name, path, fingerprint.digest)
            self._segments.finish(claim)
        logger.info(
            "%s: %d lines, %d quarantined", claim.name, report.lines_read, report.lines_quarantined
        )
        return report

    def _transform(
        self, claim: Claim, path: Path, fingerprint: Fingerprint, work_dir: Path
    ) -> SegmentReport:
        with transform_segment(
            path,
            self._tables,
            work_dir,
            fingerprint=fingerprint,
            memory_limit_mb=self._memory_limit_mb,
            threads=self._threads,
        ) as rows:
            account = rows.account()
            records = (line.record() for line in rows.quarantined())
            self._segments.quarantine(claim.name, fingerprint.digest, records)
            commit = SegmentCommit(self._output, self._output_path, rows, claim.name, work_dir)
            committed = commit.run(account, self._tables.channels)
            if account.quarantined:
                self._segments.keep_one_quarantine(claim.name, fingerprint.digest)
        return SegmentReport(
            segment=claim.name,
            lines_read=account.read,
            lines_taken=account.taken,
            lines_quarantined=account.quarantined,
            rows=account.rows,
            unknown_fields=account.unknown_fields,
            committed=committed,
        )
