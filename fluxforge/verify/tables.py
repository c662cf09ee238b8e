"""Checks of the tables: every file that the log names is there, and is what was written."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fluxforge.layout import join_key
from fluxforge.tables import PARTITION, Table, checksum_in_name, table_names
from fluxforge.transform.schema import table_schemas
from fluxforge.verify.report import Check, Finding, VerifyReport, guarded, note, problem
from fluxforge.verify.strays import odd_files, unknown_sources

if TYPE_CHECKING:
    import pyarrow as pa

    from fluxforge.layout import Layout
    from fluxforge.storage.base import StorageBackend
    from fluxforge.tables import Snapshot, TableFile

    Schemas = dict[str, pa.Schema]

_LOG = "_delta_log/"
_VERSION = re.compile(r"\d{20}\.(json|checkpoint.*\.parquet)")
_LEADING = ("symbol", "ts_event", "ts_recv", "seq", "conn")


@dataclass(frozen=True)
class Counted:
    """A version of a table, and how many rows its log says it has."""

    table: Table
    snapshot: Snapshot
    rows: int


Tables = dict[str, dict[str, Counted]]
"""What was found, by source and name."""


def verify_tables(
    storage: StorageBackend, layout: Layout, known: set[str], *, deep: bool
) -> tuple[VerifyReport, Tables]:
    """Check the tables of one storage against their logs."""
    tables: Tables = {}
    check = partial(_sources, storage, layout, known, tables, deep=deep)
    report = guarded(layout.processed, check)
    return report + guarded(layout.processed, partial(odd_files, storage, layout.processed)), tables


def _sources(
    storage: StorageBackend, layout: Layout, known: set[str], tables: Tables, *, deep: bool
) -> VerifyReport:
    found = set(storage.list_folders(layout.processed))
    own = {name for name in found - known if table_names(storage, layout.tables(name))}
    report = unknown_sources(layout.processed, found - known - own)
    for key in storage.list_files(layout.processed, recursive=False):
        report += problem("misplaced_file", key, "it belongs to no table: move it away")
    for source in sorted((found & known) | own):
        folder = layout.tables(source)
        named = {} if source in own else tables.setdefault(source, {})
        schemas = None if source in own else table_schemas(source)
        check = partial(_source, storage, schemas, folder, named, deep=deep)
        report += guarded(folder, check)
    return report


def _source(
    storage: StorageBackend,
    schemas: Schemas | None,
    folder: str,
    named: dict[str, Counted],
    *,
    deep: bool,
) -> VerifyReport:
    """Check one source's tables, over a single listing of its files; the user's own have no SQL."""
    files: dict[str, dict[str, int]] = {}
    report = VerifyReport()
    for file in storage.list_entries(folder):
        name, _, path = file.key.removeprefix(f"{folder}/").partition("/")
        if path:
            files.setdefault(name, {})[path] = file.size
        else:
            report += problem("misplaced_file", file.key, "it belongs to no table: move it away")
    for name, paths in sorted(files.items()):
        table = Table(storage, join_key(folder, name))
        report += guarded(
            table.path, partial(_table, schemas, name, table, paths, named, deep=deep)
        )
    return report + VerifyReport((Check("tables", folder, len(named)),))


def _table(
    schemas: Schemas | None,
    name: str,
    table: Table,
    paths: dict[str, int],
    named: dict[str, Counted],
    *,
    deep: bool,
) -> VerifyReport:
    data = {path: size for path, size in paths.items() if not path.startswith(_LOG)}
    versions = [path for path in paths if _VERSION.fullmatch(path.removeprefix(_LOG))]
    if data and not versions:
        if name not in (schemas or {}) and len(data) == len(paths):
            message = f"{len(data)} files that belong to no table: move them away"
            return problem("misplaced_file", f"{table.path}/", message)
        message = f"{len(data)} data files without a log: restore {_LOG} from a copy"
        return problem("missing_log", table.path, message)
    snapshot = table.snapshot()
    if snapshot is None:
        message = "its creation was cut short: the next etl completes it"
        return note("leftover", table.path, message)
    files = snapshot.files()
    named[name] = Counted(table, snapshot, sum(file.rows for file in files))
    report = _files(table, files, data)
    if schemas is not None:
        report += _columns(schemas, name, table, snapshot)
    for file in files if deep else ():
        where = f"{table.path}/{file.path}"
        if file.path not in data and table.storage.exists(where):
            report += guarded(where, partial(_content, table.storage, where, file))
    return report


def _files(table: Table, files: list[TableFile], data: dict[str, int]) -> VerifyReport:
    """Compare files with the log; take those that are as they should be out of `data`."""
    problems = []
    for file in files:
        where = f"{table.path}/{file.path}"
        size = data.pop(file.path, None)
        if size is None:
            if not table.storage.exists(where):  # written since the files were listed
                message = "the log names it: restore it from a copy"
                problems.append(Finding("missing_file", where, message))
        elif size != file.size:
            message = f"{size} bytes, but {file.size} in the log: restore it from a copy"
            problems.append(Finding("damaged_file", where, message))
        if not file.path.startswith(f"{PARTITION}={file.date.isoformat()}/"):
            message = f"its rows are of {file.date}: it lies in another partition's folder"
            problems.append(Finding("wrong_partition", where, message))
    report = VerifyReport((Check("files", table.path, len(files)),), tuple(problems))
    if data:
        message = (
            f"{len(data)} files that the newest version does not name: of earlier versions, "
            "or of a commit that never came; vacuum removes them in time"
        )
        report += note("leftover", table.path, message)
    return report


def _content(storage: StorageBackend, where: str, file: TableFile) -> VerifyReport:
    checksum = checksum_in_name(file.path)
    if checksum is not None:
        damage = "" if storage.digest(where)[:16] == checksum else "its content has changed"
    else:
        with tempfile.TemporaryDirectory(prefix="fluxforge-verify-") as work:
            damage = _read(storage.fetch(where, Path(work)), file)
    if damage:
        return problem("damaged_file", where, f"{damage}: restore it from a copy")
    return VerifyReport()


def _read(path: Path, file: TableFile) -> str:
    """Read a file of before checksums, and compare it with what its log says; return what differs.

    The log has the number of rows, and the bounds and nulls of columns.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(path, partitioning=None, page_checksum_verification=True)
        if rows.num_rows != file.rows:
            return f"{rows.num_rows:,} rows, but {file.rows:,} in the log"
        for name, nulls in file.nulls.items():
            bounds = pc.min_max(rows[name])
            for word, known in (("min", file.least), ("max", file.greatest)):
                if name in known and bounds[word].as_py() != known[name]:
                    return f"the {word} of {name!r} is not that of the log"
            if rows[name].null_count != nulls:
                return f"the nulls of {name!r} are not those of the log"
    except (pa.ArrowException, OSError, KeyError) as exc:
        return f"it cannot be read ({type(exc).__name__})"
    return ""


def _columns(schemas: Schemas, name: str, table: Table, snapshot: Snapshot) -> VerifyReport:
    declared = schemas.get(name)
    if declared is None:
        return note("unknown_table", table.path, "no SQL of its source makes this table")
    found = snapshot.schema()
    problems = [
        Finding("wrong_column", table.path, f"there is no column {column!r}")
        for column in _LEADING
        if column not in found.names
    ]
    for column in declared:
        if column.name not in found.names:
            continue  # it is added with the next commit
        kind = found.field(column.name).type
        if kind != column.type:
            message = f"column {column.name!r} is {kind}, not {column.type}"
            problems.append(Finding("wrong_column", table.path, message))
    return VerifyReport(problems=tuple(problems))
