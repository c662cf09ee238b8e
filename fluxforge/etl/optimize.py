"""Joining small files into larger ones, so that listing never takes longer than reading."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING

from fluxforge.errors import CommitConflictError
from fluxforge.etl.writers.parquet_writer import ParquetWriter
from fluxforge.signals import deferred_interrupts
from fluxforge.tables import PARTITION
from fluxforge.transform.database import literal, open_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fluxforge.tables import Snapshot, Table, TableFile

TARGET_MB = 128
"""How large a joined file may become, in megabytes of 10^6 bytes."""
MANY_FILES = 64
"""So many small files of a table are joined after an ETL."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OptimizeReport:
    """What joining the files of one table did."""

    table: str
    files_before: int
    files_after: int
    rows: int


def optimize_table(
    table: Table,
    name: str,
    snapshot: Snapshot | None = None,
    *,
    memory_limit_mb: int = 1024,
    threads: int = 0,
    least_files: int = 2,
    most_batches: int | None = None,
) -> OptimizeReport:
    """Join the small files of each date, sorted by symbol and time; no row is added or lost.

    The old files stay until a vacuum, for those who still read an earlier version. Two workers
    may do this at once, and beside an ETL: of two that join the same file, one gives up.

    Parameters
    ----------
    least_files, most_batches
        Join only where so many files become one, and stop after so many of these.
    """
    snapshot = snapshot or table.snapshot()
    if snapshot is None:
        return OptimizeReport(name, 0, 0, 0)
    files = snapshot.files()
    before, after, rows = len(files), len(files), 0
    for batch in islice(_batches(files, TARGET_MB * 1_000_000, least_files), most_batches):
        with (
            deferred_interrupts(),
            tempfile.TemporaryDirectory(prefix="fluxforge-optimize-") as work,
        ):
            joined = _join(table, batch, Path(work), memory_limit_mb, threads)
        try:
            table.replace(snapshot, batch, joined)
        except CommitConflictError:
            logger.info("%s: another worker has joined these files", table.uri)
            continue
        after += len(joined) - len(batch)
        rows += sum(file.rows for file in joined)
        newest = table.snapshot()
        snapshot = newest if newest is not None else snapshot
    return OptimizeReport(name, before, after, rows)


def _batches(files: list[TableFile], target: int, least: int) -> Iterator[list[TableFile]]:
    """Group the small files of each date, in the order of their times, by `target` bytes."""
    for _, group in groupby(files, key=lambda file: file.date):
        batch: list[TableFile] = []
        for file in sorted(group, key=lambda file: str(file.least.get("ts_recv"))):
            if file.size > target // 2:
                continue
            if batch and sum(one.size for one in batch) + file.size > target:
                if len(batch) >= least:
                    yield batch
                batch = []
            batch.append(file)
        if len(batch) >= least:
            yield batch


def _join(
    table: Table, batch: list[TableFile], work: Path, memory_limit_mb: int, threads: int
) -> list[TableFile]:
    paths = [
        table.storage.fetch(table.storage.join_path(table.path, file.path), work) for file in batch
    ]
    listed = "[" + ", ".join(literal(str(path)) for path in paths) + "]"
    with open_database(work, memory_limit_mb=memory_limit_mb, threads=threads) as database:
        database.execute(
            f"CREATE TEMP TABLE joined AS SELECT *, DATE {literal(batch[0].date.isoformat())} "
            f"AS {PARTITION} FROM read_parquet({listed}, union_by_name = true, "
            "hive_partitioning = false)"
        )
        found = database.execute("SELECT count(*) FROM joined").fetchone()
        expected = sum(file.rows for file in batch)
        if found is None or found[0] != expected:
            raise CommitConflictError(f"{table.uri}: read {found} of {expected} rows")
        return ParquetWriter(table.storage, table.path, work).write(database, "joined")
