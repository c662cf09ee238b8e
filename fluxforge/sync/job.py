"""A whole sync: all segments, then all tables, and what went wrong with which."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fluxforge.errors import (
    AccessDeniedError,
    FluxForgeError,
    StorageFullError,
    StorageUnavailableError,
    TableError,
    UsageError,
)
from fluxforge.sync.places import have_same_name, share_a_file
from fluxforge.sync.removal import (
    close_table,
    delete_table,
    doomed_files,
    finish_deletion,
    has_living_etl,
    reopen_table,
)
from fluxforge.sync.report import Tally
from fluxforge.sync.segments import SegmentSync
from fluxforge.sync.table_plan import TablePlanner
from fluxforge.sync.tables import TableCopy
from fluxforge.sync.transfer import Transfer
from fluxforge.tables import Table, table_names
from fluxforge.transform.schema import BOOKKEEPING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fluxforge.sync.places import Place
    from fluxforge.sync.report import SyncReport
    from fluxforge.sync.table_plan import TablePlan

_FATAL = (AccessDeniedError, StorageFullError, StorageUnavailableError)
"""What would go wrong with everything else too."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Route:
    """From where to where one kind of file goes."""

    source: Place
    destination: Place

    def check(self, folders: list[str], others: list[str], *, delete: bool) -> bool:
        """Return False if both ends are one place by name.

        Raises
        ------
        UsageError
            If both are one place under two names, and files are to be deleted.
        """
        if have_same_name(self.source, folders, self.destination, others):
            return False
        if delete and share_a_file(self.source, folders[0], self.destination, others[0]):
            raise UsageError(
                f"{self.source.storage!r} and {self.destination.storage!r} are one place: nothing "
                "can be moved"
            )
        return True


def sync_places(
    *,
    segments: Route,
    tables: Route,
    delete: bool = False,
    dry_run: bool = False,
    on_progress: Callable[[int, int, int], object] | None = None,
) -> SyncReport:
    """Copy or move segments and tables; see :meth:`fluxforge.Lake.sync`."""
    probe = delete and not dry_run
    one, other = segments.source, segments.destination
    with_segments = segments.check(one.segment_folders(), other.segment_folders(), delete=probe)
    one, other = tables.source, tables.destination
    with_tables = tables.check(one.table_folders(), other.table_folders(), delete=probe)
    if not with_segments and not with_tables:
        raise UsageError(f"{one.storage!r} is the source itself: name another destination")
    job = SyncJob(segments, tables, Tally(on_progress), delete=delete, dry_run=dry_run)
    if with_segments:
        job.sync_segments()
    if with_tables:
        job.sync_tables()
    return job.report()


class SyncJob:
    """One run over all segments and tables; see :func:`sync_places`."""

    def __init__(
        self, segments: Route, tables: Route, tally: Tally, *, delete: bool, dry_run: bool
    ) -> None:
        self._segments = segments
        self._tables = tables
        self._tally = tally
        self._delete = delete
        self._dry_run = dry_run

    def report(self) -> SyncReport:
        """Return what was done."""
        return self._tally.report(dry_run=self._dry_run)

    def _transfer(self, route: Route) -> Transfer:
        return Transfer(route.source.storage, route.destination.storage, exact=self._delete)

    @contextmanager
    def _noting_problems(self, name: str) -> Iterator[None]:
        """Let one segment or table fail without keeping the others waiting."""
        try:
            yield
        except _FATAL:
            raise
        except FluxForgeError as exc:
            logger.info("%s: %s", name, exc)
            self._tally.problem(f"{name}: {exc}")

    def sync_segments(self) -> None:
        """Copy or move every segment that nobody works on."""
        sync = SegmentSync(
            self._segments.source,
            self._segments.destination,
            self._transfer(self._segments),
            self._tally,
            delete=self._delete,
            dry_run=self._dry_run,
        )
        segments = sync.list_segments()
        self._tally.expect(len(segments))
        for segment in segments:
            with self._noting_problems(segment.file.key):
                sync.run(segment)

    def sync_tables(self) -> None:
        """Copy or move every table."""
        plans = self._plan_tables()
        self._tally.expect(sum(plan.count for _, plan in plans))
        for source, plan in plans:
            with self._noting_problems(plan.name):
                self._sync_table(source, plan)

    def _plan_tables(self) -> list[tuple[str, TablePlan]]:
        """Return each source's tables in the order in which an ETL commits to them.

        Their versions are taken in the opposite order: what the ledger says is done when it is
        read, the tables hold when they are.
        """
        here, there = self._tables.source, self._tables.destination
        plans = []
        for source in here.storage.list_folders(here.layout.processed):
            names = table_names(here.storage, here.layout.tables(source))
            for name in sorted(names, key=_commit_order, reverse=True):
                table = Table(here.storage, here.layout.table(source, name))
                copy = Table(there.storage, there.layout.table(source, name))
                planner = TablePlanner(f"{source}.{name}", table, copy, delete=self._delete)
                with self._noting_problems(f"{source}.{name}"):
                    plan = planner.plan()
                    if plan is not None:
                        plans.append((source, plan))
                    elif self._delete and not self._dry_run:
                        finish_deletion(table, self._tally)
        return plans[::-1]

    def _sync_table(self, source: str, plan: TablePlan) -> None:
        copy = TableCopy(plan, self._transfer(self._tables), self._tally)
        if self._dry_run:
            copy.preview()
            for key in doomed_files(plan.source, plan.movable) if self._delete else ():
                self._tally.deleted(key)
            return
        copy.run()
        if self._delete:
            self._remove(source, plan)

    def _remove(self, source: str, plan: TablePlan) -> None:
        """Delete a table whose copy was compared with it."""
        if not plan.closed:
            close_table(plan.source, plan.version, plan.destination)
        if has_living_etl(self._segments.source, source):
            if not plan.closed:
                reopen_table(plan.source, plan.version)
            raise TableError("an ETL is at work on its source; it is kept: sync again later")
        delete_table(plan.source, plan.movable, self._tally)


def _commit_order(name: str) -> int:
    return BOOKKEEPING.index(name) if name in BOOKKEEPING else -1
