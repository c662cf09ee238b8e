"""A day of capture by a clock that runs sixty times as fast, with all that a day may bring.

By default it is a short day, around midnight; ``FLUXFORGE_LONG=48`` makes it twenty-four hours. In
each of its twenty-four parts the venue ends a connection; in one the disk is full, in another the
object store is away.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from fluxforge.layout import SegmentName
from fluxforge.simulator import local_exchange
from tests.s3.conftest import environment
from tests.support.fault_proxy import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fluxforge import Lake
    from tests.support.fault_proxy import FaultProxy

pytestmark = [
    pytest.mark.long,
    pytest.mark.s3,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it counts open files"),
]

FACTOR = 60.0
HOURS = 24
SECONDS = 30.0 * float(os.environ.get("FLUXFORGE_LONG", "1"))  # of wall time
HOUR = SECONDS / HOURS
RATE = 100.0
FULL_DISK, NO_STORE = 8, 99

COLLECTOR = textwrap.dedent("""
    import asyncio, datetime, json, selectors, sys, time
    import psutil
    import fluxforge.ingestion.log_writer as log_writer
    from fluxforge.config import load_config
    from fluxforge.ingestion import pipeline
    from fluxforge.ingestion.orchestrators import ingest

    overlay, spool, url, factor, start, seconds, hours = sys.argv[1:]
    factor, start, seconds, hours = float(factor), float(start), float(seconds), int(hours)
    begun = time.monotonic()

    class Fast:
        def __getattr__(self, name):
            return getattr(time, name)
        def monotonic(self):
            return begun + (time.monotonic() - begun) * factor
        def time_ns(self):
            return int(self.time() * 1e9)
        def time(self):
            return start + (time.monotonic() - begun) * factor
        def sleep(self, seconds):
            time.sleep(seconds / factor)

    class FastDatetime(datetime.datetime):
        @classmethod
        def now(cls, zone=None):
            return datetime.datetime.fromtimestamp(fast.time(), zone)

    class FastSelector(selectors.DefaultSelector):
        def select(self, timeout=None):
            return super().select(timeout if timeout is None else timeout / factor)

    class FastLoop(asyncio.SelectorEventLoop):
        def time(self):
            return fast.monotonic()

    fast = Fast()
    for name, module in list(sys.modules.items()):
        if name.startswith(("fluxforge.ingestion", "fluxforge.retry")):
            if getattr(module, "time", None) is time:
                module.time = fast
    log_writer.datetime = FastDatetime
    process, told = psutil.Process(), 0

    def tell(progress):
        global told
        hour = int((time.monotonic() - begun) / seconds * hours)
        if hour > told:
            told = hour
            print(json.dumps({
                "hour": hour, "rss": process.memory_info().rss, "files": process.num_fds(),
            }), flush=True)

    config = load_config(overlay, overrides=[
        f"ingestion.sources.coinbase.url={url}", f"ingestion.spool_dir={spool}",
        "ingestion.sources.coinbase.products=[BTC-USD]",
        "ingestion.sources.coinbase.channels=[ticker, market_trades]",
    ])
    duration = seconds * factor
    with asyncio.Runner(loop_factory=lambda: FastLoop(FastSelector())) as runner:
        report = runner.run(ingest(config, "coinbase", duration=duration, on_progress=tell))
    print(json.dumps({"report": report.to_dict()}), flush=True)
""")


@contextmanager
def a_disk(folder: Path) -> Iterator[Path]:
    """Mount a small disk, where that is allowed."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and not subprocess.run(words, check=False).returncode
    try:
        yield folder
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> None:
    if os.path.ismount(disk):
        with (disk / "filler").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                return


def test_a_day_with_all_that_it_may_bring(
    make_place: Callable[..., Any], proxy: FaultProxy, tmp_path: Path
) -> None:
    place = make_place()
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0) + timedelta(days=1)
    start = midnight.timestamp() - SECONDS * FACTOR / 2
    drops = ",".join([f"drop@{int(RATE * HOUR)}"] * HOURS)
    told: list[dict[str, Any]] = []
    with (
        a_disk(tmp_path / "disk") as disk,
        local_exchange("coinbase", seed=3, rate=RATE, faults=drops) as exchange,
    ):
        words = (
            place.through(proxy).overlay(), disk / "spool", exchange.url, FACTOR, start, SECONDS,
            HOURS,
        )  # fmt: skip
        with subprocess.Popen(
            [sys.executable, "-c", COLLECTOR, *map(str, words)], env=environment(),
            cwd=tmp_path, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, encoding="utf-8",
        ) as process:  # fmt: skip
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    told.append(json.loads(line))
                    hour = told[-1].get("hour", HOURS)
                    if FULL_DISK <= hour < FULL_DISK + 1:
                        fill(disk)
                    if hour > FULL_DISK:
                        (disk / "filler").unlink(missing_ok=True)
                    if NO_STORE <= hour < NO_STORE + 1:
                        proxy.inject(Fault("refuse"))
                    if hour > NO_STORE:
                        proxy.heal()
            finally:
                process.kill()
        report = told.pop()["report"]
        spooled = [path for path in disk.rglob("segment_*") if path.is_file()]
    assert not spooled
    assert report["frames"] > 0
    assert report["connections"] > HOURS / 2
    ready = [SegmentName.parse(key) for key in place.storage().list_files("raw/ready")]
    assert len({name.hour[:8] for name in ready if name is not None}) == 2  # over midnight

    lake: Lake = place.lake()
    assert lake.etl("coinbase").lines_read == report["frames"]
    assert lake.gaps("coinbase").is_empty()
    runs = lake.scan("coinbase", "sequences").collect()
    numbers = runs["last_seq"] - runs["seq"] + 1
    assert numbers.sum() == runs["frames"].sum() == report["frames"]
    verified = lake.verify(deep=True)
    assert verified.ok, verified
    left = place.storage().list_files("raw")  # ends stay where a request was in doubt
    assert not [key for key in left if not key.endswith("/end")]
    __import__("pathlib").Path("/tmp/told-8-99.json").write_text(json.dumps(told))
    first, last = told[0], told[-1]
    assert last["files"] <= 1.1 * first["files"] + 2, told
    assert last["rss"] <= 1.1 * first["rss"], told
