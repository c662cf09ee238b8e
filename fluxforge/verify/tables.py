"""Checks of the tables: every file that the log names is there, and looks as it should."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from fluxforge.sources import source_names
from fluxforge.tables import PARTITION, Table
from fluxforge.transform.schema import table_schemas
from fluxforge.verify.report import Check, Finding, VerifyReport, guarded

if TYPE_CHECKING:
    from collections.abc import Collection

    from fluxforge.layout import Layout
    from fluxforge.storage.base import StorageBackend
    from fluxforge.tables import Snapshot

_LOG = "_delta_log"
_LEADING = ("symbol", "ts_event", "ts_recv", "seq", "conn")


def verify_tables(
    storage: StorageBackend, layout: Layout, configured: Collection[str]
) -> VerifyReport:
    """Check the tables of one storage against their logs."""
    return guarded(layout.processed, partial(_sources, storage, layout, set(configured)))


def _sources(storage: StorageBackend, layout: Layout, configured: set[str]) -> VerifyReport:
    found = set(storage.list_folders(layout.processed))
    sources = (found & {*source_names()}) | configured
    unknown = [
        Finding(
            "unknown source",
            layout.tables(name),
            "no source of this name is installed or configured: install it, or move this away",
        )
        for name in sorted(found - sources)
    ]
    strays = [
        Finding("misplaced file", key, "it belongs to no table: move it away")
        for key in storage.list_files(layout.processed, recursive=False)
    ]
    report = VerifyReport(problems=(*unknown, *strays))
    for source in sorted(sources):
        folder = layout.tables(source)
        report += guarded(folder, partial(_tables, storage, layout, source))
    return report


def _tables(storage: StorageBackend, layout: Layout, source: str) -> VerifyReport:
    """Check one source's tables, over a single listing of its files."""
    folder = layout.tables(source)
    files: dict[str, dict[str, int]] = {}
    strays: Counter[str] = Counter()
    for file in storage.list_entries(folder):
        name, _, path = file.key.removeprefix(f"{folder}/").partition("/")
        if path:
            files.setdefault(name, {})[path] = file.size
        else:
            strays[file.key] += 1
    report = VerifyReport()
    count = 0
    for name, paths in sorted(files.items()):
        data = {path: size for path, size in paths.items() if not path.startswith(f"{_LOG}/")}
        table = Table(storage, layout.table(source, name))
        if len(data) == len(paths):
            strays[f"{table.path}/"] += len(data)
            continue
        count += 1
        report += guarded(table.path, partial(_table, source, name, table, data))
    problems = tuple(
        Finding("misplaced file", where, f"{number} files that belong to no table: move them away")
        for where, number in sorted(strays.items())
    )
    return report + VerifyReport((Check(f"tables of {source}", count),), problems)


def _table(source: str, name: str, table: Table, data: dict[str, int]) -> VerifyReport:
    snapshot = table.snapshot()
    if snapshot is None:
        message = "its creation was cut short: the next etl completes it"
        return VerifyReport(notes=(Finding("leftover", table.path, message),))
    return _files(table, snapshot, data) + _columns(source, name, table, snapshot)


def _files(table: Table, snapshot: Snapshot, data: dict[str, int]) -> VerifyReport:
    named = snapshot.files()
    problems = []
    for file in named:
        where = f"{table.path}/{file.path}"
        size = data.pop(file.path, None)
        if size is None:
            if not table.storage.exists(where):  # written since the files were listed
                message = "the log names it: restore it from a copy"
                problems.append(Finding("missing file", where, message))
        elif size != file.size:
            message = f"{size} bytes, but {file.size} in the log: restore it from a copy"
            problems.append(Finding("damaged file", where, message))
        if not file.path.startswith(f"{PARTITION}={file.date.isoformat()}/"):
            message = f"its rows are of {file.date}: it lies in another partition's folder"
            problems.append(Finding("wrong partition", where, message))
    notes: tuple[Finding, ...] = ()
    if data:
        message = (
            f"{len(data)} files that the newest version does not name: of earlier versions, "
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
    problems = [
        Finding("wrong column", table.path, f"there is no column {column!r}")
        for column in _LEADING
        if column not in found.names
    ]
    for column in declared:
        if column.name not in found.names:
            continue  # it is added with the next commit
        kind = found.field(column.name).type
        if kind != column.type:
            message = f"column {column.name!r} is {kind}, not {column.type}"
            problems.append(Finding("wrong column", table.path, message))
    return VerifyReport(problems=tuple(problems))
