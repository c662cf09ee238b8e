"""The charts of a lake: ``lake.plot.price("coinbase", "BTC-USD")`` and others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from fluxforge.lake.analysis import Analysis
    from fluxforge.plot import Chart
    from fluxforge.query.scan import Moment


class Plots:
    """Charts of a lake's tables; the same on any frame are in :mod:`fluxforge.plot`.

    Each shows itself as the last expression of a cell, without a network, and has ``save``.
    """

    def __init__(self, lake: Analysis) -> None:
        self._lake = lake

    def price(
        self,
        source: str | Sequence[str],
        symbols: str | Sequence[str] | None = None,
        *,
        table: str = "trades",
        many: Any = "rebased",
        **scan: Any,
    ) -> Chart:
        """Draw prices over time, gaps shaded; several symbols as their change in percent."""
        from fluxforge import plot
        from fluxforge.analytics.read import since_capture

        frame = self._lake.scan(source, table, symbols=_listed(symbols), **scan)
        if table == "trades":
            same = {name: scan[name] for name in ("version", "as_of", "live") if name in scan}
            frame = since_capture(frame, self._lake.scan(source, table, raw=True, **same))
        gaps, title = self._gaps(source, table), _title(source, symbols)
        return plot.price(frame, many=many, gaps=gaps, title=title)

    def candles(
        self,
        source: str | Sequence[str],
        symbols: str | Sequence[str] | None = None,
        every: str = "1m",
        **bars: Any,
    ) -> Chart:
        """Draw bars of time with their volume."""
        from fluxforge import plot

        made = self._lake.bars(source, symbols, every, **bars)
        gaps = self._gaps(source, "trades")
        return plot.candles(made, gaps=gaps, title=f"{_title(source, symbols)} {every}")

    def book(self, source: str, symbol: str, at: Moment | None = None, depth: int = 100) -> Chart:
        """Draw how much an order book holds up to each price."""
        from fluxforge import plot

        book = self._lake.book(source, symbol, at, depth)
        return plot.book(book.bids, book.asks, title=repr(book)[1:-1])

    def spread(
        self, source: str | Sequence[str], symbols: str | Sequence[str] | None = None, **scan: Any
    ) -> Chart:
        """Draw the best ask less the best bid of the ticker."""
        from fluxforge import plot

        frame = self._lake.scan(source, "ticker", symbols=_listed(symbols), **scan)
        title = f"{_title(source, symbols)} spread"
        return plot.spread(frame, gaps=self._gaps(source, "ticker"), title=title)

    def volume(
        self,
        source: str | Sequence[str],
        symbols: str | Sequence[str] | None = None,
        every: str = "1m",
        **bars: Any,
    ) -> Chart:
        """Draw what was bought and sold in each bar of time."""
        from fluxforge import plot

        made = self._lake.bars(source, symbols, every, **bars)
        return plot.volume(made, title=f"{_title(source, symbols)} volume {every}")

    def _gaps(self, source: str | Sequence[str], table: str) -> pl.DataFrame | None:
        """Return the times between the spans of a table's coverage, where it is one source."""
        import polars as pl

        if not isinstance(source, str) or source == "*":
            return None
        spans = self._lake.coverage(source).filter(pl.col("table") == table).sort("start")
        reached = pl.col("end").cum_max().shift()
        between = spans.select(start=reached, end=pl.col("start"))
        return between.filter(pl.col("start") < pl.col("end"))


def _title(source: str | Sequence[str], symbols: str | Sequence[str] | None) -> str:
    return " ".join([", ".join(_listed(source) or ()), ", ".join(_listed(symbols) or ())]).strip()


def _listed(names: str | Sequence[str] | None) -> Sequence[str] | None:
    return [names] if isinstance(names, str) else names
