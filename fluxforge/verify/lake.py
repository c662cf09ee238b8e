"""All checks of a lake; one that fails does not keep the others from running."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from fluxforge.verify.accounts import verify_accounts
from fluxforge.verify.places import in_work, verify_raw
from fluxforge.verify.report import VerifyReport, guarded
from fluxforge.verify.tables import verify_tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fluxforge.layout import Layout
    from fluxforge.storage.base import StorageBackend


def verify_lake(
    raw: Sequence[tuple[StorageBackend, Layout]],
    tables: tuple[StorageBackend, Layout],
    configured: Iterable[str],
) -> VerifyReport:
    """Check where everything lies and whether the accounts add up. Nothing is changed.

    Parameters
    ----------
    raw
        The places of segments: where they are captured, and where the ETL takes them from.
    tables
        The place of tables.
    configured
        Names of sources; those whose folders are found are looked at too.
    """
    configured = set(configured)
    places = {
        storage.get_full_path(layout.ready("x")): (storage, layout) for storage, layout in raw
    }
    report, away = _ask(storage for storage, _ in (tables, *places.values()))
    storage, layout = tables
    if storage.get_full_path() not in away:
        report += verify_tables(storage, layout, configured)
    if not away:
        report += verify_accounts(
            storage, layout, configured, in_work=partial(in_work, list(places.values()))
        )
    for storage, layout in places.values():
        if storage.get_full_path() not in away:
            report += verify_raw(storage, layout, configured)
    return report


def _ask(storages: Iterable[StorageBackend]) -> tuple[VerifyReport, set[str]]:
    """Find the storages that do not answer: each is one problem, and not one a folder."""
    report, away = VerifyReport(), set()
    for root, storage in {storage.get_full_path(): storage for storage in storages}.items():
        answer = guarded(root, partial(_list, storage))
        report += answer
        if not answer.ok:
            away.add(root)
    return report, away


def _list(storage: StorageBackend) -> VerifyReport:
    storage.list_folders()
    return VerifyReport()
