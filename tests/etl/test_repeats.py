"""Rows of a key that were stored before are flagged when they are committed, and only those."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from fluxforge.etl.optimize import optimize_table

if TYPE_CHECKING:
    from .conftest import Frames, LakeFolder


def flagged(lake: LakeFolder) -> list[tuple[str, int, bool]]:
    rows = lake.rows("trades").sort("ts_recv", "trade_id")
    return rows.select("symbol", "trade_id", "is_repeat").rows()


def test_within_one_segment_the_first_in_time_of_capture_wins(
    lake: LakeFolder, frames: Frames
) -> None:
    late, early = frames.trades([1, 2], capture_ns=2_000), frames.trades([2, 3], capture_ns=1_000)
    lake.put([late, early])
    lake.etl()
    assert flagged(lake) == [
        ("BTC-USD", 2, False), ("BTC-USD", 3, False), ("BTC-USD", 1, False), ("BTC-USD", 2, True),
    ]  # fmt: skip


def test_a_repeat_inside_one_frame(lake: LakeFolder, frames: Frames) -> None:
    lake.put(frames.trades([5, 5, 5]))
    lake.etl()
    assert sorted(lake.rows("trades")["is_repeat"]) == [False, True, True]


def test_over_segments_and_runs(lake: LakeFolder, frames: Frames) -> None:
    lake.put(frames.trades(range(1, 11), kind="snapshot"), 1)
    lake.put(frames.trades(range(8, 15), kind="snapshot", conn="B"), 2)
    lake.etl()
    lake.put(frames.trades([1, 14, 15], kind="snapshot", conn="C"), 3)
    lake.etl()
    rows = lake.rows("trades")
    assert rows.height == 10 + 7 + 3
    first = rows.filter(~rows["is_repeat"])
    assert sorted(first["trade_id"]) == list(range(1, 16))
    assert sorted(rows.filter(rows["is_repeat"])["trade_id"]) == [1, 8, 9, 10, 14]
    assert set(first.filter(first["trade_id"] <= 10)["conn"]) == {"A"}


def test_one_number_of_two_products_is_two_trades(lake: LakeFolder, frames: Frames) -> None:
    lake.put([frames.trades([1], product="BTC-USD"), frames.trades([1], product="ETH-USD")], 1)
    lake.put(frames.trades([1], product="SOL-USD"), 2)
    lake.etl()
    assert not lake.rows("trades")["is_repeat"].any()


def test_a_row_without_its_number_is_never_a_repeat(lake: LakeFolder, frames: Frames) -> None:
    trade = {"product_id": "X", "price": "1", "time": "2026-08-09T21:05:00Z"}
    frame = frames.frame("market_trades", [{"type": "update", "trades": [trade, trade]}])
    for number in (1, 2):
        lake.put(frames.line(frame), number)
    lake.etl()
    assert lake.rows("trades")["is_repeat"].to_list() == [False] * 4


@pytest.mark.parametrize("time", ["null", '"nonsense"'])
def test_a_row_without_its_time_is_still_known(lake: LakeFolder, frames: Frames, time: str) -> None:
    frame = (
        '{"channel":"market_trades","events":[{"trades":[{"product_id":"X","trade_id":"7",'
        f'"time":{time}}}]}}]}}'
    )
    for number in (1, 2):
        lake.put(frames.line(frame.encode()), number)
    lake.etl()
    assert sorted(lake.rows("trades")["is_repeat"]) == [False, True]


def test_repeats_are_known_after_files_were_joined(lake: LakeFolder, frames: Frames) -> None:
    for number in range(4):
        lake.put(frames.trades([number]), number)
        lake.etl()
    report = optimize_table(lake.table("trades"), "trades")
    assert (report.files_before, report.files_after) == (4, 1)
    lake.put(frames.trades([2, 3, 4]), 9)
    lake.etl()
    rows = lake.rows("trades")
    assert sorted(rows.filter(rows["is_repeat"])["trade_id"]) == [2, 3]


def test_only_files_that_may_hold_the_trades_are_opened(
    lake: LakeFolder, frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    import polars as pl

    segments = [([1], "ETH-USD"), ([30], "BTC-USD"), ([2], "BTC-USD")]
    for number, (ids, product) in enumerate(segments):
        lake.put(frames.trades(ids, product=product), number)
        lake.etl()
    opened: list[str] = []
    scan = pl.scan_parquet

    def counted(paths: list[str], **options: object) -> pl.LazyFrame:
        opened.extend(paths)
        return scan(paths, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(pl, "scan_parquet", counted)
    lake.put(frames.trades([2], product="BTC-USD", conn="B"), 4)
    lake.etl()
    opened = [path for path in opened if "/trades/" in path]
    assert len(opened) == 1
    rows = lake.rows("trades")
    assert sorted(rows.filter(rows["is_repeat"])["trade_id"]) == [2]


def test_candles_keep_every_row(lake: LakeFolder, frames: Frames) -> None:
    lake.put([frames.candle(close="1"), frames.candle(close="2")])
    lake.etl()
    assert "is_repeat" not in lake.rows("candles").columns
    assert sorted(lake.rows("candles")["close"]) == [1.0, 2.0]


def test_threads_that_commit_the_same_snapshot_at_once(lake: LakeFolder, frames: Frames) -> None:
    """Six segments, each with the same hundred trades and one of its own."""
    for number in range(6):
        trades = [*range(100), 1000 + number]
        lake.put(frames.trades(trades, kind="snapshot", conn=f"C{number}"), number)
    start = threading.Barrier(3)

    def work(_: int) -> int:
        start.wait()
        return lake.etl(threads=1).segments

    with ThreadPoolExecutor(3) as pool:
        assert sum(pool.map(work, range(3))) == 6
    rows = lake.rows("trades")
    assert rows.height == 606
    first = rows.filter(~rows["is_repeat"])
    assert sorted(first["trade_id"]) == [*range(100), *range(1000, 1006)]
    lake.assert_files()
    lake.assert_accounts()
