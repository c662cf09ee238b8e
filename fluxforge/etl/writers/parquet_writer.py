"""Rows to Parquet files in a storage: sorted, compressed, with statistics to prune by."""

from __future__ import annotations

import hashlib
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from fluxforge.tables import PARTITION, TableFile
from fluxforge.transform.database import identifier, literal, literals

if TYPE_CHECKING:
    from datetime import date
    from pathlib import Path

    import duckdb

    from fluxforge.storage.base import StorageBackend

_ROW_GROUP = 20_480  # a slice of one symbol in half the time of 65,536; sizes are the same
_STATISTICS_TEXT_LIMIT = 64
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_REPETITIVE = ("symbol", "conn", "instrument", "market", "side")
"""Columns of few words, which are sorted and written as enumerations in half the time."""
_MOST_WORDS = 10_000


class ParquetWriter:
    """Writes rows of DuckDB tables into one table's folder.

    Parameters
    ----------
    storage, path
        The table's folder.
    work_dir
        A local folder for files on their way to the storage.
    """

    def __init__(self, storage: StorageBackend, path: str, work_dir: Path) -> None:
        self.storage = storage
        self.path = path
        self._work_dir = work_dir

    def write(
        self,
        database: duckdb.DuckDBPyConnection,
        rows: str,
        order: tuple[str, ...] = ("symbol", "ts_recv"),
        *,
        where: str = "true",
        without: tuple[str, ...] = (),
    ) -> list[TableFile]:
        """Write a DuckDB table or view, one file for each of its dates.

        Parameters
        ----------
        database
            The connection that has the rows.
        rows
            Its table: with a ``date`` column, which becomes the partition, and is not stored.
        order
            The columns to sort by; equal rows keep the order in which they were made.
        where
            Which rows.
        without
            Columns that are not stored.

        Returns
        -------
        list of TableFile
            What was written, whole and durable, and belongs to no table yet. Their names are
            unique, and end in a digest of the content (:func:`~fluxforge.tables.checksum_in_name`).
        """
        day = identifier(PARTITION)
        kinds = {name: kind for name, kind, *_ in database.execute(
            f"DESCRIBE {identifier(rows)}").fetchall()}  # fmt: skip
        texts = [name for name in _REPETITIVE if kinds.get(name) == "VARCHAR"]
        listed = ", ".join(map(identifier, (PARTITION, *texts)))
        found = database.execute(
            f"SELECT DISTINCT {listed} FROM {identifier(rows)} WHERE {where}"
        ).fetchall()
        dates, *words = [set(column) for column in zip(*found, strict=True)] or [set()]
        casts = [_enumeration(*one) for one in zip(texts, words, strict=False)]
        replace = f"REPLACE ({', '.join(filter(None, casts))})" if any(casts) else ""
        # DuckDB calls the bounds of an enumeration inexact: Polars skips no row group by them.
        plain = "REPLACE (symbol::VARCHAR AS symbol)" if "symbol" in texts else ""
        columns = ", ".join(map(identifier, (PARTITION, *without)))
        # Segments may be read in another order than their own.
        ties = ("line_no", "rowid") if "line_no" in kinds else ("rowid",)
        sort = ", ".join([*(identifier(name) for name in order if name in kinds), *ties])
        return [
            self._write_date(
                database,
                f"SELECT * {plain} FROM (SELECT * EXCLUDE ({columns}) {replace} "
                f"FROM {identifier(rows)} WHERE {where} "
                f"AND {day} = DATE {literal(at.isoformat())} ORDER BY {sort})",
                at,
            )
            for at in sorted(dates)
        ]

    def _write_date(self, database: duckdb.DuckDBPyConnection, query: str, at: date) -> TableFile:
        attempt = uuid.uuid4().hex[:12]
        local = self._work_dir / f"{attempt}.parquet"
        database.execute(
            f"COPY ({query}) TO {literal(str(local))} "
            f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_ROW_GROUP})"
        )
        try:
            count, *stats = _statistics(local)
            with local.open("rb") as file:
                checksum = hashlib.file_digest(file, "sha256").hexdigest()[:16]
            path = f"{PARTITION}={at.isoformat()}/part-{attempt}-{checksum}.parquet"
            self.storage.write_file(local, self.storage.join_path(self.path, path), exclusive=True)
            return TableFile(path, local.stat().st_size, count, at, *stats)
        finally:
            local.unlink()


def _enumeration(name: str, words: set[str | None]) -> str:
    """Return the cast of a column of so few words to an enumeration, "" where it has others."""
    filled = sorted(word for word in words if word is not None)
    if not filled or len(filled) > _MOST_WORDS or any("\0" in word for word in filled):
        return ""
    return f"{identifier(name)}::ENUM({literals(filled)[1:-1]}) AS {identifier(name)}"


def _statistics(path: Path) -> tuple[int, dict[str, Any], dict[str, Any], dict[str, int]]:
    """Read a Parquet file's footer: number of rows, and bounds and nulls of its columns."""
    import pyarrow.parquet as pq

    footer = pq.read_metadata(path)
    least: dict[str, Any] = {}
    greatest: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for column in range(footer.num_columns):
        name = footer.schema.column(column).path
        parts = [footer.row_group(group).column(column) for group in range(footer.num_row_groups)]
        found = [part.statistics for part in parts]
        if any(s is None or not s.has_null_count for s in found):
            continue
        nulls[name] = sum(s.null_count for s in found)
        filled = [s for s, part in zip(found, parts, strict=True) if s.null_count < part.num_values]
        # A column whose groups do not all state their bounds has none: a bound must hold for all.
        if filled and all(s.has_min_max for s in filled):
            low, high = min(_bound(s, "min") for s in filled), max(_bound(s, "max") for s in filled)
            if isinstance(low, str) and max(len(low), len(high)) > _STATISTICS_TEXT_LIMIT:
                continue
            least[name], greatest[name] = low, high
    return footer.num_rows, least, greatest, nulls


def _bound(found: Any, side: str) -> Any:
    """Return a bound; Arrow's own way to a time imports pandas where it is installed: a second."""
    if '"isAdjustedToUTC":true,"timeUnit":"microseconds"' in found.logical_type.to_json():
        return _EPOCH + timedelta(microseconds=getattr(found, f"{side}_raw"))
    return getattr(found, side)
