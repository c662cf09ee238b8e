"""All checks of a lake; one that fails does not keep the others from running."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from fluxforge.sources import source_names
from fluxforge.tables import Table
from fluxforge.transform.schema import LEDGER
from fluxforge.verify.accounts import Ledger, verify_accounts
from fluxforge.verify.places import verify_raw, verify_set_aside, verify_spool
from fluxforge.verify.report import VerifyReport, guarded, problem
from fluxforge.verify.tables import verify_tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from fluxforge.layout import Layout
    from fluxforge.storage.base import StorageBackend


def verify_lake(
    raw: Sequence[tuple[StorageBackend, Layout]],
    tables: tuple[StorageBackend, Layout],
    configured: Iterable[str],
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
    report, away = _ask((tables, *places.values()))
    storage, layout = tables
    ledgers: dict[str, Ledger] = {}
    if storage.get_full_path() not in away:
        for source in sorted(known):
            where = layout.tables(source)
            report += guarded(where, partial(_read_ledger, ledgers, storage, layout, source))
        found, snapshots = verify_tables(storage, layout, known, deep=deep)
        report += found
        if not away:
            report += verify_accounts(ledgers, snapshots, list(places.values()))
            for ledger in ledgers.values():
                report += verify_set_aside(list(places.values()), ledger, deep=deep)
    for storage, layout in places.values():
        if storage.get_full_path() not in away:
            report += verify_raw(storage, layout, known)
            report += verify_spool(storage, layout, known, spool_dir)
    return report


def _read_ledger(
    ledgers: dict[str, Ledger], storage: StorageBackend, layout: Layout, source: str
) -> VerifyReport:
    # Read before anything else: what it says is done is in the tables by then.
    ledgers[source] = Ledger.read(source, Table(storage, layout.table(source, LEDGER)))
    return VerifyReport()


def _ask(places: Iterable[tuple[StorageBackend, Layout]]) -> tuple[VerifyReport, set[str]]:
    """Find the storages that do not answer, or hold no lake: each is one problem."""
    report, away = VerifyReport(), set()
    for storage, layout in {place[0].get_full_path(): place for place in places}.values():
        root = storage.get_full_path()
        answer = guarded(root, partial(_look, storage, layout))
        report += answer
        if not answer.ok:
            away.add(root)
    return report, away


def _look(storage: StorageBackend, layout: Layout) -> VerifyReport:
    if layout.is_used(storage.list_folders()):
        return VerifyReport()
    return problem(
        "no_lake",
        storage.get_full_path(),
        "there is no lake: look at the working directory and storage.base_dir",
    )
