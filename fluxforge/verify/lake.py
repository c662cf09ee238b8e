"""All checks of a lake; one that fails does not keep the others from running."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluxforge.errors import FluxForgeError
from fluxforge.sources import source_names
from fluxforge.tables import Table
from fluxforge.transform.schema import LEDGER
from fluxforge.verify.accounts import Ledger, verify_accounts
from fluxforge.verify.places import verify_raw, verify_set_aside, verify_spool
from fluxforge.verify.report import Finding, VerifyReport, guarded
from fluxforge.verify.tables import TableChecks

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fluxforge.layout import Layout
    from fluxforge.storage.base import StorageBackend
    from fluxforge.verify.report import Found

    Place = tuple[StorageBackend, Layout]


def verify_lake(
    raw: Sequence[Place],
    tables: Place,
    configured: Sequence[str],
    *,
    deep: bool = False,
    spool_dir: str | Path | None = None,
) -> VerifyReport:
    """Check everything that can be checked from the outside; see :meth:`fluxforge.Lake.verify`.

    `raw` are the places of segments, `configured` the sources that are known without a folder.
    """
    known = {*configured, *source_names()}
    places = {
        storage.get_full_path(layout.ready("x")): (storage, layout) for storage, layout in raw
    }
    return VerifyReport.of(_checks([*places.values()], tables, known, spool_dir, deep=deep))


def _checks(
    places: list[Place], tables: Place, known: set[str], spool_dir: str | Path | None, *, deep: bool
) -> Found:
    away = set()
    for storage, layout in {
        place[0].get_full_path(): place for place in (tables, *places)
    }.values():
        found = [*guarded(storage.get_full_path(), _look(storage, layout))]
        yield from found
        if found:
            away.add(storage.get_full_path())
    storage, layout = tables
    if storage.get_full_path() not in away:
        ledgers: dict[str, Ledger] = {}
        for source in sorted(known):
            # Read before anything else: what it says is done is in the tables by then.
            try:
                ledger = Ledger.read(source, Table(storage, layout.table(source, LEDGER)))
                ledgers[source] = ledger
            except FluxForgeError as exc:
                yield Finding("check_failed", layout.tables(source), str(exc))
        tables_found = TableChecks(storage, layout, known, deep)
        yield from tables_found.run()
        for source, ledger in () if away else ledgers.items():
            yield from verify_accounts(ledger, tables_found.counted.get(source, {}), places)
        for ledger in () if away else ledgers.values():
            yield from verify_set_aside(places, ledger, deep=deep)
    for storage, layout in places:
        if storage.get_full_path() not in away:
            yield from verify_raw(storage, layout, known)
            yield from verify_spool(storage, layout, known, spool_dir)


def _look(storage: StorageBackend, layout: Layout) -> Found:
    if not layout.is_used(storage.list_folders()):
        message = "there is no lake: look at the working directory and storage.base_dir"
        yield Finding("no_lake", storage.get_full_path(), message)
