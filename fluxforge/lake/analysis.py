"""What a lake computes from its rows: books, bars, coverage."""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from fluxforge.errors import NoBookError, UsageError
from fluxforge.lake.explaining import check_answer
from fluxforge.lake.reading import Reader
from fluxforge.sources import source_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from fluxforge.analytics.bars import BarKind
    from fluxforge.analytics.book import Book
    from fluxforge.query.scan import Moment


class Analysis(Reader):
    """The part of :class:`~fluxforge.Lake` that computes on what :meth:`scan` returns."""

    def bars(
        self,
        source: str | Sequence[str],
        symbols: str | Sequence[str] | None = None,
        every: str | float = "1m",
        kind: BarKind = "time",
        start: Moment | None = None,
        end: Moment | None = None,
        empty: bool = False,
        live: bool = False,
        *,
        instruments: Sequence[str] | None = None,
        snapshots: bool = False,
    ) -> pl.DataFrame:
        """Return bars of trades, each trade once.

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
        live
            Also from trades that are not in tables yet.
        snapshots
            Also the trades from before the capture that a first snapshot brought.

        Returns
        -------
        polars.DataFrame
            ``source, symbol, instrument, ts_start, ts_end, open, high, low, close, volume,
            buy_volume, sell_volume, vwap, trades, complete``; `complete` where the bar has ended
            and nothing of it is missing (see :meth:`coverage`).
        """
        from fluxforge.analytics.read import read_bars
        from fluxforge.query.scan import moment, several

        wanted, instruments = several(symbols), several(instruments)
        venues = [name for name in self.names_of(source) if name in source_names()]
        if not venues:
            raise UsageError(f"bars are made of the trades of venues, and {source!r} names none")
        check_answer(
            self, self._open(venues, "trades", live=live), live=live,
            symbols=wanted, instruments=instruments, start=start, end=end,
        )  # fmt: skip
        return read_bars(
            partial(self._scan, live=live), venues, wanted, every, kind,
            moment(start), moment(end), empty=empty, snapshots=snapshots,
            gaps=self.gaps, instruments=instruments,
        )  # fmt: skip

    def book(
        self,
        source: str,
        symbol: str,
        at: Moment | None = None,
        depth: int | None = 10,
        live: bool = False,
    ) -> Book:
        """Return the order book of a symbol at a moment.

        Parameters
        ----------
        at
            The venue's time; frames up to and including it are applied whole. None: the end.
        depth
            Levels a side; None: all.
        live
            Also from frames that are not in tables yet: without `at`, the book of now.

        Raises
        ------
        NoBookError
            If no snapshot came before, or frames are missing since.
        """
        if depth is not None and (type(depth) is not int or not 0 < depth < 2**31):
            raise UsageError(f"depth={depth!r}: it is a whole number above 0, or None for all")
        from fluxforge.analytics.read import read_book
        from fluxforge.query.scan import moment

        held = self._held_books if live else None
        try:
            return read_book(
                partial(self._scan, live=live), source, symbol, moment(at), depth, held
            )
        except NoBookError:
            self._check_book(source, symbol, live=live)
            raise

    @cached_property
    def _held_books(self) -> dict[tuple[str, str], pl.DataFrame]:
        """The newest live book of each symbol: asking again reads only what came since."""
        return {}

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

        self._check_book(source, symbol, start, end)
        return read_books(self._scan, source, symbol, every, moment(start), moment(end), depth)

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
        if type(levels) is not int or levels < 1:
            raise UsageError(f"levels={levels!r}: it is a whole number above 0")
        from fluxforge.analytics.read import read_features
        from fluxforge.query.scan import moment

        self._check_book(source, symbol, start, end)
        return read_features(self._scan, source, symbol, moment(start), moment(end), levels, size)

    def _check_book(
        self, source: str, symbol: str, start: Any = None, end: Any = None, *, live: bool = False
    ) -> None:
        opened = self._open(source, "orderbook", live=live)
        check_answer(self, opened, live=live, symbols=[symbol], start=start, end=end)

    def coverage(self, source: str) -> pl.DataFrame:
        """Return the spans in which nothing is missing.

        Returns
        -------
        polars.DataFrame
            ``table, symbol, conn, start, end``, one row per unbroken span; times are those of
            capture, UTC. What lies outside of all spans was not captured, or frames are missing;
            a gap that a backfill has filled ends no span of trades or candles.
        """
        from fluxforge.analytics.read import read_coverage

        return read_coverage(self._scan, source, self.gaps)
