"""Checks of the tables: every file that the log names is there, and looks as it should."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluxforge.etl.schema import table_schemas
from fluxforge.tables import PARTITION, Table, table_names
from fluxforge.verify.report import Check, Finding, VerifyReport

if TYPE_CHECKING:
    from collections.abc import Collection

    from fluxforge.layout import Layout
    from fluxforge.storage.base import StorageBackend
    from fluxforge.tables import Snapshot

_LOG = "_delta_log"


def verify_tables(
    storage: StorageBackend, layout: Layout, sources: Collection[str]
) -> VerifyReport:
    """Check the tables of one storage against their logs."""
    report = VerifyReport()
    known = set()
    for source in sources:
        for name in table_names(storage, layout.tables(source)):
            table = Table(storage, layout.table(source, name))
            known.add(f"{table.path}/")
            snapshot = table.snapshot()
            if snapshot is not None:
                report += _files(storage, table, snapshot)
                report += _columns(source, name, table, snapshot)
    strays = [
        Finding("misplaced file", file.key, "it belongs to no table: move it away")
        for file in storage.list_entries(layout.processed)
        if not file.key.startswith(tuple(known))
    ]
    return report + VerifyReport((Check("tables", len(known)),), tuple(strays))


def _files(storage: StorageBackend, table: Table, snapshot: Snapshot) -> VerifyReport:
    prefix = f"{table.path}/"
    present = {
        file.key.removeprefix(prefix): file.size
        for file in storage.list_entries(table.path)
        if not file.key.startswith(f"{prefix}{_LOG}/")
    }
    named = snapshot.files()
    problems = []
    for file in named:
        where = prefix + file.path
        size = present.pop(file.path, None)
        if size is None:
            problems.append(
                Finding("missing file", where, "the log names it: restore it from a copy")
            )
        elif size != file.size:
            message = f"{size} bytes, but {file.size} in the log: restore it from a copy"
            problems.append(Finding("damaged file", where, message))
        if not file.path.startswith(f"{PARTITION}={file.date.isoformat()}/"):
            message = f"its rows are of {file.date}: it lies in another partition's folder"
            problems.append(Finding("wrong partition", where, message))
    notes: tuple[Finding, ...] = ()
    if present:
        message = (
            f"{len(present)} files that the newest version does not name: of earlier versions, "
            "or of a commit that never came; vacuum removes them in time"
        )
        notes = (Finding("leftover", table.path, message),)
    return VerifyReport((Check(f"files of {table.path}", len(named)),), tuple(problems), notes)


def _columns(source: str, name: str, table: Table, snapshot: Snapshot) -> VerifyReport:
    declared = table_schemas(source).get(name)
    if declared is None:
        message = "no SQL of its source makes this table"
        return VerifyReport(notes=(Finding("unknown table", table.path, message),))
    found = snapshot.schema()
    problems = []
    for column in declared:
        if column.name not in found.names:
            continue  # it is added with the next commit
        kind = found.field(column.name).type
        if kind != column.type:
            message = f"column {column.name!r} is {kind}, not {column.type}"
            problems.append(Finding("wrong column", table.path, message))
    return VerifyReport(problems=tuple(problems))
