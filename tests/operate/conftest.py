"""A run of a lake in a process of its own, and what its metrics say."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

import fluxforge
from fluxforge import Lake
from fluxforge.etl.report import SegmentsFailedError
from fluxforge.segments import read_segment
from fluxforge.segments.tries import MOST_TRIES
from tests.support import commands

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 300.0


class Run:
    """``fluxforge run`` over one lake."""

    def __init__(self, folder: Path, url: str, *settings: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port = server.getsockname()[1]
        self.folder = folder
        self.settings = (
            f"storage.base_dir={folder}/lake",
            f"ingestion.sources.coinbase.url={url}",
            "ingestion.flush_interval_seconds=0.2",
            "ingestion.segment_max_seconds=2",
            f"ingestion.spool_dir={folder}/spool",
            "ingestion.mirror_interval_seconds=1",
            "etl.delete_after_processing=false",
            "etl.memory_limit_mb=256",
            "etl.watch_interval_seconds=1",
            "run.status_interval_seconds=2",
            "run.maintenance_interval_seconds=2",
            f"run.metrics_port={self.port}",
            "health={age_seconds: null, disk_hours: null, clock_drift_seconds: null}",
            *settings,
        )
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(Path(fluxforge.__file__).resolve().parent.parent),
            "XDG_STATE_HOME": str(folder / "state"),
        }

    def lake(self) -> Lake:
        return Lake(overrides=self.settings)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return commands.run(
            [sys.executable, "-m", "fluxforge", *words[:1], *self.settings, *words[1:]],
            capture_output=True, text=True, check=False, timeout=PATIENCE, env=self.environment,
            cwd=self.folder,
        )  # fmt: skip

    @contextmanager
    def going(self, code: int = 0) -> Iterator[subprocess.Popen[bytes]]:
        """Run it for the length of the block, then ask it to stop, for which it exits so."""
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "fluxforge", "run", "--log-format", "json", *self.settings],
                stdout=subprocess.PIPE, stderr=log, env=self.environment, cwd=self.folder,
            )  # fmt: skip
        try:
            yield process
            children = psutil.Process(process.pid).children()
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=PATIENCE)
            assert process.returncode == code
            assert not [child for child in children if child.is_running()]
        finally:
            process.kill()
            process.wait()

    def unhealthy(self, *settings: str) -> dict[str, str]:
        """Return what ``fluxforge health`` finds, by limit."""
        done = self.command("health", "--json", *settings)
        said = json.loads(done.stdout)
        assert done.returncode == (0 if said["ok"] else 1)
        return {one["limit"]: one["message"] for one in said["problems"]}

    def log(self) -> list[dict[str, str]]:
        whole = (self.folder / "log").read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def messages(self, level: str = "") -> list[str]:
        return [line["message"] for line in self.log() if level in line["level"]]

    def metrics(self) -> dict[str, float]:
        """Scrape; a name is as Prometheus has it, without the prefix."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}/metrics", timeout=30
            ) as answer:
                text = answer.read().decode()
        except OSError:
            return {}
        found = re.findall(r"^fluxforge_(\S+) (\S+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in found}

    def child(self, process: subprocess.Popen[bytes], part: str) -> psutil.Process:
        children = psutil.Process(process.pid).children()
        (found,) = [child for child in children if child.cmdline()[-1] == part]
        return found

    def memory(self, process: subprocess.Popen[bytes]) -> dict[str, int]:
        """Return the megabytes that each process has; the supervisor is ``run``."""
        main = psutil.Process(process.pid)
        parts = [("run", main), *((one.cmdline()[-1], one) for one in main.children())]
        return {name: one.memory_info().rss // 1_000_000 for name, one in parts}

    def wait_for(self, condition: Callable[[dict[str, float]], bool]) -> dict[str, float]:
        """Scrape until a condition holds, and return what it saw."""
        until = time.monotonic() + PATIENCE
        while not condition(now := self.metrics()):
            assert time.monotonic() < until, f"{now}\n{(self.folder / 'log').read_text()[-3000:]}"
            time.sleep(0.4)
        return now

    def check_accounts(self) -> int:
        """Commit what is left; every line of every segment is then in the tables, once."""
        lake = self.lake()
        lake.recover()
        lake.etl()
        report = lake.verify()
        assert report.ok, str(report)
        archive = lake.storage_for("etl_input")
        keys = archive.list_files(lake.layout_for("etl_input").archive("coinbase"))
        lines = 0
        for number, key in enumerate(keys):
            (folder := self.folder / f"archived-{number}").mkdir()
            lines += sum(1 for _ in read_segment(archive.fetch(key, folder)))
        ledger = lake.scan("coinbase", "segments").collect()
        assert ledger["lines_read"].sum() == ledger["lines_taken"].sum() == lines
        trades = lake.scan("coinbase", "trades", raw=True).collect()
        assert trades.select("conn", "seq", "trade_id").is_unique().all()
        return lines


def set_one_aside(lake: Lake) -> None:
    """Let a segment fail for its SQL, until the ETL sets it aside."""
    frame = (
        '{"channel":"ticker","sequence_num":0,"timestamp":"2026-08-09T21:05:48Z","events":'
        '[{"type":"update","tickers":[{"type":"ticker","product_id":"BTC-USD","price":"1"}]}]}'
    )
    with lake.writer("coinbase") as writer:
        writer.write(frame, conn="poison")
    (job,) = lake._jobs(["coinbase"])
    ticker = job._tables.channels["ticker"]
    odd = replace(ticker, sql=ticker.sql.replace("ticker.price)", "error('odd'))"))
    job._tables = replace(job._tables, channels={**job._tables.channels, "ticker": odd})
    for _ in range(MOST_TRIES):
        with pytest.raises(SegmentsFailedError):
            job.process_all_segments()


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    def make(url: str, *settings: str) -> Run:
        return Run(tmp_path, url, *settings)

    return make
