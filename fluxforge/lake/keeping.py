"""How a lake is kept: tables from segments, checks, copies, compaction."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from fluxforge.config import Role
from fluxforge.config.check import SHORTEST_KEEP_SECONDS
from fluxforge.config.durations import parse_duration
from fluxforge.errors import TableError, UsageError
from fluxforge.lake.places import Places
from fluxforge.lake.waiting import what_waits

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable
    from concurrent.futures import Executor
    from datetime import timedelta

    import polars as pl

    from fluxforge.etl.commit import SourceCommits
    from fluxforge.etl.job import ETLJob
    from fluxforge.etl.optimize import OptimizeReport
    from fluxforge.etl.report import EtlReport
    from fluxforge.layout import Layout
    from fluxforge.storage.base import StorageBackend
    from fluxforge.sync import SyncReport
    from fluxforge.tables import Table
    from fluxforge.verify import VerifyReport

T = TypeVar("T")


class Keeping(Places):
    """The part of :class:`~fluxforge.Lake` that makes tables and looks after them."""

    def etl(
        self,
        source: str | None = None,
        *,
        executor: Executor | None = None,
        retry: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> EtlReport:
        """Commit every waiting segment to the tables, exactly once.

        Parameters
        ----------
        source
            Only this source; None: all that are configured.
        executor
            What transforms segments: any :class:`concurrent.futures.Executor`, as
            ``ProcessPoolExecutor(4)`` or Dask's ``client.get_executor(pure=False, retries=3)``;
            None: this machine's cores. Its workers reach the lake under the same path or URL, and
            take credentials from their own environment.
        retry
            Also segments that were set aside after they had failed again and again.
        on_progress
            Called with the number of segments that are done and of those that were waiting.

        Raises
        ------
        SegmentsFailedError
            If segments could not be processed; they are kept, and all others are done.
        StorageError
            If a storage fails; nothing is lost, and running again carries on.
        UsageError
            If there is no lake: this may be the wrong directory.
        """
        from fluxforge.etl.watcher import process_sources

        names = self.sources_here(source)
        jobs = self._jobs(names, on_progress, executor)
        self._check_place(Role.ETL_INPUT)
        for job in jobs if retry else ():
            job.take_back()
        for job in jobs:
            job.commits = self._opened.pop(job.source, job.commits)
        report = process_sources(jobs)
        self._opened.update((job.source, job.commits) for job in jobs)
        return replace(report, waiting=what_waits(self.readers, names, live=True, here_only=True))

    def watch(
        self,
        source: str | None = None,
        *,
        stop: threading.Event | None = None,
        on_report: Callable[[EtlReport], None] | None = None,
    ) -> EtlReport:
        """Keep committing segments to the tables until `stop` is set or this is interrupted."""
        from fluxforge.etl.watcher import watch_segments

        interval = self.config.etl.watch_interval_seconds
        jobs = self._jobs(self.sources_here(source))
        return watch_segments(jobs, interval, stop=stop, on_report=on_report)

    @cached_property
    def _opened(self) -> dict[str, SourceCommits]:
        """Tables as the last ETL left them, by source: no two use the same."""
        return {}

    def _jobs(
        self,
        sources: Iterable[str],
        on_progress: Callable[[int, int], None] | None = None,
        executor: Executor | None = None,
    ) -> list[ETLJob]:
        from fluxforge.etl.job import ETLJob

        raw, processed = self.layout_for(Role.ETL_INPUT), self.layout_for(Role.ETL_OUTPUT)
        return [
            ETLJob(
                storage_input=self.storage_for(Role.ETL_INPUT),
                storage_output=self.storage_for(Role.ETL_OUTPUT),
                input_path=raw.ready(name),
                output_path=processed.tables(name),
                delete_after_processing=self.config.etl.delete_after_processing,
                memory_limit_mb=self.config.etl.memory_limit_mb,
                threads=self.config.etl.threads,
                executor=executor,
                on_progress=on_progress,
            )
            for name in sources
        ]

    def optimize(self, source: str | None = None) -> list[OptimizeReport]:
        """Join small files of every table into larger ones; rows and readers stay the same.

        A table that is damaged keeps no other from it; its error is raised at the end.
        """
        from fluxforge.etl.optimize import optimize_table

        limits = self.config.etl.memory_limit_mb, self.config.etl.threads
        return [
            report
            for _, report in self._each_table(
                source,
                lambda name, table: optimize_table(
                    table, name, memory_limit_mb=limits[0], threads=limits[1]
                ),
            )
        ]

    def _each_table(
        self, source: str | None, work: Callable[[str, Table], T]
    ) -> list[tuple[str, T]]:
        """Work on every table, and raise the first error of a damaged one after all others."""
        done: list[tuple[str, T]] = []
        errors: list[TableError] = []
        for one, table in self._written(source):
            name = f"{one}.{table}"
            try:
                done.append((name, work(name, self.catalog.open(one, table).table)))
            except TableError as exc:
                errors.append(exc)
        self._warn_of_place(Role.ETL_OUTPUT)
        if errors:
            raise errors[0]
        return done

    def vacuum(
        self,
        source: str | None = None,
        *,
        keep: str | float | timedelta = "7d",
        dry_run: bool = False,
    ) -> dict[str, list[str]]:
        """Delete files that no table version of the last `keep` (at least an hour) refers to.

        Returns
        -------
        dict
            Paths of deleted files, or with `dry_run` of those that would be, by ``source.table``.

        Raises
        ------
        UsageError
            If `keep` is shorter than an hour.
        """
        from datetime import timedelta

        seconds = parse_duration(keep)
        if seconds < SHORTEST_KEEP_SECONDS:
            raise UsageError("keep at least 1h: an ETL may be about to commit younger files")
        least = timedelta(seconds=seconds)
        return dict(self._each_table(source, lambda _, one: one.vacuum(least, dry_run=dry_run)))

    @property
    def _raw(self) -> list[tuple[StorageBackend, Layout]]:
        return [self._place(Role.INGESTION), self._place(Role.ETL_INPUT)]

    def status(self) -> pl.DataFrame:
        """Count segments: ``source, state, files, bytes, oldest, newest, next``.

        The state ``spool`` is what lies on this machine, on its way to an object store. ``next``
        is the call that takes up what waits.
        """
        import polars as pl

        from fluxforge.verify.status import segment_status

        self._check_place(Role.ETL_INPUT)
        names = self.sources_here()
        counts = segment_status(self._raw, names, self.config.ingestion.spool_dir)
        ended = [
            name
            for name in names
            if any(reader.backlog(here_only=True).ended[0] for reader in self.readers(name))
        ]
        some, state = pl.col("files") > 0, pl.col("state")
        waits = some & state.is_in(["ready", "processing"])
        left = some & state.is_in(["active", "spool"]) & pl.col("source").is_in(ended)
        call = pl.when(waits).then(pl.lit("lake.etl()")).when(left).then(pl.lit("lake.recover()"))
        return counts.with_columns(next=call)

    def quarantine(self, source: str | None = None) -> pl.DataFrame:
        """Return the lines that no table could take, and why.

        Returns
        -------
        polars.DataFrame
            ``source, file, at, line, reason, content``, one row for each line: `at` is when it
            was set aside (UTC), `line` its number in the segment. Content that is not UTF-8 is
            shown with its bytes escaped.
        """
        import polars as pl

        from fluxforge.segments import Quarantined

        self._warn_of_place(Role.ETL_INPUT)
        storage, rows = self.storage_for(Role.ETL_INPUT), []
        for name in self.sources_here(source):
            for file in self.segment_store(name, Role.ETL_INPUT).list("quarantine"):
                for record in storage.read_bytes(file.key).splitlines():
                    one = Quarantined.read(record)
                    content = one.content.decode(errors="backslashreplace")
                    rows.append((name, file.name, file.modified, one.line, one.reason, content))
        text, number = pl.String(), pl.Int64()
        columns = {"source": text, "file": text, "at": pl.Datetime("us", "UTC"), "line": number}
        return pl.DataFrame(rows, {**columns, "reason": text, "content": text}, orient="row")

    def retry_quarantine(self, source: str | None = None) -> EtlReport:
        """Bring the lines in quarantine through the ETL once more, with all that waits.

        For after a mended SQL file, or with more memory. What is taken is in the tables once;
        what is refused again stays in quarantine.
        """
        from fluxforge.etl.report import EtlReport

        jobs = self._jobs(self.sources_here(source))
        return EtlReport.total([job.retry_quarantine() for job in jobs])

    def verify(self, deep: bool = False) -> VerifyReport:
        """Check that everything lies where it belongs and that the accounts add up.

        Parameters
        ----------
        deep
            Read data files, quarantine and archive too, and compare them with what was written.
            It takes as long as reading the whole lake does.

        Returns
        -------
        VerifyReport
            ``ok``, and what is wrong. Nothing is changed.

        Examples
        --------
        >>> import fluxforge
        >>> with fluxforge.sandbox(seed=7) as lake:
        ...     _ = lake.ingest_sync("coinbase", frames=100), lake.etl("coinbase")
        ...     lake.verify(deep=True).ok
        True
        """
        from fluxforge.verify import verify_lake

        return verify_lake(
            self._raw,
            self._place(Role.ETL_OUTPUT),
            self.sources,
            deep=deep,
            spool_dir=self.config.ingestion.spool_dir,
        )

    def sync(
        self,
        other: Places,
        *,
        delete: bool = False,
        dry_run: bool = False,
        on_progress: Callable[[int, int, int], object] | None = None,
    ) -> SyncReport:
        """Copy this lake's segments and tables to another lake, or move them there.

        Segments that wait, archived ones and quarantine go from one ETL input to the other,
        tables from one ETL output to the other. What is being written or processed stays. What
        is there already is left alone: a sync that was cut short can be run again. Run the ETL on
        one side only: a table that both sides wrote to is refused.

        Parameters
        ----------
        other
            The destination.
        delete
            Delete each segment and table here, once its copy was read back and is the same.
        dry_run
            Only report what would be done.
        on_progress
            Called about twice a second with the number of files done, of all files, and of copied
            bytes.

        Returns
        -------
        SyncReport
            What was copied, skipped and deleted. ``problems`` names what was refused, and why;
            everything else is done all the same.

        Raises
        ------
        UsageError
            If the other lake is this one.
        StorageError
            If a storage fails; nothing is lost, and running again carries on.
        """
        from fluxforge.sync import Place, Route, sync_places

        segments, tables = (
            Route(Place(*self._place(role)), Place(*other._place(role)))  # noqa: SLF001 -- a lake
            for role in (Role.ETL_INPUT, Role.ETL_OUTPUT)
        )
        return sync_places(
            segments=segments,
            tables=tables,
            delete=delete,
            dry_run=dry_run,
            on_progress=on_progress,
        )
