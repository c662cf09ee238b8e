from __future__ import annotations

import errno
import hashlib
import os
import resource
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from fluxforge.errors import (
    ConfigError,
    FluxForgeError,
    SegmentError,
    StorageError,
    StorageFullError,
    TableError,
    UnknownSourceError,
)
from fluxforge.etl import job as job_module
from fluxforge.etl.job import ETLJob
from fluxforge.etl.report import EtlReport, SegmentReport, SegmentsFailedError
from fluxforge.layout import Layout
from fluxforge.segments import SegmentStore, open_segment
from fluxforge.sources import get_source
from fluxforge.sources.tables import Channel
from fluxforge.storage.local import LocalStorage
from fluxforge.tables import Table
from fluxforge.tables.moving import close_table
from fluxforge.transform.schema import table_schemas

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Frames, LakeFolder


class TestOnce:
    def test_running_twice_adds_nothing(self, lake: LakeFolder, frames: Frames) -> None:
        lake.put([frames.ticker(), frames.trades([1, 2])])
        first = lake.etl()
        assert (first.segments, first.rows) == (1, {"ticker": 1, "trades": 2})
        before = lake.committed()
        again = lake.etl()
        assert (again.segments, again.repeated, again.rows) == (0, 0, {})
        assert lake.committed() == before

    def test_a_copy_under_another_name_adds_nothing(self, lake: LakeFolder, frames: Frames) -> None:
        content = frames.ticker() + frames.trades([1, 2]) + b"bad\n"
        lake.put(content, 1)
        lake.put(content, 2)
        report = lake.etl()
        assert len(lake.quarantined()) == 1
        assert (report.segments, report.repeated) == (1, 1)
        assert (lake.count("ticker"), lake.count("trades"), lake.count("segments")) == (1, 2, 1)
        assert lake.files("ready") == lake.files("processing") == []
        lake.assert_files()
        lake.assert_accounts()

    def test_a_name_that_comes_back_with_other_content_is_set_aside(
        self, lake: LakeFolder, frames: Frames
    ) -> None:
        lake.put(frames.ticker(), 1)
        assert lake.etl().segments == 1
        name = lake.put(frames.ticker("7"), 1)
        for _ in range(2):
            report = lake.etl()
            assert (report.segments, report.set_aside) == (0, 1)
            assert "set aside: lake.etl(retry=True)" in repr(report)
            assert lake.files("processing") == [name]
        (tries,) = lake.job()._tries.read().values()
        assert tries.aside
        assert "another segment of this name" in tries.error
        assert (lake.count("ticker"), lake.count("segments")) == (1, 1)
        lake.assert_accounts()

    def test_a_namesake_waits_while_the_first_is_in_processing(
        self, lake: LakeFolder, frames: Frames
    ) -> None:
        lake.put(frames.ticker("1"), 1, state="processing")  # a dead worker's
        name = lake.put(frames.ticker("2"), 1, state="ready")
        assert lake.etl().segments == 1
        assert lake.rows("ticker")["price"].to_list() == [1.0]
        assert (lake.files("ready"), lake.files("processing")) == ([name], [])

    def test_orphans_in_processing_are_taken_up(self, lake: LakeFolder, frames: Frames) -> None:
        lake.put(frames.ticker(), 1, state="processing")
        assert lake.etl().segments == 1
        assert lake.files("processing") == []

    def test_segments_are_taken_oldest_first(
        self, lake: LakeFolder, frames: Frames, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("fluxforge.etl.job._MOST_SEGMENTS", 1)  # a batch each
        order = []
        for number in (99_999, 1, 100_001, 2):
            lake.put(frames.ticker(), number)
        lake.etl(on_progress=lambda done, of: order.append((done, of)))
        assert order == [(1, 4), (2, 4), (3, 4), (4, 4)]
        names = lake.rows("segments").sort("processed_at")["segment"].to_list()
        assert [int(name[20:-7]) for name in names] == [1, 2, 99_999, 100_001]

    def test_other_files_are_left_alone(self, lake: LakeFolder, frames: Frames) -> None:
        lake.put(frames.ticker(), 1)
        folder = lake.layout.ready("coinbase")
        for name in ("README.txt", "segment_1.ndjson", "x.ndjson", "segment_x.ndjson.zst"):
            lake.storage.write_bytes(f"{folder}/{name}", b"x")
        assert lake.etl().segments == 1
        assert len(lake.files("ready")) == 4

    def test_one_workers_claim_is_passed_over_by_another(
        self, lake: LakeFolder, frames: Frames
    ) -> None:
        lake.put(frames.ticker(), 1)
        lake.put(frames.ticker(), 2)
        store = SegmentStore(LocalStorage(lake.root), lake.layout, "coinbase")
        [mine] = store.claim()
        assert len(store.waiting()) == 2
        assert lake.etl().segments == 1
        assert lake.files("processing")[-1] == mine.name
        mine.release()
        assert lake.etl().segments == 1
        assert lake.count("ticker") == 2

    def test_no_table_has_files_before_it_has_a_log(
        self, lake: LakeFolder, frames: Frames, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        written, write_file = [], LocalStorage.write_file

        def write(storage: LocalStorage, path: Path, key: str, **options: Any) -> None:
            table = key.partition("/date=")[0]
            assert storage.list_files(f"{table}/_delta_log"), key
            written.append(table.rpartition("/")[2])
            write_file(storage, path, key, **options)

        monkeypatch.setattr(LocalStorage, "write_file", write)
        lake.put([frames.ticker(), frames.trades([1])])
        lake.etl()
        assert sorted(written) == ["segments", "sequences", "ticker", "trades"]


class TestFolders:
    def test_the_users_script_runs_as_it_stands(self, lake: LakeFolder, frames: Frames) -> None:
        lake.put(frames.ticker())
        job = ETLJob(
            storage=lake.storage,
            input_path="raw/ready/coinbase",
            output_path="processed/coinbase",
            delete_after_processing=True,
        )
        assert job.process_all_segments().rows == {"ticker": 1}

    def test_a_slash_at_the_end_changes_nothing(self, lake: LakeFolder, frames: Frames) -> None:
        lake.put([frames.ticker(), b"bad\n"])
        ETLJob(
            storage=lake.storage,
            input_path="raw/ready/coinbase/",
            output_path="processed/coinbase/",
        ).process_all_segments()
        assert lake.count("ticker") == 1
        assert len(lake.files("quarantine")) == 1

    def test_input_and_output_may_be_two_places(
        self, tmp_path: Path, frames: Frames, lake_at: Callable[[Path], LakeFolder]
    ) -> None:
        one, other = lake_at(tmp_path / "one"), lake_at(tmp_path / "other")
        one.put([frames.ticker(), b"bad\n"])
        one.etl(storage=None, storage_input=one.storage, storage_output=other.storage)
        assert (one.tables(), other.count("ticker")) == ([], 1)
        assert len(one.files("quarantine")) == 1
        assert other.files("quarantine") == []

    def test_custom_folders(self, tmp_path: Path, frames: Frames) -> None:
        storage = LocalStorage(tmp_path)
        storage.layout = Layout(
            raw="ingested",
            ready_subdir="completed",
            processing_subdir="transforming",
            quarantine_subdir="refused",
            archive_subdir="kept",
        )
        name = "segment_20260809T21_00001.ndjson"
        storage.write_bytes(f"ingested/completed/coinbase/{name}", frames.ticker() + b"bad\n")
        report = ETLJob(
            storage=storage,
            input_path="ingested/completed/coinbase",
            output_path="curated/coinbase",
        ).process_all_segments()
        assert report.rows == {"ticker": 1}
        assert storage.list_folders("ingested") == ["completed", "refused", "transforming"]

    def test_it_must_be_clear_where_to_read_and_write(self, tmp_path: Path) -> None:
        for options in ({}, {"storage_input": LocalStorage(tmp_path)}):
            with pytest.raises(ConfigError, match="storage_output"):
                ETLJob(input_path="raw/ready/coinbase", output_path="p", **options)
        with pytest.raises(UnknownSourceError, match="did you mean 'coinbase'"):
            ETLJob(storage=LocalStorage(tmp_path), input_path="raw/ready/coinbas", output_path="p")

    def test_a_lake_that_does_not_exist_yet_has_nothing_to_do(self, lake: LakeFolder) -> None:
        assert lake.etl() == replace(lake.etl(), seconds=pytest.approx(0, abs=60))
        assert lake.tables() == []


class TestArchive:
    def archived(self, lake: LakeFolder) -> dict[str, bytes]:
        found = {}
        for name in lake.files("archive"):
            with open_segment(lake.root / lake.layout.archive("coinbase") / name) as file:
                found[name] = file.read()
        return found

    def test_a_segment_is_kept_compressed(self, lake: LakeFolder, frames: Frames) -> None:
        content = frames.ticker() * 200 + b"bad\n"
        name = lake.put(content)
        lake.etl(delete_after_processing=False)
        assert self.archived(lake) == {f"{name}.zst": content}
        path = lake.root / lake.layout.archive("coinbase") / f"{name}.zst"
        assert path.stat().st_size < len(content) / 5
        assert lake.files("ready") == lake.files("processing") == []

    def test_doing_it_again_keeps_one_copy(self, lake: LakeFolder, frames: Frames) -> None:
        content = frames.ticker()
        for _ in range(2):
            lake.put(content)
            lake.etl(delete_after_processing=False)
        assert len(self.archived(lake)) == 1

    def test_a_namesake_with_other_content_is_kept_beside_it(
        self, lake: LakeFolder, frames: Frames
    ) -> None:
        contents = [frames.ticker(), frames.ticker(), frames.ticker()]
        job = lake.job(delete_after_processing=False)
        for content in contents:
            lake.put(content)
            path = lake.root / lake.layout.ready("coinbase") / lake.files("ready")[0]
            job._segments.archive(path.name, path, hashlib.sha256(content).hexdigest())
        assert sorted(self.archived(lake).values()) == sorted(contents)

    def test_a_full_archive_keeps_the_segment(
        self, lake: LakeFolder, frames: Frames, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = lake.put(frames.ticker())
        folder = lake.root / lake.layout.archive("coinbase")
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.write_bytes(b"a file where the folder should be")
        with pytest.raises(StorageError):
            lake.etl(delete_after_processing=False)
        assert lake.files("processing") == [name]
        folder.unlink()
        report = lake.etl(delete_after_processing=False)
        assert (report.segments, report.repeated) == (0, 1)
        assert list(self.archived(lake)) == [f"{name}.zst"]
        assert lake.count("ticker") == 1


class TestFailures:
    """Whatever fails, the segment stays, and the next run carries on where this one stopped."""

    def kept(self, lake: LakeFolder) -> list[str]:
        return lake.files("processing") + lake.files("ready")

    def test_a_table_that_cannot_be_written_keeps_the_segment_and_the_others_go_on(
        self, lake: LakeFolder, frames: Frames
    ) -> None:
        blocked = lake.root / lake.layout.table("coinbase", "trades")
        blocked.parent.mkdir(parents=True)
        blocked.write_bytes(b"a file where the table should be")
        poor = lake.put([frames.ticker("1"), frames.trades([1])], 1)
        lake.put(frames.ticker("2"), 2)
        with pytest.raises(FluxForgeError):
            lake.etl()
        assert poor in self.kept(lake)
        blocked.unlink()
        report = lake.etl()
        assert self.kept(lake) == []
        assert report.lines_read >= 2
        assert sorted(lake.rows("ticker")["price"]) == [1.0, 2.0]
        assert lake.count("trades") == 1
        lake.assert_files()
        lake.assert_accounts()

    def test_a_damaged_log_keeps_the_segment_and_the_others_go_on(
        self, lake: LakeFolder, frames: Frames
    ) -> None:
        lake.put(frames.trades([1]), 1)
        lake.etl()
        (commit,) = (lake.root / lake.layout.table("coinbase", "trades") / "_delta_log").glob(
            "*1.json"
        )
        healthy = commit.read_bytes()
        commit.write_bytes(b"\xff")
        poor = lake.put([frames.trades([2]), frames.ticker("1")], 2)
        lake.put(frames.ticker("2"), 3)
        with pytest.raises(SegmentsFailedError, match=poor) as caught:
            lake.etl()
        assert isinstance(caught.value.__cause__, TableError)
        assert caught.value.report.segments == 1
        assert lake.files("processing") == [poor]
        commit.write_bytes(healthy)
        assert lake.etl().rows == {"ticker": 1, "trades": 1}
        assert sorted(lake.rows("ticker")["price"]) == [1.0, 2.0]
        assert sorted(lake.rows("trades")["trade_id"]) == [1, 2]
        lake.assert_files()

    def test_a_table_whose_column_has_another_type_is_told_of(
        self, lake: LakeFolder, frames: Frames
    ) -> None:
        odd = table_schemas("coinbase")["ticker"]
        odd = odd.set(odd.names.index("price"), pa.field("price", pa.string()))
        lake.table("ticker").ensure(odd)
        name = lake.put(frames.ticker())
        with pytest.raises(SegmentsFailedError, match="'price' is string, not double"):
            lake.etl()
        assert lake.files("processing") == [name]

    @pytest.mark.skipif(sys.platform == "win32", reason="POSIX has the limit")
    def test_a_full_disk_keeps_every_segment(self, lake: LakeFolder, frames: Frames) -> None:
        big = frames.book([("bid", str(price), "1.2345") for price in range(1, 20_001)])
        name = lake.put(big)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
            with pytest.raises(FluxForgeError):
                lake.etl()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert self.kept(lake) == [name]
        assert lake.etl().rows == {"orderbook": 20_000}
        assert lake.count("orderbook") == 20_000
        lake.assert_files()

    def test_a_full_disk_while_a_table_is_written(self, lake: LakeFolder, frames: Frames) -> None:
        class Full(LocalStorage):
            def write_file(self, path: str | Path, key: str, *, exclusive: bool = False) -> None:
                if "/trades/" in key:
                    raise StorageFullError(f"no space left for {key}")
                super().write_file(path, key, exclusive=exclusive)

        name = lake.put([frames.ticker(), frames.trades([1])])
        with pytest.raises(StorageFullError):
            lake.etl(storage=Full(lake.root))
        assert lake.files("processing") == [name]
        assert lake.count("segments") == 0
        report = lake.etl()  # in the same process: the claim was let go
        assert report.segments == 1
        assert (lake.count("ticker"), lake.count("trades")) == (1, 1)
        lake.assert_files()

    def test_a_failed_run_lets_go_of_its_claim_while_its_error_is_kept(
        self, lake: LakeFolder, frames: Frames
    ) -> None:
        """Notebooks keep the last traceback, and with it every frame that it went through."""

        class Failing(LocalStorage):
            def fetch(self, key: str, directory: Path) -> Path:
                raise StorageError("gone for a moment")

        lake.put(frames.ticker())
        try:
            lake.etl(storage=Failing(lake.root))
        except StorageError as error:
            kept: Exception = error
        assert kept.__traceback__ is not None
        assert lake.etl().segments == 1

    def test_a_listing_that_fails_is_no_empty_lake(self, lake: LakeFolder, frames: Frames) -> None:
        class Failing(LocalStorage):
            def list_entries(self, path: str = "", *, recursive: bool = True) -> list[Any]:
                raise StorageError("the listing broke off")

        lake.put(frames.ticker())
        with pytest.raises(StorageError, match="broke off"):
            lake.etl(storage=Failing(lake.root))
        assert lake.etl().segments == 1

    def test_a_read_that_breaks_off_is_no_end_of_file(
        self, lake: LakeFolder, frames: Frames
    ) -> None:
        class Short(LocalStorage):
            def fetch(self, key: str, directory: Path) -> Path:
                whole = super().fetch(key, directory)
                if not whole.is_dir():
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                return whole

        lake.put([frames.ticker() for _ in range(10)])
        with pytest.raises(StorageError):
            lake.etl(storage=Short(lake.root))
        assert lake.etl().lines_read == 10

    def test_too_little_memory_is_refused_with_the_least(self, lake: LakeFolder) -> None:
        with pytest.raises(ConfigError, match=r"memory_limit_mb=60 is too little: at least 64"):
            lake.etl(memory_limit_mb=60)

    def test_a_line_too_long_for_the_memory_is_quarantined_by_itself(
        self, lake: LakeFolder, frames: Frames
    ) -> None:
        levels = [("bid", str(price), "1.2345") for price in range(1, 300_001)]
        long = frames.book(levels)
        lake.put([frames.ticker("1"), long, frames.ticker("2")])
        report = lake.etl(memory_limit_mb=64)
        assert (report.lines_taken, report.lines_quarantined) == (2, 1)
        ((line, reason, content),) = lake.quarantined()
        assert (line, content + b"\n") == (2, long)
        assert "too long for the memory" in reason
        assert sorted(lake.rows("ticker")["price"]) == [1.0, 2.0]

    def test_counts_that_do_not_add_up_commit_nothing(
        self, lake: LakeFolder, frames: Frames, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A reader that loses a line, as readers of this kind have done."""
        name = lake.put([*(frames.ticker() for _ in range(4)), b"bad\n"])
        monkeypatch.setattr(
            "fluxforge.transform.parts._batches", lambda lines, _: [list(lines)[:4]]
        )
        with pytest.raises(SegmentsFailedError, match="5 lines in the file, but 4 taken"):
            lake.etl()
        assert lake.files("processing") == [name]
        assert lake.tables() == []

    def test_a_channels_broken_sql_names_its_file(
        self, lake: LakeFolder, frames: Frames, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = lake.job()
        ticker = job._tables.channels["ticker"]
        broken = replace(ticker, sql=ticker.sql.replace("ticker.price)", "error('odd'))"))
        job._tables = replace(job._tables, channels={**job._tables.channels, "ticker": broken})
        name = lake.put(frames.ticker())
        with pytest.raises(SegmentsFailedError, match=r"ticker\.sql: .*odd"):
            job.process_all_segments()
        assert lake.files("processing") == [name]

    def test_of_several_failures_the_first_is_told_and_the_others_counted(
        self, lake: LakeFolder, frames: Frames
    ) -> None:
        schema = table_schemas("coinbase")["ticker"]
        schema = schema.set(schema.get_field_index("price"), pa.field("price", pa.string()))
        lake.table("ticker").ensure(schema)
        names = [lake.put(frames.ticker(), number) for number in (1, 2)]
        with pytest.raises(SegmentsFailedError, match=rf"{names[0]} \(and 1 more\)"):
            lake.etl()
        assert lake.files("processing") == names


class TestDurability:
    def test_the_segment_goes_after_all_else_has_reached_the_disk(
        self, lake: LakeFolder, frames: Frames, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Record what is synced, and when the segment is deleted."""
        events: list[str] = []
        sync = os.fsync

        def recorded(handle: int) -> None:
            sync(handle)
            events.append(str(Path(f"/proc/self/fd/{handle}").readlink()))

        class Watched(LocalStorage):
            def delete(self, key: str) -> None:
                if key.endswith(".ndjson"):
                    events.append(f"deleted {key}")
                super().delete(key)

        if not Path("/proc/self/fd").exists():
            pytest.skip("needs /proc to see which file a handle is")
        monkeypatch.setattr(os, "fsync", recorded)
        name = lake.put([frames.ticker(), frames.trades([1]), b"bad\n"])
        events.clear()
        lake.etl(storage=Watched(lake.root))
        gone = events.index(f"deleted {lake.layout.processing('coinbase')}/{name}")
        synced = events[:gone]
        for table in ("ticker", "trades", "sequences", "segments"):
            log = f"/{table}/_delta_log"
            assert any(f"{log}/00000000000000000001.json" in path for path in synced), table
            assert any(path.endswith(log) for path in synced), table
            assert any(f"/{table}/date=" in path for path in synced), table
        assert any("/quarantine/" in path for path in synced)


class TestGrowth:
    def ticker(self, monkeypatch: pytest.MonkeyPatch, columns: str, old: str, new: str) -> None:
        """Let jobs that are made from now on have other SQL for tickers."""
        tables = get_source("coinbase").tables
        sql = tables.channels["ticker"].sql.replace(old, new, 1)
        channel = Channel.from_sql("ticker", f"-- columns: {columns}\n{sql}")
        changed = replace(tables, channels={**tables.channels, "ticker": channel})
        monkeypatch.setattr(job_module, "get_source", lambda name: SimpleNamespace(tables=changed))

    def test_a_new_column_is_added_to_the_table(
        self, lake: LakeFolder, frames: Frames, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lake.put(frames.ticker("1"), 1)
        lake.etl()
        lake.put(frames.ticker("2.50"), 2)
        with monkeypatch.context() as patch:
            begin = "SELECT\n    line_no,"
            more = f"{begin}\n    ticker.price AS price_text,"
            self.ticker(patch, "price_text VARCHAR", begin, more)
            assert lake.etl().rows == {"ticker": 1}
        rows = lake.rows("ticker").sort("price").select("price", "price_text").rows()
        assert rows == [(1.0, None), (2.5, "2.50")]
        lake.put(frames.ticker("3"), 3)  # and a worker that does not know of it yet
        lake.etl()
        assert lake.rows("ticker").sort("price")["price_text"].to_list() == [None, "2.50", None]

    def test_a_column_of_another_type_is_refused(
        self, lake: LakeFolder, frames: Frames, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lake.put(frames.ticker("1"), 1)
        lake.etl()
        self.ticker(monkeypatch, "price VARCHAR", "", "")
        name = lake.put(frames.ticker("2"), 2)
        with pytest.raises(SegmentsFailedError, match="'price' is double, not string"):
            lake.etl()
        assert lake.files("processing") == [name]


class TestWatching:
    """A job that goes on from round to round keeps its tables open."""

    def test_a_table_that_is_removed_between_rounds_is_made_anew(
        self, lake: LakeFolder, frames: Frames
    ) -> None:
        job = lake.job()
        for number in (1, 2):
            lake.put(frames.ticker(str(number)), number)
            job.process_all_segments()
            shutil.rmtree(lake.root / lake.layout.table("coinbase", "ticker"))
        lake.put([frames.ticker("3"), frames.ticker("4")], 3)
        assert job.process_all_segments().rows == {"ticker": 2}
        assert sorted(lake.rows("ticker")["price"]) == [3.0, 4.0]

    def test_what_others_commit_between_rounds_is_seen(
        self, lake: LakeFolder, frames: Frames
    ) -> None:
        mine, other = lake.job(), lake.job()
        segments = [[frames.trades([n, n + 1]), frames.ticker(str(n))] for n in range(6)]
        for number, content in enumerate(segments):
            lake.put(content, number)
            (mine, other)[number % 2].process_all_segments()
            lake.put(content, 50 + number)  # the same content again, under another name
            report = (other, mine)[number % 2].process_all_segments()
            assert (report.segments, report.repeated) == (0, 1)
        trades = lake.rows("trades")
        assert sorted(trades["trade_id"]) == sorted([*range(6), *range(1, 7)])
        assert sorted(trades.filter(~trades["is_repeat"])["trade_id"]) == list(range(7))
        lake.assert_accounts()


class TestRuns:
    def test_what_comes_meanwhile_is_left_to_the_next_run_and_keeps_none_from_this_one(
        self, lake: LakeFolder, frames: Frames, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(job_module, "_MOST_SEGMENTS", 1)
        for number in range(10, 14):
            lake.put(frames.ticker(str(number)), number)
        late = iter((1, 2, 50))  # two that sort first, as a recovery brings them

        def on_progress(done: int, waiting: int) -> None:
            if (number := next(late, None)) is not None:
                lake.put(frames.ticker(str(number)), number)

        assert lake.etl(on_progress=on_progress).segments == 4
        assert len(lake.files("ready")) == 3
        assert lake.etl().segments == 3

    def test_a_table_that_is_closed_between_two_batches_is_told_by_name(
        self, lake: LakeFolder, frames: Frames, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(job_module, "_MOST_SEGMENTS", 1)
        lake.put(frames.ticker("1"), 1)
        name = lake.put(frames.ticker("2"), 2)

        def on_progress(done: int, waiting: int) -> None:
            if done == 1:
                snapshot = lake.table("ticker").snapshot()
                assert snapshot is not None
                close_table(lake.table("ticker"), snapshot, "/elsewhere")

        with pytest.raises(SegmentsFailedError, match="is being moved to /elsewhere") as caught:
            lake.etl(on_progress=on_progress)
        assert (caught.value.report.segments, set(caught.value.failures)) == (1, {name})


class TestSchemas:
    def test_every_table_begins_with_the_five_columns(self) -> None:
        schemas = table_schemas("coinbase")
        assert set(schemas) == {*get_source("coinbase").tables.channels, "sequences", "segments"}
        for name, schema in schemas.items():
            assert schema.names[:5] == ["symbol", "ts_event", "ts_recv", "seq", "conn"], name
            assert schema.names[-1] == "date"
            for column in ("ts_event", "ts_recv"):
                assert schema.field(column).type == pa.timestamp("us", "UTC"), name
            assert schema.field("symbol").type == pa.string()
            assert schema.field("seq").type == pa.int64()
            assert schema.field("date").type == pa.date32()

    def test_the_declared_columns_are_those_that_are_written(
        self, lake: LakeFolder, frames: Frames
    ) -> None:
        lake.put([frames.ticker(), frames.trades([1]), frames.book([("bid", "1", "2")]),
                  frames.candle()])  # fmt: skip
        lake.etl()
        for name, declared in table_schemas("coinbase").items():
            snapshot = lake.table(name).snapshot()
            if snapshot is not None:
                assert snapshot.schema() == declared, name

    def test_an_unknown_source_has_none(self) -> None:
        with pytest.raises(UnknownSourceError):
            table_schemas("nowhere")


class TestReport:
    def test_reports_add_up(self) -> None:
        one = SegmentReport("a", 10, 9, 1, {"ticker": 5}, {"ticker.x": 1})
        two = SegmentReport("b", 4, 4, 0, {"ticker": 1, "trades": 3}, {"ticker.x": 2})
        again = SegmentReport("c", 100, 100, 0, {"ticker": 100}, committed=False)
        report = EtlReport.of("coinbase", [one, two, again], 1.5)
        assert (report.segments, report.repeated) == (2, 1)
        assert (report.lines_read, report.lines_taken, report.lines_quarantined) == (14, 13, 1)
        assert report.rows == {"ticker": 6, "trades": 3}
        assert report.unknown_fields == {"ticker.x": 3}
        total = EtlReport.total([report, report])
        assert (total.segments, total.rows["ticker"], total.seconds) == (4, 12, 3.0)
        fields = report.to_dict()
        assert {"segments", "lines_read", "lines_taken", "lines_quarantined", "rows"} <= set(fields)
        assert "14 lines read" in repr(report).replace(",", "") or "14" in repr(report)
        assert "<table>" in report._repr_html_()

    def test_an_error_tells_of_the_segments(self) -> None:
        report = EtlReport("coinbase")
        error = SegmentsFailedError({"a": SegmentError("odd"), "b": SegmentError("x")}, report)
        assert "a (and 1 more)" in str(error)
        assert "odd" in str(error)
        assert error.report is report


class TestWhatGoesWhere:
    def test_equal_times_keep_the_order_of_small_and_large_segments(
        self, lake: LakeFolder, frames: Frames
    ) -> None:
        """Those from elsewhere may have the same time on both sides of a rotation."""
        now = 1_786_309_548_000_000_000
        large = [frames.ticker(n + 1, capture_ns=now) for n in range(12_000)]
        assert sum(map(len, large)) > 2_000_000
        lake.put(b"".join(large), 1)
        lake.put(frames.ticker(0.5, capture_ns=now), 2)
        lake.etl()
        assert lake.rows("ticker")["price"][-2:].to_list() == [12_000, 0.5]

    def test_a_segment_over_midnight_is_in_two_partitions(
        self, lake: LakeFolder, frames: Frames
    ) -> None:
        midnight = 1_786_320_000_000_000_000  # 2026-08-10 00:00 UTC
        lake.put(
            [frames.ticker("1", capture_ns=midnight - 1), frames.ticker("2", capture_ns=midnight)]
        )
        lake.etl()
        days = {path.split("/")[-2] for path in lake.parquet() if "/ticker/" in path}
        assert days == {"date=2026-08-09", "date=2026-08-10"}
        rows = lake.rows("ticker").sort("price").select("price", "date", "ts_recv").rows()
        assert [(price, str(day)) for price, day, _ in rows] == [
            (1.0, "2026-08-09"), (2.0, "2026-08-10"),
        ]  # fmt: skip
        assert rows[0][2].isoformat() == "2026-08-09T23:59:59.999999+00:00"

    def test_an_old_event_time_makes_no_folder_of_its_own(
        self, lake: LakeFolder, frames: Frames
    ) -> None:
        old = frames.frame("l2_data", [{"type": "snapshot", "product_id": "X", "updates": [
            {"side": "bid", "event_time": f"{year}-01-01T00:00:00Z", "price_level": "1",
             "new_quantity": "1"} for year in range(1970, 2020)]}])  # fmt: skip
        lake.put(frames.line(old))
        lake.etl()
        assert {path.split("/")[-2] for path in lake.parquet()} == {"date=2026-08-09"}
        assert lake.rows("orderbook")["ts_event"].dt.year().n_unique() == 50

    def test_sides_and_deletes(self, lake: LakeFolder, frames: Frames) -> None:
        lake.put(
            frames.book(
                [("bid", "1", "2"), ("offer", "3", "0"), ("ask", "4", "1"), ("x", "5", "1")]
            )
        )
        lake.etl()
        rows = lake.rows("orderbook").sort("price").select("side", "price", "size").rows()
        assert rows == [("bid", 1.0, 2.0), ("ask", 3.0, 0.0), ("ask", 4.0, 1.0), (None, 5.0, 1.0)]

    def test_every_event_and_every_row_of_a_frame_is_read(
        self, lake: LakeFolder, frames: Frames
    ) -> None:
        trade = {"product_id": "X", "price": "1", "size": "1", "time": "2026-08-09T21:05:00Z"}
        events = [
            {"type": "snapshot", "trades": [trade | {"trade_id": "1"}, trade | {"trade_id": "2"}]},
            {"type": "update", "trades": []},
            {"type": "update", "trades": [trade | {"trade_id": "3"}]},
        ]
        lake.put(frames.line(frames.frame("market_trades", events)))
        lake.etl()
        rows = lake.rows("trades").sort("trade_id").select("trade_id", "is_snapshot").rows()
        assert rows == [(1, True), (2, True), (3, False)]

    def test_ticker_batches_are_tickers(self, lake: LakeFolder, frames: Frames) -> None:
        row = {"type": "ticker", "product_id": "X", "price": "7"}
        lake.put(
            frames.line(frames.frame("ticker_batch", [{"type": "snapshot", "tickers": [row]}]))
        )
        assert lake.etl().rows == {"ticker": 1}
        assert lake.rows("ticker")["best_bid"].to_list() == [None]

    def test_status(self, lake: LakeFolder, frames: Frames) -> None:
        row = {"id": "BTC-USD", "base_increment": "0.00000001", "status": "online",
               "status_message": ""}  # fmt: skip
        lake.put(frames.line(frames.frame("status", [{"type": "snapshot", "products": [row]}])))
        assert lake.etl().rows == {"status": 1}
        (found,) = lake.rows("status").iter_rows(named=True)
        assert (found["symbol"], found["base_increment"], found["status"]) == (
            "BTC-USD", 1e-8, "online",
        )  # fmt: skip
        assert found["status_message"] is None

    def test_a_table_is_not_made_for_nothing(self, lake: LakeFolder, frames: Frames) -> None:
        lake.put([frames.heartbeat(), frames.trades([])])
        lake.etl()
        assert lake.tables() == ["segments", "sequences"]

    def test_tables_are_read_by_plain_parquet_readers(
        self, lake: LakeFolder, frames: Frames
    ) -> None:
        import polars as pl

        lake.put([frames.trades([1, 2])])
        lake.etl()
        uri = Table(lake.storage, lake.layout.table("coinbase", "trades")).uri
        frame = pl.read_parquet(f"{uri}/date=*/*.parquet", hive_partitioning=True)
        assert frame.height == 2
        assert str(frame["date"][0]) == "2026-08-09"
