"""Segments' lines to rows: a function of files and a source's SQL, with nothing shared.

Segments are read together, typed by the shape of the source's frames, while another thread counts
their lines and keys. Where both agree, and every line has its rows, all of the text is in them.
Any other segment is read again with care: as JSON, in parts, and line by line where the reader
stumbles.
"""

from __future__ import annotations

import re
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fluxforge.errors import SegmentError
from fluxforge.segments import Quarantined
from fluxforge.storage.disk import translated
from fluxforge.transform.accounts import (
    Account,
    count_lines,
    count_unknown_fields,
    most_common,
)
from fluxforge.transform.classify import lines_sql
from fluxforge.transform.database import (
    identifier,
    literal,
    open_database,
    session,
    sql,
)
from fluxforge.transform.parts import NUMBER, join, sieve, split
from fluxforge.transform.scan import Scan
from fluxforge.transform.schema import SEQUENCES, bookkeeping_columns, channel_columns, column_list
from fluxforge.transform.shape import count_keys, narrowed

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence
    from pathlib import Path

    import duckdb

    from fluxforge.sources.tables import Channel, SourceTables
    from fluxforge.transform.parts import Part

_SLACK = 1024
_READ_AT_ONCE = 4 << 20
_LONGEST_TOGETHER = 8 << 20  # threads share the text in pieces of twice as much
_PART_BYTES = 32 << 20
_SMALL = 2 << 20
_MEMORY_PER_BYTE = 40
"""What JSON on its way to rows takes of memory, as measured, with some to spare."""
_MEMORY_PER_TYPED_BYTE = 8
_ENVELOPE_KEYS = 3
_COMMENT = re.compile("--.*")
FILE_BITS = 40
_CLASSIFIED = {
    "file": "BIGINT", "line_no": "BIGINT", "ts_recv": "TIMESTAMPTZ", "conn": "VARCHAR",
    "kind": "VARCHAR", "seq": "BIGINT", "run_first": "BIGINT", "run_last": "BIGINT",
    "run_channel": "VARCHAR", "run_symbol": "VARCHAR", "restarts": "BOOLEAN",
    "ts_sent": "TIMESTAMPTZ", "reason": "VARCHAR",
}  # fmt: skip


class SegmentRows:
    """The rows of some segments, in an open database.

    Attributes
    ----------
    database
        Holds a table ``rows_<channel>`` for each channel, and ``classified``, a row a line. The
        upper bits of ``line_no`` are the segment's place among `paths`.
    """

    def __init__(
        self,
        database: duckdb.DuckDBPyConnection,
        paths: Sequence[Path],
        tables: SourceTables,
        work_dir: Path,
        memory_limit_mb: int = 1024,
        only: Container[str] | None = None,
    ) -> None:
        self.database = database
        self._paths = paths
        self._tables = tables
        self._channels = [
            channel for name, channel in tables.channels.items() if only is None or name in only
        ]
        self._work_dir = work_dir
        memory = memory_limit_mb * 1_000_000
        self._longest = memory // _MEMORY_PER_BYTE
        self._part_bytes = min(_PART_BYTES, self._longest)
        self._together_bytes = memory // _MEMORY_PER_TYPED_BYTE
        self._threads = int(self._fetch("SELECT current_setting('threads')")[0][0])
        self._scans: list[Future[Scan]] = []
        self._lines: dict[int, int] = {}
        self._unknown_fields: dict[int, Counter[str]] = {}
        database.execute(f"CREATE TABLE classified ({column_list(_CLASSIFIED)})")
        for channel in self._channels:
            columns = {"line_no": "BIGINT", **channel_columns(channel)}
            database.execute(f"CREATE TABLE {_rows_table(channel)} ({column_list(columns)})")

    def read(self, *, together: bool = True) -> None:
        """Make the rows of all lines, and add them to the tables.

        Parameters
        ----------
        together
            Try the way that is fast for much; a few lines are made into rows sooner without it,
            and without counting unknown fields.

        Raises
        ------
        SegmentError
            If lines cannot be read, or a channel's SQL fails on them.
        """
        self._counts_fields = together
        with ThreadPoolExecutor(1, thread_name_prefix="fluxforge-scan") as pool:
            self._scans = [pool.submit(Scan.of, path) for path in self._paths]
            for files in self._chunks():
                for file in self._read_together(files) if together else files:
                    self._read_carefully(file)

    def _chunks(self) -> Iterator[list[int]]:
        sizes = [path.stat().st_size for path in self._paths]
        for small in (True, False):  # small ones are read as one file
            chunk, total = list[int](), 0
            for file, size in enumerate(sizes):
                if (size < _SMALL) is not small:
                    continue
                if chunk and total + size > self._together_bytes:
                    yield chunk
                    chunk, total = [], 0
                chunk.append(file)
                total += size
            if chunk:
                yield chunk

    def _read_together(self, files: list[int]) -> list[int]:
        """Make the rows of some segments; return those that have to be read with care."""
        import duckdb

        sizes = [self._paths[file].stat().st_size for file in files]
        if sum(sizes) > self._together_bytes:
            return files  # a single one
        longest = min(max(sizes) + _SLACK, _LONGEST_TOGETHER)
        shape, paths = self._tables.frame, [self._paths[file] for file in files]
        numbers = f"{files}[1 + file_index::BIGINT]"
        if len(files) > 1 and max(sizes) < _SMALL:
            together = self._work_dir / "together.ndjson"
            join(dict(zip(files, paths, strict=True)), together)
            paths, numbers = [together], NUMBER
        try:
            self._load(paths, numbers, longest, typed=True)
        except duckdb.InvalidInputException:
            return files
        lines, refused, kinds = Counter[int](), Counter[int](), set[str]()
        for file, kind, count, reasons in self._fetch(
            "SELECT file, kind, count(*), count(reason) FROM part GROUP BY ALL"
        ):
            lines[file] += count
            refused[file] += reasons
            kinds.add(kind)
        keys = dict(self._fetch(count_keys(self._tables, kinds))) if shape else {}
        sound = []
        for file in files:
            scan = self._scans[file].result()
            if scan.doubtful or refused[file] or lines[file] != scan.lines:
                continue
            if shape and keys.get(file, 0) + _ENVELOPE_KEYS * lines[file] != scan.keys:
                continue
            self._lines[file] = lines[file]
            sound.append(file)
        self._make_rows(f"file IN ({', '.join(map(str, sound)) or '-1'})")
        self.database.execute(
            "INSERT INTO classified BY NAME SELECT * EXCLUDE (data, json) FROM frames"
        )
        nameless = self._nameless(files)
        for table in ("classified", *map(_rows_table, self._channels)) if nameless else ():
            self.database.execute(
                f"DELETE FROM {table} WHERE line_no >> {FILE_BITS} = ANY({list(nameless)})"
            )
        if not shape:
            self._count_fields(nameless)
        return [file for file in files if file not in sound or file in nameless]

    def _load(
        self, paths: list[Path], number: str, longest: int, *, before: int = 0, typed: bool = False
    ) -> None:
        lines = lines_sql(self._tables, paths, number, longest, typed=typed)
        self.database.execute(
            f"CREATE OR REPLACE TABLE part AS {lines};"
            f"CREATE OR REPLACE VIEW read_lines AS SELECT "
            f"(file << {FILE_BITS}) + {before} + 1 + rowid AS line_no, * FROM part"
        )

    def _make_rows(self, which: str) -> None:
        self.database.execute(
            f"CREATE OR REPLACE VIEW frames AS SELECT * FROM read_lines WHERE {which}"
        )
        kinds = {kind for (kind,) in self._fetch("SELECT DISTINCT kind FROM frames")}
        channels = [one for one in self._channels if not kinds.isdisjoint(one.takes)]
        if self._threads == 1 or len(channels) == 1:
            for channel in channels:
                make_rows(self.database, channel)
            return
        # Each of these statements keeps one thread busy, whatever DuckDB may use.
        with ThreadPoolExecutor(self._threads, thread_name_prefix="fluxforge-rows") as pool:
            list(pool.map(lambda channel: make_rows(session(self.database), channel), channels))

    def _nameless(self, files: list[int]) -> set[int]:
        """Return those of some segments that have a row without a symbol."""
        return {
            file
            for channel in self._channels
            for (file,) in self._fetch(
                f"SELECT DISTINCT line_no >> {FILE_BITS} FROM {_rows_table(channel)} "
                f"WHERE coalesce(symbol, '') = '' AND line_no >> {FILE_BITS} = ANY({files})"
            )
        }

    def _read_carefully(self, file: int) -> None:
        import duckdb

        path = self._paths[file]
        with translated(str(path)), path.open("rb") as segment:  # independently of any parser
            self._lines[file] = sum(1 for line in segment if line.strip())
        doubtful = self._scans[file].result().doubtful
        for part in split(path, self._work_dir, self._part_bytes):
            lines, too_long = -1, list[int]()
            if not doubtful and part.longest <= self._longest:
                with suppress(duckdb.InvalidInputException):
                    lines = self._load_part(part, file)
            if lines != part.lines:
                # The JSON reader stumbled over something. Every line that Python cannot read
                # either is replaced by one that is refused, so that all others come through.
                clean, too_long = sieve(part, self._longest)
                self._load_part(clean, file)
            start = (file << FILE_BITS) + part.before
            if too_long:
                reason = "the line is too long for the memory that the ETL may use"
                numbers = ", ".join(str(start - part.before + number) for number in too_long)
                self._refuse(start, reason, numbers)
            self._make_rows_with_care(start)

    def _make_rows_with_care(self, start: int) -> None:
        """Make the rows of the part whose lines are numbered from `start` + 1."""
        self._make_rows("reason IS NULL")
        refused = 0
        for channel in self._channels:
            refused += self._refuse(
                start,
                f"a row for {channel.name} has no symbol",
                f"SELECT line_no FROM {_rows_table(channel)} "
                f"WHERE line_no > {start} AND coalesce(symbol, '') = ''",
            )
        for channel in self._channels if refused else ():
            self.database.execute(
                f"DELETE FROM {_rows_table(channel)} WHERE line_no > {start} "
                "AND line_no IN (SELECT line_no FROM read_lines WHERE reason IS NOT NULL)"
            )
        if self._counts_fields:
            self._count_fields()
        self.database.execute(
            "INSERT INTO classified BY NAME SELECT * EXCLUDE (data, json) FROM read_lines"
        )

    def _refuse(self, start: int, reason: str, numbers: str) -> int:
        return int(self._fetch(
            f"UPDATE part SET reason = {literal(reason)} WHERE rowid + {start + 1} IN ({numbers})"
        )[0][0])  # fmt: skip

    def _load_part(self, part: Part, file: int) -> int:
        longest = max(part.longest + _SLACK, _READ_AT_ONCE)
        self._load([part.path], str(file), longest, before=part.before)
        return int(self._fetch("SELECT count(*) FROM part")[0][0])

    def _count_fields(self, without: Container[int] = ()) -> None:
        for file, counts in count_unknown_fields(self.database, self._tables, self._channels):
            if file not in without:
                self._unknown_fields.setdefault(file, Counter()).update(counts)

    def accounts(self) -> list[Account]:
        """Count what became of every line of each segment.

        Raises
        ------
        SegmentError
            If the counts do not add up: nothing of that segment may then be committed.
        """
        names = [channel.name for channel in self._channels]
        counted = count_lines(self.database, names, FILE_BITS)
        accounts = []
        for file, path in enumerate(self._paths):
            scan = self._scans[file].result()
            found = counted.get(file, {"read": 0, "taken": 0, "quarantined": 0})
            unknown = most_common(self._unknown_fields.get(file, Counter()))
            account = Account(scan.digest, scan.size, unknown_fields=unknown, **found)
            account.check(path.name, self._lines[file])
            accounts.append(account)
        return accounts

    def _fetch(self, query: str) -> list[tuple[Any, ...]]:
        return self.database.execute(query).fetchall()

    def quarantined(self, file: int) -> Iterator[Quarantined]:
        """Yield the lines of a segment that no table took, as they stand in it.

        Ask nothing else of the database meanwhile.
        """
        start = file << FILE_BITS
        refused = self.database.execute(
            "SELECT line_no - ?, reason FROM classified WHERE file = ? AND reason IS NOT NULL "
            "ORDER BY line_no", [start, file],
        )  # fmt: skip
        wanted = refused.fetchone()
        number, path = 0, self._paths[file]
        with translated(str(path)), path.open("rb") as source:
            while wanted is not None and (line := source.readline()):
                if not line.strip():
                    continue
                number += 1
                if number == wanted[0]:
                    yield Quarantined(number, wanted[1], line.removesuffix(b"\n"))
                    wanted = refused.fetchone()


@contextmanager
def transform_segments(
    paths: Sequence[Path],
    tables: SourceTables,
    work_dir: Path,
    *,
    memory_limit_mb: int = 1024,
    threads: int = 0,
    only: Container[str] | None = None,
) -> Iterator[SegmentRows]:
    """Read some segments, uncompressed, once, and make the rows of all tables, or of `only` some.

    Raises
    ------
    SegmentError
        If the lines cannot be made into rows.
    StorageError
        If a file cannot be read to its end.
    """
    with open_database(work_dir, memory_limit_mb=memory_limit_mb, threads=threads) as database:
        rows = SegmentRows(database, paths, tables, work_dir, memory_limit_mb, only)
        rows.read()
        make_sequences(database)
        yield rows


def few_rows(tables: SourceTables, channel: Channel, path: Path) -> str:
    """Return one query, quickly bound, of a channel's rows of a few lines, and of all ``lines``."""
    named = channel.rows + _COMMENT.sub("", tables.frames_sql + channel.sql)
    own = replace(tables, channels={channel.name: channel}, frame=narrowed(tables.frame, named))
    return (
        f"WITH part AS MATERIALIZED ({lines_sql(own, [path], '0', _READ_AT_ONCE)}),"
        "frames AS (SELECT row_number() OVER () AS line_no, * FROM part QUALIFY reason IS NULL) "
        "SELECT * FROM (SELECT count(*) AS lines FROM part) "
        f"LEFT JOIN ({_rows_sql(channel)}) ON true"
    )


def _rows_sql(channel: Channel) -> str:
    repeat = ", false AS is_repeat" if channel.keep == "first" else ""
    return f"SELECT *{repeat}, CAST(ts_recv AS DATE) AS date FROM (\n{channel.sql}\n)"


def make_rows(database: duckdb.DuckDBPyConnection, channel: Channel) -> None:
    """Run a channel's SQL over the view ``frames`` and add to the table ``rows_<channel>``."""
    import duckdb

    try:
        database.execute(f"INSERT INTO {_rows_table(channel)} BY NAME {_rows_sql(channel)}")
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error as exc:
        raise SegmentError(f"{channel.name}.sql: {str(exc).splitlines()[0]}") from exc


def make_sequences(database: duckdb.DuckDBPyConnection) -> None:
    """Make the table ``rows_sequences`` from ``classified``."""
    columns = column_list({"line_no": "BIGINT", **bookkeeping_columns(SEQUENCES)})
    database.execute(f"CREATE OR REPLACE TABLE rows_{SEQUENCES} ({columns})")
    database.execute(
        f"INSERT INTO rows_{SEQUENCES} BY NAME "
        f"SELECT * EXCLUDE (file), file << {FILE_BITS} AS line_no, CAST(ts_recv AS DATE) AS date "
        f"FROM (\n{sql(SEQUENCES)}\n)"
    )


def _rows_table(channel: Channel) -> str:
    return identifier(f"rows_{channel.name}")
