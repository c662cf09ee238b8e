"""Checks of the accounts: every line that was read is in a table or in quarantine, once."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING, Any

from fluxforge.sources import get_source, source_names
from fluxforge.tables import Table, table_names
from fluxforge.transform.schema import BOOKKEEPING, LEDGER, SEQUENCES
from fluxforge.verify.report import Check, Finding, VerifyReport, guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    import pyarrow as pa

    from fluxforge.layout import Layout
    from fluxforge.storage.base import StorageBackend

_COLUMNS = ["segment", "digest", "lines_read", "lines_taken", "lines_quarantined", "rows"]


def verify_accounts(
    storage: StorageBackend,
    layout: Layout,
    configured: Collection[str],
    *,
    in_work: Callable[[], bool],
) -> VerifyReport:
    """Check the ledgers against the tables.

    Parameters
    ----------
    in_work
        Tells whether an ETL has a segment in its hands: then tables are ahead of the ledger.
    """
    report = VerifyReport()
    for source in sorted({*configured, *source_names()}):
        where = layout.tables(source)
        report += guarded(where, partial(_ledger, storage, layout, source, in_work))
        report += guarded(where, partial(_sequences, storage, layout, source))
    return report


def _ledger(
    storage: StorageBackend, layout: Layout, source: str, in_work: Callable[[], bool]
) -> VerifyReport:
    table = Table(storage, layout.table(source, LEDGER))
    snapshot = table.snapshot()
    if snapshot is None:
        return VerifyReport()
    ledger = snapshot.read(_COLUMNS).to_pylist()
    problems = _entries(table.path, ledger)
    expected = Counter[str]()
    for row in ledger:
        expected.update(json.loads(row["rows"]))
    for name, rows in _present(storage, layout, source, expected).items():
        if rows == expected[name]:
            continue
        if rows > expected[name] and _moved_on(table, snapshot.version, in_work):
            continue
        message = f"{rows:,} rows, but the ledger accounts for {expected[name]:,}"
        problems.append(Finding("wrong row count", layout.table(source, name), message))
    quarantined = sum(row["lines_quarantined"] for row in ledger)
    notes: tuple[Finding, ...] = ()
    if quarantined:
        message = f"{quarantined:,} lines of {len(ledger):,} segments went to quarantine"
        notes = (Finding("quarantine", table.path, message),)
    return VerifyReport((Check(f"segments of {source}", len(ledger)),), tuple(problems), notes)


def _moved_on(ledger: Table, version: int, in_work: Callable[[], bool]) -> bool:
    """Tell whether an ETL is at work, or was while the tables were counted."""
    if in_work():
        return True
    newest = ledger.snapshot()
    return newest is not None and newest.version != version


def _entries(path: str, ledger: list[dict[str, Any]]) -> list[Finding]:
    problems = []
    for row in ledger:
        if row["lines_read"] != row["lines_taken"] + row["lines_quarantined"]:
            message = "lines read are not those taken and quarantined: keep its raw copy"
            problems.append(Finding("wrong account", f"{path}: {row['segment']}", message))
    for digest, times in Counter(row["digest"] for row in ledger).items():
        if times > 1:
            message = f"the segment {digest} is entered {times} times: its rows may be doubled"
            problems.append(Finding("repeated segment", path, message))
    return problems


def _present(
    storage: StorageBackend, layout: Layout, source: str, expected: Counter[str]
) -> dict[str, int]:
    """Count the rows of every table of a source that is not bookkeeping, by its log."""
    rows = dict.fromkeys(sorted(expected), 0)
    for name in table_names(storage, layout.tables(source)):
        snapshot = Table(storage, layout.table(source, name)).snapshot()
        if name not in BOOKKEEPING and snapshot is not None:
            rows[name] = sum(file.rows for file in snapshot.files())
    return rows


def _sequences(storage: StorageBackend, layout: Layout, source: str) -> VerifyReport:
    table = Table(storage, layout.table(source, SEQUENCES))
    snapshot = table.snapshot()
    if snapshot is None:
        return VerifyReport()
    runs = snapshot.read(["symbol", "conn", "seq", "last_seq", "frames"])
    twice = tuple(
        Finding("stored twice", table.path, f"frames {first} to {last} of connection {conn}")
        for conn, first, last in _query("stored_twice", runs)
    )
    first = get_source(source).limits.first_sequence
    ((connections, missing),) = _query("missing", runs, first_sequence=first)
    notes: tuple[Finding, ...] = ()
    if missing:
        message = f"{missing:,} frames of {connections} connections never came: see the gaps"
        notes = (Finding("gap", table.path, message),)
    return VerifyReport((Check(f"runs of frames of {source}", runs.num_rows),), twice, notes)


def _query(name: str, sequences: pa.Table, **parameters: object) -> list[tuple[Any, ...]]:
    import duckdb

    text = resources.files("fluxforge.verify.sql").joinpath(f"{name}.sql")
    with duckdb.connect() as database:
        database.register("sequences", sequences)
        return database.execute(text.read_text(encoding="utf-8"), parameters or None).fetchall()
