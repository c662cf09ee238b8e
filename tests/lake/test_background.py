"""Captures in a process of their own: what they tell, and what is left however they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import fluxforge
from fluxforge import Lake
from fluxforge.errors import StorageError, UnknownSourceError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 90.0


def wait_until(reached: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.05)


@pytest.fixture
def lake() -> Iterator[Lake]:
    with fluxforge.sandbox(rate=300, sources=["coinbase", "kraken"]) as lake:
        yield lake


def test_a_capture_with_its_etl(lake: Lake) -> None:
    capture = lake.capture("coinbase", etl="1s")
    status = capture.status()
    assert status.running
    assert status.frames > 0
    assert "coinbase: running" in repr(capture)
    assert "<table>" in capture._repr_html_()
    wait_until(lambda: lake.scan("coinbase", "trades").collect().height > 0)
    wait_until(lambda: capture.tail("trades", n=5).height == 5)
    assert lake.captures == [capture]
    with pytest.raises(UsageError, match=r"coinbase is being captured by lake\.captures"):
        lake.capture("coinbase")
    report = capture.stop()
    assert lake.captures == []
    assert not capture.status().running
    lines = lake.sql("SELECT sum(lines_read)::BIGINT FROM coinbase.segments").fetchall()
    assert lines == [(report.frames,)]
    assert capture.stop() == report


def test_several_sources_to_a_bound(lake: Lake) -> None:
    with lake.capture("*", frames=900) as capture:
        assert [one.source for one in capture.status().sources] == ["coinbase", "kraken"]
        with pytest.raises(UsageError, match="say whose"):
            capture.add("SOL-USD")
        wait_until(lambda: capture.status().frames == 1800)
        tail = capture.tail("trades", n=500)
        assert set(tail["source"]) == {"coinbase", "kraken"}
    report = lake.etl()
    assert report.lines_taken == 1800


def test_what_is_wrong_reaches_the_caller(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(UnknownSourceError, match="did you mean 'coinbase'"):
        lake.capture("coinbsae")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match="file"):
        Lake(path=tmp_path / "file", config=lake.config).capture("coinbase")


PARENT = """
import sys, time
from fluxforge import Lake
lake = Lake(path=sys.argv[1], overrides=[f"ingestion.sources.coinbase.url={sys.argv[2]}"])
capture = lake.capture("coinbase")
print(capture._process.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_it_stops_and_seals_when_its_parent_is_killed(lake: Lake, tmp_path: Path) -> None:
    url = lake.config.ingestion.sources["coinbase"].url
    package = Path(fluxforge.__file__).parent.parent
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, tmp_path, url],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(package)},
        text=True,
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        assert not any(word in " ".join(child.cmdline()) for word in (url, str(tmp_path)))
        there = Lake(path=tmp_path)
        wait_until(lambda: there.tail("coinbase", "ticker").height > 0)
        parent.send_signal(signal.SIGKILL)
    seen = there.scan("coinbase", "ticker", live=True).collect().height
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    assert there.storage.list_files(there.layout.active("coinbase")) == []
    there.etl()
    assert there.scan("coinbase", "ticker").collect().height >= seen > 0
    assert there.verify().ok


def test_what_a_killed_capture_left_is_taken_up(lake: Lake) -> None:
    capture = lake.capture("coinbase")
    wait_until(lambda: capture.tail("ticker").height > 0)
    capture._process.kill()
    capture._process.wait()
    seen = lake.scan("coinbase", "ticker", live=True).collect().height
    with pytest.raises(fluxforge.errors.FluxForgeError, match=r"lake.recover\(\)"):
        capture.stop()
    assert lake.etl().segments == 0
    report = lake.recover()
    assert len(report.segments) == 1
    assert lake.recover().segments == ()
    lake.etl()
    assert lake.scan("coinbase", "ticker").collect().height == seen


def test_the_command_recovers(tmp_path: Path) -> None:
    lake = Lake(path=tmp_path)
    folder = tmp_path / lake.layout.active("coinbase")
    folder.mkdir(parents=True)
    line = b'{"capture_ns":1786309548000000000,"conn":"A","data":{"channel":"heartbeats"}}\n'
    (folder / "segment_20260809T21_00001_9f86d081.ndjson").write_bytes(line)
    done = subprocess.run(
        [sys.executable, "-m", "fluxforge", "recover", f"storage.base_dir={tmp_path}", "--json"],
        env={**os.environ, "PYTHONPATH": str(Path(fluxforge.__file__).parent.parent)},
        capture_output=True,
        check=True,
    )
    assert len(json.loads(done.stdout)["segments"]) == 1
    assert lake.etl().lines_taken == 1


def test_products_come_and_go(lake: Lake) -> None:
    with lake.capture("coinbase") as capture:
        capture.add("SOL-USD")
        wait_until(lambda: capture.tail("trades", n=1, symbols=["SOL-USD"]).height == 1)
        capture.add("SOL-USD")
        capture.remove("SOL-USD")
        with pytest.raises(UsageError, match="'SOL-USD' of coinbase is not being captured"):
            capture.remove("SOL-USD")
        with pytest.raises(UsageError, match="sol usd"):
            capture.add("sol usd")
        with pytest.raises(UsageError, match="did you mean SOL-USD"):
            capture.add("SOOL-USD")
        odd: Any = 123
        with pytest.raises(UsageError):
            capture.add(odd)
    with pytest.raises(UsageError, match="has ended"):
        capture.add("SOL-USD")
