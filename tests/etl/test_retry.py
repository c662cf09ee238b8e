"""Lines in quarantine that go through the ETL once more, and segments that are set aside."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from fluxforge.etl.report import SegmentsFailedError
from fluxforge.segments.tries import MOST_TRIES

if TYPE_CHECKING:
    from fluxforge.etl.job import ETLJob

    from .conftest import Frames, LakeFolder


def without_trades(job: ETLJob) -> ETLJob:
    """Return a job whose source has no SQL for trades yet."""
    channels = {name: one for name, one in job._tables.channels.items() if name != "trades"}
    job._tables = replace(job._tables, channels=channels)
    return job


def test_lines_come_in_once_and_the_accounts_say_so(lake: LakeFolder, frames: Frames) -> None:
    first = [frames.ticker(), frames.trades([1, 2]), b"bad\n", frames.trades([3])]
    lake.put(first, 1)
    assert without_trades(lake.job()).process_all_segments().lines_quarantined == 3
    for expected in (2, 0, 0):
        assert lake.job().retry_quarantine().lines_taken == expected
        assert [content for _, _, content in lake.quarantined()] == [b"bad"]
    assert sorted(lake.rows("trades")["trade_id"]) == [1, 2, 3]
    assert lake.rows("segments")["lines_taken"].sum() == 3
    lake.assert_accounts()


def test_a_poisonous_segment_is_set_aside_after_some_tries(
    lake: LakeFolder, frames: Frames
) -> None:
    def broken() -> ETLJob:
        job = lake.job()
        ticker = job._tables.channels["ticker"]
        odd: Any = replace(ticker, sql=ticker.sql.replace("ticker.price)", "error('odd'))"))
        job._tables = replace(job._tables, channels={**job._tables.channels, "ticker": odd})
        return job

    name = lake.put(frames.ticker(), 1)
    lake.put(frames.trades([1]), 2)
    with pytest.raises(SegmentsFailedError):
        broken().process_all_segments(back_off=True)
    assert lake.count("trades") == 1  # one bad segment holds back no other
    assert broken().process_all_segments(back_off=True).segments == 0  # it waits
    for _ in range(MOST_TRIES - 1):
        with pytest.raises(SegmentsFailedError):
            broken().process_all_segments()
    (tries,) = lake.job()._tries.read().values()
    assert (tries.segment, tries.tries, tries.aside) == (name, MOST_TRIES, True)
    assert "odd" in tries.error
    assert lake.etl().segments == 0
    assert lake.files("processing") == [name]
    assert lake.job().take_back() == [name]
    assert lake.etl().rows == {"ticker": 1}
    assert lake.job()._tries.read() == {}
