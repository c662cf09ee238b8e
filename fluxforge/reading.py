"""What a lake answers beyond rows: books, bars, coverage, charts and panels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fluxforge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from fluxforge.analytics.bars import BarKind
    from fluxforge.analytics.books import Book
    from fluxforge.plot import Chart
    from fluxforge.query.scan import Moment


class Reader(ABC):
    """The half of :class:`~fluxforge.Lake` that computes on what :meth:`scan` returns."""

    @abstractmethod
    def scan(
        self,
        source: str | Sequence[str],
        table: str,
        *,
        symbols: Sequence[str] | None = None,
        instruments: Sequence[str] | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
        version: int | None = None,
        raw: bool = False,
    ) -> pl.LazyFrame:
        """Return a table as a lazy frame."""

    def tail(
        self,
        source: str | Sequence[str],
        table: str,
        n: int = 20,
        *,
        symbols: Sequence[str] | None = None,
        instruments: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """Return the last `n` rows of a table, in the order of ``ts_event``."""
        rows = self.scan(source, table, symbols=symbols, instruments=instruments)
        return rows.sort("ts_event", "ts_recv").tail(n).collect()

    def bars(
        self,
        source: str | Sequence[str],
        symbols: str | Sequence[str] | None = None,
        every: str | float = "1m",
        kind: BarKind = "time",
        *,
        instruments: Sequence[str] | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
        empty: bool = False,
    ) -> pl.DataFrame:
        """Return bars of trades, each trade once.

        Trades that a first snapshot brought from before the capture are left out.

        Parameters
        ----------
        source
            A source, or several.
        symbols, instruments
            Only these.
        every
            For bars of time a length as Polars writes it (``"1s"``, ``"5m"``); else a number of
            trades (``"tick"``), of the base currency (``"volume"``) or the quote (``"dollar"``).
        kind
            ``"time"``, ``"tick"``, ``"volume"`` or ``"dollar"``, as in López de Prado, "Advances
            in Financial Machine Learning" (2018), section 2.3.
        start, end
            Only trades with ``start <= ts_event < end``; without a zone they are UTC.
        empty
            Also the bars of time without a trade: volume 0, prices null.

        Returns
        -------
        polars.DataFrame
            ``source, symbol, instrument, ts_start, ts_end, open, high, low, close, volume,
            buy_volume, sell_volume, vwap, trades, complete``; `complete` where the bar has ended
            and nothing of it is missing (see :meth:`coverage`).
        """
        from fluxforge.analytics.read import read_bars
        from fluxforge.query.scan import moment

        wanted = [symbols] if isinstance(symbols, str) else symbols
        return read_bars(
            self.scan, self.names_of(source), wanted, every, kind, moment(start), moment(end),
            empty=empty, instruments=instruments,
        )  # fmt: skip

    def book(
        self, source: str, symbol: str, at: Moment | None = None, depth: int | None = 10
    ) -> Book:
        """Return the order book of a symbol at a moment.

        Parameters
        ----------
        at
            The venue's time; frames up to and including it are applied whole. None: the end.
        depth
            Levels a side; None: all.

        Raises
        ------
        NoBookError
            If no snapshot came before, or frames are missing since.
        """
        from fluxforge.analytics.read import read_book
        from fluxforge.query.scan import moment

        return read_book(self.scan, source, symbol, moment(at), depth)

    def books(
        self,
        source: str,
        symbol: str,
        every: str = "1s",
        start: Moment | None = None,
        end: Moment | None = None,
        depth: int = 10,
    ) -> pl.DataFrame:
        """Return the order book at regular times.

        Returns
        -------
        polars.DataFrame
            ``ts, complete, bid_price_1, bid_size_1 … ask_size_<depth>``, one row per time; null
            where no book is known.
        """
        from fluxforge.analytics.read import read_books
        from fluxforge.query.scan import moment

        return read_books(self.scan, source, symbol, every, moment(start), moment(end), depth)

    def book_features(
        self,
        source: str,
        symbol: str,
        start: Moment | None = None,
        end: Moment | None = None,
        levels: int = 5,
        size: float = 1.0,
    ) -> pl.DataFrame:
        """Return features of the order book after each of its frames.

        Parameters
        ----------
        levels
            How many levels a side `imbalance` and the average prices look at.
        size
            In the base currency: `buy_vwap` and `sell_vwap` are the average prices of taking it.

        Returns
        -------
        polars.DataFrame
            ``ts_event, conn, bid, bid_size, ask, ask_size, spread, mid, microprice, imbalance,
            order_flow_imbalance, buy_vwap, sell_vwap``.
        """
        from fluxforge.analytics.read import read_features
        from fluxforge.query.scan import moment

        return read_features(self.scan, source, symbol, moment(start), moment(end), levels, size)

    def coverage(self, source: str) -> pl.DataFrame:
        """Return the spans in which nothing is missing.

        Returns
        -------
        polars.DataFrame
            ``table, symbol, conn, start, end``, one row per unbroken span; times are those of
            capture, UTC. What lies outside of all spans was not captured, or frames are missing.
        """
        from fluxforge.analytics.read import read_coverage

        return read_coverage(self.scan, source)

    def export(
        self, source: str | Sequence[str], table: str, path: str | Path, **scan: Any
    ) -> Path:
        """Write rows of a table to a file: ``.parquet``, ``.csv`` or ``.arrow``.

        Parameters
        ----------
        path
            Its ending says the form.
        **scan
            What to write, as :meth:`scan` takes it.

        Raises
        ------
        UsageError
            If the path ends otherwise.
        """
        target, rows = Path(path), self.scan(source, table, **scan)
        match target.suffix.lower():
            case ".parquet":
                rows.sink_parquet(target)
            case ".csv":
                rows.sink_csv(target)
            case ".arrow":
                rows.sink_ipc(target)
            case other:
                raise UsageError(f"cannot export to {other!r}: choose .parquet, .csv or .arrow")
        return target

    @cached_property
    def plot(self) -> Plots:
        """Charts: ``lake.plot.price("coinbase", "BTC-USD")`` and others."""
        return Plots(self)

    @cached_property
    def panel(self) -> Any:
        """Live panels for notebooks: ``lake.panel.ladder("coinbase", "BTC-USD")`` and others."""
        # By name: panels stand above the lake, and need packages that only notebooks have.
        return import_module("fluxforge.panels.lake").Panels(self)

    @abstractmethod
    def names_of(self, source: str | Sequence[str]) -> list[str]:
        """Return the sources that a name, a list of names or ``"*"`` means."""


class Plots:
    """Charts of a lake's tables; the same on any frame are in :mod:`fluxforge.plot`.

    Each shows itself as the last expression of a cell, without a network, and has ``save``.
    """

    def __init__(self, lake: Reader) -> None:
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

        wanted = [symbols] if isinstance(symbols, str) else symbols
        frame = self._lake.scan(source, table, symbols=wanted, **scan)
        return plot.price(
            frame, many=many, gaps=self._gaps(source, table), title=_title(source, wanted)
        )

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

        wanted = [symbols] if isinstance(symbols, str) else symbols
        frame = self._lake.scan(source, "ticker", symbols=wanted, **scan)
        title = f"{_title(source, wanted)} spread"
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
    names = [source] if isinstance(source, str) else list(source)
    shown = [symbols] if isinstance(symbols, str) else list(symbols or [])
    return " ".join(part for part in (", ".join(names), ", ".join(shown)) if part)
