"""One segment's lines to rows: a function of a file and a source's SQL, with nothing shared."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fluxforge.errors import SegmentError
from fluxforge.etl.database import fill, identifier, literal, literals, open_database, sql
from fluxforge.etl.sieve import sieve
from fluxforge.segments import Fingerprint, Quarantined

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import duckdb

    from fluxforge.sources.base import Channel, SourceTables

_LATEST_NS = 9_000_000_000_000_000_000  # the year 2255; later would not fit 64 bits
_SLACK = 1024


@dataclass(frozen=True)
class Account:
    """What became of a segment's lines: ``read = taken + quarantined``, always.

    Attributes
    ----------
    read, taken, quarantined
        Lines.
    frames
        Frames taken, by kind.
    rows
        Rows made, by channel.
    unknown_fields
        Fields that no table reads, as ``kind.field``, and the frames they were seen in.
    """

    read: int
    taken: int
    quarantined: int
    frames: Mapping[str, int] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)
    unknown_fields: Mapping[str, int] = field(default_factory=dict)


class SegmentRows:
    """The rows of one segment, in an open database.

    Attributes
    ----------
    database
        Holds a table ``rows_<channel>`` for each channel, and ``classified``, a row a line.
    fingerprint
        What the segment is.
    """

    def __init__(
        self,
        database: duckdb.DuckDBPyConnection,
        path: Path,
        tables: SourceTables,
        fingerprint: Fingerprint,
    ) -> None:
        self.database = database
        self.fingerprint = fingerprint
        self._path = path
        self._tables = tables

    def account(self) -> Account:
        """Count what became of every line.

        Raises
        ------
        SegmentError
            If the counts do not add up: nothing of this segment may then be committed.
        """
        one = self.database.execute(
            "SELECT count(*), count(*) FILTER (reason IS NULL), count(reason) FROM classified"
        ).fetchone()
        read, taken, quarantined = one if one else (0, 0, 0)
        if read != self.fingerprint.lines or read != taken + quarantined:
            raise SegmentError(
                f"{self.fingerprint.lines} lines in the file, but {taken} taken and "
                f"{quarantined} refused"
            )
        frames = self.database.execute(
            "SELECT kind, count(*) FROM classified WHERE reason IS NULL GROUP BY 1 ORDER BY 1"
        ).fetchall()
        rows = {name: self._count(f"rows_{name}") for name in self._tables.channels}
        return Account(
            read,
            taken,
            quarantined,
            frames=dict(frames),
            rows={name: count for name, count in rows.items() if count},
            unknown_fields=self._unknown_fields(),
        )

    def _count(self, table: str) -> int:
        found = self.database.execute(f"SELECT count(*) FROM {identifier(table)}").fetchone()
        return int(found[0]) if found else 0

    def _unknown_fields(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for channel in self._tables.channels.values():
            container, _, item = channel.rows.rpartition(".")
            event = container.replace("[*]", "[0]")
            query = fill(
                "unknown_fields",
                event=literal(event or "$"),
                item=literal(f"{event}.{item}[0]"),
                takes=literals(channel.takes),
                known=literals(sorted(channel.known_fields | set(self._tables.fields))),
            )
            for kind, name, frames in self.database.execute(query).fetchall():
                found[f"{kind}.{name}"] = frames
        return found

    def quarantined(self) -> Iterator[Quarantined]:
        """Yield the lines that no table took, as they stand in the segment."""
        reasons = dict(
            self.database.execute(
                "SELECT line_no, reason FROM classified WHERE reason IS NOT NULL"
            ).fetchall()
        )
        if not reasons:
            return
        number = 0
        with self._path.open("rb") as file:
            for line in file:
                if not line.strip():
                    continue
                number += 1
                if number in reasons:
                    yield Quarantined(number, reasons[number], line.removesuffix(b"\n"))


@contextmanager
def transform_segment(
    path: Path,
    tables: SourceTables,
    work_dir: Path,
    *,
    memory_limit_mb: int = 1024,
    threads: int = 0,
) -> Iterator[SegmentRows]:
    """Read a segment once and make its rows.

    Parameters
    ----------
    path
        The segment, uncompressed.
    tables
        The source's SQL.
    work_dir
        A local folder for what does not fit into memory.

    Raises
    ------
    SegmentError
        If the file cannot be read to its end.
    """
    try:
        fingerprint = Fingerprint.of(path)
    except OSError as exc:
        raise SegmentError(f"{path.name} cannot be read: {exc.strerror}") from exc
    with open_database(work_dir, memory_limit_mb=memory_limit_mb, threads=threads) as database:
        _classify(database, path, tables, fingerprint, work_dir)
        for channel in tables.channels.values():
            make_rows(database, channel)
            _refuse_nameless(database, channel)
            database.execute(f"ALTER TABLE {identifier(f'rows_{channel.name}')} DROP line_no")
        make_sequences(database)
        yield SegmentRows(database, path, tables, fingerprint)


def _classify(
    database: duckdb.DuckDBPyConnection,
    path: Path,
    tables: SourceTables,
    fingerprint: Fingerprint,
    work_dir: Path,
) -> None:
    import duckdb

    try:
        lines = _read_lines(database, path, tables, fingerprint.longest)
    except duckdb.InvalidInputException:
        lines = -1
    if lines != fingerprint.lines:
        # The JSON reader stumbled over something. Every line that Python cannot read either is
        # replaced by one that is refused, so that all others come through, under their numbers.
        clean = sieve(path, work_dir / f"{path.name}.sieved")
        _read_lines(database, clean, tables, fingerprint.longest)
    database.execute("CREATE TEMP VIEW frames AS SELECT * FROM classified WHERE reason IS NULL")


def _read_lines(
    database: duckdb.DuckDBPyConnection, path: Path, tables: SourceTables, longest: int
) -> int:
    database.execute(classify_sql(path, tables, longest))
    found = database.execute("SELECT count(*) FROM classified").fetchone()
    return int(found[0]) if found else 0


def classify_sql(path: Path, tables: SourceTables, longest: int) -> str:
    """Return the statement that reads a segment's lines and finds what is wrong with each."""
    return fill(
        "classify",
        path=literal(str(path)),
        longest=max(longest + _SLACK, 16 << 20),
        latest_ns=_LATEST_NS,
        frames=tables.frames_sql,
        control=literals(tables.control),
        channels="\n".join(_reason_sql(channel) for channel in tables.channels.values()),
    )


def _reason_sql(channel: Channel) -> str:
    """Refuse a frame that lacks one of the lists its rows come from; an empty list is fine."""
    container, _, item = channel.rows.rpartition("[*]")
    path = literal(channel.rows)
    if container:
        whole = (
            f"len(list_filter(json_type(data, {path}), lambda t: t = 'ARRAY')) "
            f"= json_array_length(data, {literal(container)})"
        )
    else:
        whole = f"json_type(data, {path}) = 'ARRAY'"
    takes = ", ".join(literal(kind) for kind in channel.takes)
    name = (item or channel.rows).rpartition(".")[2]
    return (
        f"        WHEN kind IN ({takes})\n"
        f"            THEN CASE WHEN ({whole}) IS NOT TRUE\n"
        f"                THEN 'no {name} in a frame of ' || kind END"
    )


def make_rows(database: duckdb.DuckDBPyConnection, channel: Channel) -> None:
    """Run a channel's SQL over the view ``frames`` into the table ``rows_<channel>``."""
    import duckdb

    table = identifier(f"rows_{channel.name}")
    repeat = ""
    if channel.keep == "first":
        repeat = ", false AS is_repeat"
    try:
        database.execute(
            f"CREATE TEMP TABLE {table} AS SELECT *{repeat}, "
            f"CAST(ts_recv AS DATE) AS date FROM (\n{channel.sql}\n)"
        )
    except duckdb.Error as exc:
        raise SegmentError(f"{channel.name}.sql: {str(exc).splitlines()[0]}") from exc


def make_sequences(database: duckdb.DuckDBPyConnection) -> None:
    """Write down which of the venue's numbers were received, into ``rows_sequences``."""
    database.execute(
        "CREATE TEMP TABLE rows_sequences AS "
        f"SELECT *, CAST(ts_recv AS DATE) AS date FROM (\n{sql('sequences')}\n)"
    )


def _refuse_nameless(database: duckdb.DuckDBPyConnection, channel: Channel) -> None:
    """Quarantine whole frames that hold a row without a symbol."""
    table = identifier(f"rows_{channel.name}")
    nameless = f"SELECT DISTINCT line_no FROM {table} WHERE coalesce(symbol, '') = ''"
    if not database.execute(f"SELECT 1 FROM ({nameless}) LIMIT 1").fetchall():
        return
    reason = literal(f"a row for {channel.name} has no symbol")
    database.execute(f"CREATE OR REPLACE TEMP TABLE nameless AS {nameless}")
    database.execute(
        f"UPDATE classified SET reason = {reason} WHERE line_no IN (SELECT line_no FROM nameless)"
    )
    database.execute(f"DELETE FROM {table} WHERE line_no IN (SELECT line_no FROM nameless)")
