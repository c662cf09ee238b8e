"""Taking the oldest days out of a table, by age or by size, in one commit."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from fluxforge.errors import CommitConflictError
from fluxforge.tables.snapshot import COMMIT_TRIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fluxforge.tables.files import TableFile
    from fluxforge.tables.table import Table

_RETIRED = "retired "
_RETIRED_LINES = "retired quarantine "


@dataclass(frozen=True)
class Retired:
    """What was taken out of a table: whole days, from the oldest on."""

    days: tuple[date, ...] = ()
    files: int = 0
    rows: int = 0
    bytes: int = 0


def retire(
    table: Table, *, age: timedelta | None = None, size: int | None = None, dry_run: bool = False
) -> Retired:
    """Take out the days that ended longer than `age` ago, or that make a table larger than `size`.

    The files stay until vacuum deletes them, so that readers of earlier versions finish. How many
    rows went is part of the commit's identity, which the table never forgets: the accounts of
    what was committed still add up. The newest day always stays.
    """
    for _ in range(COMMIT_TRIES):
        snapshot = table.snapshot()
        old = [] if snapshot is None else _old(snapshot.files(), age, size)
        retired = Retired(
            tuple(sorted({file.date for file in old})),
            len(old),
            sum(file.rows for file in old),
            sum(file.size for file in old),
        )
        if snapshot is None or not old or dry_run:
            return retired
        identity = f"{_RETIRED}{retired.days[-1]} {snapshot.version} {retired.rows}"
        try:
            table.commit(
                snapshot, (), {identity: None}, {"work": "retention"}, removes=old, at_version=True
            )
        except CommitConflictError:
            continue
        table.sync(since=snapshot)
        return retired
    raise CommitConflictError(f"{table.uri}: others keep committing, the old days stay for now")


def retired_rows(transactions: Iterable[str]) -> int:
    """Return how many rows were ever taken out, by the identities of a table's commits.

    >>> retired_rows(["retired 2026-08-09 17 1200", "segment_20251203T14_00001.ndjson"])
    1200
    """
    return sum(
        int(one.rpartition(" ")[2])
        for one in transactions
        if is_retirement(one) and not one.startswith(_RETIRED_LINES)
    )


def retire_quarantine(ledger: Table, digests: Iterable[str]) -> None:
    """Note for ever, in a source's ledger, that the lines of some segments are kept no longer."""
    snapshot = ledger.snapshot()
    notes = {f"{_RETIRED_LINES}{digest}": None for digest in digests}
    if snapshot is not None and (
        new := {k: v for k, v in notes.items() if k not in snapshot.transactions}
    ):
        ledger.commit(snapshot, (), new, {"work": "retention"})
        ledger.sync(since=snapshot)


def retired_quarantine(ledger: Table) -> set[str]:
    """Return the digests of segments whose lines in quarantine are kept no longer."""
    snapshot = ledger.snapshot()
    found = () if snapshot is None else snapshot.transactions
    return {one.rpartition(" ")[2] for one in found if one.startswith(_RETIRED_LINES)}


def is_retirement(transaction: str) -> bool:
    """Tell whether an identity is that of a commit which took days out."""
    return transaction.startswith(_RETIRED)


def _old(files: Sequence[TableFile], age: timedelta | None, size: int | None) -> list[TableFile]:
    days: dict[date, int] = {}
    for file in files:
        days[file.date] = days.get(file.date, 0) + file.size
    first, total = date.min, 0
    if age is not None:
        first = (datetime.now(UTC) - age).date()
    for day in sorted(days, reverse=True):
        total += days[day]
        if size is not None and total > size:
            first = max(first, day + timedelta(days=1))
            break
    first = min(first, max(days, default=first))
    return [file for file in files if file.date < first]
