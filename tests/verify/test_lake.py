from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pytest

from fluxforge.errors import AccessDeniedError, StorageError
from fluxforge.etl.optimize import optimize_table
from fluxforge.etl.writers import ParquetWriter
from fluxforge.layout import Layout
from fluxforge.segments.tries import TriesJournal
from fluxforge.storage.local import LocalStorage
from fluxforge.tables import Table
from fluxforge.transform.schema import table_schemas
from fluxforge.verify import Check, Finding, VerifyReport, verify_lake

if TYPE_CHECKING:
    from .conftest import Lake

REPOSITORY = Path(__file__).resolve().parents[2]
NAME = "segment_20260809T22_00001.ndjson"


def table_of(lake: Lake, name: str) -> Table:
    return Table(lake.storage, lake.layout.table("coinbase", name))


def stored(lake: Lake, name: str) -> Path:
    """Return the one Parquet file of a table."""
    snapshot = table_of(lake, name).snapshot()
    assert snapshot is not None
    (file,) = snapshot.files()
    return Path(table_of(lake, name).uri, file.path)


def append(lake: Lake, name: str, select: str, identity: str = "forged") -> None:
    """Commit rows that no ETL made."""
    table = table_of(lake, name)
    snapshot = table.snapshot()
    assert snapshot is not None
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        rows = snapshot.dataset().to_table()
        database.register("present", rows)
        database.execute(f"CREATE TABLE forged AS {select}")
        work = lake.root.parent
        files = ParquetWriter(lake.storage, table.path, work).write(database, "forged")
    table.commit(snapshot, files, [identity], {})


class TestInOrder:
    def test_an_empty_lake(self, lake: Lake) -> None:
        lake.storage.mkdir(lake.layout.ready("coinbase"))
        report = lake.verify()
        assert report.ok
        assert report.problems == report.notes == ()

    def test_a_lake_after_an_etl(self, filled: Lake) -> None:
        report = filled.verify()
        assert report.problems == ()
        assert {note.kind for note in report.notes} == {"quarantine"}
        counts = {(check.name, check.where): check.looked_at for check in report.checks}
        assert counts["tables", "processed/coinbase"] == 4
        assert counts["segments", "processed/coinbase/segments"] == 1
        assert counts["files", "processed/coinbase/ticker"] == 1

    def test_segments_that_wait_are_a_note(self, filled: Lake) -> None:
        filled.put("ready", NAME)
        report = filled.verify()
        assert report.ok
        assert [note.message for note in report.notes if note.kind == "waiting"] == [
            "1 segments wait for the etl"
        ]

    def test_archives_are_in_order_namesakes_too(self, filled: Lake) -> None:
        filled.put("archive", f"{NAME}.zst")
        filled.put("archive", "segment_20260809T22_00001-0123456789ab.ndjson.zst")
        assert filled.problems() == []

    def test_a_folder_that_is_no_lake(self, lake: Lake) -> None:
        assert lake.problems() == [("no_lake", str(lake.root))]
        lake.root.mkdir()
        (lake.root / "Documents").mkdir()
        assert lake.problems() == [("no_lake", str(lake.root))]

    def test_looking_changes_nothing(self, filled: Lake) -> None:
        filled.put("ready", NAME)
        filled.put("processing", NAME)
        filled.put("active", NAME)

        def everything() -> list[tuple[str, int, int]]:
            return sorted(
                (str(path), path.stat().st_size, path.stat().st_mtime_ns)
                for path in filled.root.rglob("*")
                if path.is_file()
            )

        before = everything()
        filled.verify()
        assert everything() == before

    def test_files_of_earlier_versions_are_a_note(self, filled: Lake) -> None:
        filled.etl(2, seqs=range(6, 12))
        optimize_table(table_of(filled, "ticker"), "ticker")
        report = filled.verify()
        assert report.ok
        assert [note.where for note in report.notes if note.kind == "leftover"] == [
            "processed/coinbase/ticker"
        ]

    def test_missing_frames_are_a_note(self, filled: Lake) -> None:
        filled.etl(2, seqs=range(9, 12))
        filled.etl(3, seqs=range(2, 4), conn="B")
        report = filled.verify()
        assert report.ok
        (gap,) = (note for note in report.notes if note.kind == "gap")
        assert gap.message.startswith("5 frames of 2 connections")

    def test_custom_folders(self, lake: Lake) -> None:
        lake.layout = Layout(
            raw="in/raw", processed="out/tables", active_subdir="a/b", ready_subdir="c",
            processing_subdir="d", archive_subdir="e", quarantine_subdir="f",
        )  # fmt: skip
        lake.put("ready", NAME)
        lake.put("active", NAME)
        report = lake.verify()
        assert [problem.kind for problem in report.problems] == ["abandoned_segment"]
        lake.layout = Layout(raw="")
        lake.storage.write_bytes(f"ready/coinbase/{NAME}", b"{}\n")
        lake.storage.write_bytes("odd/x", b"")
        found = {problem.where for problem in lake.verify().problems}
        assert found == {"in", "odd"}

    def test_two_places(self, tmp_path: Path, filled: Lake) -> None:
        layout, other = Layout(), LocalStorage(tmp_path / "captured")
        other.write_bytes(f"raw/processing/coinbase/{NAME}", b"{}\n")
        report = verify_lake(
            [(filled.storage, layout), (other, layout)], (filled.storage, layout), ["coinbase"]
        )
        assert [problem.kind for problem in report.problems] == ["unfinished_segment"]


class TestPlaces:
    @pytest.mark.parametrize(
        ("state", "name"),
        [("ready", "README.txt"), ("ready", "segment_1.ndjson"), ("ready", f"{NAME}.zst"),
         ("ready", f"deeper/{NAME}x"), ("processing", "x.parquet"), ("archive", NAME),
         ("archive", "x.zst"), ("quarantine", NAME), ("quarantine", "x.ndjson"),
         ("active", "notes.txt")],
    )  # fmt: skip
    def test_a_file_that_does_not_belong(self, filled: Lake, state: str, name: str) -> None:
        key = filled.put(state, name)
        assert filled.problems() == [("misplaced_file", key)]

    def test_files_beside_the_sources(self, filled: Lake) -> None:
        filled.storage.write_bytes(f"raw/ready/{NAME}", b"{}\n")
        filled.storage.write_bytes("processed/stray.parquet", b"x")
        filled.storage.write_bytes("processed/coinbase/stray.parquet", b"x")
        assert sorted(filled.problems()) == [
            ("misplaced_file", "processed/coinbase/stray.parquet"),
            ("misplaced_file", "processed/stray.parquet"),
            ("misplaced_file", f"raw/ready/{NAME}"),
        ]

    def test_folders_that_nobody_knows(self, filled: Lake) -> None:
        filled.storage.write_bytes("raw/redy/coinbase/x", b"")
        filled.storage.write_bytes(f"raw/ready/coinbse/{NAME}", b"")
        filled.storage.write_bytes("processed/coinbse/ticker/x.parquet", b"")
        assert sorted(filled.problems()) == [
            ("unknown_folder", "raw/redy"),
            ("unknown_source", "processed/coinbse"),
            ("unknown_source", "raw/ready/coinbse"),
        ]

    def test_a_configured_source_is_known_though_it_has_no_folder(self, filled: Lake) -> None:
        assert (
            filled.problems("coinbase", "kraken")
            == [
                ("check_failed", "processed/kraken"),
            ]
            or filled.problems("coinbase", "kraken") == []
        )

    def test_parquet_without_a_log_is_told_once_a_folder(self, filled: Lake) -> None:
        for number in range(5):
            filled.storage.write_bytes(f"processed/coinbase/odd/date=x/{number}.parquet", b"")
        assert filled.problems() == [("misplaced_file", "processed/coinbase/odd/")]

    def test_an_unfinished_segment_whose_worker_is_dead(self, filled: Lake) -> None:
        key = filled.put("processing", NAME)
        assert filled.problems() == [("unfinished_segment", key)]

    def test_a_segment_that_was_set_aside_says_why_and_the_way_back(self, filled: Lake) -> None:
        key = filled.put("processing", NAME)
        journal = TriesJournal(filled.storage, filled.layout, "coinbase")
        journal.failed(None, NAME, StorageError("the disk refuses"))
        (problem,) = filled.verify().problems
        assert (problem.kind, problem.where) == ("unfinished_segment", key)
        assert "the disk refuses" in problem.message
        journal.set_aside(NAME, "poison")
        (problem,) = filled.verify().problems
        assert (problem.kind, problem.where) == ("set_aside_segment", key)
        assert "poison" in problem.message
        assert "--retry" in problem.message

    def test_a_segment_in_the_hands_of_a_living_worker(self, filled: Lake) -> None:
        key = filled.put("processing", NAME)
        lease = filled.storage.acquire_lease(key)
        assert lease is not None
        with lease:
            assert filled.problems() == []

    def test_an_abandoned_segment(self, filled: Lake) -> None:
        key = filled.put("active", NAME)
        assert filled.problems() == [("abandoned_segment", key)]

    def test_a_segment_that_a_living_collector_writes(self, filled: Lake) -> None:
        script = textwrap.dedent("""
            import sys
            from pathlib import Path
            from fluxforge.segments.files import SegmentFile
            SegmentFile.create(Path(sys.argv[1], sys.argv[2])).append(b"{}\\n")
            print("writing", flush=True)
            sys.stdin.read()
        """)
        key = f"{filled.layout.active('coinbase')}/{NAME}"
        with subprocess.Popen(
            [sys.executable, "-c", script, str(filled.root), key],
            cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as collector:  # fmt: skip
            assert collector.stdout is not None
            try:
                assert collector.stdout.readline() == "writing\n"
                assert filled.problems() == []
            finally:
                collector.kill()
                collector.communicate()
        assert filled.problems() == [("abandoned_segment", key)]

    @pytest.mark.parametrize("state", ["processing", "active"])
    def test_a_segment_that_is_finished_in_the_meantime_is_no_problem(
        self, filled: Lake, state: str
    ) -> None:
        key = filled.put(state, NAME)

        class Finishing(LocalStorage):
            def acquire_lease(self, leased: str) -> Any:
                self.delete(key)
                return super().acquire_lease(leased)

        assert filled.verify(Finishing(filled.root)).ok

    def test_a_reader_without_permission_is_told_of_nothing(self, filled: Lake) -> None:
        class ReadOnly(LocalStorage):
            def acquire_lease(self, key: str) -> Any:
                raise AccessDeniedError(f"no permission for {key}")

        filled.put("processing", NAME)
        assert filled.verify(ReadOnly(filled.root)).ok


class TestTables:
    def test_a_file_that_is_gone(self, filled: Lake) -> None:
        path = stored(filled, "ticker")
        path.unlink()
        assert filled.problems() == [("missing_file", path.relative_to(filled.root).as_posix())]

    @pytest.mark.parametrize("table", ["segments", "sequences"])
    def test_a_file_of_the_bookkeeping_that_is_gone(self, filled: Lake, table: str) -> None:
        stored(filled, table).unlink()
        kinds = [kind for kind, _ in filled.problems()]
        assert sorted(kinds) == ["check_failed", "missing_file"]

    def test_a_file_that_was_cut(self, filled: Lake) -> None:
        path = stored(filled, "trades")
        path.write_bytes(path.read_bytes()[:-10])
        assert filled.problems() == [("damaged_file", path.relative_to(filled.root).as_posix())]

    def test_a_damaged_log_hides_nothing_else(self, filled: Lake) -> None:
        for commit in Path(table_of(filled, "ticker").uri, "_delta_log").glob("*.json"):
            commit.write_bytes(b"\xff")
        key = filled.put("ready", "README")
        path = stored(filled, "trades")
        path.unlink()
        kinds = sorted(filled.problems())
        assert ("misplaced_file", key) in kinds
        assert ("missing_file", path.relative_to(filled.root).as_posix()) in kinds
        assert ("check_failed", "processed/coinbase/ticker") in kinds

    def test_a_creation_that_was_cut_short_is_a_note(self, filled: Lake) -> None:
        filled.storage.write_bytes("processed/coinbase/status/_delta_log/0.json.tmp", b"{")
        report = filled.verify()
        assert report.ok
        assert [note.where for note in report.notes if note.kind == "leftover"] == [
            "processed/coinbase/status"
        ]

    def test_what_a_dead_worker_wrote_and_never_committed_is_a_note(self, filled: Lake) -> None:
        filled.storage.write_bytes("processed/coinbase/ticker/date=2026-08-09/x.parquet", b"")
        report = filled.verify()
        assert report.ok
        (note,) = (note for note in report.notes if note.kind == "leftover")
        assert "vacuum" in note.message

    def test_a_column_of_another_type(self, filled: Lake) -> None:
        schema = table_schemas("coinbase")["status"]
        at = schema.names.index("base_increment")
        table_of(filled, "status").ensure(schema.set(at, pa.field("base_increment", pa.string())))
        (problem,) = filled.verify().problems
        assert problem.kind == "wrong_column"
        assert "'base_increment' is string, not double" in problem.message

    def test_a_leading_column_that_is_missing(self, filled: Lake) -> None:
        table_of(filled, "status").ensure(
            pa.schema([("symbol", pa.string()), ("date", pa.date32())])
        )
        messages = [problem.message for problem in filled.verify().problems]
        assert messages == [
            f"there is no column {name!r}" for name in ("ts_event", "ts_recv", "seq", "conn")
        ]

    def test_a_table_that_nobody_makes_is_a_note(self, filled: Lake) -> None:
        table_of(filled, "odd").ensure(pa.schema([("date", pa.date32())]))
        report = filled.verify()
        assert report.ok
        assert [note.where for note in report.notes if note.kind == "unknown_table"] == [
            "processed/coinbase/odd"
        ]


class TestAccounts:
    def test_rows_that_the_ledger_does_not_know(self, filled: Lake) -> None:
        append(filled, "ticker", "SELECT * FROM present")
        (problem,) = filled.verify().problems
        assert (problem.kind, problem.where) == ("wrong_row_count", "processed/coinbase/ticker")
        assert problem.message == "6 rows, but the ledger accounts for 3"

    def test_rows_that_are_missing(self, filled: Lake) -> None:
        rows = json.dumps({"ticker": 100, "trades": 3, "candles": 5})
        append(
            filled, "segments",
            f"SELECT * REPLACE ('{rows}' AS rows, 'other' AS digest) FROM present",
        )  # fmt: skip
        found = [where for kind, where in sorted(filled.problems()) if kind == "wrong_row_count"]
        assert found == [f"processed/coinbase/{name}" for name in ("candles", "ticker", "trades")]

    def test_rows_ahead_of_the_ledger_while_an_etl_works(self, filled: Lake) -> None:
        append(filled, "ticker", "SELECT * FROM present", identity=NAME)
        key = filled.put("processing", NAME)
        lease = filled.storage.acquire_lease(key)
        assert lease is not None
        with lease:
            assert filled.problems() == []

    def test_rows_doubled_while_another_segment_is_in_work(self, filled: Lake) -> None:
        append(filled, "ticker", "SELECT * FROM present")
        key = filled.put("processing", NAME)
        lease = filled.storage.acquire_lease(key)
        assert lease is not None
        with lease:
            assert filled.problems() == [("wrong_row_count", "processed/coinbase/ticker")]

    def test_rows_missing_are_a_problem_even_while_an_etl_works(self, filled: Lake) -> None:
        rows = json.dumps({"ticker": 100})
        append(
            filled, "segments",
            f"SELECT * REPLACE ('{rows}' AS rows, 'other' AS digest) FROM present",
        )  # fmt: skip
        key = filled.put("processing", NAME)
        lease = filled.storage.acquire_lease(key)
        assert lease is not None
        with lease:
            assert ("wrong_row_count", "processed/coinbase/ticker") in filled.problems()

    def test_a_segment_that_is_entered_twice(self, filled: Lake) -> None:
        append(filled, "segments", "SELECT * REPLACE ('{}' AS rows) FROM present")
        (problem,) = filled.verify().problems
        assert problem.kind == "repeated_segment"

    def test_an_account_that_does_not_add_up(self, filled: Lake) -> None:
        append(
            filled, "segments",
            "SELECT * REPLACE ('{}' AS rows, 'other' AS digest, 99 AS lines_read) FROM present",
        )  # fmt: skip
        (problem,) = (one for one in filled.verify().problems if one.kind == "wrong_account")
        assert "segment_20260809T21_00001.ndjson" in problem.where

    @pytest.mark.parametrize(("seq", "last", "frames"), [(0, 5, 6), (5, 9, 5), (2, 3, 2)])
    def test_frames_that_are_stored_twice(
        self, filled: Lake, seq: int, last: int, frames: int
    ) -> None:
        append(
            filled, "sequences",
            f"SELECT * REPLACE ({seq}::BIGINT AS seq, {last}::BIGINT AS last_seq, "
            f"{frames}::BIGINT AS frames) FROM present",
        )  # fmt: skip
        kinds = {problem.kind for problem in filled.verify().problems}
        assert kinds == {"stored_twice"}

    def test_numbers_that_the_venue_repeats_are_a_note(self, filled: Lake) -> None:
        later = "ts_recv + INTERVAL 1 SECOND AS ts_recv, last_recv + INTERVAL 1 SECOND AS last_recv"
        append(
            filled, "sequences",
            "SELECT * REPLACE (10::BIGINT AS seq, 12::BIGINT AS last_seq, 4::BIGINT AS frames) "
            "FROM present UNION ALL SELECT * REPLACE (5::BIGINT AS seq, 1::BIGINT AS frames, "
            f"{later}) FROM present",
        )  # fmt: skip
        report = filled.verify()
        assert report.ok
        messages = [note.message for note in report.notes if note.kind == "repeated_number"]
        assert messages == ["the venue repeated 2 numbers on 1 connections"]

    def test_one_frame_of_two_segments(self, filled: Lake) -> None:
        filled.etl(2, seqs=range(5, 8))
        (problem,) = filled.verify().problems
        assert problem.kind == "stored_twice"
        assert "frames 5 to 5 of connection A" in problem.message

    def test_beside_a_running_etl_nothing_is_wrong(self, lake: Lake) -> None:
        lake.storage.mkdir(lake.layout.ready("coinbase"))
        done = threading.Event()

        def work() -> None:
            for number in range(1, 7):
                lake.etl(number, seqs=range(number * 10, number * 10 + 4), conn=f"C{number}")
            done.set()

        worker = threading.Thread(target=work)
        worker.start()
        reports = [lake.verify()]
        while not done.wait(0.01):
            reports.append(lake.verify())
        worker.join()
        assert [str(report) for report in reports if not report.ok] == []
        assert lake.verify().ok


class TestTrouble:
    def test_a_listing_that_fails_is_a_problem_and_not_the_end(self, filled: Lake) -> None:
        class Failing(LocalStorage):
            def list_entries(self, path: str = "", *, recursive: bool = True) -> list[Any]:
                if "quarantine" in path:
                    raise StorageError(f"{path}: the listing broke off")
                return super().list_entries(path, recursive=recursive)

        filled.put("ready", "README")
        report = filled.verify(Failing(filled.root))
        assert {problem.kind for problem in report.problems} == {"check_failed", "misplaced_file"}

    def test_a_storage_that_is_away(self, filled: Lake) -> None:
        class Away(LocalStorage):
            def list_entries(self, path: str = "", *, recursive: bool = True) -> list[Any]:
                raise StorageError("the network is away")

            def list_folders(self, path: str = "") -> list[str]:
                raise StorageError("the network is away")

        report = filled.verify(Away(filled.root))
        assert not report.ok
        assert {problem.kind for problem in report.problems} == {"check_failed"}

    @pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
    def test_a_folder_that_may_not_be_read(self, filled: Lake) -> None:
        folder = filled.root / "raw" / "quarantine"
        folder.chmod(0)
        try:
            assert ("check_failed", "raw/quarantine") in filled.problems()
        finally:
            folder.chmod(0o755)


class TestReport:
    REPORT = VerifyReport(
        (Check("files", "processed/x", 1200),),
        (Finding("missing_file", "a/<b>", "restore it"),),
        (Finding("waiting", "raw/ready/coinbase", "2 segments"),),
    )

    def test_for_machines(self) -> None:
        assert json.loads(json.dumps(self.REPORT.to_dict())) == {
            "ok": False,
            "checks": [{"name": "files", "where": "processed/x", "looked_at": 1200}],
            "problems": [{"kind": "missing_file", "where": "a/<b>", "message": "restore it"}],
            "notes": [{"kind": "waiting", "where": "raw/ready/coinbase", "message": "2 segments"}],
        }
        assert VerifyReport().to_dict()["ok"] is True

    def test_for_people(self) -> None:
        text = str(self.REPORT)
        assert "1 problem" in text
        assert "1,200 files" in text
        assert "missing_file: a/<b>: restore it" in text
        assert repr(VerifyReport((Check("files", "x", 0),))).startswith("<VerifyReport ok")

    def test_for_notebooks(self) -> None:
        html = self.REPORT._repr_html_()
        assert "a/&lt;b&gt;" in html
        assert "<b>" not in html

    def test_a_report_does_not_change(self) -> None:
        with pytest.raises(AttributeError):
            self.REPORT.checks = ()  # type: ignore[misc]
