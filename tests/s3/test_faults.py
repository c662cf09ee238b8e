"""A proxy between FluxForge and S3 that misbehaves: everything ends with exact counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fluxforge.errors import StorageUnavailableError
from fluxforge.tables import Table
from tests.support.fault_proxy import Fault

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fluxforge import Lake
    from tests.conftest import Recorded
    from tests.s3.conftest import Place
    from tests.support.fault_proxy import FaultProxy, Rule

pytestmark = [pytest.mark.s3, pytest.mark.usefixtures("impatient")]

FRAMES = 200
CHANNELS = "ingestion.sources.coinbase.channels=[ticker, market_trades]"
SEGMENTS = 3
BUSY = Fault("status", status=503)
THROTTLED = Fault("status", status=429)
LOST = Fault("drop_response")
CUT_ANSWER = Fault("cut_response", after=150)
CUT_REQUEST = Fault("cut_request", after=50)
STALL = Fault("stall", seconds=3)  # longer than anybody waits here; it is carried out then
LATE = Fault("late", seconds=1)

EVERYWHERE = {
    "busy": ((BUSY, 0.15), (THROTTLED, 0.05)),
    "cut": ((CUT_ANSWER, 0.1), (CUT_REQUEST, 0.05)),
    "lost": ((LOST, 0.08), (LATE, 0.04)),
    "stalled": ((STALL, 0.03),),
}


def committed(lake: Lake) -> dict[str, int]:
    return dict(lake.tables().select("channel", "rows").iter_rows())


def check_readers(lake: Lake, rows: dict[str, int]) -> None:
    for channel, count in rows.items():
        assert lake.scan("coinbase", channel, raw=True).collect().height == count
        name = f"{channel}_raw" if channel in ("trades", "candles") else channel
        assert lake.sql(f"SELECT count(symbol) FROM coinbase.{name}").fetchall() == [(count,)]
        snapshot = Table(lake.storage, f"processed/coinbase/{channel}").snapshot()
        assert snapshot is not None
        assert snapshot.dataset().to_table().num_rows == count
    assert lake.gaps("coinbase").is_empty()


@pytest.mark.parametrize("kind", sorted(EVERYWHERE))
def test_ingestion_tables_and_readers_finish_exactly(
    place: Place,
    proxy: FaultProxy,
    market: Callable[..., Any],
    recorded: Callable[..., Recorded],
    kind: str,
) -> None:
    rules = [proxy.inject(fault, share=share) for fault, share in EVERYWHERE[kind]]
    with market(rate=300) as served:
        faulty = place.through(proxy).watching(served.url)
        lake = faulty.having("ingestion.flush_interval_seconds=0.1", CHANNELS).lake()
        captured = lake.ingest_sync("coinbase", frames=FRAMES)
    assert (captured.frames, captured.gaps) == (FRAMES, 0)
    copy = place.folder / "captured.ndjson"
    storage = place.storage()
    contents = {storage.read_bytes(key) for key in storage.list_files("raw/ready")}
    copy.write_bytes(b"".join(contents))
    assert recorded(copy).count == FRAMES

    report = lake.etl("coinbase")
    assert report.lines_read == report.lines_taken == FRAMES
    assert report.rows == recorded(copy).rows
    check_readers(lake, report.rows)
    assert sum(rule.struck for rule in rules) > 4

    proxy.heal()
    # A write that came late may have left a copy of a segment: the ledger knows it.
    assert not sum(lake.etl("coinbase").rows.values())
    assert {name: committed(lake)[name] for name in report.rows} == report.rows
    assert storage.list_files("raw") == []
    assert lake.verify().ok


def test_commits_whose_answers_are_lost_neither_double_nor_lose(
    place: Place, proxy: FaultProxy, trading: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fluxforge.etl.job._MOST_SEGMENTS", 1)  # so that there is much to commit
    place.put_segments(trading, SEGMENTS)
    lake = place.through(proxy).lake()
    rows = {**trading.rows, "segments": SEGMENTS}

    def strike_commits(times: int) -> list[Rule]:
        commits = {"method": "PUT", "path": "/_delta_log/0"}
        faults = (LOST, LATE, STALL, CUT_ANSWER)
        return [proxy.inject(fault, **commits, times=times, share=0.5) for fault in faults]

    rules = strike_commits(times=3)
    report = lake.etl("coinbase")
    assert (report.segments, report.lines_taken) == (SEGMENTS, trading.count)
    assert all(rule.struck for rule in rules)
    assert {name: committed(lake)[name] for name in rows} == rows

    proxy.heal()
    rules = strike_commits(times=1)
    lake.optimize()
    assert sum(rule.struck for rule in rules) > 1
    proxy.heal()
    assert {name: committed(lake)[name] for name in rows} == rows
    check_readers(lake, trading.rows)
    assert lake.verify().ok


@pytest.mark.parametrize(
    ("fault", "path"),
    [(CUT_ANSWER, "/_delta_log"), (BUSY, "/date")],
    ids=["log", "files"],
)
def test_a_fault_that_does_not_pass_is_one_clear_line(
    place: Place, proxy: FaultProxy, trading: Recorded, fault: Fault, path: str
) -> None:
    place.put_segments(trading, SEGMENTS)
    lake = place.through(proxy).lake()
    proxy.inject(fault, path=path)
    with pytest.raises(StorageUnavailableError, match="try again later") as caught:
        lake.etl("coinbase")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    proxy.heal()
    assert lake.etl("coinbase").lines_taken == trading.count
    assert {name: committed(lake)[name] for name in trading.rows} == trading.rows
    assert lake.verify().ok
