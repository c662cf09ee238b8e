"""Panels without a browser: what they show, when they read again, and how they end."""

from __future__ import annotations

import gc
import threading
import time
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

pytest.importorskip("anywidget")

from fluxforge.analytics.book import Book
from fluxforge.errors import NoBookError
from fluxforge.panels.state import candle_state, monitor_rows, monitor_state
from fluxforge.panels.views import CandlePanel, LadderPanel, MonitorPanel

NOW = datetime(2026, 8, 9, 21, tzinfo=UTC)


def book(bid: float = 100.0) -> Book:
    bids = pl.DataFrame({"price": [bid, 99.0], "size": [1.0, 4.0]})
    asks = pl.DataFrame({"price": [101.0], "size": [2.0]})
    return Book("x", "A-B", bids, asks, NOW, "c", NOW, complete=True)


def until(done: Any, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


def test_the_ladder_follows_the_book() -> None:
    best = [100.0]
    panel = LadderPanel(lambda: book(best[0]), depth=2, seconds=0.01)
    until(lambda: panel.state)
    assert panel.state["bids"] == [["100", "1", 25], ["99", "4", 100]]
    assert (panel.state["mid"], panel.state["spread"]) == ("100.5", "spread 1")
    best[0] = 100.5
    until(lambda: panel.state["bids"][0][0] == "100.5")
    panel.stop()
    assert not panel.running
    assert "<td>bid</td><td>100.5</td>" in panel.as_html()


def test_an_error_is_shown_and_tried_again() -> None:
    answers: list[Book] = []

    def read() -> Book:
        if not answers:
            raise NoBookError("no snapshot yet")
        return answers[0]

    panel = LadderPanel(read, seconds=0.01)
    until(lambda: panel.note == "no snapshot yet")
    answers.append(book())
    until(lambda: panel.state and not panel.note)
    panel.stop()


def test_candles_are_bars_by_their_second() -> None:
    bars = pl.DataFrame(
        {
            "ts_start": [NOW, NOW.replace(minute=1)],
            "open": [1.0, None],
            **{name: [1.0, 2.0] for name in ("high", "low", "close", "volume")},
        },
        schema_overrides={"ts_start": pl.Datetime("us", "UTC")},
    )
    state = candle_state(bars, "x A 1m")
    assert state == {
        "title": "x A 1m (UTC)",
        "bars": [[int(NOW.timestamp()), 1.0, 1.0, 1.0, 1.0, 1.0]],
    }
    panel = CandlePanel(lambda: bars, title="t", seconds=0.01)
    until(lambda: panel.state)
    panel.stop()
    assert "<td>21:00:00</td><td>1</td>" in panel.as_html()


STATUS = {
    "source": "x", "running": True, "frames": 12_345, "bytes": 2_000_000, "rate": 99.6, "gaps": 2,
    "missing": 7, "ages": {"trades": 0.25, "status": 90.0}, "seconds": 61.5, "error": "",
}  # fmt: skip


def test_the_button_of_the_monitor_stops_the_capture() -> None:
    stopped = threading.Event()
    panel = MonitorPanel(
        lambda: STATUS | {"running": not stopped.is_set()}, stopped.set, seconds=0.01
    )
    until(lambda: panel.state)
    assert panel.state["rows"][0][:4] == ["x", "12,345", "100", "2.0"]
    assert panel.state["rows"][0][-1] == "0:01:01"
    assert panel.state["warn"] == [True]
    assert panel.state["ages"] == [["trades", "0.2 s", False], ["status", "90.0 s", True]]
    panel._handle_custom_msg({"kind": "stop"}, [])
    until(lambda: panel.state["title"] == "Capture of x: stopped")
    assert stopped.is_set()
    until(lambda: not panel._worker.is_alive())


def test_the_monitor_has_a_row_for_each_source_and_shows_what_is_wrong() -> None:
    each = [STATUS | {"source": name} for name in ("x", "y")]
    both = STATUS | {"source": "x, y", "sources": each, "error": "refused"}
    state = monitor_state(both)
    assert [row[0] for row in state["rows"]] == ["x", "y"]
    assert state["error"] == "refused"
    assert ["age of trades", "0.2 s"] in monitor_rows(state)


def test_a_panel_that_nobody_has_ends_by_itself() -> None:
    reads = []

    def read() -> Book:
        reads.append(1)
        return book()

    panel = LadderPanel(read, seconds=0.01)
    until(lambda: reads)
    worker = panel._worker
    panel.close()
    del panel

    def gone() -> bool:
        gc.collect()
        return not worker.is_alive()

    until(gone)
