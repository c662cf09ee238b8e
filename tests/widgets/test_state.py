from __future__ import annotations

import pytest

from fluxforge.ingestion.report import IngestProgress
from fluxforge.widgets.state import Progress, etl_state, ingest_state


def a_moment(**changes: float) -> IngestProgress:
    fields = {
        "frames": 250,
        "bytes": 1_500_000,
        "buffered_bytes": 0,
        "connections": 1,
        "connected": 1,
        "gaps": 0,
        "missing": 0,
        "seconds": 15.0,
    }
    return IngestProgress(source="coinbase", **{**fields, **changes})


@pytest.mark.parametrize(
    ("frames", "seconds", "share"),
    [
        (1000, None, 0.25),
        (None, 60.0, 0.25),
        (1000, 20.0, 0.75),  # the nearer bound ends it
        (200, None, 1.0),  # a batch may reach beyond the bound
        (None, None, None),
    ],
)
def test_share_of_an_ingestion(
    frames: int | None, seconds: float | None, share: float | None
) -> None:
    assert ingest_state("x", a_moment(), frames=frames, seconds=seconds).share == share


def test_an_ingestion_tells_of_gaps_only_where_there_are_any() -> None:
    clean = ingest_state("x", a_moment(), frames=None, seconds=None)
    holed = ingest_state("x", a_moment(gaps=2, missing=1300), frames=None, seconds=None)
    assert clean.note == "250 frames, 1.5 MB, 15 s"
    assert holed.note == "250 frames, 1.5 MB, 15 s, 2 gaps (1,300 frames missing)"


def test_share_of_an_etl_run() -> None:
    assert etl_state("x", 1, 4) == Progress("x", 0.25, "1 of 4 segments")
    assert etl_state("x", 0, 0).share == 1.0


def test_what_failed_stays_where_it_was() -> None:
    halfway = Progress("x", 0.5, "half")
    assert halfway.ended(well=True) == Progress("x", 1.0, "half", "done")
    assert halfway.ended(well=False) == Progress("x", 0.5, "half", "failed")
