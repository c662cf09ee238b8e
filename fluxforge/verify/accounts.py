"""Checks of the accounts: every line that was read is in a table or in quarantine, once."""

from __future__ import annotations

import json
from collections import Counter
from importlib import resources
from typing import TYPE_CHECKING, Any

from fluxforge.etl.commit import LEDGER, SEQUENCES
from fluxforge.tables import Table, table_names
from fluxforge.verify.report import Check, Finding, VerifyReport

if TYPE_CHECKING:
    from collections.abc import Collection

    from fluxforge.layout import Layout
    from fluxforge.storage.base import StorageBackend


def verify_accounts(
    storage: StorageBackend, layout: Layout, sources: Collection[str], *, pending: bool
) -> VerifyReport:
    """Check the ledgers against the tables.

    Parameters
    ----------
    pending
        Whether segments are in work: then tables may be ahead of the ledger.
    """
    report = VerifyReport()
    for source in sources:
        report += _ledger(storage, layout, source, pending=pending)
        report += _stored_twice(storage, layout, source)
    return report


def _read(storage: StorageBackend, path: str, columns: list[str]) -> list[dict[str, Any]] | None:
    snapshot = Table(storage, path).snapshot()
    if snapshot is None:
        return None
    rows: list[dict[str, Any]] = snapshot.dataset().to_table(columns=columns).to_pylist()
    return rows


def _ledger(storage: StorageBackend, layout: Layout, source: str, *, pending: bool) -> VerifyReport:
    path = layout.table(source, LEDGER)
    columns = ["segment", "digest", "lines_read", "lines_taken", "lines_quarantined", "rows"]
    ledger = _read(storage, path, columns)
    if ledger is None:
        return VerifyReport()
    problems, expected = [], Counter[str]()
    for row in ledger:
        expected.update(json.loads(row["rows"]))
        if row["lines_read"] != row["lines_taken"] + row["lines_quarantined"]:
            message = "lines read are not those taken and quarantined: keep its raw copy"
            problems.append(Finding("wrong account", f"{path}: {row['segment']}", message))
    for digest, times in Counter(row["digest"] for row in ledger).items():
        if times > 1:
            message = f"the segment {digest} is entered {times} times: its rows may be doubled"
            problems.append(Finding("repeated segment", path, message))
    problems += _rows(storage, layout, source, expected, pending=pending)
    quarantined = sum(row["lines_quarantined"] for row in ledger)
    notes: tuple[Finding, ...] = ()
    if quarantined:
        message = f"{quarantined} lines of {len(ledger)} segments are in quarantine"
        notes = (Finding("quarantine", path, message),)
    return VerifyReport((Check(f"segments of {source}", len(ledger)),), tuple(problems), notes)


def _rows(
    storage: StorageBackend, layout: Layout, source: str, expected: Counter[str], *, pending: bool
) -> list[Finding]:
    problems = []
    present = {*table_names(storage, layout.tables(source))} - {LEDGER, SEQUENCES}
    for name in sorted({*present, *expected}):
        table = Table(storage, layout.table(source, name))
        snapshot = table.snapshot()
        rows = 0 if snapshot is None else sum(file.rows for file in snapshot.files())
        if rows < expected[name] or (rows > expected[name] and not pending):
            message = f"{rows:,} rows, but the ledger accounts for {expected[name]:,}"
            problems.append(Finding("wrong row count", table.path, message))
    return problems


def _stored_twice(storage: StorageBackend, layout: Layout, source: str) -> VerifyReport:
    snapshot = Table(storage, layout.table(source, SEQUENCES)).snapshot()
    if snapshot is None:
        return VerifyReport()
    import duckdb

    query = resources.files("fluxforge.verify.sql").joinpath("stored_twice.sql")
    with duckdb.connect() as database:
        database.register("sequences", snapshot.dataset())
        found = database.execute(query.read_text(encoding="utf-8")).fetchall()
    path = layout.table(source, SEQUENCES)
    return VerifyReport(
        problems=tuple(
            Finding("stored twice", path, f"frames {first} to {last} of connection {conn}")
            for conn, first, last in found
        )
    )
