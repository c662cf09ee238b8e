from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fluxforge import Lake
from fluxforge.simulator import local_exchange

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl


def gaps_after(folder: Path, faults: str, *, frames: int = 600, rate: float = 0) -> pl.DataFrame:
    """Capture with faults, in many small segments, and return what is missing."""
    with local_exchange("coinbase", seed=2, rate=rate, faults=faults) as exchange:
        lake = Lake(
            overrides=[
                f"storage.base_dir={folder}",
                f"ingestion.sources.coinbase.url={exchange.url}",
                "ingestion.sources.bybit.products=[linear:BTCUSDT]",
                "ingestion.flush_interval_seconds=0.1",
                "ingestion.segment_max_mb=0.1",
            ]
        )
        report = lake.ingest_sync("coinbase", frames=frames)
    lake.etl("coinbase")
    gaps = lake.gaps("coinbase")
    assert (report.gaps, report.missing) == (gaps.height, gaps["missing"].sum())
    assert lake.gaps().equals(gaps)  # of all sources
    return gaps


@pytest.mark.parametrize(
    ("faults", "missing"),
    [
        ("skip@0:2, skip@100, skip@400:50", [(0, 1), (100, 100), (400, 449)]),
        # The second connection is numbered from 0 again.
        ("drop@150, skip@151:7", [(151, 157)]),
    ],
)
def test_skipped_numbers_are_found(
    tmp_path: Path, faults: str, missing: list[tuple[int, int]]
) -> None:
    gaps = gaps_after(tmp_path, faults)
    assert gaps.select("first_missing", "last_missing").rows() == missing
    assert (
        gaps["received_before"].fill_null(gaps["received_after"]) <= gaps["received_after"]
    ).all()


def test_a_quiet_market_and_a_cut_connection_are_no_gaps(tmp_path: Path) -> None:
    gaps = gaps_after(tmp_path, "silence@100:1, drop@200", frames=400, rate=1000)
    assert gaps.is_empty()
