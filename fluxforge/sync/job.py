"""A whole sync: all segments, then all tables, and what went wrong with which."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from fluxforge.errors import (
    AccessDeniedError,
    FluxForgeError,
    StorageFullError,
    StorageUnavailableError,
    UsageError,
)
from fluxforge.layout import STATES
from fluxforge.segments import SegmentStore
from fluxforge.sync.report import Counters
from fluxforge.sync.segments import SETTLED_STATES, SegmentSync
from fluxforge.sync.tables import TableSync
from fluxforge.sync.transfer import Transfer
from fluxforge.tables import Table, table_names
from fluxforge.transform.schema import BOOKKEEPING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fluxforge.sync.places import Place, Route
    from fluxforge.sync.report import SyncReport
    from fluxforge.sync.tables import TablePlan

_FATAL = (AccessDeniedError, StorageFullError, StorageUnavailableError)
"""What would go wrong with everything else too."""

logger = logging.getLogger(__name__)


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
    with_segments = segments.is_needed(
        *([place.layout.state(state, "") for state in STATES] for place in segments), delete=probe
    )
    with_tables = tables.is_needed(*([place.layout.processed] for place in tables), delete=probe)
    if not with_segments and not with_tables:
        raise UsageError(
            f"{segments.source.storage!r} is the source itself: name another destination"
        )
    counters = Counters(on_progress)
    if with_segments:
        _sync_segments(segments, _transfer(segments, counters, exact=delete), dry_run=dry_run)
    if with_tables:
        transfer = _transfer(tables, counters, exact=delete)
        _sync_tables(tables, segments.source, transfer, dry_run=dry_run)
    return counters.report(dry_run=dry_run)


def _transfer(route: Route, counters: Counters, *, exact: bool) -> Transfer:
    return Transfer(route.source.storage, route.destination.storage, exact, counters)


@contextmanager
def _noting_problems(counters: Counters, name: str) -> Iterator[None]:
    """Let one segment or table fail without keeping the others waiting."""
    try:
        yield
    except _FATAL:
        raise
    except FluxForgeError as exc:
        logger.info("%s: %s", name, exc)
        counters.problems.append(f"{name}: {exc}")


def _sync_segments(route: Route, transfer: Transfer, *, dry_run: bool) -> None:
    """Copy or move every segment that nobody works on."""
    here, there = route
    syncs = [
        SegmentSync(source, state, here, there, transfer, dry_run)
        for state in SETTLED_STATES
        for source in here.storage.list_folders(here.layout.state(state, ""))
    ]
    planned = [(sync, segment) for sync in syncs for segment in sync.list()]
    transfer.counters.expect(len(planned))
    for sync, segment in planned:
        with _noting_problems(transfer.counters, segment.key):
            sync.run(segment)


def _sync_tables(route: Route, raw: Place, transfer: Transfer, *, dry_run: bool) -> None:
    """Copy or move every table, in the order in which an ETL commits to them.

    Their versions are taken in the opposite order: what the ledger says is done when it is read,
    the tables hold when they are.
    """
    here, there = route
    planned: list[tuple[str, TableSync, TablePlan]] = []
    for source in here.storage.list_folders(here.layout.processed):
        names = table_names(here.storage, here.layout.tables(source))
        for name in sorted(names, key=_commit_order, reverse=True):
            table = TableSync(
                f"{source}.{name}",
                Table(here.storage, here.layout.table(source, name)),
                Table(there.storage, there.layout.table(source, name)),
                transfer,
            )
            with _noting_problems(transfer.counters, table.name):
                plan = table.plan()
                if plan is not None:
                    planned.insert(0, (source, table, plan))
                elif transfer.exact and not dry_run:
                    table.finish()
    transfer.counters.expect(sum(len(plan.files) for _, _, plan in planned))
    for source, table, plan in planned:
        with _noting_problems(transfer.counters, table.name):
            if dry_run:
                table.preview(plan)
                continue
            table.copy(plan)
            if transfer.exact:
                table.remove(plan, partial(_has_living_etl, raw, source))


def _has_living_etl(place: Place, source: str) -> bool:
    """Tell whether an ETL is at work on a segment of the source."""
    store = SegmentStore(*place, source)
    for segment in store.list("processing"):
        lease = store.lease(segment.name)
        if lease is None:
            return True
        lease.release()
    return False


def _commit_order(name: str) -> int:
    return BOOKKEEPING.index(name) if name in BOOKKEEPING else -1
