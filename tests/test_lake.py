from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import fluxforge
from fluxforge import Lake
from fluxforge.config import Role
from fluxforge.errors import ConfigError, UnknownSourceError, UsageError
from fluxforge.operate.state import lake_state
from fluxforge.segments import read_segment
from fluxforge.simulator import local_exchange

if TYPE_CHECKING:
    from fluxforge.ingestion.report import IngestProgress

TABLES = ("candles", "orderbook", "segments", "sequences", "ticker", "trades")


def lake_in(folder: Path, *settings: str) -> Lake:
    return Lake(overrides=[f"storage.base_dir={folder}", *settings])


def capture(folder: Path, frames: int, *settings: str) -> Lake:
    """Capture from the market model; return a lake that knows nothing of the exchange."""
    with local_exchange("coinbase", seed=4, rate=1500) as exchange:
        url = f"ingestion.sources.coinbase.url={exchange.url}"
        lake_in(folder, url, *settings).ingest_sync("coinbase", frames=frames)
    return lake_in(folder, *settings)


@pytest.fixture
def copied(filled_lake: Lake, tmp_path: Path) -> Lake:
    """Return a lake that may be changed."""
    folder = tmp_path / "lake"
    shutil.copytree(str(filled_lake.config.storage.base_dir), folder)
    return lake_in(folder)


def contents(lake: Lake) -> dict[str, pl.DataFrame]:
    return {
        table: lake.scan("coinbase", table, raw=True).sort("ts_recv", "seq", "symbol").collect()
        for table in TABLES
    }


def assert_same_rows(found: dict[str, pl.DataFrame], expected: dict[str, pl.DataFrame]) -> None:
    for table in TABLES:
        assert_frame_equal(found[table], expected[table], check_row_order=False)


# Capture and tables


async def test_ingest_tells_how_far_it_is(tmp_path: Path) -> None:
    seen: list[IngestProgress] = []
    with local_exchange("coinbase", rate=0) as exchange:
        lake = lake_in(tmp_path, f"ingestion.sources.coinbase.url={exchange.url}")
        report = await lake.ingest("coinbase", frames=200, on_progress=seen.append)
    assert report.frames == seen[-1].frames == 200
    frames = [progress.frames for progress in seen]
    assert frames == sorted(frames)


async def test_ingest_sync_is_not_for_a_running_loop(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"write 'await lake\.ingest"):
        lake_in(tmp_path).ingest_sync("coinbase", frames=1)


def test_durations_may_be_written_in_three_ways(tmp_path: Path) -> None:
    with local_exchange("coinbase", rate=200) as exchange:
        lake = lake_in(tmp_path, f"ingestion.sources.coinbase.url={exchange.url}")
        for duration in ("300ms", 0.3, timedelta(seconds=0.3)):
            assert lake.ingest_sync("coinbase", duration=duration).frames > 0
    with pytest.raises(ConfigError, match="not a duration"):
        lake.ingest_sync("coinbase", duration="soon")


def test_an_etl_sees_that_its_tables_were_made_anew(tmp_path: Path) -> None:
    lake = capture(tmp_path, 200)
    ready = Path(lake.storage.get_full_path(lake.layout.ready("coinbase")))
    [segment] = ready.glob("*.ndjson")
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.unlink()

    def put(number: int) -> None:
        name = f"segment_20260809T21_{number:05}_{number:08x}.ndjson"
        (ready / name).write_bytes(b"".join(lines[number * 20 :][:20]))

    for number in range(3):
        put(number)
        lake.etl("coinbase")
    shutil.rmtree(lake.storage.get_full_path(lake.layout.processed))
    for number in (0, 2, 3, 4):
        put(number)
        lake_in(tmp_path).etl("coinbase")
    put(1)
    assert lake.etl("coinbase").segments == 1
    assert lake.scan("coinbase", "segments").collect()["segment"].n_unique() == 5


def test_etl_tells_how_far_it_is(tmp_path: Path) -> None:
    capture(tmp_path, 200)
    lake = capture(tmp_path, 300)
    seen: list[tuple[int, int]] = []
    report = lake.etl(on_progress=lambda done, total: seen.append((done, total)))
    assert report.segments > 1
    assert seen == [(done, report.segments) for done in range(1, report.segments + 1)]
    assert "500 taken" in repr(report)
    assert "<th>lines read</th><td>500</td>" in report._repr_html_()
    assert lake.etl().segments == 0


def test_watch_goes_on_until_it_is_told_to_stop(tmp_path: Path) -> None:
    lake = capture(tmp_path, 200, "etl.watch_interval_seconds=0.05")
    stop, reports = threading.Event(), []
    seen = threading.Semaphore(0)

    def note(report: Any) -> None:
        reports.append(report)
        seen.release()

    with ThreadPoolExecutor(1) as pool:
        total = pool.submit(lake.watch, "coinbase", stop=stop, on_report=note)
        assert seen.acquire(timeout=60)
        capture(tmp_path, 300)
        assert seen.acquire(timeout=60)
        stop.set()
        assert total.result(timeout=60).lines_taken == 500
    assert [report.lines_taken for report in reports] == [200, 300]


def test_unknown_sources(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    for work in (lake.etl, lake.gaps, lake.optimize, lake.vacuum):
        with pytest.raises(UnknownSourceError, match="did you mean 'coinbase'"):
            work("coinbsae")


# Looking after it


def test_status_counts_what_waits(tmp_path: Path) -> None:
    lake = capture(tmp_path, 200)
    ready = lake.status().filter(state="ready")
    assert ready["files"].item() >= 1
    files = list((tmp_path / lake.layout.ready("coinbase")).iterdir())
    assert ready["bytes"].item() == sum(path.stat().st_size for path in files)
    lake.etl()
    assert lake.status()["files"].sum() == 0


def test_optimize_keeps_every_row_and_every_reader(copied: Lake) -> None:
    before, tables = contents(copied), copied.tables()
    trades = copied.scan("coinbase", "trades").collect()
    versions = {one["channel"]: one["version"] for one in tables.to_dicts()}
    reports = copied.optimize()
    assert {report.table for report in reports} == {f"coinbase.{table}" for table in TABLES}
    after = copied.tables()
    assert after.select("channel", "rows").equals(tables.select("channel", "rows"))
    assert after["files"].sum() < tables["files"].sum()
    assert_same_rows(contents(copied), before)
    assert_frame_equal(copied.scan("coinbase", "trades").collect(), trades, check_row_order=False)
    assert_frame_equal(
        copied.scan("coinbase", "trades", version=versions["trades"]).collect(), trades
    )
    assert copied.verify().ok
    assert all(report.files_before == report.files_after for report in copied.optimize())


def test_two_optimizers_and_an_etl_at_once(copied: Lake, tmp_path: Path) -> None:
    folder = tmp_path / "lake"
    before = contents(copied)
    capture(folder, 500)
    with ThreadPoolExecutor(3) as pool:
        both = [pool.submit(lake_in(folder).optimize, "coinbase") for _ in range(2)]
        made = pool.submit(lake_in(folder).etl, "coinbase").result()
        for work in both:
            work.result()
    after = contents(copied)
    assert made.lines_taken == 500
    for table in ("candles", "orderbook", "ticker", "trades"):
        assert after[table].height == before[table].height + made.rows.get(table, 0)
        if table != "trades":  # a repeat may be flagged by either side of a commit
            new = after[table].join(
                before[table], on=["conn", "seq"], how="semi", maintain_order="left"
            )
            assert_frame_equal(new, before[table], check_row_order=False)
    assert copied.verify().ok


def test_vacuum_spares_what_is_young(copied: Lake) -> None:
    folder = Path(copied.storage.get_full_path(copied.layout.table("coinbase", "ticker")))
    [day, *_] = folder.glob("date=*")
    old, young = day / "part-old.parquet", day / "part-young.parquet"
    for path in (old, young):
        path.write_bytes(b"left by a commit that never came")
    long_ago = old.stat().st_mtime - 7200
    os.utime(old, (long_ago, long_ago))
    before = contents(copied)

    for keep in ("59m", 60, timedelta(minutes=30)):
        with pytest.raises(UsageError, match="keep at least 1h"):
            copied.vacuum(keep=keep)
    tried = copied.vacuum(keep="1h", dry_run=True)
    assert [Path(path).name for path in tried["coinbase.ticker"]] == [old.name]
    assert old.exists()
    assert copied.vacuum("coinbase", keep="1h") == tried
    assert not old.exists()
    assert young.exists()
    assert_same_rows(contents(copied), before)


def test_vacuum_ends_versions_that_are_old(copied: Lake) -> None:
    before = contents(copied)
    copied.optimize()
    assert copied.vacuum(keep="1h") == {f"coinbase.{table}": [] for table in TABLES}
    assert_same_rows(contents(copied), before)


# How it looks


def test_what_a_lake_shows(
    filled_lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = filled_lake.storage.get_full_path()
    assert repr(filled_lake).startswith(f"<Lake {folder}")
    html = filled_lake._repr_html_()
    assert "&lt;Lake" in html
    assert "orderbook" in html
    monkeypatch.chdir(tmp_path)  # where nothing configures it
    two = lake_in(tmp_path / "here", f"etl.storage_output.base_dir={tmp_path / 'there'}")
    assert repr(two) == f"<Lake {tmp_path / 'here'} → {tmp_path / 'there'}>"
    assert two.storage_for("etl_output") is not two.storage
    assert two.storage_for("ingestion") is two.storage_for("etl_input") is two.storage


def test_a_lake_names_its_configuration_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_configuration(tmp_path)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    file = tmp_path / "conf" / "config.yaml"
    assert repr(Lake()) == f"<Lake {tmp_path / 'data'}, from {file}>"
    other = tmp_path / "other.yaml"
    other.write_text("etl: {threads: 1}")
    assert repr(Lake(other)) == f"<Lake {tmp_path / 'data'}, from {file}, {other}>"


def test_a_lake_may_be_opened_by_its_folder(
    tmp_path: Path, filled_lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = filled_lake.storage.get_full_path()
    monkeypatch.chdir(tmp_path)
    assert_frame_equal(Lake(path=folder).tables(), filled_lake.tables())
    overrides = ["storage.backend=s3", "storage.base_dir=bucket", "ingestion.storage.base_dir=own"]
    lake = Lake(path=Path(folder), overrides=overrides)
    assert_frame_equal(lake.tables(), filled_lake.tables())
    assert {lake.storage_for(role).get_full_path() for role in Role} == {folder}


# The names that users' own scripts have


def write_configuration(folder: Path, url: str = "ws://127.0.0.1:1") -> None:
    (folder / "conf").mkdir()
    (folder / "conf" / "config.yaml").write_text(
        dedent(f"""
        storage:
          backend: "local"
          base_dir: "./data"

          paths:
            raw_dir: "ingested"
            active_subdir: "streaming"
            ready_subdir: "completed"
            processing_subdir: "transforming"
            processed_dir: "curated"
        ingestion:
          sources:
            coinbase: {{url: "{url}"}}
        """)
    )


def script(folder: Path, text: str) -> subprocess.Popen[str]:
    path = folder / "script.py"
    path.write_text(dedent(text))
    home = str(Path(fluxforge.__file__).resolve().parent.parent)
    return subprocess.Popen(
        [sys.executable, str(path)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": home, "PYTHONUTF8": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def output(process: subprocess.Popen[str]) -> str:
    with process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    return out


INGESTION = """
    import asyncio

    from fluxforge.config import load_config
    from fluxforge.ingestion.orchestrators import IngestionPipeline

    async def main():
        # Load config (reads storage.backend setting)
        config = load_config()

        # Create pipeline (automatically uses correct storage)
        pipeline = IngestionPipeline(config)

        # Start ingestion
        await pipeline.start()
        await pipeline.wait_for_shutdown()
        await pipeline.stop()

    asyncio.run(main())
"""

ETL = """
    from fluxforge.config import load_config
    from fluxforge.storage.factory import (
        create_storage_backend, get_etl_input_path, get_etl_output_path
    )
    from fluxforge.etl.job import ETLJob

    config = load_config()

    # Create storage backend
    storage = create_storage_backend(config)

    # Get paths (automatically correct for local or S3)
    input_path = get_etl_input_path(config, "coinbase")
    output_path = get_etl_output_path(config, "coinbase")

    # Create ETL job
    job = ETLJob(
        storage=storage,
        input_path=input_path,
        output_path=output_path,
        delete_after_processing=config.etl.delete_after_processing,
    )

    # Process segments
    job.process_all_segments()
"""

WRITER = """
    from fluxforge.config import load_config
    from fluxforge.storage.factory import create_storage_backend, get_ingestion_path
    from fluxforge.ingestion.writers import LogWriter

    config = load_config()

    # Create storage backend (local or S3)
    storage = create_storage_backend(config)

    # Get paths
    active_path = get_ingestion_path(config, "coinbase", state="active")
    ready_path = get_ingestion_path(config, "coinbase", state="ready")

    # Create unified writer (works with both!)
    writer = LogWriter(
        storage=storage,
        active_path=active_path,
        ready_path=ready_path,
        source_name="coinbase",
    )
    for number in range(3):
        writer.write('{"channel":"heartbeats","sequence_num":%d}' % number, conn="A")
    writer.flush()
    print(writer.flushed_frames, storage.list_files(ready_path))
    writer.close()
    print(*storage.list_files(ready_path))
"""

PATHS = """
    from fluxforge.config import load_config
    from fluxforge.storage.factory import (
        create_storage_backend, get_ingestion_path, get_processing_path
    )

    config = load_config()
    storage = create_storage_backend(config)

    active = get_ingestion_path(config, "coinbase", "active")
    ready = get_ingestion_path(config, "coinbase", "ready")

    print(f"Backend: {storage.backend_type}")
    print(f"Active:  {storage.get_full_path(active)}")
    print(f"Ready:   {storage.get_full_path(ready)}")
    print(get_processing_path(config, "coinbase"))
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for others")
def test_a_script_of_ones_own_captures_and_makes_tables(tmp_path: Path) -> None:
    import signal
    import time

    ready = tmp_path / "data" / "ingested" / "completed" / "coinbase"
    active = tmp_path / "data" / "ingested" / "streaming" / "coinbase"
    with local_exchange("coinbase", rate=800) as exchange:
        write_configuration(tmp_path, exchange.url)
        collector = script(tmp_path, INGESTION)
        until = time.monotonic() + 60
        while not any(path.stat().st_size for path in active.glob("segment_*")):
            assert time.monotonic() < until
            assert collector.poll() is None
            time.sleep(0.05)
        collector.send_signal(signal.SIGINT)
        assert output(collector) == ""
    frames = sum(1 for path in ready.iterdir() for _ in read_segment(path))
    assert frames > 0
    assert output(script(tmp_path, ETL)) == ""
    assert list(ready.iterdir()) == []
    assert (tmp_path / "data" / "curated" / "coinbase" / "ticker" / "_delta_log").is_dir()
    lake = Lake(config_dir=tmp_path / "conf", overrides=[f"storage.base_dir={tmp_path / 'data'}"])
    assert lake.sql("SELECT sum(lines_taken) FROM coinbase.segments").fetchall() == [(frames,)]
    assert lake.verify().ok


def test_a_script_of_ones_own_runs_unchanged_where_tables_go_elsewhere(tmp_path: Path) -> None:
    write_configuration(tmp_path)
    file = tmp_path / "conf" / "config.yaml"
    with file.open("a") as config:
        config.write("etl: {storage_output: {base_dir: ./tables}}\n")
    with local_exchange("coinbase", rate=0) as exchange:
        url = f"ingestion.sources.coinbase.url={exchange.url}"
        Lake(config_dir=tmp_path / "conf", overrides=[url]).ingest_sync("coinbase", frames=100)
    assert output(script(tmp_path, ETL)) == ""
    assert (tmp_path / "tables" / "curated" / "coinbase" / "ticker" / "_delta_log").is_dir()
    assert not (tmp_path / "data" / "curated").exists()
    assert Lake(config_dir=tmp_path / "conf").verify().ok


def test_a_script_of_ones_own_writes_segments(tmp_path: Path) -> None:
    write_configuration(tmp_path)
    flushed, closed = output(script(tmp_path, WRITER)).splitlines()
    assert flushed == "3 []"
    assert closed.startswith("ingested/completed/coinbase/segment_")
    frames = [one.frame for one in read_segment(tmp_path / "data" / closed)]
    assert frames == [b'{"channel":"heartbeats","sequence_num":%d}' % n for n in range(3)]


def test_a_script_of_ones_own_asks_where_things_are(tmp_path: Path) -> None:
    write_configuration(tmp_path)
    data = tmp_path / "data"
    assert output(script(tmp_path, PATHS)).splitlines() == [
        "Backend: local",
        f"Active:  {data / 'ingested' / 'streaming' / 'coinbase'}",
        f"Ready:   {data / 'ingested' / 'completed' / 'coinbase'}",
        "ingested/transforming/coinbase",
    ]
    assert not data.exists()


def test_what_was_captured_of_a_source_that_is_no_longer_configured_is_not_forgotten(
    tmp_path: Path,
) -> None:
    with Lake(path=tmp_path).writer("kraken") as writer:
        writer.write(b'{"channel":"heartbeat"}')
    lake = Lake(path=tmp_path)
    assert "kraken" not in lake.sources
    assert "1 segment" in repr(lake)
    waits = lake.status().filter(pl.col("next").is_not_null())
    assert waits.select("source", "state", "next").rows() == [("kraken", "ready", "lake.etl()")]
    assert "kraken: 1 ready" in lake_state(lake).summary()
    stop = threading.Event()
    report = lake.watch(stop=stop, on_report=lambda _: stop.set())
    assert report.lines_taken == 1
    assert "kraken: no segments" in lake_state(lake).summary()
