"""Checks of the accounts: every line that was read is in a table or in quarantine, once."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fluxforge.errors import FileMissingError
from fluxforge.layout import SegmentName
from fluxforge.segments import SegmentStore
from fluxforge.sources import get_source
from fluxforge.tables.retention import is_retirement, retired_rows
from fluxforge.transform.database import open_database
from fluxforge.transform.schema import BOOKKEEPING, SEQUENCES
from fluxforge.verify.report import Check, Finding, guarded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import duckdb

    from fluxforge.layout import Layout
    from fluxforge.storage.base import StorageBackend
    from fluxforge.tables import Commit, Table
    from fluxforge.verify.report import Found
    from fluxforge.verify.tables import Counted

    Places = Sequence[tuple[StorageBackend, Layout]]

_COLUMNS = [
    "segment", "digest", "lines_read", "lines_taken", "lines_quarantined", "rows", "processed_at",
]  # fmt: skip
_REMEMBERED = timedelta(days=29)  # logs forget what they carry after a day more


@dataclass(frozen=True)
class Ledger:
    """What one source's table ``segments`` said when it was read."""

    source: str
    table: Table
    exists: bool
    rows: list[dict[str, Any]]

    @classmethod
    def read(cls, source: str, table: Table) -> Ledger:
        """Read the newest version."""
        snapshot = table.snapshot() if table.exists() else None
        rows = [] if snapshot is None else snapshot.read(_COLUMNS).to_pylist()
        return cls(source, table, snapshot is not None, rows)

    @cached_property
    def counts(self) -> dict[str, Counter[str]]:
        """The rows in each table of each segment, by its name."""
        counts: dict[str, Counter[str]] = {}
        for row in self.rows:
            counts.setdefault(row["segment"], Counter()).update(json.loads(row["rows"]))
        return counts

    @cached_property
    def identities(self) -> set[str]:
        """Names and digests of all segments."""
        return self.counts.keys() | {row["digest"] for row in self.rows}


def verify_accounts(ledger: Ledger, tables: Mapping[str, Counted], places: Places) -> Found:
    """Check a ledger, which was read first, against its source's tables, which were read then."""
    where = ledger.table.path.rpartition("/")[0]
    yield from guarded(where, _ledger(ledger, tables, places))
    yield from guarded(where, _sequences(ledger, tables.get(SEQUENCES)))


def _ledger(ledger: Ledger, tables: Mapping[str, Counted], places: Places) -> Found:
    path = ledger.table.path
    expected = sum(ledger.counts.values(), Counter[str]())
    missing: set[str] = set()
    wrong = []
    for name in sorted({*expected, *tables}):
        counted = tables.get(name)
        rows = ahead = 0
        if counted is not None:
            ahead, unknown = _ahead(ledger, name, counted)
            if unknown:
                missing |= unknown - _in_work(ledger, places)
            rows = counted.rows + retired_rows(counted.snapshot.transactions)
        if name not in BOOKKEEPING and rows != expected[name] + ahead:
            message = f"{rows:,} rows, but the ledger accounts for {expected[name]:,}"
            wrong.append(Finding("wrong_row_count", f"{path.rpartition('/')[0]}/{name}", message))
    if not ledger.exists:
        if missing or wrong:
            message = "it is gone, and there are tables: restore it from a copy"
            yield Finding("missing_ledger", path, message)
        return
    yield Check("segments", path, len(ledger.rows))
    message = "its rows are in a table, and no row here tells of it: restore this table from a copy"
    for name in sorted(missing):
        yield Finding("missing_ledger_row", f"{path}: {name}", message)
    yield from wrong
    for row in ledger.rows:
        if row["lines_read"] != row["lines_taken"] + row["lines_quarantined"]:
            message = "lines read are not those taken and quarantined: keep its raw copy"
            yield Finding("wrong_account", f"{path}: {row['segment']}", message)
    for digest, times in Counter(row["digest"] for row in ledger.rows).items():
        if times > 1:
            message = f"the segment {digest} is entered {times} times: its rows may be doubled"
            yield Finding("repeated_segment", path, message)


def _in_work(ledger: Ledger, places: Places) -> set[str]:
    """Return the names of segments whose rows may be ahead of the ledger, or were a moment ago."""
    stores = [SegmentStore(*place, ledger.source) for place in places]
    names = {segment.name for store in stores for segment in store.list("processing")}
    # What has left processing meanwhile is in the ledger by then.
    return names | Ledger.read(ledger.source, ledger.table).counts.keys()


def _ahead(ledger: Ledger, name: str, counted: Counted) -> tuple[int, set[str]]:
    """Return the rows that a table has of segments that are not in the ledger, and their names."""
    rows, names = 0, set[str]()
    strange = counted.snapshot.transactions.keys() - ledger.identities
    for commit in _commits_of(counted, {one for one in strange if not is_retirement(one)}):
        told = (*commit.transactions, str(commit.metadata.get("segment")))
        segments = {one for one in told if SegmentName.parse(one)}
        unknown = segments - ledger.counts.keys()
        if unknown:
            names |= unknown
            known = sum(ledger.counts[one][name] for one in segments - unknown)
            rows += sum(file.rows for file in commit.added) - known
    return rows, names


def _commits_of(counted: Counted, identities: set[str]) -> Iterator[Commit]:
    """Yield the commits that carry some identities, as far back as the log goes."""
    version = counted.snapshot.version
    while identities and version >= 0:
        try:
            commit = counted.table.log.commit(version)
        except FileMissingError:
            return
        if not identities.isdisjoint(commit.transactions):
            identities = identities - commit.transactions.keys()
            yield commit
        version -= 1


def _sequences(ledger: Ledger, counted: Counted | None) -> Found:
    path = f"{ledger.table.path.rpartition('/')[0]}/{SEQUENCES}"
    committed = counted.snapshot.transactions if counted is not None else {}
    young = datetime.now(UTC) - _REMEMBERED
    absent = [
        row["segment"]
        for row in ledger.rows
        if row["processed_at"] > young and not committed.keys() & {row["digest"], row["segment"]}
    ]
    if absent:
        message = f"{len(absent)} segments of the ledger are not here: restore it from a copy"
        yield Finding("missing_commit", f"{path}: {absent[0]}", message)
    if counted is None:
        return
    runs = counted.snapshot.read(
        ["symbol", "channel", "conn", "ts_recv", "last_recv", "seq", "last_seq", "frames"]
    )
    with open_database(Path(tempfile.gettempdir())) as database:
        database.register("sequences", runs)
        for conn, first, last in _query(database, "stored_twice"):
            message = f"frames {first} to {last} of connection {conn}"
            yield Finding("stored_twice", path, message)
        ((connections, repeats),) = _query(database, "repeated")
        if repeats:
            message = f"the venue repeated {repeats:,} numbers on {connections} connections"
            yield Finding("repeated_number", path, message)
        first = get_source(ledger.source).limits.first_sequence
        ((connections, missing),) = _query(database, "missing", first_sequence=first)
        if missing:
            message = f"{missing:,} frames of {connections} connections never came: see the gaps"
            yield Finding("gap", path, message)
    yield Check("runs", path, runs.num_rows)


def _query(
    database: duckdb.DuckDBPyConnection, name: str, **parameters: object
) -> list[tuple[Any, ...]]:
    text = resources.files("fluxforge.verify.sql").joinpath(f"{name}.sql")
    return database.execute(text.read_text(encoding="utf-8"), parameters or None).fetchall()
