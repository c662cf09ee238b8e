"""A large segment under a small memory limit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
LONG = float(os.environ.get("FLUXFORGE_LONG", "1"))

TRANSFORM = """
import json, sys, threading
import psutil, pyarrow.parquet, deltalake
from fluxforge.etl.job import ETLJob
from fluxforge.storage.local import LocalStorage

job = ETLJob(storage=LocalStorage(sys.argv[1]), input_path="raw/ready/coinbase",
             output_path="processed/coinbase", memory_limit_mb=256, threads=2)
process, done, seen = psutil.Process(), threading.Event(), []
before = process.memory_info().rss

def look():
    # Not the system's own high-water mark: it begins with that of the process that forked.
    while not done.wait(0.005):
        seen.append(process.memory_info().rss)

watcher = threading.Thread(target=look)
watcher.start()
report = job.process_all_segments()
done.set()
watcher.join()
print(json.dumps({"grown_mb": (max(seen) - before) / 1e6, "lines": report.lines_read,
                  "quarantined": report.lines_quarantined, "rows": report.rows}))
"""

LEVEL = (
    '{"side":"bid","event_time":"2026-08-09T21:05:48.210883Z","price_level":"%d.%02d",'
    '"new_quantity":"0.%06d"}'
)
FRAME = (
    '{"capture_ns":1786309548000000000,"conn":"A","data":{"channel":"%s","timestamp":'
    '"2026-08-09T21:05:48Z","sequence_num":%d,"events":[%s]}}\n'
)
TICKER = '{"type":"update","tickers":[{"type":"ticker","product_id":"BTC-USD","price":"%d.5"}]}'


def write_segment(path: Path, megabytes: float) -> dict[str, int]:
    """Write book snapshots of 5 MB among many small frames and some garbage."""
    levels = ",".join(LEVEL % (60000 + n // 100, n % 100, n) for n in range(48_000))
    book = '{"type":"snapshot","product_id":"BTC-USD","updates":[' + levels + "]}"
    counts = {"lines": 0, "quarantined": 0, "orderbook": 0, "ticker": 0}
    with path.open("w", encoding="utf-8") as file:
        number = 0
        while file.tell() < megabytes * 1e6:
            file.write(FRAME % ("l2_data", number, book))
            for _ in range(4000):
                number += 1
                file.write(FRAME % ("ticker", number, TICKER % number))
            file.write("x" * 500_000 + "\n")
            number += 1
            counts["lines"] += 4002
            counts["quarantined"] += 1
            counts["orderbook"] += 48_000
            counts["ticker"] += 4000
    return counts


@pytest.mark.long
def test_memory_is_bounded_by_its_limit_and_not_by_the_segment(tmp_path: Path) -> None:
    """Forty megabytes by default; FLUXFORGE_LONG=3 makes it a hundred and more."""
    pytest.importorskip("psutil")
    folder = tmp_path / "raw" / "ready" / "coinbase"
    folder.mkdir(parents=True)
    counts = write_segment(folder / "segment_20260809T21_00001.ndjson", 40 * LONG)
    with tempfile.TemporaryDirectory() as work:
        done = subprocess.run(
            [sys.executable, "-c", TRANSFORM, str(tmp_path)],
            cwd=REPOSITORY,
            env={**os.environ, "TMPDIR": work},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert list(Path(work).iterdir()) == []  # nothing is left of what did not fit
    found = json.loads(done.stdout)
    assert found["lines"] == counts["lines"]
    assert found["quarantined"] == counts["quarantined"]
    assert found["rows"] == {"orderbook": counts["orderbook"], "ticker": counts["ticker"]}
    assert found["grown_mb"] < 256 + 250  # the limit, and what libraries take beside it
