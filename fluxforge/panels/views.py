"""The panels: an order-book ladder, a candle chart and a capture monitor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fluxforge.panels.panel import Panel, script
from fluxforge.panels.state import candle_state, ladder_state, monitor_state

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

    def __init__(self, read: Callable[[], Book], *, depth: int = 10, seconds: float = 0.15) -> None:
        super().__init__(lambda: ladder_state(read(), depth), seconds=seconds)


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
        shown: dict[int, tuple[float, ...]] = {}

        def state() -> dict[str, Any]:
            changed, now = candle_state(read(), shown, title)
            shown.clear()
            shown.update(now)
            return changed if changed["bars"] else self.state

        super().__init__(state, seconds=seconds)


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
        def end() -> None:
            stop()
            self.refresh()

        super().__init__(lambda: monitor_state(read()), seconds=seconds, on_stop=end)
