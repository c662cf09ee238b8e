"""The unit of work: some segments in, data files and accounts out. It runs on any executor."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fluxforge.errors import (
    CommitConflictError,
    FileMissingError,
    SegmentError,
    StorageError,
    TableError,
)
from fluxforge.etl.writers.parquet_writer import ParquetWriter
from fluxforge.segments import SegmentStore
from fluxforge.storage.disk import LockFile, translated
from fluxforge.tables import Table
from fluxforge.transform.database import identifier, literal
from fluxforge.transform.schema import SEQUENCES, table_schema
from fluxforge.transform.transform import FILE_BITS, transform_segments

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow as pa

    from fluxforge.layout import Layout
    from fluxforge.sources.tables import Channel, SourceTables
    from fluxforge.storage.base import StorageBackend
    from fluxforge.tables import TableFile
    from fluxforge.transform.accounts import Account
from fluxforge.transform.transform import SegmentRows

_PREFIX = "fluxforge-etl-"
_DOWNLOADS = 8


@dataclass(frozen=True)
class SegmentGroup:
    """Some segments whose rows share files."""

    source: str
    tables: SourceTables
    input: StorageBackend
    layout: Layout
    output: StorageBackend
    folder: str
    segments: Mapping[str, tuple[str, int]]  # key and size of each, by name
    memory_limit_mb: int
    threads: int
    only: tuple[str, ...] | None = None  # the tables to write; None: all of them, and quarantine
    skip: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The segments whose rows a table has already."""
    made: frozenset[str] = frozenset()
    """The tables that are there; others are made before their first file."""

    def halves(self) -> Iterator[SegmentGroup]:
        """Divide the group in two."""
        items = list(self.segments.items())
        middle = len(items) // 2
        for part in (items[:middle], items[middle:]):
            yield replace(self, segments=dict(part))


@dataclass(frozen=True)
class GroupRows:
    """What became of a group: its segments' accounts, and the files that hold their rows."""

    accounts: Mapping[str, Account]  # by segment
    files: Mapping[str, list[TableFile]]  # by table
    keys: Mapping[str, pa.Table]
    """For each file of a table whose first row of a key wins, the rows' keys, times and places."""


def transform_group(group: SegmentGroup) -> GroupRows:
    """Read a group's segments, and write what they hold into files that no table has yet."""
    with work_folder() as work, translated(f"the work on {next(iter(group.segments))}"):
        with ThreadPoolExecutor(_DOWNLOADS, thread_name_prefix="fluxforge-fetch") as pool:
            paths = list(
                pool.map(lambda at: _fetch(group.input, at, work), group.segments.values())
            )
        with transform_segments(
            paths,
            group.tables,
            work,
            memory_limit_mb=group.memory_limit_mb,
            threads=group.threads,
            only=group.only,
        ) as rows:
            accounts = dict(zip(group.segments, rows.accounts(), strict=True))
            if group.only is None:
                _quarantine(group, rows, accounts)
            names = [*group.tables.channels, SEQUENCES] if group.only is None else group.only
            files: dict[str, list[TableFile]] = {}
            keys: dict[str, pa.Table] = {}
            for name in names:
                files[name] = _write(group, rows, name, work)
                channel = group.tables.channels.get(name)
                if channel is not None and channel.keep == "first":
                    for file in files[name]:
                        keys[file.path] = _keys(group, rows, channel, file)
    return GroupRows(accounts, files, keys)


def _fetch(storage: StorageBackend, at: tuple[str, int], work: Path) -> Path:
    key, size = at
    try:
        path = storage.fetch(key, work)
    except FileMissingError as exc:
        shared = " on this worker: a local lake needs a path that all workers share"
        raise StorageError(f"{key} is not there{shared * storage.is_local}") from exc
    if (found := path.stat().st_size) != size:
        raise SegmentError(f"{key}: {found} of {size} bytes")
    return path


def _quarantine(group: SegmentGroup, rows: SegmentRows, accounts: Mapping[str, Account]) -> None:
    store = SegmentStore(group.input, group.layout, group.source)
    for number, (name, account) in enumerate(accounts.items()):
        if account.quarantined:
            records = (line.record() for line in rows.quarantined(number))
            store.quarantine(name, account.digest, records)


def _members(group: SegmentGroup, name: str) -> str:
    skipped = group.skip.get(name, frozenset())
    files = [str(number) for number, one in enumerate(group.segments) if one in skipped]
    return f"line_no >> {FILE_BITS} NOT IN ({', '.join(files)})" if files else "true"


def _write(group: SegmentGroup, rows: SegmentRows, name: str, work: Path) -> list[TableFile]:
    path, members = group.output.join_path(group.folder, name), _members(group, name)
    table = f"rows_{name}"
    some = f"SELECT 1 FROM {identifier(table)} WHERE {members} LIMIT 1"
    if name not in group.made and rows.database.execute(some).fetchone():
        # Data files without a log would look like a table that has lost it.
        with suppress(TableError, CommitConflictError):  # the commit tells of these
            Table(group.output, path).ensure(table_schema(name, group.tables.channels.get(name)))
    writer = ParquetWriter(group.output, path, work)
    return writer.write(rows.database, table, where=members, without=("line_no",))


def _keys(group: SegmentGroup, rows: SegmentRows, channel: Channel, file: TableFile) -> pa.Table:
    columns = dict.fromkeys(("symbol", "ts_event", "ts_recv", "seq", *channel.key))
    listed = ", ".join(map(identifier, columns))
    day = f"DATE {literal(file.date.isoformat())}"
    return rows.database.sql(
        f"SELECT {listed}, "
        "row_number() OVER (ORDER BY symbol, ts_recv, line_no, rowid) - 1 AS place "
        f"FROM {identifier(f'rows_{channel.name}')} "
        f"WHERE date = {day} AND {_members(group, channel.name)} ORDER BY place"
    ).to_arrow_table()


@contextmanager
def work_folder() -> Iterator[Path]:
    """Make a local folder that goes with this block; those of dead processes go first."""
    parent = Path(tempfile.gettempdir())
    with translated(str(parent)):
        for left in parent.glob(f"{_PREFIX}*.lock"):
            if lock := LockFile.acquire(left):
                shutil.rmtree(left.with_suffix(""), ignore_errors=True)
                lock.release()
        folder = parent / f"{_PREFIX}{uuid.uuid4().hex[:12]}"
        lock = LockFile.acquire(folder.with_suffix(".lock"))
        folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            lock.release()
