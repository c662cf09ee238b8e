"""All checks of a lake; one that fails does not keep the others from running."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from fluxforge.errors import FluxForgeError
from fluxforge.layout import STATES
from fluxforge.sources import source_names
from fluxforge.verify.accounts import verify_accounts
from fluxforge.verify.places import verify_raw
from fluxforge.verify.report import Finding, VerifyReport
from fluxforge.verify.tables import verify_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fluxforge.layout import Layout
    from fluxforge.storage.base import StorageBackend


def verify_lake(
    raw: Sequence[tuple[StorageBackend, Layout]],
    tables: tuple[StorageBackend, Layout],
    configured: Iterable[str],
) -> VerifyReport:
    """Check where everything lies and whether the accounts add up.

    Parameters
    ----------
    raw
        The places of segments: where they are captured, and where the ETL takes them from.
    tables
        The place of tables.
    configured
        Names of sources; those whose folders are found are looked at too.
    """
    report = VerifyReport()
    places = {storage.get_full_path(layout.raw): (storage, layout) for storage, layout in raw}
    installed = {*source_names(), *configured}
    pending = False
    for storage, layout in places.values():
        found = {
            source
            for state in STATES
            for source in storage.list_folders(layout.state(state, "x").rpartition("/")[0])
        }
        sources = sorted((found & installed) | set(configured))
        pending = pending or any(storage.list_files(layout.processing(one)) for one in sources)
        report += _guarded(layout.raw, partial(verify_raw, storage, layout, sources))
    storage, layout = tables
    sources = sorted((set(storage.list_folders(layout.processed)) & installed) | set(configured))
    report += _guarded(layout.processed, partial(verify_tables, storage, layout, sources))
    accounts = partial(verify_accounts, storage, layout, sources, pending=pending)
    return report + _guarded(layout.processed, accounts)


def _guarded(where: str, check: Callable[[], VerifyReport]) -> VerifyReport:
    try:
        return check()
    except FluxForgeError as exc:
        return VerifyReport(problems=(Finding("check failed", where, str(exc)),))
