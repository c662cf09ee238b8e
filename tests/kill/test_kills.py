"""Collectors, workers and `optimize` are killed and put to sleep: nothing is lost or doubled.

``FLUXFORGE_LONG=100 pytest -m long tests/kill`` kills a thousand times; ``FLUXFORGE_SEED`` chooses
other moments. What fails says its seed.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.kill.harness import FAULTS, LEASE_SECONDS, Place, Round

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform == "win32", reason="nothing there can be put to sleep"),
]

LONG = float(os.environ.get("FLUXFORGE_LONG", "1"))
KILLS = 25 if LONG > 1 else len(FAULTS)
ROUNDS = max(1, round(5 * LONG / KILLS))
SEED = os.environ.get("FLUXFORGE_SEED", "1")
QUICK = (
    "ingestion.flush_interval_seconds=0.1",
    "ingestion.mirror_interval_seconds=0.4",
    "ingestion.sources.coinbase.products=[BTC-USD]",
    "ingestion.sources.coinbase.channels=[ticker, level2, market_trades]",
    "etl.watch_interval_seconds=0.6",
    "etl.memory_limit_mb=256",
    "etl.threads=1",
)


def kill(folder: Path, storage: dict[str, Any], seed: str, segment_seconds: float) -> None:
    archive = f"etl.delete_after_processing={str(sum(seed.encode()) % 2 == 0).lower()}"
    short = f"ingestion.segment_max_seconds={segment_seconds}"
    place = Place(folder, {**storage, "lease_seconds": LEASE_SECONDS}, (*QUICK, archive, short))
    work = Round(place, seed, KILLS)
    try:
        found = work.run()
    except BaseException:
        print(f"seed: {seed}; the lake: {folder}; again with FLUXFORGE_SEED={SEED}")
        print("\n".join(work.log))
        for actor in work.actors:
            print(f"-- {actor.name} said:", *actor.said, sep="\n")
        raise
    print(f"seed {seed}: {KILLS} kills, {dict(found)}")
    assert found["frames"] > 0


@pytest.mark.parametrize("number", range(ROUNDS))
def test_on_disk(tmp_path: Path, number: int) -> None:
    storage = {"backend": "local", "base_dir": str(tmp_path / "lake")}
    kill(tmp_path, storage, f"{SEED}-disk-{number}", 1)


@pytest.mark.s3
@pytest.mark.parametrize("number", range(ROUNDS))
def test_on_s3(tmp_path: Path, s3_server: Any, number: int) -> None:
    seed = f"{SEED}-s3-{number}"
    base_dir = f"{s3_server.bucket}/kill-{os.getpid()}-{number}"
    storage = {"backend": "s3", "base_dir": base_dir, "s3": s3_server.settings()}
    kill(tmp_path, storage, seed, 3)  # a segment costs more there
