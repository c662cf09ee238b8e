"""Rows of segments that are in no table yet, by the SQL that makes the tables.

The order of reads makes every row appear once: first the segments, each to its last whole line,
then the table. A segment that the table's version names is left out; one that was listed and is
gone must be in that version, or all is read again.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import threading
import weakref
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl

from fluxforge.errors import FileMissingError, SegmentError
from fluxforge.query.catalog import Catalog, TableVersion
from fluxforge.query.scan import scan_table
from fluxforge.sources import get_source
from fluxforge.transform.database import identifier, open_database
from fluxforge.transform.repeats import flag_repeats
from fluxforge.transform.scan import Scan
from fluxforge.transform.schema import SEQUENCES
from fluxforge.transform.transform import SegmentRows, few_rows, make_sequences

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from fluxforge.layout import Layout
    from fluxforge.query.cache import FileCache
    from fluxforge.segments.reading import RawSegment, SegmentReader
    from fluxforge.sources.tables import Channel
    from fluxforge.storage.base import StorageBackend

_TRIES = 5
_BATCH_BYTES = 32 << 20
_FEW_BYTES = 4 << 20


class LiveCatalog(Catalog):
    """Tables with the rows that are not in them yet; asking again reads only what is new.

    `readers` returns what finds the segments of a source, in the order in which they move.
    """

    def __init__(
        self,
        storage: StorageBackend,
        layout: Layout,
        configured: Iterable[str],
        readers: Callable[[str], Sequence[SegmentReader]],
        cache: FileCache | None = None,
    ) -> None:
        super().__init__(storage, layout, configured, cache)
        self._readers = readers
        self._tables: dict[tuple[str, str], LiveTable] = {}
        self._lock = threading.Lock()

    def open(
        self, source: str, name: str, version: int | None = None, as_of: datetime | None = None
    ) -> TableVersion:
        """Return the newest version of a table, with its live rows.

        Raises
        ------
        SegmentError
            If segments vanished again and again while they were read.
        """
        past = version is not None or as_of is not None
        table = None if past else self._tables.get((source, name))
        if table is None:
            opened = super().open(source, name, version, as_of)
            if past or (opened.channel is None and name != SEQUENCES):
                return opened
            table = LiveTable(source, name, opened.channel)
        with self._lock:
            table = self._tables.setdefault((source, name), table)
            doubtful: set[str] = set()
            for _ in range(_TRIES):
                segments = self._find(source)
                gone = table.read(segments)
                opened = super().open(source, name)
                committed = {each for each in {*segments, *gone} if table.is_in(opened, each)}
                # Others may have ended it below what its file has, so that its rest lives on.
                cut = {each for each in committed - gone if segments[each].open_end} - doubtful
                if not cut and gone <= committed:
                    return table.add_to(
                        opened, [each for each in segments if each not in committed]
                    )
                doubtful |= cut
        raise SegmentError(f"segments of {source} keep vanishing while they are read: ask again")

    def _find(self, source: str) -> dict[str, RawSegment]:
        found: dict[str, RawSegment] = {}
        for reader in self._readers(source):
            for name, segment in reader.find().items():
                known = found.get(name)
                found[name] = (
                    segment
                    if known is None
                    else replace(known, places=(*known.places, *segment.places))
                )
        return found


@dataclass
class _Seen:
    """What was read of one segment: up to where, its digest, and its rows."""

    offset: int = 0
    whole: bool = False
    digest: Any = field(default_factory=hashlib.sha256)
    frames: list[pl.DataFrame] = field(default_factory=list)

    def add(self, frame: pl.DataFrame) -> None:
        """Keep some more rows; few frames, of which none is copied often."""
        self.frames.append(frame)
        while len(self.frames) > 1 and self.frames[-1].height * 2 > self.frames[-2].height:
            self.frames[-2:] = [pl.concat(self.frames[-2:], rechunk=True)]


class LiveTable:
    """The live rows of one table; of ``sequences``, the lines that its rows are made of."""

    def __init__(self, source: str, name: str, channel: Channel | None) -> None:
        folder = tempfile.mkdtemp(prefix="fluxforge-live-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._path = Path(folder) / "lines"
        self._stack = ExitStack()
        self._database = self._stack.enter_context(open_database(Path(folder), threads=1))
        tables = get_source(source).tables
        only = () if channel is None else (name,)
        self._rows = SegmentRows(self._database, [self._path], tables, Path(folder), only=only)
        self._made = identifier("classified" if channel is None else f"rows_{name}")
        if channel is not None:  # a view is parsed once; a relation, bound once less each time
            self._path.touch()
            self._database.execute(f"CREATE VIEW few AS {few_rows(tables, channel, self._path)}")
            self._few = self._database.table("few")
        self._types = self._database.sql(f"SELECT * FROM {self._made}").pl().schema
        self._words = [word.encode() for word in channel.marks] if channel else None
        self._channel = channel
        self._seen: dict[str, _Seen] = {}
        self._keys: tuple[int, datetime | None, pl.DataFrame] | None = None
        self._last: tuple[TableVersion, object, TableVersion] | None = None

    def read(self, segments: Mapping[str, RawSegment]) -> set[str]:
        """Read what is new in segments, and forget all others; return those that are gone."""
        known, self._seen = self._seen, {}  # after an error or an interrupt, all is read anew
        seen = {name: known.get(name) or _Seen() for name in segments}
        gone = self._read(segments, seen)
        self._seen = seen
        return gone

    def _read(self, segments: Mapping[str, RawSegment], known: dict[str, _Seen]) -> set[str]:
        gone: set[str] = set()
        batch: list[tuple[_Seen, list[bytes]]] = []
        size = 0
        for name, segment in segments.items():
            seen = known[name]
            if segment.end is not None and seen.offset > segment.end:
                seen = known[name] = _Seen()
            try:
                for piece in segment.pieces(seen.offset):
                    seen.offset += len(piece)
                    seen.digest.update(piece)
                    batch.append((seen, self._wanted(piece)))
                    size += len(piece)
                    if size > _BATCH_BYTES:
                        self._make(batch)
                        batch, size = [], 0
                seen.whole = segment.whole
            except FileMissingError:
                gone.add(name)
        self._make(batch)
        return gone

    def _wanted(self, piece: bytes) -> list[bytes]:
        """Return the lines that may have rows: the word for its kind stands in each frame."""
        if self._words is None:
            return [line for line in piece.split(b"\n") if line.strip()]
        found: dict[int, bytes] = {}
        for word in (*self._words, b"\\"):  # with escapes, it may be any kind
            at = piece.find(word)
            while at >= 0:
                start, end = piece.rfind(b"\n", 0, at) + 1, piece.find(b"\n", at)
                end = len(piece) if end < 0 else end
                found[start] = piece[start:end]
                at = piece.find(word, end)
        return [found[start] for start in sorted(found)]

    def _make(self, batch: list[tuple[_Seen, list[bytes]]]) -> None:
        lines = [line for _, some in batch for line in some]
        if not lines:
            return
        self._path.write_bytes(b"\n".join(lines) + b"\n")
        few = sum(map(len, lines)) < _FEW_BYTES
        rows = self._rows_of_few(len(lines)) if few and self._channel else None
        if rows is None:
            for table in (self._made, "classified"):
                self._database.execute(f"DELETE FROM {table}")
            self._rows.read(together=not few)
            rows = self._database.sql(f"SELECT * FROM {self._made}").pl()
        before = 0
        for seen, some in batch:
            own = pl.col("line_no").is_between(before + 1, before + len(some))
            before += len(some)
            if (found := rows.lazy().filter(own).drop("line_no").collect()).height:
                seen.add(found)

    def _rows_of_few(self, count: int) -> pl.DataFrame | None:
        """Return the rows of a few lines; None where they have to be read with care."""
        if Scan.of(self._path).doubtful:
            return None
        try:
            found: pl.DataFrame = self._few.pl()
        except duckdb.InvalidInputException:
            return None
        rows = _typed(found, self._types).drop_nulls("line_no").collect()
        if found["lines"][0] != count or (rows["symbol"].fill_null("") == "").any():
            return None
        return rows

    def is_in(self, version: TableVersion, name: str) -> bool:
        """Tell whether a version of the table has a segment: its name, once whole its content.

        A copy under another name is in it, too; another segment of the same name, set aside, is
        not.
        """
        seen, committed = self._seen[name], version.transactions
        return (seen.digest.hexdigest()[:32] if seen.whole else name) in committed

    def add_to(self, version: TableVersion, names: Sequence[str]) -> TableVersion:
        """Return a version of the table with the rows of these segments."""
        unique: dict[object, _Seen] = {}
        for name in names:
            seen = self._seen[name]
            unique.setdefault(seen.digest.digest() if seen.whole else name, seen)
        state = [(name, self._seen[name].offset) for name in names]
        last = self._last
        if last is None or last[0] is not version or last[1] != state:
            frames = [frame for seen in unique.values() for frame in seen.frames]
            live = replace(version, live=self._live(version, frames))
            self._last = last = (version, state, live)
        return last[2]

    def _live(self, version: TableVersion, frames: list[pl.DataFrame]) -> pl.DataFrame:
        if not frames:
            return pl.DataFrame(schema=version.polars_schema)
        rows = pl.concat(frames)
        if self._channel is None:
            rows = self._sequences(rows)
        elif self._channel.keep == "first":
            rows = self._flag(rows, version, self._channel)
        return _typed(rows, version.polars_schema).collect()

    def _sequences(self, lines: pl.DataFrame) -> pl.DataFrame:
        self._database.register("read", lines.with_row_index("line_no").to_arrow())
        self._database.execute("DELETE FROM classified")
        self._database.execute("INSERT INTO classified BY NAME SELECT * FROM read")
        make_sequences(self._database)
        made: pl.DataFrame = self._database.sql(
            f"SELECT * EXCLUDE (line_no) FROM rows_{SEQUENCES}"
        ).pl()
        return made

    def _flag(self, rows: pl.DataFrame, version: TableVersion, channel: Channel) -> pl.DataFrame:
        """Set ``is_repeat``, against the table and among the rows, as the ETL will."""
        known = self._committed_keys(version, rows, list(channel.key))
        return flag_repeats(rows, channel.key, known)

    def _committed_keys(
        self, version: TableVersion, rows: pl.DataFrame, keys: list[str]
    ) -> pl.DataFrame:
        """Return the keys that the table has in the times of the rows: repeats have both alike."""
        timeless = rows["ts_event"].null_count()
        low: Any = None if timeless else rows["ts_event"].min()
        known = self._keys
        if (
            known is None
            or known[0] != version.version
            or (known[1] is not None and (low is None or low < known[1]))
        ):
            found = scan_table(version, start=low, raw=True).select(keys).unique().collect()
            self._keys = known = (version.version, low, found)
        return known[2]


def _typed(rows: pl.DataFrame, schema: pl.Schema) -> pl.LazyFrame:
    """Return rows with the columns of a schema, null where they have none."""
    return rows.lazy().select(
        (pl.col(name) if name in rows.columns else pl.lit(None)).cast(kind).alias(name)
        for name, kind in schema.items()
    )
