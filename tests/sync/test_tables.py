"""Tables: long logs, vacuumed and cleaned ones, other histories, damage, and moves that race."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from fluxforge.errors import CommitConflictError, TableError
from fluxforge.storage.local import LocalStorage
from fluxforge.tables import Table, close_table
from tests.sync.conftest import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fluxforge.storage.base import StorageBackend
    from fluxforge.sync import SyncReport
    from tests.sync.conftest import Numbers

    Content = Callable[..., dict[str, bytes]]
    MakeStorage = Callable[..., StorageBackend]
    Sync = Callable[..., SyncReport]
    MakeNumbers = Callable[..., Numbers]
    Read = Callable[..., list[int] | None]

TABLE = "processed/coinbase/ticker"
LOG = f"{TABLE}/_delta_log"
DATA = f"{TABLE}/date=2025-12-03"

any_kind = pytest.mark.parametrize("kind", ["local", pytest.param("s3", marks=pytest.mark.s3)])


def table(storage: StorageBackend) -> Table:
    return Table(storage, TABLE)


def data(storage: StorageBackend, content: Content) -> dict[str, bytes]:
    return {key: one for key, one in content(storage).items() if LOG not in key}


@pytest.mark.s3
def test_a_long_log_is_repeated_and_grows_with_the_source(
    make_storage: MakeStorage,
    sync: Sync,
    make_numbers: MakeNumbers,
    content: Content,
    numbers: Read,
) -> None:
    here, there = make_storage(), make_storage("s3")
    source = make_numbers(here, *range(18))
    assert sync(here, there).ok
    source.add(*range(18, 24))  # with a checkpoint
    assert sync(here, there).ok
    assert data(there, content) == data(here, content)
    assert numbers(table(there)) == list(range(24))
    assert numbers(table(there), 10) == list(range(10))
    snapshot = table(there).snapshot()
    assert snapshot is not None
    assert snapshot.has_transaction("segment 7")
    assert not snapshot.has_transaction("segment 24")
    original = table(here).snapshot()
    assert original is not None
    assert snapshot.version == original.version
    assert snapshot.transactions == original.transactions


def test_columns_grow_with_the_source_and_notes_are_carried(
    make_storage: MakeStorage, sync: Sync, make_numbers: MakeNumbers, numbers: Read
) -> None:
    here, there = make_storage(), make_storage()
    source = make_numbers(here, 0, 1)
    assert sync(here, there).ok
    grown = pa.schema([*SCHEMA, ("note", pa.string())])
    snapshot = source.table.ensure(grown)
    notes = {"segments": {"a": 3, "b": 4}}
    assert source.table.commit(snapshot, [source._write(2)], ["a", "b"], notes)
    source.table.ensure(pa.schema([*grown, ("more", pa.float64())]))
    assert sync(here, there).ok
    assert numbers(table(there)) == [0, 1, 2]
    copy, original = table(there).snapshot(), table(here).snapshot()
    assert copy is not None
    assert original is not None
    assert copy.version == original.version
    assert copy.schema() == original.schema()
    commit = table(there).log.commit(4)
    assert commit.transactions.keys() == {"a", "b"}
    assert commit.metadata["segments"] == notes["segments"]


def test_files_that_no_commit_names_are_not_copied(
    make_storage: MakeStorage, sync: Sync, make_numbers: MakeNumbers, content: Content
) -> None:
    here, there = make_storage(), make_storage()
    make_numbers(here, 0, 1)
    here.write_bytes(f"{DATA}/part-of-a-dead-worker.parquet", b"PAR1")
    here.write_bytes("processed/coinbase/notes/readme.txt", b"mine")
    assert sync(here, there, delete=True).ok
    left = {f"{DATA}/part-of-a-dead-worker.parquet", "processed/coinbase/notes/readme.txt"}
    assert set(content(here)) == left
    assert not left & set(content(there))


@any_kind
@pytest.mark.parametrize("known", [0, 3])
def test_vacuumed_versions_are_passed_over(
    make_storage: MakeStorage,
    sync: Sync,
    make_numbers: MakeNumbers,
    numbers: Read,
    kind: str,
    known: int,
) -> None:
    here, there = make_storage(), make_storage(kind)
    source = make_numbers(here, *range(known))
    if known:
        assert sync(here, there).ok
    source.add(*range(known, 8))
    source.join(vacuum=True)
    source.add(8, 9)
    report = sync(here, there)
    assert report.problems == ()
    assert numbers(table(there)) == list(range(10))
    assert numbers(table(there), 9) == list(range(8))
    if known:
        assert numbers(table(there), 3) == [0, 1, 2]  # its files are there from the first time
    assert sync(here, there).copied == ()
    assert sync(here, there, delete=True).problems == ()
    assert numbers(table(here)) is None
    assert numbers(table(there)) == list(range(10))


def test_earlier_versions_are_copied_as_long_as_their_files_exist(
    make_storage: MakeStorage, sync: Sync, make_numbers: MakeNumbers, numbers: Read
) -> None:
    here, there = make_storage(), make_storage()
    source = make_numbers(here, *range(5))
    source.join(vacuum=False)
    source.add(5)
    assert sync(here, there).ok
    assert numbers(table(there), 3) == [0, 1, 2]
    assert there.list_files(DATA) == here.list_files(DATA)


def clean(source: Numbers) -> None:
    """Leave nothing of a log but its newest version."""
    newest = source.table.snapshot()
    assert newest is not None
    newest.delta.create_checkpoint()
    for version in source.table.log.versions()[:-1]:
        source.table.storage.delete(source.table.log.key(version))


@pytest.mark.parametrize("again", [False, True])
def test_a_log_whose_beginning_was_cleaned_away(
    make_storage: MakeStorage, sync: Sync, make_numbers: MakeNumbers, numbers: Read, again: bool
) -> None:
    here, there = make_storage(), make_storage()
    source = make_numbers(here, *range(4))
    if again:
        assert sync(here, there).ok
    clean(source)
    source.add(4, 5)
    assert sync(here, there).problems == ()
    assert numbers(table(there)) == list(range(6))
    assert sync(here, there, delete=True).problems == ()
    assert numbers(table(there)) == list(range(6))
    assert here.list_files() == []


def test_a_copy_that_ends_before_the_log_begins_is_carried_on(
    make_storage: MakeStorage, sync: Sync, make_numbers: MakeNumbers, numbers: Read
) -> None:
    here, there = make_storage(), make_storage()
    source = make_numbers(here, 0, 1)
    assert sync(here, there).ok
    source.add(2)
    source.join(vacuum=True)
    source.add(3)
    clean(source)
    source.add(4)
    assert sync(here, there).ok
    assert numbers(table(there)) == list(range(5))
    snapshot = table(there).snapshot()
    assert snapshot is not None
    assert snapshot.transactions.keys() == {f"segment {n}" for n in range(5)}


def test_a_copy_without_a_log_is_completed(
    make_storage: MakeStorage, sync: Sync, make_numbers: MakeNumbers, numbers: Read
) -> None:
    here, there = make_storage(), make_storage()
    make_numbers(here, *range(4))
    assert sync(here, there).ok
    for key in there.list_files(LOG):
        there.delete(key)
    report = sync(here, there)
    assert report.ok
    assert f"{DATA}/part-000-1.parquet" in report.skipped
    assert numbers(table(there)) == list(range(4))


# Other histories and damage


@pytest.mark.parametrize(
    ("kind", "shared", "here_adds", "there_adds"),
    [
        ("local", 0, (10,), (20,)),
        ("local", 0, (10, 11), (20,)),
        ("local", 3, (), (20,)),
        ("local", 3, (10,), (20,)),
        ("local", 3, (10,), (20, 21)),
        pytest.param("s3", 3, (10, 11), (20,), marks=pytest.mark.s3),
    ],
)
def test_a_table_that_both_sides_wrote_to_is_refused_and_the_others_go_on(
    make_storage: MakeStorage,
    sync: Sync,
    make_numbers: MakeNumbers,
    content: Content,
    kind: str,
    shared: int,
    here_adds: tuple[int, ...],
    there_adds: tuple[int, ...],
) -> None:
    here, there = make_storage(), make_storage(kind)
    source = make_numbers(here, *range(shared))
    make_numbers(here, 1, 2, name="candles")
    assert sync(here, there).ok
    source.add(*here_adds)
    make_numbers(there, *there_adds)
    make_numbers(here, 3, name="candles")
    before, after = content(here, TABLE), content(there, TABLE)
    for delete in (False, True):
        report = sync(here, there, delete=delete)
        [problem] = report.problems
        assert problem.startswith("coinbase.ticker: ")
        assert "another history" in problem
        assert (content(here, TABLE), content(there, TABLE)) == (before, after)
    assert not here.exists("processed/coinbase/candles")
    assert len(content(there, "processed/coinbase/candles/_delta_log")) == 4


@any_kind
@pytest.mark.parametrize("what", ["data", "log"])
def test_damage_is_noticed_before_anything_is_deleted(
    make_storage: MakeStorage,
    sync: Sync,
    make_numbers: MakeNumbers,
    content: Content,
    kind: str,
    what: str,
) -> None:
    here, there = make_storage(), make_storage(kind)
    make_numbers(here, 0, 1, 2)
    make_numbers(here, 1, name="candles")
    assert sync(here, there).ok
    before = content(here, TABLE)
    key = {
        "data": f"{DATA}/part-001-1.parquet",
        "log": table(there).log.key(2),
    }[what]
    whole = there.read_bytes(key)
    damaged = bytearray(whole)
    # In the log, the number of rows: the table can be read as before.
    where = damaged.index(b"numRecords") + 14 if what == "log" else len(damaged) // 3
    damaged[where] ^= 2
    there.write_bytes(key, bytes(damaged))
    report = sync(here, there, delete=True)
    [problem] = report.problems
    assert problem.startswith("coinbase.ticker: ")
    assert key.rpartition("/")[2] in problem or what == "log"
    assert "damaged" in problem
    assert content(here) == before
    assert report.deleted
    assert all(deleted.startswith("processed/coinbase/candles") for deleted in report.deleted)

    there.write_bytes(key, whole)
    assert sync(here, there, delete=True).ok
    assert here.list_files() == []
    assert data(there, content).items() >= {k: v for k, v in before.items() if DATA in k}.items()


def test_a_file_of_another_size_is_never_replaced(
    make_storage: MakeStorage, sync: Sync, make_numbers: MakeNumbers, content: Content
) -> None:
    here, there = make_storage(), make_storage()
    make_numbers(here, 0, 1)
    there.write_bytes(f"{DATA}/part-001-1.parquet", b"other")
    for delete in (False, True):
        [problem] = sync(here, there, delete=delete).problems
        assert "other content" in problem
    assert content(there) == {f"{DATA}/part-001-1.parquet": b"other"}


def test_a_source_that_lacks_a_file_is_refused(
    make_storage: MakeStorage, sync: Sync, make_numbers: MakeNumbers, numbers: Read
) -> None:
    here, there = make_storage(), make_storage()
    source = make_numbers(here, 0, 1)
    assert sync(here, there).ok
    source.add(2, 3)
    here.delete(f"{DATA}/part-003-1.parquet")
    [problem] = sync(here, there, delete=True).problems
    assert "part-003-1.parquet" in problem
    assert numbers(table(there)) == [0, 1]
    assert here.exists(LOG)


# Other programs at work


class Watched(LocalStorage):
    """A disk that tells somebody before a data file is written, and after each commit."""

    before_write: Callable[[str], object] | None = None
    after_commit: Callable[[], object] | None = None

    def write_file(self, path: str | Path, key: str, *, exclusive: bool = False) -> None:
        if self.before_write is not None:
            self.before_write(key)
        super().write_file(path, key, exclusive=exclusive)

    def sync(self, path: str, after: str = "") -> None:
        super().sync(path, after)
        if self.after_commit is not None:
            self.after_commit()


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "watched")


def test_a_reader_sees_one_whole_version_after_another(
    make_storage: MakeStorage,
    sync: Sync,
    make_numbers: MakeNumbers,
    numbers: Read,
    watched: Watched,
) -> None:
    here = make_storage()
    source = make_numbers(here, *range(3))
    copy = Table(watched, TABLE)
    seen: list[list[int] | None] = []
    watched.before_write = lambda key: seen.append(numbers(copy))
    watched.after_commit = lambda: seen.append(numbers(copy))
    assert sync(here, watched).ok
    assert seen == [[], [], [], [0], [0, 1], [0, 1, 2], [0, 1, 2]]
    source.add(3, 4)
    source.join(vacuum=True)
    source.add(5)
    seen.clear()
    assert sync(here, watched).ok
    # Versions 4 and 5 can be read nowhere any more: it goes from the old to the next whole one.
    changes = [rows for n, rows in enumerate(seen) if rows not in seen[:n]]
    assert changes == [[0, 1, 2], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5]]
    assert numbers(copy) == list(range(6))


def test_another_writer_at_the_destination_wins_and_nothing_of_it_is_hidden(
    make_storage: MakeStorage,
    sync: Sync,
    make_numbers: MakeNumbers,
    numbers: Read,
    watched: Watched,
) -> None:
    here = make_storage()
    source = make_numbers(here, 0, 1)
    assert sync(here, watched).ok
    source.add(2, 3)
    source.join(vacuum=True)
    source.add(4)
    other = make_numbers(LocalStorage(watched.base_path))
    stale = other.table.snapshot()
    assert stale is not None

    def commit_first(key: str) -> None:
        watched.before_write = None
        assert other.table.commit(stale, [other._write(77)], ["segment 77"], {}, at_version=True)

    watched.before_write = commit_first
    [problem] = sync(here, watched).problems
    assert "another history" in problem
    assert numbers(other.table) == [0, 1, 77]


def test_a_table_that_gets_a_commit_while_it_is_moved_is_kept(
    make_storage: MakeStorage,
    sync: Sync,
    make_numbers: MakeNumbers,
    numbers: Read,
    watched: Watched,
) -> None:
    here = make_storage()
    source = make_numbers(here, 0, 1)

    def commit_meanwhile(key: str) -> None:
        watched.before_write = None
        source.add(2)

    watched.before_write = commit_meanwhile
    report = sync(here, watched, delete=True)
    [problem] = report.problems
    assert "new commit" in problem
    assert report.deleted == ()
    assert numbers(table(here)) == [0, 1, 2]
    assert numbers(Table(watched, TABLE)) == [0, 1]
    assert sync(here, watched, delete=True).ok
    assert numbers(table(here)) is None
    assert numbers(Table(watched, TABLE)) == [0, 1, 2]


def test_a_table_is_kept_while_an_etl_may_be_about_to_commit_to_it(
    make_storage: MakeStorage, sync: Sync, make_numbers: MakeNumbers, numbers: Read
) -> None:
    here, there = make_storage(), make_storage()
    source = make_numbers(here, 0, 1)
    key = "raw/processing/coinbase/segment_20251203T14_00001.ndjson"
    here.write_bytes(key, b"{}\n")
    claim = here.acquire_lease(key)
    assert claim is not None
    with claim:
        [problem] = sync(here, there, delete=True).problems
        assert "ETL" in problem
        source.add(2)
        assert numbers(table(here)) == [0, 1, 2]
    assert sync(here, there, delete=True).ok
    assert numbers(table(there)) == [0, 1, 2]


def test_a_writer_with_an_old_snapshot_cannot_commit_to_a_closed_table(
    make_storage: MakeStorage, sync: Sync, make_numbers: MakeNumbers, numbers: Read
) -> None:
    here, there = make_storage(), make_storage()
    source = make_numbers(here, 0, 1)
    stale = source.table.snapshot()
    assert stale is not None
    newest = source.table.snapshot()
    assert newest is not None
    close_table(source.table, newest, table(there).uri)
    with pytest.raises((CommitConflictError, TableError)):
        source.table.commit(stale, [source._write(2)], ["segment 2"], {})
    with pytest.raises(TableError, match="is being moved to"):
        source.add(3)
    with pytest.raises(TableError, match="is being moved to"):
        numbers(source.table)
    [problem] = sync(here, there).problems
    assert "--delete" in problem
    assert f"being moved to {table(there).uri}" in problem
    [problem] = sync(here, make_storage(), delete=True).problems
    assert f"being moved to {table(there).uri}" in problem
    assert sync(here, there, delete=True).ok
    assert here.list_files() == [f"{DATA}/part-002-1.parquet"]
    assert numbers(table(there)) == [0, 1]
    source.add(5)  # a table of its own, that has nothing to do with the old one
    assert numbers(table(here)) == [5]
