"""Collectors that are killed on a local lake, beside one that lives on."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fluxforge.layout import Layout
from fluxforge.segments import SegmentStore
from fluxforge.simulator import local_exchange
from fluxforge.storage.local import LocalStorage
from tests.support import commands

if TYPE_CHECKING:
    from collections.abc import Callable


COLLECTOR = textwrap.dedent("""
    import asyncio, sys
    from fluxforge.config import load_config
    from fluxforge.ingestion import capture
    from fluxforge.ingestion.orchestrators import IngestionPipeline

    capture.PROGRESS_SECONDS = 0.02

    def say(progress):
        print(pipeline.reports[0].frames, flush=True)

    async def main():
        await pipeline.start()
        await pipeline.wait_for_shutdown()
        print("stopped", pipeline.reports[0].frames, flush=True)

    config = load_config(overrides=[
        f"storage.base_dir={sys.argv[1]}",
        f"ingestion.sources.coinbase.url={sys.argv[2]}",
        "ingestion.flush_interval_seconds=0.02",
        "ingestion.segment_max_mb=0.2",
    ])
    pipeline = IngestionPipeline(config, "coinbase", on_progress=say)
    asyncio.run(main())
""")


def start_collector(root: Path, url: str) -> subprocess.Popen[str]:
    return commands.Popen(
        [sys.executable, "-c", COLLECTOR, str(root), url],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )


def read_until(process: subprocess.Popen[str], enough: Callable[[int], bool]) -> int:
    """Read what a collector says it has flushed, until that is enough."""
    assert process.stdout is not None
    for line in process.stdout:
        if enough(int(line)):
            return int(line)
    raise AssertionError(f"the collector ended by itself: {process.wait()}")


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="no signal asks a process there to end")
def test_collectors_that_are_killed_lose_nothing_they_had_flushed(
    lake: Any, tmp_path: Path
) -> None:
    """Three collectors are killed while a fourth writes the same source, and goes on unharmed."""
    rounds = int(3 * float(os.environ.get("FLUXFORGE_LONG", "1")))
    chance = random.Random(5)
    flushed = []
    with local_exchange("coinbase", rate=1_500) as exchange:
        survivor = start_collector(lake.root, exchange.url)
        read_until(survivor, lambda count: count > 0)
        for _ in range(rounds):
            victim = start_collector(lake.root, exchange.url)
            goal = chance.randint(1, 900)
            flushed.append(read_until(victim, lambda count, goal=goal: count >= goal))
            victim.kill()  # SIGKILL
            rest = victim.communicate()[0].split()
            flushed[-1] = max([flushed[-1], *map(int, rest)])
        survivor.send_signal(signal.SIGTERM)
        said = survivor.communicate(timeout=30)[0].split()
        assert survivor.returncode == 0
    SegmentStore(LocalStorage(lake.root), Layout(), "coinbase").recover()
    assert lake.segments("active") == []

    numbers: dict[str, list[int]] = {}
    for envelope in lake.envelopes():
        sequence = json.loads(envelope.frame)["sequence_num"]
        numbers.setdefault(envelope.conn, []).append(sequence)
    assert len(numbers) == rounds + 1
    # Each connection's frames are there from the first on, without a hole and without a repeat.
    assert all(sorted(seen) == list(range(len(seen))) for seen in numbers.values())
    survived, *killed = [len(numbers[conn]) for conn in sorted(numbers)]
    assert survived == int(said[said.index("stopped") + 1])
    assert all(stored >= told for stored, told in zip(killed, flushed, strict=True))
