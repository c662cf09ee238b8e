"""What a lake's state, its health and its metrics say when something is wrong with it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl
import pytest

from fluxforge import Lake
from fluxforge.errors import TableError
from fluxforge.operate import Supervisor, check_health, lake_state
from fluxforge.operate.metrics import METRICS, samples
from fluxforge.segments.tries import Tries
from fluxforge.simulator import local_exchange
from tests.operate.conftest import set_one_aside
from tests.test_cli import run_command

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Return a lake in which frames are missing, a line is in quarantine and a segment waits."""
    folder = tmp_path_factory.mktemp("state")
    with local_exchange("coinbase", seed=4, rate=0, faults="skip@100:3") as exchange:
        lake = Lake(
            overrides=[
                f"storage.base_dir={folder}/lake",
                f"ingestion.sources.coinbase.url={exchange.url}",
            ]
        )
        lake.ingest_sync("coinbase", frames=300)
    bad = b'{"capture_ns":1786309548000000000,"conn":"A","data":{"channel":"weather"}}\n'
    lake.storage.write_bytes("raw/ready/coinbase/segment_20260809T21_00001.ndjson", bad)
    lake.etl("coinbase")
    lake.storage.write_bytes("raw/ready/coinbase/segment_20260809T22_00001.ndjson", bad)
    return lake


def test_a_state_has_what_waits_and_what_is_missing(lake: Lake) -> None:
    state = lake_state(lake)
    files = {one.state: one.files for one in state.segments}
    assert (files["ready"], files["quarantine"]) == (1, 1)
    assert state.missing == {"coinbase": 3}
    ticker = next(one for one in state.tables if one.table == "ticker")
    assert ticker.rows > 0
    assert ticker.age_seconds is not None
    assert ticker.age_seconds >= 0
    assert abs(ticker.lag_seconds or 99) < 60
    assert {"segments", "sequences"}.isdisjoint(one.table for one in state.tables)
    assert "1 ready, 1 quarantine" in state.summary()


@pytest.mark.parametrize(
    ("limit", "value", "words"),
    [
        ("age_seconds", -1, "the newest row is"),
        ("backlog_seconds", -1, "has waited for the etl"),
        ("backlog_mb", 0, "wait for etl"),
        ("quarantine_files", 0, "1 files in quarantine"),
        ("gaps", 2, "3 frames or trades missing"),
        ("spool_mb", -1, "wait for the object store"),
        ("clock_drift_seconds", -1, "set the clock"),
        ("disk_free_mb", 1e12, "are free"),
    ],
)
def test_each_limit_is_a_problem_of_its_own(
    lake: Lake, limit: str, value: float, words: str
) -> None:
    none = dict.fromkeys(vars(lake.config.health))
    config = replace(lake.config, health=replace(lake.config.health, **none))
    state = lake_state(lake)
    assert check_health(config, state).ok
    config = replace(config, health=replace(config.health, **{limit: value}))
    report = check_health(config, state)
    (problem,) = report.problems
    assert not report.ok
    assert problem.limit.startswith(f"health.{limit}=")
    assert words in problem.message


def test_a_full_disk_a_part_that_is_down_and_a_segment_that_fails(lake: Lake) -> None:
    failing = Tries("segment_1", 5, "{odd}", None), Tries("segment_2", 1, "new", datetime.now(UTC))
    state = replace(
        lake_state(lake),
        disk_hours=2.0,
        parts={
            "etl": {"up": False, "restarts": 3},
            "capture.coinbase": {"up": True, "restarts": 0, "lag": 61.0},
        },
        failing={"coinbase": failing},
        tables=(),
    )
    found = {one.limit: one.message for one in check_health(lake.config, state).problems}
    assert "full in 2.0 hours" in found["health.disk_hours=24"]
    assert "started 3 times" in found["run"]
    assert "for 61 s" in found["health.capture_lag_seconds=60"]
    assert "1 segments are set aside" in found["health.set_aside=0"]
    assert found["health.set_aside=0"].endswith("segment_1: {odd}")
    assert found["health.age_seconds=900"] == "no row has come yet"
    state = replace(state, parts={"capture.coinbase": {"up": True, "restarts": 0, "seconds": 5.0}})
    young = {one.limit for one in check_health(lake.config, state).problems}
    assert "health.age_seconds=900" not in young
    assert "1 set aside" in state.summary()


def test_health_exits_by_the_limits(lake: Lake, tmp_path: Path) -> None:
    settings = (f"storage.base_dir={lake.storage.base_path}", "health.age_seconds=1e9")
    done = run_command("health", *settings, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "healthy\n")
    done = run_command("health", "--json", "health.gaps=0", *settings, cwd=tmp_path)
    assert done.returncode == 1
    assert [one["limit"] for one in json.loads(done.stdout)["problems"]] == ["health.gaps=0"]


def test_the_way_back_for_a_segment_that_is_set_aside(tmp_path: Path) -> None:
    set_one_aside(Lake(path=tmp_path))
    settings = f"storage.base_dir={tmp_path}", "health.age_seconds=null"
    done = run_command("health", *settings, cwd=tmp_path)
    assert done.returncode == 1
    assert "then `fluxforge etl --retry`: segment_" in done.stdout
    done = run_command("etl", "--retry", "--json", *settings, cwd=tmp_path)
    assert json.loads(done.stdout)["rows"] == {"ticker": 1}
    assert (
        run_command("health", "health.clock_drift_seconds=null", *settings, cwd=tmp_path).returncode
        == 0
    )


def test_no_progress_bar_comes_into_a_log() -> None:
    words = "SELECT current_setting('enable_progress_bar')"
    script = (
        "from pathlib import Path; from fluxforge.transform.database import open_database\n"
        f"with open_database(Path()) as database: print(database.sql({words!r}).fetchall())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "[(False,)]\n", done.stderr


def test_metrics_have_every_name_and_know_a_run_that_has_not_begun(lake: Lake) -> None:
    supervisor = Supervisor(lake.config)
    starting = {(name, labels): value for name, labels, value in samples(supervisor)}
    assert starting["part_up", ("capture.coinbase",)] is False
    assert starting["frames", ("coinbase",)] == 0
    supervisor.lake_state = lake_state(lake)
    now = {(name, labels): value for name, labels, value in samples(supervisor)}
    no_channel_yet = {"channel_age_seconds"}
    assert {name for name, _ in now} == METRICS.keys() - no_channel_yet
    assert now["missing_frames", ("coinbase",)] == 3
    assert now["segments", ("coinbase", "quarantine")] == 1


def test_one_damaged_table_hides_nothing_of_the_others(lake: Lake, tmp_path: Path) -> None:
    folder = shutil.copytree(lake.storage.get_full_path(), tmp_path / "lake")
    log = max((folder / "processed/coinbase/ticker/_delta_log").glob("*.json"))
    log.write_bytes(b"{garbage")
    other = Lake(path=folder)
    before, state = lake_state(lake), lake_state(other)
    assert {one.table for one in before.tables} - {one.table for one in state.tables} == {"ticker"}
    [message] = state.damaged
    assert "coinbase/ticker" in message
    assert message in state.summary()
    report = check_health(other.config, state)
    assert message in [problem.message for problem in report.problems]
    with pytest.raises(TableError, match="coinbase/ticker"):
        other.optimize()
    for table in ("trades", "segments"):
        rows, kept = (one.scan("coinbase", table).collect() for one in (other, lake))
        assert rows.height == kept.height


def test_maintenance_goes_on_after_a_damaged_table(tmp_path: Path) -> None:
    lake = Lake(path=tmp_path)
    for table in ("a", "b"):
        for number in range(3):
            row = pl.DataFrame({"ts_event": [datetime(2026, 8, 9, number)], "symbol": ["A"]})
            lake.write("mine", table, row)
    log = max((tmp_path / "processed/mine/a/_delta_log").glob("*.json"))
    log.write_bytes(b"{garbage")
    for work in (lake.optimize, lake.vacuum):
        with pytest.raises(TableError, match="mine/a"):
            work()
    assert lake.history("mine", "b")["files"][0] == 1
