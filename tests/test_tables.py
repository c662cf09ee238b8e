from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fluxforge.errors import CommitConflictError, TableError, UnknownTableError
from fluxforge.etl.writers.parquet_writer import ParquetWriter
from fluxforge.storage.local import LocalStorage
from fluxforge.tables import Table, TableFile, table_names

if TYPE_CHECKING:
    from collections.abc import Sequence

PATH = "processed/venue/rows"
DAY = date(2026, 8, 9)
AT = datetime(2026, 8, 9, 21, 5, 48, 123456, UTC)

SCHEMA = pa.schema(
    [
        ("symbol", pa.string()),
        ("ts_event", pa.timestamp("us", "UTC")),
        ("ts_recv", pa.timestamp("us", "UTC")),
        ("seq", pa.int64()),
        ("price", pa.float64()),
        ("date", pa.date32()),
    ]
)


def row(**fields: Any) -> dict[str, Any]:
    base = {"symbol": "A", "ts_event": AT, "ts_recv": AT, "seq": 1, "price": 1.5, "date": DAY}
    return base | fields


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "lake")


@pytest.fixture
def table(storage: LocalStorage) -> Table:
    return Table(storage, PATH)


def write(
    table: Table, rows: Sequence[dict[str, Any]], schema: pa.Schema = SCHEMA
) -> list[TableFile]:
    """Write rows into files that belong to no table yet."""
    work = Path(table.storage.get_full_path("work"))
    work.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        database.register("arrow", pa.Table.from_pylist(list(rows), schema))
        database.execute("CREATE TABLE stored AS SELECT * FROM arrow")
        return ParquetWriter(table.storage, table.path, work).write(database, "stored")


def add(table: Table, identity: str, *rows: dict[str, Any]) -> bool:
    snapshot = table.ensure(SCHEMA)
    return table.commit(snapshot, write(table, rows), [identity], {})


def read(table: Table) -> pl.DataFrame:
    snapshot = table.snapshot()
    assert snapshot is not None
    paths = [table.storage.get_full_path(f"{table.path}/{file.path}") for file in snapshot.files()]
    return pl.read_parquet(paths, glob=False, hive_partitioning=False)


class TestCommit:
    def test_a_table_that_nobody_made_is_none(self, table: Table) -> None:
        assert table.snapshot() is None
        with pytest.raises(UnknownTableError):
            table.snapshot(0)

    def test_what_is_committed_is_read_and_what_is_only_written_is_not(self, table: Table) -> None:
        assert add(table, "one", row(seq=1), row(seq=2))
        write(table, [row(seq=3)])
        assert read(table)["seq"].to_list() == [1, 2]
        snapshot = table.snapshot()
        assert snapshot is not None
        (file,) = snapshot.files()
        assert (file.rows, file.date) == (2, DAY)
        assert file.size == Path(table.uri, file.path).stat().st_size

    def test_each_date_is_a_file_of_its_own(self, table: Table) -> None:
        other = date(2026, 8, 10)
        add(table, "one", row(), row(date=other), row())
        snapshot = table.snapshot()
        assert snapshot is not None
        assert {file.date: file.rows for file in snapshot.files()} == {DAY: 2, other: 1}
        assert all(file.path.startswith(f"date={file.date}/") for file in snapshot.files())

    def test_the_same_identity_is_committed_once(self, table: Table) -> None:
        assert add(table, "one", row())
        assert not add(table, "one", row())
        assert add(table, "two", row())
        assert read(table).height == 2

    def test_an_identity_is_remembered_when_the_log_has_forgotten_its_commit(
        self, table: Table
    ) -> None:
        log, long_ago = Path(table.uri, "_delta_log"), time.time() - 31 * 86_400
        for number in range(41):  # beyond two checkpoints
            assert add(table, f"id-{number}", row(seq=number))
            if number == 25:
                for path in log.iterdir():
                    os.utime(path, (long_ago, long_ago))
        assert any(log.glob("*.checkpoint.parquet"))
        assert min(log.glob("*.json")).name > f"{18:020}.json"
        for number in range(41):
            assert not add(table, f"id-{number}", row(seq=number))
        assert sorted(read(table)["seq"]) == list(range(41))

    def test_a_commit_against_an_old_version_of_the_same_identity_is_refused(
        self, table: Table
    ) -> None:
        old = table.ensure(SCHEMA)
        add(table, "one", row())
        assert not table.commit(old, write(table, [row()]), ["one"], {})
        assert read(table).height == 1

    def test_appends_of_others_do_not_disturb(self, table: Table) -> None:
        old = table.ensure(SCHEMA)
        add(table, "one", row())
        assert table.commit(old, write(table, [row()]), ["two"], {})
        assert read(table).height == 2

    def test_at_version_refuses_where_the_table_moved_on(self, table: Table) -> None:
        old = table.ensure(SCHEMA)
        add(table, "one", row())
        files = write(table, [row()])
        with pytest.raises(CommitConflictError):
            table.commit(old, files, ["two"], {}, at_version=True)
        assert read(table).height == 1
        new = table.snapshot()
        assert new is not None
        assert not new.has_transaction("two")
        assert table.commit(new, files, ["two"], {}, at_version=True)
        assert read(table).height == 2

    def test_at_version_sees_its_own_identity_before_the_conflict(self, table: Table) -> None:
        old = table.ensure(SCHEMA)
        add(table, "one", row())
        assert not table.commit(old, write(table, [row()]), ["one"], {}, at_version=True)

    def test_a_commit_whose_answer_was_lost_is_known_as_ones_own(self, table: Table) -> None:
        old = table.ensure(SCHEMA)
        files = write(table, [row()])
        assert table.commit(old, files, ["one"], {})
        assert table.commit(old, files, ["one"], {})  # the same files again, not refused
        assert read(table).height == 1

    def test_a_commit_whose_answer_was_lost_stays_ones_own_after_its_files_were_joined(
        self, table: Table
    ) -> None:
        old = table.ensure(SCHEMA)
        other = date(2026, 8, 10)
        files = write(table, [row(seq=1), row(seq=2, date=other)])
        assert table.commit(old, files, ["one"], {})
        add(table, "two", row(seq=3))
        newest = table.snapshot()
        assert newest is not None
        joined = [file for file in newest.files() if file.date == DAY]
        rows = [r for r in read(table).to_dicts() if r["seq"] != 2]
        table.replace(newest, joined, write(table, [r | {"date": DAY} for r in rows]))
        assert table.commit(old, files, ["one"], {})
        assert sorted(read(table)["seq"]) == [1, 2, 3]
        assert all(Path(table.uri, file.path).exists() for file in files)

    def test_several_identities_are_committed_at_once_and_none_of_them_again(
        self, table: Table
    ) -> None:
        old = table.ensure(SCHEMA)
        assert table.commit(old, write(table, [row(seq=1)]), ["a", "b"], {"segments": {"a": 1}})
        newest = table.snapshot()
        assert newest is not None
        assert newest.transactions.keys() == {"a", "b"}
        for snapshot in (old, newest):  # what lies between is seen, too
            assert not table.commit(snapshot, write(table, [row(seq=2)]), ["b", "c"], {})
        assert table.commit(newest, write(table, [row(seq=3)]), ["c"], {})
        assert sorted(read(table)["seq"]) == [1, 3]

    def test_an_identity_is_forgotten_after_thirty_days_and_a_checkpoint_with_it(
        self, table: Table
    ) -> None:
        now = int(time.time() * 1000)
        days = 24 * 3600 * 1000
        ages = {"old": now - 31 * days, "young": now - 29 * days, "timeless": None}
        assert table.commit(table.ensure(SCHEMA), write(table, [row()]), ages, {})
        for number in range(25):
            add(table, f"id-{number}", row(seq=number))
            newest = table.snapshot()
            assert newest is not None
            assert newest.has_transaction("young")
            assert newest.has_transaction("timeless")
            assert not newest.has_transaction("old")
        (checkpoint,) = Path(table.uri, "_delta_log").glob("*.checkpoint.parquet")
        kept = [row["appId"] for row in pl.read_parquet(checkpoint)["txn"] if row]
        assert "young" in kept
        assert "old" not in kept

    def test_a_table_of_an_earlier_release_forgets_from_now_on(self, table: Table) -> None:
        DeltaTable.create(table.uri, schema=SCHEMA, partition_by=["date"])
        assert add(table, "one", row())
        settings = DeltaTable(table.uri).metadata().configuration
        assert settings["delta.setTransactionRetentionDuration"] == "interval 30 days"
        version = table.ensure(SCHEMA).version
        assert table.ensure(SCHEMA).version == version

    def test_an_empty_commit_is_remembered_too(self, table: Table) -> None:
        snapshot = table.ensure(SCHEMA)
        assert table.commit(snapshot, [], ["nothing"], {})
        newest = table.snapshot()
        assert newest is not None
        assert newest.has_transaction("nothing")

    def test_a_version_of_the_past_can_be_read(self, table: Table) -> None:
        add(table, "one", row())
        first = table.snapshot()
        add(table, "two", row())
        assert first is not None
        past = table.snapshot(first.version)
        assert past is not None
        assert sum(file.rows for file in past.files()) == 1
        with pytest.raises(UnknownTableError, match="no version 99"):
            table.snapshot(99)

    @pytest.mark.parametrize("version", [-1, 2, 2**63 - 1, 2**63, 10**20, "x", "0", 1.0, True])
    def test_a_version_that_cannot_be_is_one_clear_line(self, table: Table, version: Any) -> None:
        add(table, "one", row())
        with pytest.raises(UnknownTableError, match=re.escape(f"no version {version!r}")) as raised:
            table.snapshot(version)
        assert len(str(raised.value).splitlines()) == 1

    def test_what_a_commit_did_is_told(self, table: Table) -> None:
        files = write(table, [row(seq=1)])
        table.commit(table.ensure(SCHEMA), files, ["one"], {"segments": {"one": 1}})
        assert table.log.versions() == [0, 1]
        made, added = table.log.commits([0, 1])
        assert made.schema == SCHEMA
        assert (made.added, made.metadata, added.schema) == ((), {}, None)
        assert [(file.path, file.rows) for file in added.added] == [(files[0].path, 1)]
        assert added.transactions.keys() == {"one"}
        assert added.metadata == {"segments": {"one": 1}}
        assert abs(added.at - datetime.now(UTC)) < timedelta(hours=1)


class TestConcurrency:
    def test_threads_with_one_identity(self, table: Table) -> None:
        table.ensure(SCHEMA)
        start = threading.Barrier(8)

        def work(number: int) -> bool:
            start.wait()
            return add(table, "same", row(seq=number))

        with ThreadPoolExecutor(8) as pool:
            assert sorted(pool.map(work, range(8))) == [False] * 7 + [True]
        assert read(table).height == 1

    def test_threads_that_make_the_table(self, table: Table) -> None:
        start = threading.Barrier(6)

        def work(number: int) -> bool:
            start.wait()
            return add(table, str(number), row(seq=number))

        with ThreadPoolExecutor(6) as pool:
            assert all(pool.map(work, range(6)))
        assert sorted(read(table)["seq"]) == list(range(6))

    def test_threads_that_add_columns(self, table: Table) -> None:
        table.ensure(SCHEMA)
        start = threading.Barrier(4)

        def work(number: int) -> list[str]:
            start.wait()
            columns = [pa.field("shared", pa.int64()), pa.field(f"own_{number}", pa.string())]
            return table.ensure(pa.schema([*SCHEMA, *columns])).schema().names

        with ThreadPoolExecutor(4) as pool:
            for number, names in enumerate(pool.map(work, range(4))):
                assert {"shared", f"own_{number}"} <= set(names)
        newest = table.snapshot()
        assert newest is not None
        counted = Counter(newest.schema().names)
        assert set(counted) == {*SCHEMA.names, "shared", *(f"own_{n}" for n in range(4))}
        assert max(counted.values()) == 1

    def test_processes_with_shared_and_own_identities(
        self, table: Table, storage: LocalStorage
    ) -> None:
        script = textwrap.dedent("""
            import sys, time
            sys.path.insert(0, sys.argv[4])
            import pyarrow as pa, duckdb
            from pathlib import Path
            from fluxforge.etl.writers.parquet_writer import ParquetWriter
            from fluxforge.storage.local import LocalStorage
            from fluxforge.tables import Table
            me, root, path = sys.argv[1:4]
            work = Path(root) / f"work-{me}"
            work.mkdir(parents=True)
            table = Table(LocalStorage(root), path)
            with duckdb.connect() as database:
                database.execute("SET TimeZone = 'UTC'")
                for number in range(6):
                    for identity in (f"shared-{number}", f"own-{me}-{number}"):
                        database.execute(
                            "CREATE OR REPLACE TABLE stored AS SELECT 'A' AS symbol, "
                            "TIMESTAMPTZ '2026-08-09 00:00:00+00' AS ts_event, "
                            "TIMESTAMPTZ '2026-08-09 00:00:00+00' AS ts_recv, 1::BIGINT AS seq, "
                            f"'{identity}' AS note, DATE '2026-08-09' AS date")
                        schema = database.table("stored").to_arrow_table().schema
                        snapshot = table.ensure(schema)
                        files = ParquetWriter(table.storage, path, work).write(
                            database, "stored")
                        table.commit(snapshot, files, [identity], {})
        """)
        root = str(Path(__file__).resolve().parent.parent)
        workers = [
            subprocess.Popen([sys.executable, "-c", script, str(me), storage.base_path, PATH, root])
            for me in range(3)
        ]
        assert [worker.wait(timeout=120) for worker in workers] == [0, 0, 0]
        expected = {f"shared-{n}" for n in range(6)} | {
            f"own-{me}-{n}" for me in range(3) for n in range(6)
        }
        assert sorted(read(table)["note"]) == sorted(expected)


class TestSchema:
    def test_a_new_column_is_null_in_old_files(self, table: Table) -> None:
        add(table, "one", row())
        grown = pa.schema([*SCHEMA, ("extra", pa.float64())])
        snapshot = table.ensure(grown)
        assert snapshot.schema().field("extra").type == pa.float64()
        table.commit(snapshot, write(table, [row(extra=2.5)], grown), ["two"], {})
        newest = table.snapshot()
        assert newest is not None
        rows = newest.dataset().to_table().to_pylist()
        assert sorted((r["extra"] for r in rows), key=str) == [2.5, None]
        old, new = sorted(newest.files(), key=lambda file: "extra" in file.columns)
        assert "extra" not in old.columns
        assert "extra" in new.columns

    def test_a_column_that_is_no_longer_made_stays(self, table: Table) -> None:
        grown = pa.schema([*SCHEMA, ("extra", pa.float64())])
        table.ensure(grown)
        assert add(table, "one", row())
        newest = table.snapshot()
        assert newest is not None
        assert "extra" in newest.schema().names
        assert newest.dataset().to_table()["extra"].to_pylist() == [None]

    def test_another_type_is_refused_and_nothing_is_changed(self, table: Table) -> None:
        add(table, "one", row())
        version = table.ensure(SCHEMA).version
        other = SCHEMA.set(3, pa.field("seq", pa.string()))
        with pytest.raises(TableError, match="'seq' is int64, not string"):
            table.ensure(other)
        assert table.ensure(SCHEMA).version == version

    def test_an_all_null_column_keeps_its_type(self, table: Table) -> None:
        add(table, "one", row(price=None))
        add(table, "two", row(price=2.5))
        assert read(table).schema["price"] == pl.Float64
        assert sorted(read(table)["price"].to_list(), key=str) == [2.5, None]


def errors_of(table: Table) -> list[str]:
    errors = []
    for look in (table.snapshot, lambda: table.log.commits([0, 1])):
        try:
            look()
        except TableError as exc:
            errors.append(str(exc))
    return errors


class TestDamage:
    def test_a_log_that_cannot_be_read_is_an_error_and_not_an_absent_table(
        self, table: Table
    ) -> None:
        add(table, "one", row())
        for commit in Path(table.uri, "_delta_log").glob("*.json"):
            commit.write_bytes(b"\xff{ not json")
        with pytest.raises(TableError):
            table.snapshot()
        with pytest.raises(TableError):
            table.ensure(SCHEMA)

    def test_the_errors_of_a_damaged_log_are_one_line(self, table: Table) -> None:
        add(table, "one", row())
        commits = sorted(Path(table.uri, "_delta_log").glob("*.json"))
        whole = [commit.read_bytes() for commit in commits]
        for commit, data in zip(commits, whole, strict=True):
            for damaged in (b"", data[:-20], b"\xff" + data, data.replace(b'"add"', b'"\xff"')):
                commit.write_bytes(damaged)
                assert all(len(text.splitlines()) == 1 for text in errors_of(table))
            commit.write_bytes(data)

    def test_a_table_whose_log_is_gone_does_not_read_as_empty(self, table: Table) -> None:
        add(table, "one", row())
        shutil.rmtree(Path(table.uri, "_delta_log"))
        with pytest.raises(TableError, match="data files and no log"):
            table.snapshot()

    def test_a_table_that_is_made_between_two_looks_is_one(self, tmp_path: Path) -> None:
        class Busy(LocalStorage):
            def list_files(self, *args: Any, **options: Any) -> list[str]:
                add(Table(LocalStorage(tmp_path / "lake"), PATH), "one", row())
                return super().list_files(*args, **options)

        snapshot = Table(Busy(tmp_path / "lake"), PATH).snapshot()
        assert snapshot is not None
        assert sum(file.rows for file in snapshot.files()) == 1

    def test_a_creation_that_was_cut_short_is_made_again(self, table: Table) -> None:
        log = Path(table.uri, "_delta_log")
        log.mkdir(parents=True)
        (log / "00000000000000000000.json#1").write_bytes(b'{"metaData"')
        assert table.snapshot() is None
        assert add(table, "one", row())
        assert read(table).height == 1

    def test_only_folders_with_a_log_are_tables(self, table: Table, storage: LocalStorage) -> None:
        add(table, "one", row())
        storage.write_bytes("processed/venue/stray/date=2026-08-09/x.parquet", b"x")
        assert table_names(storage, "processed/venue") == ["rows"]
        assert table_names(storage, "processed/nobody") == []

    @pytest.mark.parametrize(
        "name",
        [
            "a b",
            "a#b",
            "100%",
            "\N{LATIN SMALL LETTER E WITH ACUTE}",
            "[1]",
            "a&b=c",
            "a+b",
            "a;b",
            "\N{CJK UNIFIED IDEOGRAPH-65E5}",
        ],
    )
    def test_a_folder_may_have_any_name(self, tmp_path: Path, name: str) -> None:
        table = Table(LocalStorage(tmp_path / name), PATH)
        add(table, "one", row())
        assert not add(table, "one", row())
        assert read(table).height == 1
        newest = table.snapshot()
        assert newest is not None
        assert newest.dataset().to_table().num_rows == 1


class TestReplaceAndVacuum:
    def replace(self, table: Table, base: Any) -> None:
        rows = read(table)
        joined = write(table, [r | {"date": DAY} for r in rows.to_dicts()])
        table.replace(base, base.files(), joined)

    def test_joining_files_changes_no_row(self, table: Table) -> None:
        for number in range(3):
            add(table, str(number), row(seq=number))
        base = table.snapshot()
        assert base is not None
        self.replace(table, base)
        newest = table.snapshot()
        assert newest is not None
        assert len(newest.files()) == 1
        assert sorted(read(table)["seq"]) == [0, 1, 2]
        assert newest.has_transaction("1")
        past = table.snapshot(base.version)
        assert past is not None
        assert len(past.files()) == 3

    def test_of_two_that_join_the_same_files_one_gives_up(self, table: Table) -> None:
        for number in range(3):
            add(table, str(number), row(seq=number))
        base = table.snapshot()
        assert base is not None
        self.replace(table, base)
        with pytest.raises(CommitConflictError):
            self.replace(table, base)
        assert sorted(read(table)["seq"]) == [0, 1, 2]

    def test_joining_beside_an_append_keeps_both(self, table: Table) -> None:
        for number in range(3):
            add(table, str(number), row(seq=number))
        base = table.snapshot()
        assert base is not None
        rows = read(table).to_dicts()
        joined = write(table, [r | {"date": DAY} for r in rows])
        add(table, "late", row(seq=9))
        table.replace(base, base.files(), joined)
        assert sorted(read(table)["seq"]) == [0, 1, 2, 9]

    def test_vacuum_keeps_what_is_young_and_what_is_named(self, table: Table) -> None:
        for number in range(2):
            add(table, str(number), row(seq=number))
        base = table.snapshot()
        assert base is not None
        self.replace(table, base)
        (young,) = write(table, [row(seq=7)])
        (old,) = write(table, [row(seq=8)])
        long_ago = time.time() - 3 * 3600
        os.utime(Path(table.uri, old.path), (long_ago, long_ago))
        assert table.vacuum(timedelta(hours=1), dry_run=True) == [old.path]
        assert Path(table.uri, old.path).exists()
        assert table.vacuum(timedelta(hours=1), dry_run=False) == [old.path]
        assert not Path(table.uri, old.path).exists()
        assert Path(table.uri, young.path).exists()
        assert sorted(read(table)["seq"]) == [0, 1]
        past = table.snapshot(base.version)
        assert past is not None
        assert all(Path(table.uri, file.path).exists() for file in past.files())

    def test_part_of_an_hour_is_not_rounded_away(self, table: Table) -> None:
        add(table, "one", row())
        (stray,) = write(table, [row(seq=8)])
        ago = time.time() - 80 * 60
        os.utime(Path(table.uri, stray.path), (ago, ago))
        assert table.vacuum(timedelta(minutes=90), dry_run=True) == []

    def test_vacuum_of_nothing(self, table: Table) -> None:
        assert table.vacuum(timedelta(days=7), dry_run=False) == []


INSTANTS = st.datetimes(
    min_value=datetime(1970, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "symbol": st.text(st.characters(codec="utf-8"), max_size=80),
    "ts_event": INSTANTS,
    "seq": st.integers(-(2**63), 2**63 - 1),
    "price": st.floats(allow_nan=False, allow_infinity=False),
}


@st.composite
def columns(draw: st.DrawFn) -> tuple[str, list[Any], Any, Any]:
    column = draw(st.sampled_from(sorted(VALUES)))
    values = draw(st.lists(st.none() | VALUES[column], min_size=1, max_size=6))
    low, high = draw(st.none() | VALUES[column]), draw(st.none() | VALUES[column])
    return column, values, low, high


@pytest.fixture(scope="module")
def one_table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return Table(LocalStorage(tmp_path_factory.mktemp("prune")), PATH)


@given(columns())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_file_that_is_pruned_holds_no_such_row(
    one_table: Table, case: tuple[str, list[Any], Any, Any]
) -> None:
    column, values, low, high = case
    snapshot = one_table.ensure(SCHEMA)
    (written,) = write(one_table, [row(**{column: value}) for value in values])
    one_table.commit(snapshot, [written], [written.path], {})
    (file,) = (file for file in log(one_table) if file.path == written.path)
    present = [value for value in values if value is not None]
    hit = any(
        (low is None or low <= value) and (high is None or value <= high) for value in present
    )
    assert file.may_hold(column, low, high) or not hit
    if present and all(len(str(value)) <= 64 for value in present):  # else no bounds are kept
        inside = (high is None or min(present) <= high) and (low is None or max(present) >= low)
        assert file.may_hold(column, low, high) == inside


def log(table: Table) -> list[TableFile]:
    snapshot = table.snapshot()
    assert snapshot is not None
    return snapshot.files()


def test_a_microsecond_decides() -> None:
    late = AT + timedelta(microseconds=1)
    file = TableFile("x", 1, 1, DAY, {"ts_event": AT}, {"ts_event": AT}, {"ts_event": 0})
    assert file.may_hold("ts_event", AT, AT)
    assert not file.may_hold("ts_event", late, None)
    assert not file.may_hold("ts_event", None, AT - timedelta(microseconds=1))
    assert file.may_hold("other", 1, 2)


def test_bounds_keep_their_microseconds_in_the_log_and_over_a_checkpoint(table: Table) -> None:
    late = AT + timedelta(microseconds=7)
    for number in range(21):
        add(table, str(number), row(ts_event=AT), row(ts_event=late))
    for file in log(table):
        assert (file.least["ts_event"], file.greatest["ts_event"]) == (AT, late)


@pytest.mark.parametrize(
    "symbol", ["\U00020000", "\N{MONEY BAG}", "\u2028", '"', "\\", "\x01", "\ufffd", "z" * 64]
)
def test_bounds_of_unusual_text_are_right(table: Table, symbol: str) -> None:
    add(table, "one", row(symbol=symbol))
    (file,) = log(table)
    assert (file.least["symbol"], file.greatest["symbol"]) == (symbol, symbol)


def test_text_too_long_for_bounds_is_never_pruned(table: Table) -> None:
    add(table, "one", row(symbol="z" * 65))
    (file,) = log(table)
    assert file.may_hold("symbol", "a", "b")
