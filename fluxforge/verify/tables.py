"""Checks of the tables: every file that the log names is there, and is what was written."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fluxforge.layout import join_key
from fluxforge.tables import PARTITION, Table, checksum_in_name, table_names
from fluxforge.transform.schema import table_schemas
from fluxforge.verify.report import Check, Finding, guarded
from fluxforge.verify.strays import odd_files, unknown_sources

if TYPE_CHECKING:
    import pyarrow as pa

    from fluxforge.layout import Layout
    from fluxforge.storage.base import StorageBackend
    from fluxforge.tables import Snapshot, TableFile
    from fluxforge.verify.report import Found

    Schemas = dict[str, pa.Schema]

_LOG = "_delta_log/"
_VERSION = re.compile(r"\d{20}\.(json|checkpoint.*\.parquet)")
_MISPLACED = "it belongs to no table: move it away"
_LEADING = ("symbol", "ts_event", "ts_recv", "seq", "conn")


@dataclass(frozen=True)
class Counted:
    """A version of a table, and how many rows its log says it has."""

    table: Table
    snapshot: Snapshot
    rows: int


Tables = dict[str, dict[str, Counted]]
"""What was found, by source and name."""


@dataclass(frozen=True)
class TableChecks:
    """Checks of the tables of one storage against their logs."""

    storage: StorageBackend
    layout: Layout
    known: set[str]  # the names of sources
    deep: bool
    counted: Tables = field(default_factory=dict)  # filled by :meth:`run`

    def run(self) -> Found:
        """Check all tables."""
        home = self.layout.processed
        yield from guarded(home, self._sources(home))
        yield from guarded(home, odd_files(self.storage, home))

    def _sources(self, home: str) -> Found:
        found = set(self.storage.list_folders(home))
        unknown = found - self.known
        own = {name for name in unknown if table_names(self.storage, self.layout.tables(name))}
        yield from unknown_sources(home, unknown - own)
        for key in self.storage.list_files(home, recursive=False):
            yield Finding("misplaced_file", key, _MISPLACED)
        for source in sorted((found & self.known) | own):
            folder = self.layout.tables(source)
            if source in own:  # the user's own have no SQL
                yield from guarded(folder, self._source(folder, {}, None))
            else:
                named, schemas = self.counted.setdefault(source, {}), table_schemas(source)
                yield from guarded(folder, self._source(folder, named, schemas))

    def _source(self, folder: str, named: dict[str, Counted], schemas: Schemas | None) -> Found:
        """Check one source's tables, over a single listing of its files."""
        files: dict[str, dict[str, int]] = {}
        for file in self.storage.list_entries(folder):
            name, _, path = file.key.removeprefix(f"{folder}/").partition("/")
            if path:
                files.setdefault(name, {})[path] = file.size
            else:
                yield Finding("misplaced_file", file.key, _MISPLACED)
        for name, paths in sorted(files.items()):
            table = Table(self.storage, join_key(folder, name))
            yield from guarded(table.path, self._table(name, table, paths, named, schemas))
        yield Check("tables", folder, len(named))

    def _table(
        self,
        name: str,
        table: Table,
        paths: dict[str, int],
        named: dict[str, Counted],
        schemas: Schemas | None,
    ) -> Found:
        data = {path: size for path, size in paths.items() if not path.startswith(_LOG)}
        versions = [path for path in paths if _VERSION.fullmatch(path.removeprefix(_LOG))]
        if data and not versions:
            if name not in (schemas or {}) and len(data) == len(paths):
                message = f"{len(data)} files that belong to no table: move them away"
                yield Finding("misplaced_file", f"{table.path}/", message)
            else:
                message = f"{len(data)} data files without a log: restore {_LOG} from a copy"
                yield Finding("missing_log", table.path, message)
            return
        snapshot = table.snapshot()
        if snapshot is None:
            message = "its creation was cut short: the next etl completes it"
            yield Finding("leftover", table.path, message)
            return
        files = snapshot.files()
        named[name] = Counted(table, snapshot, sum(file.rows for file in files))
        yield from _files(table, files, data)
        if schemas is not None:
            yield from _columns(schemas, name, table, snapshot)
        for file in files if self.deep else ():
            where = f"{table.path}/{file.path}"
            if file.path not in data and table.storage.exists(where):
                yield from guarded(where, _content(table.storage, where, file))


def _files(table: Table, files: list[TableFile], data: dict[str, int]) -> Found:
    """Compare files with the log; take those that are as they should be out of `data`."""
    for file in files:
        where = f"{table.path}/{file.path}"
        size = data.pop(file.path, None)
        if size is None:
            if not table.storage.exists(where):  # written since the files were listed
                yield Finding("missing_file", where, "the log names it: restore it from a copy")
        elif size != file.size:
            message = f"{size} bytes, but {file.size} in the log: restore it from a copy"
            yield Finding("damaged_file", where, message)
        if not file.path.startswith(f"{PARTITION}={file.date.isoformat()}/"):
            message = f"its rows are of {file.date}: it lies in another partition's folder"
            yield Finding("wrong_partition", where, message)
    yield Check("files", table.path, len(files))
    if data:
        message = (
            f"{len(data)} files that the newest version does not name: of earlier versions, "
            "or of a commit that never came; vacuum removes them in time"
        )
        yield Finding("leftover", table.path, message)


def _content(storage: StorageBackend, where: str, file: TableFile) -> Found:
    checksum = checksum_in_name(file.path)
    if checksum is not None:
        damage = "" if storage.digest(where)[:16] == checksum else "its content has changed"
    else:
        with tempfile.TemporaryDirectory(prefix="fluxforge-verify-") as work:
            damage = _read(storage.fetch(where, Path(work)), file)
    if damage:
        yield Finding("damaged_file", where, f"{damage}: restore it from a copy")


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


def _columns(schemas: Schemas, name: str, table: Table, snapshot: Snapshot) -> Found:
    declared = schemas.get(name)
    if declared is None:
        yield Finding("unknown_table", table.path, "no SQL of its source makes this table")
        return
    found = snapshot.schema()
    for column in _LEADING:
        if column not in found.names:
            yield Finding("wrong_column", table.path, f"there is no column {column!r}")
    for column in declared:
        if column.name not in found.names:
            continue  # it is added with the next commit
        kind = found.field(column.name).type
        if kind != column.type:
            message = f"column {column.name!r} is {kind}, not {column.type}"
            yield Finding("wrong_column", table.path, message)
