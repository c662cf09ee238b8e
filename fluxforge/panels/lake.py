"""The panels of a lake: ``lake.panel.ladder("coinbase", "BTC-USD")`` and others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from fluxforge.panels.views import CandlePanel, LadderPanel, MonitorPanel
from fluxforge.report import plain

if TYPE_CHECKING:
    from fluxforge.lake.analysis import Analysis


class Panels:
    """Live views; each reads again until its button is pressed or the kernel ends."""

    def __init__(self, lake: Analysis) -> None:
        self._lake = lake

    def ladder(self, source: str, symbol: str, depth: int = 10) -> LadderPanel:
        """Return the order book as it is now; its levels go on as frames come in."""
        return LadderPanel(
            lambda: self._lake.book(source, symbol, depth=depth, live=True), depth=depth
        )

    def candles(
        self, source: str, symbol: str, every: str = "1s", minutes: float = 10
    ) -> CandlePanel:
        """Return candles of the last minutes that go on."""
        span = timedelta(minutes=minutes)
        return CandlePanel(
            lambda: self._lake.bars(
                source, symbol, every, start=datetime.now(UTC) - span, live=True
            ),
            title=f"{source} {symbol} {every}",
        )

    def explorer(self) -> Any:
        """Return inputs for a source, a table, symbols and times, and what there is of them.

        Rows, counts and a chart, and the line of code that gives the same frame.
        """
        from fluxforge.panels.explorer import explorer

        return explorer(self._lake)

    def monitor(self, capture: Any) -> MonitorPanel:
        """Return how a background capture goes, with a button that stops it."""
        return MonitorPanel(lambda: plain(capture.status()), capture.stop)
