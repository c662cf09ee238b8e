from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

import fluxforge
from fluxforge.errors import UnknownSourceError


def test_every_venue_of_the_sandbox_can_be_captured() -> None:
    box = fluxforge.sandbox(seed=3, rate=300)  # slow enough for every subscription
    folder = Path(box.lake.storage.get_full_path())
    try:
        assert box.lake.sources == ["binance", "bybit", "coinbase", "kraken"]
        for source in box.lake.sources:
            assert box.lake.ingest_sync(source, frames=600).frames == 600
        report = box.lake.etl()
        assert report.lines_taken == 2400
        for source in box.lake.sources:
            assert {"trades", "orderbook"} <= set(
                box.lake.tables().filter(source=source)["channel"]
            )
    finally:
        box.close()
    assert not folder.exists()
    assert "local exchange" not in {thread.name for thread in threading.enumerate()}


def test_it_gives_the_lake_and_takes_faults() -> None:
    with fluxforge.sandbox(rate=0, faults="skip@100:2", sources=["coinbase"]) as lake:
        assert isinstance(lake, fluxforge.Lake)
        assert lake.ingest_sync("coinbase", frames=400).missing == 2
    with pytest.raises(UnknownSourceError, match="choose from coinbase"):
        fluxforge.sandbox(sources=["nasdaq"])


def test_a_script_ends_that_does_not_close_it() -> None:
    script = "import fluxforge; box = fluxforge.sandbox(sources=['coinbase'])"
    words = [sys.executable, "-c", script + "; box.lake.ingest_sync('coinbase', frames=50)"]
    subprocess.run(words, check=True, timeout=60, stdin=subprocess.DEVNULL)
