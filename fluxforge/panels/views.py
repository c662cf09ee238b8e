"""The panels: an order-book ladder, a candle chart and a capture monitor."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from fluxforge.errors import FluxForgeError
from fluxforge.panels.panel import Panel, script
from fluxforge.panels.state import (
    candle_rows,
    candle_state,
    ladder_rows,
    ladder_state,
    monitor_rows,
    monitor_state,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import polars as pl

    from fluxforge.analytics.book import Book


class LadderPanel(Panel):
    """An order book as it is now, five to ten times a second.

    Parameters
    ----------
    read
        Returns the book, for instance ``lambda: lake.book("coinbase", "BTC-USD", live=True)``.
    depth
        Levels a side.
    """

    _esm = script("panel", "ladder")

    def __init__(self, read: Callable[[], Book], *, depth: int = 10, seconds: float = 0.1) -> None:
        super().__init__(lambda: ladder_state(read(), depth), ladder_rows, seconds=seconds)


class CandlePanel(Panel):
    """Candles and volume that go on as trades come in.

    Parameters
    ----------
    read
        Returns bars of one symbol.
    title
        What stands above the chart.
    """

    _esm = script("lightweight-charts", "panel", "candles")

    def __init__(
        self, read: Callable[[], pl.DataFrame], *, title: str = "", seconds: float = 0.5
    ) -> None:
        super().__init__(lambda: candle_state(read(), title), candle_rows, seconds=seconds)


class MonitorPanel(Panel):
    """How a capture goes; its button stops the capture.

    Parameters
    ----------
    read
        Returns the capture's status.
    stop
        Stops the capture.
    """

    _esm = script("panel", "monitor")

    def __init__(
        self,
        read: Callable[[], Mapping[str, Any]],
        stop: Callable[[], object],
        *,
        seconds: float = 0.5,
    ) -> None:
        self._stop_capture = stop
        super().__init__(lambda: monitor_state(read()), monitor_rows, seconds=seconds)

    def refresh(self) -> None:
        """Read and show the state now; a capture that has ended is not read again."""
        super().refresh()
        if self.state and not self.state["running"] and not self._stopped.is_set():
            self.stop()

    def _hear(self, _: object, message: dict[str, Any], __: object) -> None:
        if message.get("kind") == "stop":
            # Stopping takes until all is stored; the kernel goes on meanwhile.
            threading.Thread(target=self._end, daemon=True).start()

    def _end(self) -> None:
        self.running = False
        try:
            self._stop_capture()
        except FluxForgeError as exc:
            self.note = str(exc)
        self.refresh()
