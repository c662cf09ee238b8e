"""All checks of a lake; one that fails does not keep the others from running."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from fluxforge.verify.accounts import verify_accounts
from fluxforge.verify.places import in_work, verify_raw
from fluxforge.verify.tables import verify_tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fluxforge.layout import Layout
    from fluxforge.storage.base import StorageBackend
    from fluxforge.verify.report import VerifyReport


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
    storage, layout = tables
    report = verify_tables(storage, layout, configured)
    report += verify_accounts(
        storage, layout, configured, in_work=partial(in_work, list(places.values()))
    )
    for storage, layout in places.values():
        report += verify_raw(storage, layout, configured)
    return report
