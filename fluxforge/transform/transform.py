"""One segment's lines to rows: a function of a file and a source's SQL, with nothing shared."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fluxforge.errors import SegmentError
from fluxforge.segments import Fingerprint, Quarantined
from fluxforge.storage.disk import translated
from fluxforge.transform.database import fill, identifier, literal, literals, open_database, sql
from fluxforge.transform.parts import sieve, split
from fluxforge.transform.schema import (
    SEQUENCES,
    bookkeeping_columns,
    channel_columns,
    column_list,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import duckdb

    from fluxforge.sources.base import Channel, SourceTables
    from fluxforge.transform.parts import Part

_LATEST_NS = 9_000_000_000_000_000_000  # the year 2255; later would not fit 64 bits
_SLACK = 1024
_READ_AT_ONCE = 4 << 20
_PART_BYTES = 32 << 20
_MEMORY_PER_BYTE = 40
"""What JSON on its way to rows takes of memory, as measured, with some to spare."""


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
        self._unknown_fields: Counter[str] = Counter()
        database.execute(classify_sql(None, tables))
        database.execute("CREATE TEMP TABLE classified AS SELECT * EXCLUDE (data) FROM part")
        database.execute("CREATE TEMP VIEW frames AS SELECT * FROM part WHERE reason IS NULL")
        for channel in tables.channels.values():
            columns = {"line_no": "BIGINT", **channel_columns(channel)}
            database.execute(f"CREATE TEMP TABLE {_rows_table(channel)} ({column_list(columns)})")

    def add(self, part: Part) -> None:
        """Make the rows of some more lines.

        Raises
        ------
        SegmentError
            If the lines cannot be read, or a channel's SQL fails on them.
        """
        import duckdb

        try:
            lines = self._read(part)
        except duckdb.InvalidInputException:
            lines = -1
        if lines != part.lines:
            # The JSON reader stumbled over something. Every line that Python cannot read either
            # is replaced by one that is refused, so that all others come through.
            self._read(sieve(part))
        for channel in self._tables.channels.values():
            make_rows(self.database, channel)
        self._refuse_nameless(part)
        self._count_unknown_fields()
        self.database.execute("INSERT INTO classified SELECT * EXCLUDE (data) FROM part")

    def _read(self, part: Part) -> int:
        self.database.execute(classify_sql(part, self._tables))
        return self._count("part")

    def _refuse_nameless(self, part: Part) -> None:
        """Quarantine whole frames that hold a row without a symbol."""
        refused = 0
        for channel in self._tables.channels.values():
            table = identifier(f"rows_{channel.name}")
            found = self.database.execute(
                f"UPDATE part SET reason = {literal(f'a row for {channel.name} has no symbol')} "
                f"WHERE line_no IN (SELECT line_no FROM {table} "
                f"WHERE line_no > {part.before} AND coalesce(symbol, '') = '')"
            ).fetchone()
            refused += found[0] if found else 0
        if not refused:
            return
        for channel in self._tables.channels.values():
            self.database.execute(
                f"DELETE FROM {identifier(f'rows_{channel.name}')} WHERE line_no > {part.before} "
                "AND line_no IN (SELECT line_no FROM part WHERE reason IS NOT NULL)"
            )

    def _count_unknown_fields(self) -> None:
        for channel in self._tables.channels.values():
            container, _, item = channel.places[0].rpartition(".")
            event = container.replace("[*]", "[0]") or "$"
            query = fill(
                "unknown_fields",
                places=literals(["$", event, f"{event}.{item}[0]"]),
                takes=literals(channel.takes),
                known=literals(sorted(channel.known_fields | set(self._tables.fields))),
            )
            for kind, name, frames in self.database.execute(query).fetchall():
                self._unknown_fields[f"{kind}.{name}"] += frames

    def finish(self) -> None:
        """Make what needs all lines: the runs of the venue's numbers."""
        for channel in self._tables.channels.values():
            self.database.execute(f"ALTER TABLE {identifier(f'rows_{channel.name}')} DROP line_no")
        make_bookkeeping(self.database, SEQUENCES)

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
            unknown_fields=dict(sorted(self._unknown_fields.items())),
        )

    def _count(self, table: str) -> int:
        found = self.database.execute(f"SELECT count(*) FROM {identifier(table)}").fetchone()
        return int(found[0]) if found else 0

    def quarantined(self) -> Iterator[Quarantined]:
        """Yield the lines that no table took, as they stand in the segment.

        Ask nothing else of the database meanwhile.
        """
        refused = self.database.execute(
            "SELECT line_no, reason FROM classified WHERE reason IS NOT NULL ORDER BY line_no"
        )
        wanted = refused.fetchone()
        number = 0
        with translated(str(self._path)), self._path.open("rb") as file:
            while wanted is not None and (line := file.readline()):
                if not line.strip():
                    continue
                number += 1
                if number == wanted[0]:
                    yield Quarantined(number, wanted[1], line.removesuffix(b"\n"))
                    wanted = refused.fetchone()


@contextmanager
def transform_segment(
    path: Path,
    tables: SourceTables,
    work_dir: Path,
    *,
    fingerprint: Fingerprint | None = None,
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
    fingerprint
        The segment's, where it is known already.

    Raises
    ------
    SegmentError
        If the lines cannot be made into rows.
    StorageError
        If the file cannot be read to its end.
    """
    if fingerprint is None:
        with translated(str(path)):
            fingerprint = Fingerprint.of(path)
    part_bytes = min(_PART_BYTES, memory_limit_mb * 1_000_000 // _MEMORY_PER_BYTE)
    with open_database(work_dir, memory_limit_mb=memory_limit_mb, threads=threads) as database:
        rows = SegmentRows(database, path, tables, fingerprint)
        for part in split(path, work_dir, part_bytes):
            rows.add(part)
        rows.finish()
        yield rows


def classify_sql(part: Part | None, tables: SourceTables) -> str:
    """Return the statement that reads lines and finds what is wrong with each.

    Without a part it makes the same table, empty.
    """
    lines = sql("no_lines")
    if part is not None:
        lines = fill(
            "lines",
            path=literal(str(part.path)),
            before=part.before,
            longest=max(part.longest + _SLACK, _READ_AT_ONCE),
        )
    places = _places(tables)
    return fill(
        "classify",
        places=literals(places),
        lines=lines,
        latest_ns=_LATEST_NS,
        frames=tables.frames_sql,
        control=literals(tables.control),
        channels="\n".join(_reason_sql(channel, places) for channel in tables.channels.values()),
    )


def _places(tables: SourceTables) -> list[str]:
    """Return the JSON paths whose types tell whether a frame has its rows, for all channels."""
    places: dict[str, None] = {}
    for channel in tables.channels.values():
        for place in channel.places:
            container, _, item = place.rpartition("[*]")
            if container:
                ends = ("", "[0]", "[1]", f"[0]{item}")
                places |= dict.fromkeys(f"{container}{end}" for end in ends)
            else:
                places[place] = None
    return list(places)


def _reason_sql(channel: Channel, places: list[str]) -> str:
    """Refuse a frame that lacks one of the lists its rows come from; an empty list is fine."""

    def kind_of(place: str) -> str:
        return f"types[{places.index(place) + 1}]"

    def is_whole(place: str) -> str:
        container, _, item = place.rpartition("[*]")
        if not container:
            return f"{kind_of(place)} IN ('ARRAY', 'OBJECT')"
        # Nearly every frame has one event, whose types are known from a single pass.
        path, first = literal(place), f"{container}[0]"
        return (
            f"{kind_of(container)} = 'ARRAY' AND CASE "
            f"WHEN {kind_of(first)} IS NULL THEN true "
            f"WHEN {kind_of(f'{container}[1]')} IS NULL THEN {kind_of(first + item)} = 'ARRAY' "
            f"ELSE len(list_filter(json_type(data, {path}), lambda t: t = 'ARRAY')) "
            f"= json_array_length(data, {literal(container)}) END"
        )

    whole = " OR ".join(f"({is_whole(place)})" for place in channel.places)
    takes = ", ".join(literal(kind) for kind in channel.takes)
    name = channel.places[0].rpartition(".")[2]
    return (
        f"        WHEN kind IN ({takes})\n"
        f"            THEN CASE WHEN ({whole}) IS NOT TRUE\n"
        f"                THEN 'no {name} in a frame of ' || kind END"
    )


def make_rows(database: duckdb.DuckDBPyConnection, channel: Channel) -> None:
    """Run a channel's SQL over the view ``frames`` and add to the table ``rows_<channel>``."""
    import duckdb

    repeat = ", false AS is_repeat" if channel.keep == "first" else ""
    rows = f"SELECT *{repeat}, CAST(ts_recv AS DATE) AS date FROM (\n{channel.sql}\n)"
    try:
        database.execute(f"INSERT INTO {_rows_table(channel)} BY NAME {rows}")
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error as exc:
        raise SegmentError(f"{channel.name}.sql: {str(exc).splitlines()[0]}") from exc


def make_bookkeeping(
    database: duckdb.DuckDBPyConnection, name: str, values: Mapping[str, object] | None = None
) -> None:
    """Make the rows of a bookkeeping table from ``classified``."""
    table = identifier(f"rows_{name}")
    columns = column_list(bookkeeping_columns(name))
    database.execute(f"CREATE OR REPLACE TEMP TABLE {table} ({columns})")
    database.execute(
        f"INSERT INTO {table} BY NAME "
        f"SELECT *, CAST(ts_recv AS DATE) AS date FROM (\n{sql(name)}\n)",
        values or {},
    )


def _rows_table(channel: Channel) -> str:
    return identifier(f"rows_{channel.name}")
