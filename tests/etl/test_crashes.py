"""Workers that are killed, at every step and at any moment: each row is in its table once."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import commands

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .conftest import Frames, LakeFolder

REPOSITORY = Path(__file__).resolve().parents[2]
LONG = max(1, int(float(os.environ.get("FLUXFORGE_LONG", "1"))))

# Runs one ETL a lake, each in a process of its own that kills itself at one step: before the
# n-th call that changes something. Prints how each ended.
AT_STEPS = """
import os, signal, sys
import deltalake, duckdb, pyarrow.parquet  # once, for all of them
from fluxforge.etl.job import ETLJob
from fluxforge.storage.local import LocalStorage
from fluxforge.tables import Table

STEPS = [(LocalStorage, name) for name in
         ("write_bytes", "write_file", "move", "delete", "mkdir", "acquire_lease", "sync")]
STEPS += [(Table, name) for name in ("ensure", "commit")]

def arm(kill_at):
    passed = [0]
    def step(original):
        def stepped(*args, **options):
            passed[0] += 1
            if passed[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **options)
        return stepped
    for kind, name in STEPS:
        setattr(kind, name, step(getattr(kind, name)))

archive = sys.argv[1] == "archive"
for argument in sys.argv[2:]:
    number, _, root = argument.partition(":")
    child = os.fork()
    if child == 0:
        arm(int(number))
        ETLJob(storage=LocalStorage(root), input_path="raw/ready/coinbase",
               output_path="processed/coinbase", delete_after_processing=not archive,
               threads=1, memory_limit_mb=256).process_all_segments()
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

WORKER = """
import json, sys
from fluxforge.etl.job import ETLJob
from fluxforge.storage.local import LocalStorage
job = ETLJob(storage=LocalStorage(sys.argv[1]), input_path="raw/ready/coinbase",
             output_path="processed/coinbase", threads=1, memory_limit_mb=256)
print("ready", flush=True)
sys.stdin.readline()
report = job.process_all_segments()
print(json.dumps({"segments": report.segments, "repeated": report.repeated,
                  "lines_read": report.lines_read}), flush=True)
"""


def start_worker(lake: LakeFolder) -> subprocess.Popen[str]:
    """Start a worker that waits for a line on its input."""
    worker = commands.Popen(
        [sys.executable, "-c", WORKER, str(lake.root)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout is not None
    assert worker.stdout.readline() == "ready\n"
    return worker


def release(workers: Iterable[subprocess.Popen[str]]) -> None:
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()


class Truth:
    """What was put into a lake, and the proof that all of it is in the tables once."""

    def __init__(self) -> None:
        self.prices: list[float] = []
        self.trades: dict[int, int] = {}
        self.bad = 0
        self.lines = 0

    def segment(self, frames: Frames, trades: Iterable[int]) -> bytes:
        prices = [float(len(self.prices) + number) for number in range(3)]
        ids = list(trades)
        self.prices += prices
        for number in ids:
            self.trades[number] = self.trades.get(number, 0) + 1
        self.bad += 1
        self.lines += len(prices) + 3
        return b"".join(
            [
                *(frames.ticker(str(price)) for price in prices),
                b"bad line %d\n" % self.bad,
                frames.trades(ids, kind="snapshot"),
                frames.heartbeat(),
            ]
        )

    def check(self, lake: LakeFolder) -> None:
        assert lake.files("ready") == lake.files("processing") == []
        assert sorted(lake.rows("ticker")["price"]) == self.prices
        found = lake.rows("trades")
        assert sorted(found["trade_id"]) == sorted(
            number for number, times in self.trades.items() for _ in range(times)
        )
        first = found.filter(~found["is_repeat"])
        assert sorted(first["trade_id"]) == sorted(self.trades)  # one row a key, flagged once
        assert sorted(content for _, _, content in lake.quarantined()) == sorted(
            b"bad line %d" % (number + 1) for number in range(self.bad)
        )
        ledger = lake.rows("segments")
        assert ledger["lines_read"].sum() == self.lines
        assert ledger["lines_quarantined"].sum() == self.bad
        assert lake.rows("sequences")["frames"].sum() == self.lines - self.bad
        lake.assert_accounts()
        lake.assert_files()


@pytest.mark.skipif(sys.platform == "win32", reason="forks, to kill many workers in little time")
@pytest.mark.parametrize("mode", ["delete", "archive"])
def test_a_worker_killed_at_any_step(
    tmp_path: Path, frames: Frames, lake_at: Callable[[Path], LakeFolder], mode: str
) -> None:
    """A batch of three segments whose trades overlap, and then a batch with one more.

    At every eleventh step by default, or seventeenth; with FLUXFORGE_LONG at every one.
    """
    truth = Truth()
    contents = [truth.segment(frames, range(first, first + 4)) for first in (1, 3, 5)]
    later = truth.segment(frames, range(2, 7))
    steps = range(1, 75, 1 if LONG > 1 else 11 if mode == "delete" else 17)
    lakes = [lake_at(tmp_path / str(step)) for step in steps]
    for lake in lakes:
        for number, content in enumerate(contents):
            lake.put(content, number)
    done = commands.run(
        [sys.executable, "-c", AT_STEPS, mode]
        + [f"{step}:{lake.root}" for step, lake in zip(steps, lakes, strict=True)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    ends = [int(end) for end in done.stdout.split()]
    assert set(ends) == {0, -9}, done.stderr  # the steps reach beyond the end of the work
    assert ends == sorted(ends)
    for lake in lakes[: ends.count(-9) + 1]:
        lake.put(later, 9)
        lake.etl(delete_after_processing=mode == "delete")
        truth.check(lake)
        assert len(lake.files("archive")) == (4 if mode == "archive" else 0)


@pytest.mark.long
def test_workers_killed_at_random_moments(lake: LakeFolder, frames: Frames) -> None:
    truth = Truth()
    dice = random.Random(os.environ.get("FLUXFORGE_SEED", "crash"))
    number = 0
    for _ in range(4 * LONG):
        for _ in range(4):
            number += 1
            lake.put(truth.segment(frames, range(number, number + 5)), number)
        worker = start_worker(lake)
        release([worker])
        time.sleep(dice.uniform(0.02, 1.0))
        worker.kill()
        worker.communicate()
    lake.etl()
    truth.check(lake)


def test_two_workers_at_once(lake: LakeFolder, frames: Frames) -> None:
    """Twenty-four segments, whose trades overlap, so that their commits have to take turns."""
    truth = Truth()
    for number in range(24):
        lake.put(truth.segment(frames, range(number, number + 40)), number)
    workers = [start_worker(lake), start_worker(lake)]
    release(workers)
    reports = []
    for worker in workers:
        out, _ = worker.communicate(timeout=240)
        assert worker.returncode == 0
        reports.append(json.loads(out))
    assert sum(report["segments"] for report in reports) == 24
    assert sum(report["lines_read"] for report in reports) == truth.lines
    truth.check(lake)


def test_a_worker_killed_beside_a_living_one(lake: LakeFolder, frames: Frames) -> None:
    truth = Truth()
    for number in range(12):
        lake.put(truth.segment(frames, range(number, number + 10)), number)
    victim, survivor = start_worker(lake), start_worker(lake)
    release([victim, survivor])
    time.sleep(0.7)
    victim.kill()
    victim.communicate()
    out, _ = survivor.communicate(timeout=240)
    assert survivor.returncode == 0
    assert json.loads(out)["segments"] > 0
    lake.etl()  # what the dead one held
    truth.check(lake)


def test_copies_of_one_segment_at_once(lake: LakeFolder, frames: Frames) -> None:
    truth = Truth()
    content = truth.segment(frames, range(50))
    for number in range(8):
        lake.put(content, number)
    workers = [start_worker(lake), start_worker(lake)]
    release(workers)
    reports = [json.loads(worker.communicate(timeout=240)[0]) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert sum(report["segments"] for report in reports) == 1
    assert sum(report["repeated"] for report in reports) == 7
    assert lake.count("trades") == 50
    assert lake.count("segments") == 1
    assert len(lake.quarantined()) == 1
    lake.assert_files()
