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
from fluxforge.panels.state import candle_state
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
    best[0] = 100.5
    until(lambda: panel.state["bids"][0][0] == "100.5")
    panel.stop()
    assert not panel.running
    assert "100.5" in panel._repr_mimebundle_()[0]["text/html"]


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


def test_only_bars_that_changed_are_sent() -> None:
    bars = pl.DataFrame(
        {
            "ts_start": [NOW, NOW.replace(minute=1)],
            **{name: [1.0, 2.0] for name in ("open", "high", "low", "close", "volume")},
        },
        schema_overrides={"ts_start": pl.Datetime("us", "UTC")},
    )
    first, shown = candle_state(bars, {}, "t")
    assert (first["whole"], len(first["bars"])) == (True, 2)
    later = bars.with_columns(volume=pl.Series([1.0, 9.0]))
    second, shown = candle_state(later, shown, "t")
    assert (second["whole"], [row[5] for row in second["bars"]]) == (False, [9.0])
    assert candle_state(later, shown, "t")[0]["bars"] == []
    panel = CandlePanel(lambda: later, title="t", seconds=0.01)
    until(lambda: panel.state)
    panel.stop()


def test_the_button_of_the_monitor_stops_the_capture() -> None:
    stopped = threading.Event()
    status: dict[str, Any] = {"source": "x", "running": True, "frames": 12_345, "gaps": 2}
    panel = MonitorPanel(
        lambda: status | {"running": not stopped.is_set()}, stopped.set, seconds=0.01
    )
    until(lambda: panel.state)
    assert panel.state["rows"] == [["frames", "12,345", False], ["gaps", "2", True]]
    panel._handle_custom_msg({"kind": "stop"}, [])
    assert stopped.is_set()
    assert panel.state["title"] == "capture of x: stopped"


def test_a_panel_that_nobody_has_ends_by_itself() -> None:
    reads = []

    def read() -> Book:
        reads.append(1)
        return book()

    panel = LadderPanel(read, seconds=0.01)
    until(lambda: reads)
    panel.close()
    del panel

    def gone() -> bool:
        gc.collect()
        return not any("_keep_reading" in thread.name for thread in threading.enumerate())

    until(gone)
