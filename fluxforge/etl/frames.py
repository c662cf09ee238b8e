"""Frames of the user's own into tables: once per identity, as segments are."""

from __future__ import annotations

import hashlib
import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fluxforge.errors import UsageError
from fluxforge.etl.writers.parquet_writer import ParquetWriter
from fluxforge.report import Report
from fluxforge.sources import is_source
from fluxforge.tables import PARTITION, Table
from fluxforge.transform.database import identifier, open_database

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from fluxforge.layout import Layout
    from fluxforge.storage.base import StorageBackend

_ORDER = ("symbol", "ts_event", "ts_recv", "seq")
_RESERVED = ("market",)
_NAME = re.compile(r"[^\W_][\w.-]*")


@dataclass(frozen=True, repr=False)
class WriteReport(Report):
    """What became of a frame.

    Attributes
    ----------
    table
        Where it went, as ``source.table``.
    rows
        Rows of the frame.
    written
        False where it was in the table before.
    identity
        What it was known by.
    """

    table: str
    rows: int
    written: bool
    identity: str

    def summary(self) -> str:
        """Say in one line what came of it."""
        if not self.rows:
            return f"{self.table}: nothing to write"
        what = "written" if self.written else "not written again, it has them"
        return f"{self.table}: {self.rows:,} rows {what}"


def write_frame(
    storage: StorageBackend,
    layout: Layout,
    source: str,
    name: str,
    frame: Any,
    identity: str | None,
) -> WriteReport:
    """Commit a frame to a table that is no venue's; see :meth:`fluxforge.Lake.write`."""
    if is_source(source) or source in _RESERVED:
        raise UsageError(
            f"the tables of {source!r} are made of what was captured: choose another name"
        )
    for part in (source, name):
        if not _NAME.fullmatch(part):
            raise UsageError(
                f"{part!r} is not the name of a table: use letters, digits, '-', '.' and '_', "
                "beginning with a letter or digit"
            )
    table = Table(storage, layout.table(source, name))
    with (
        tempfile.TemporaryDirectory(prefix="fluxforge-write-") as work,
        open_database(Path(work)) as database,
    ):
        rows = _rows(database, frame)
        if identity is None:
            identity = _digest(rows)
        report = WriteReport(f"{source}.{name}", rows.num_rows, written=False, identity=identity)
        snapshot = table.ensure(rows.schema)
        if not rows.num_rows or snapshot.has_transaction(identity):
            return report
        order = tuple(column for column in _ORDER if column in rows.column_names)
        files = ParquetWriter(storage, table.path, Path(work)).write(database, "own_rows", order)
        # Without a time it never expires: an identity is for ever.
        written = table.commit(snapshot, files, {identity: None}, {"written": identity})
        table.sync(since=snapshot)
        return replace(report, written=written)


def _rows(database: duckdb.DuckDBPyConnection, frame: Any) -> pa.Table:
    """Make the table ``own_rows`` with types that Delta has, times in UTC, and a ``date``."""
    import pyarrow as pa

    try:
        given = pa.table(frame.collect() if hasattr(frame, "collect") else frame)
    except (TypeError, ValueError, pa.ArrowInvalid) as exc:
        raise UsageError(
            f"{type(frame).__name__} is no frame: give one of Polars, Arrow or pandas"
        ) from exc
    database.register("given", given)
    described = database.execute("DESCRIBE given").fetchall()
    columns = {name: _cast(identifier(name), kind) for name, kind, *_ in described}
    times = [name for name in ("ts_recv", "ts_event") if name in columns]
    kinds = {name: kind for name, kind, *_ in described}
    for name in times:
        if kinds[name] == "DATE":
            columns[name] = f"CAST({columns[name]} AS TIMESTAMP) AT TIME ZONE 'UTC'"
        elif not kinds[name].startswith("TIMESTAMP"):
            raise UsageError(f"{name} of the frame is {kinds[name]}: make times of it")
    if times:
        day = f"CAST(coalesce({', '.join(columns[name] for name in times)}) AS DATE)"
    elif PARTITION in columns:
        day = f"CAST({identifier(PARTITION)} AS DATE)"
    else:
        raise UsageError("the frame has no column ts_recv or ts_event: name its times so")
    columns[PARTITION] = day
    selected = ", ".join(f"{text} AS {identifier(name)}" for name, text in columns.items())
    database.execute(f"CREATE TEMP TABLE own_rows AS SELECT {selected} FROM given")
    [(dateless,)] = database.execute(
        f"SELECT count(*) FROM own_rows WHERE {identifier(PARTITION)} IS NULL"
    ).fetchall()
    if dateless:
        raise UsageError(f"{dateless} rows of the frame have no time: fill it, or drop them")
    rows: pa.Table = database.table("own_rows").to_arrow_table()
    return rows


def _cast(column: str, kind: str) -> str:
    if kind.startswith("TIMESTAMP"):
        return f"CAST({column} AS TIMESTAMPTZ)"
    if kind.startswith("ENUM"):
        return f"CAST({column} AS VARCHAR)"
    if kind in ("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "HUGEINT", "UHUGEINT"):
        return f"CAST({column} AS BIGINT)"
    return column


def _digest(rows: pa.Table) -> str:
    """Return the SHA-256 of the data and its types, however it is divided."""
    sha = hashlib.sha256(rows.schema.serialize())
    for batch in rows.combine_chunks().to_batches():
        sha.update(batch.serialize())
    return sha.hexdigest()
