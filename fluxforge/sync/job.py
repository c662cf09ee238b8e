"""A whole sync: all segments, then all tables, and what went wrong with which."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from fluxforge.errors import (
    AccessDeniedError,
    FluxForgeError,
    StorageFullError,
    StorageUnavailableError,
    UsageError,
)
from fluxforge.layout import SegmentName
from fluxforge.sync.places import have_same_name, share_a_file
from fluxforge.sync.report import Counters
from fluxforge.sync.segments import SegmentSync
from fluxforge.sync.tables import TableSync
from fluxforge.sync.transfer import Transfer
from fluxforge.tables import Table, table_names
from fluxforge.transform.schema import BOOKKEEPING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fluxforge.sync.places import Place
    from fluxforge.sync.report import SyncReport
    from fluxforge.sync.tables import TablePlan

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
    job = SyncJob(segments, tables, Counters(on_progress), delete=delete, dry_run=dry_run)
    if with_segments:
        job.sync_segments()
    if with_tables:
        job.sync_tables()
    return job.report()


class SyncJob:
    """One run over all segments and tables; see :func:`sync_places`."""

    def __init__(
        self, segments: Route, tables: Route, counters: Counters, *, delete: bool, dry_run: bool
    ) -> None:
        self._segments = segments
        self._tables = tables
        self._counters = counters
        self._delete = delete
        self._dry_run = dry_run

    def report(self) -> SyncReport:
        """Return what was done."""
        return self._counters.report(dry_run=self._dry_run)

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
            self._counters.problem(f"{name}: {exc}")

    def sync_segments(self) -> None:
        """Copy or move every segment that nobody works on."""
        sync = SegmentSync(
            self._segments.source,
            self._segments.destination,
            self._transfer(self._segments),
            self._counters,
            delete=self._delete,
            dry_run=self._dry_run,
        )
        segments = sync.list_segments()
        self._counters.expect(len(segments))
        for segment in segments:
            with self._noting_problems(segment.file.key):
                sync.run(segment)

    def sync_tables(self) -> None:
        """Copy or move every table."""
        planned = self._plan_tables()
        self._counters.expect(sum(len(plan.files) for _, _, plan in planned))
        for source, table, plan in planned:
            with self._noting_problems(table.name):
                if self._dry_run:
                    table.preview(plan)
                    continue
                table.copy(plan)
                if self._delete:
                    table.remove(plan, partial(self._has_living_etl, source))

    def _plan_tables(self) -> list[tuple[str, TableSync, TablePlan]]:
        """Return each source's tables in the order in which an ETL commits to them.

        Their versions are taken in the opposite order: what the ledger says is done when it is
        read, the tables hold when they are.
        """
        here, there = self._tables.source, self._tables.destination
        planned = []
        for source in here.storage.list_folders(here.layout.processed):
            names = table_names(here.storage, here.layout.tables(source))
            for name in sorted(names, key=_commit_order, reverse=True):
                table = TableSync(
                    f"{source}.{name}",
                    Table(here.storage, here.layout.table(source, name)),
                    Table(there.storage, there.layout.table(source, name)),
                    self._transfer(self._tables),
                    self._counters,
                    delete=self._delete,
                )
                with self._noting_problems(table.name):
                    plan = table.plan()
                    if plan is not None:
                        planned.append((source, table, plan))
                    elif self._delete and not self._dry_run:
                        table.finish()
        return planned[::-1]

    def _has_living_etl(self, source: str) -> bool:
        """Tell whether an ETL is at work on a segment of the source."""
        place = self._segments.source
        folder = place.layout.processing(source)
        for file in place.storage.list_entries(folder, recursive=False):
            if SegmentName.parse(file.name) is None:
                continue
            claim = place.storage.acquire_lease(file.key)
            if claim is None:
                return True
            claim.release()
        return False


def _commit_order(name: str) -> int:
    return BOOKKEEPING.index(name) if name in BOOKKEEPING else -1
