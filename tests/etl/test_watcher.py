from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from fluxforge.errors import StorageError
from fluxforge.etl.watcher import watch_segments
from fluxforge.storage.local import LocalStorage

if TYPE_CHECKING:
    import pytest

    from fluxforge.etl.report import EtlReport

    from .conftest import Frames, LakeFolder


def test_segments_that_come_later_are_taken(lake: LakeFolder, frames: Frames) -> None:
    stop = threading.Event()
    reports: list[EtlReport] = []

    def on_report(report: EtlReport) -> None:
        reports.append(report)
        if len(reports) < 3:
            lake.put(frames.ticker(), 10 + len(reports))
        else:
            stop.set()

    lake.put(frames.ticker(), 1)
    total = watch_segments([lake.job()], 0.01, stop=stop, on_report=on_report)
    assert [report.segments for report in reports] == [1, 1, 1]
    assert (total.segments, total.rows) == (3, {"ticker": 3})
    assert lake.count("ticker") == 3


def test_a_stop_ends_it_after_the_batch_in_work(
    lake: LakeFolder, frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fluxforge.etl.job._MOST_SEGMENTS", 2)
    stop = threading.Event()
    for number in range(5):
        lake.put(frames.ticker(), number)
    job = lake.job(on_progress=lambda done, _: stop.set() if done == 2 else None)
    total = watch_segments([job], 60, stop=stop)
    assert total.segments == 2
    assert len(lake.files("ready")) == 3
    assert lake.files("processing") == []
    assert watch_segments([lake.job()], 60, stop=stop).segments == 0


def test_a_storage_that_fails_for_a_moment_is_tried_again(lake: LakeFolder, frames: Frames) -> None:
    stop = threading.Event()
    tries = []

    class Shaky(LocalStorage):
        def list_entries(self, path: str = "", *, recursive: bool = True) -> list[Any]:
            tries.append(path)
            if len(tries) < 4:
                raise StorageError("the network is away")
            return super().list_entries(path, recursive=recursive)

    lake.put(frames.ticker(), 1)
    job = lake.job(storage=Shaky(lake.root))
    total = watch_segments([job], 0.01, stop=stop, on_report=lambda _: stop.set())
    assert total.segments == 1


def test_a_segment_that_fails_is_tried_again_and_keeps_nobody_waiting(
    lake: LakeFolder, frames: Frames
) -> None:
    stop = threading.Event()
    blocked = lake.root / lake.layout.table("coinbase", "trades") / "_delta_log"
    lake.put(frames.trades([1]), 1)
    lake.etl()
    (commit,) = blocked.glob("*1.json")
    healthy = commit.read_bytes()
    commit.write_bytes(b"\xff")
    lake.put(frames.trades([2]), 2)
    lake.put(frames.ticker(), 3)
    rows: list[dict[str, int]] = []

    def on_report(report: EtlReport) -> None:
        rows.append(dict(report.rows))
        commit.write_bytes(healthy)
        if len(rows) == 2:
            stop.set()

    watch_segments([lake.job()], 0.01, stop=stop, on_report=on_report)
    assert rows == [{"ticker": 1}, {"trades": 1}]
