"""What a lake asks of venues over REST: their instruments, and the past."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING

from fluxforge.config import Role
from fluxforge.config.schema import SourceConfig
from fluxforge.errors import FluxForgeError, UsageError
from fluxforge.lake.capturing import Capturing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import polars as pl

    from fluxforge.ingestion.backfill import BackfillReport
    from fluxforge.query.scan import Moment
    from fluxforge.sources import Source
    from fluxforge.sources.rest import Past

_TABLES = ("trades", "candles")
_AROUND = timedelta(seconds=5)


class History(Capturing):
    """The part of :class:`~fluxforge.Lake` that asks venues over REST."""

    def instruments(self, source: str, search: str | None = None) -> pl.DataFrame:
        """Return the instruments of a venue, from its own list.

        The list is kept on this machine for a day.

        Parameters
        ----------
        source
            The exchange; where it is configured, its ``rest_url`` is asked.
        search
            Only those whose symbol or instrument has this in it, in any case.

        Returns
        -------
        polars.DataFrame
            ``symbol, instrument, market, base, quote, price_decimals, size_decimals, active``.

        Raises
        ------
        UnknownSourceError
            If there is no such source.
        ConnectionFailedError
            If the venue does not answer.
        """
        import polars as pl

        from fluxforge.ingestion.rest import list_instruments, state_dir

        venue, address = self._venue(source)
        kept = state_dir(self.config.ingestion.spool_dir)
        found = pl.DataFrame([vars(one) for one in list_instruments(venue, address, kept)])
        if search is None:
            return found
        text = pl.concat_str("symbol", pl.lit(" "), "instrument").str.to_lowercase()
        return found.filter(text.str.contains(search.lower(), literal=True))

    def backfill(
        self,
        source: str | Sequence[str] | None = None,
        table: str | None = None,
        *,
        symbols: str | Sequence[str] | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
        interval: str | None = None,
        gaps: bool = False,
    ) -> BackfillReport:
        """Fetch trades or candles of the past over the venue's public REST, as segments.

        The ETL makes rows of them, each once, beside those that were captured. What was fetched
        before is not fetched again, so that a run that was cut short can be run again. The venue's
        answers are stored whole, so that rows before `start` and after `end` may come with them.
        Bybit gives its newest trades alone, and Kraken its last 720 candles: what they do not give
        any more is counted as ``incomplete``, and its gaps stay gaps.

        Parameters
        ----------
        source
            The exchange, or several; None or ``"*"``: all that are configured.
        table
            ``"trades"`` or ``"candles"``; None: both, for gaps.
        symbols
            As the configuration writes products; None: those that are configured.
        start, end
            The time to fetch; without a zone they are UTC. None for `end`, or a later one: now.
        interval
            Of candles: ``"1m"``, ``"5m"``, ``"1h"``, ``"1d"``; None: that of the venue's channel.
        gaps
            Fetch what :meth:`gaps` lists, in place of a time.

        Raises
        ------
        UsageError
            If the venue does not give that, neither a start nor gaps are asked for, or both, or
            `start` is not before `end` and now.
        ConnectionFailedError
            If the venue does not answer.
        """
        from fluxforge.ingestion.backfill import BackfillReport
        from fluxforge.query.scan import moment

        if table not in (*_TABLES, None):
            raise UsageError(f"venues give trades and candles of the past, and not {table!r}")
        if not gaps and (start is None or table is None):
            raise UsageError("say what and from when: a table, trades or candles, and a start")
        if gaps and (start is not None or end is not None):
            raise UsageError("choose gaps, or start and end: gaps are filled whenever they were")
        now = datetime.now(UTC)
        low, high = moment(start) or now, min(moment(end) or now, now)
        if not gaps and low >= high:
            raise UsageError(f"start {start} is not before {end or 'now'}: there is no such past")
        names = self.sources if source in (None, "*") else self.names_of(source)
        if not names:
            raise UsageError("no source is configured: name one")
        tables = (table,) if table else _TABLES
        return BackfillReport.total([
            self._backfill(name, tables, symbols, None if gaps else (low, high), interval)
            for name in names
        ])  # fmt: skip

    def _backfill(
        self,
        source: str,
        tables: Sequence[str],
        symbols: str | Sequence[str] | None,
        span: tuple[datetime, datetime] | None,
        interval: str | None,
    ) -> BackfillReport:
        """Fetch a span of time of one source, or what is missing."""
        from fluxforge.ingestion.backfill import parts_of, run_backfill, state_name
        from fluxforge.ingestion.rest import RestClient, state_dir

        venue, address = self._venue(source)
        venue.check_past(tables, self._settings(source).channels)
        wanted: Iterable[Past]
        size = interval or venue.candle_interval
        if span is None:
            wanted = self._missing(venue, tables, symbols, size)
        else:
            places = [venue.split(product) for product in self._products(source, symbols)]
            parts = (parts_of(tables[0], *place, *span, size) for place in places)
            wanted = chain.from_iterable(parts)
        storage, layout = self._place(Role.INGESTION)
        ready = storage.get_full_path(layout.ready(source))
        state = state_dir(self.config.ingestion.spool_dir) / state_name(source, ready)
        client = RestClient(venue, address)
        return run_backfill(venue, client, wanted, self.writer(source), state)

    def _venue(self, source: str) -> tuple[Source, str]:
        from fluxforge.sources import get_source

        venue, wanted = get_source(source), self._settings(source)
        return venue, venue.rest_address(wanted.url, wanted.rest_url)

    def _settings(self, source: str) -> SourceConfig:
        return self.config.ingestion.sources.get(source, SourceConfig())

    def _products(self, source: str, symbols: str | Sequence[str] | None) -> list[str]:
        from fluxforge.query.scan import several

        if (named := several(symbols)) is not None:
            if not named:
                raise UsageError("symbols names none")
            self._check_listed(source, named)
            return named
        if not self._settings(source).products:
            raise UsageError(f"{source} has no products configured: say symbols=[…]")
        return self._settings(source).products

    def _check_listed(self, source: str, products: Sequence[str]) -> None:
        """Refuse products that the venue's list lacks, where it has one."""
        from fluxforge.ingestion.rest import check_products, known_instruments

        venue, address = self._venue(source)
        try:
            listed = known_instruments(venue, address, self.config.ingestion.spool_dir)
        except FluxForgeError:
            return
        check_products(venue, products, listed)

    def _missing(
        self,
        venue: Source,
        tables: Sequence[str],
        symbols: str | Sequence[str] | None,
        interval: str,
    ) -> Iterator[Past]:
        """Yield the parts of the past in which frames are missing, one a table, symbol and gap."""
        from fluxforge.sources.rest import Past, minutes_of

        named = () if symbols is None else self._products(venue.name, symbols)
        wanted = {venue.split(product) for product in named}
        for gap in self.gaps(venue.name).iter_rows(named=True):
            before = gap["received_before"] or gap["received_after"]
            for table in tables:
                if gap["channel"] not in (None, table) or table in gap["repaired"]:
                    continue
                rows = self.scan(venue.name, table, raw=True).select("market", "symbol", "conn")
                found = rows.unique().collect().filter(conn=gap["conn"])
                for market, symbol, _ in sorted(found.rows()):
                    ours = symbols is None or (market, symbol) in wanted
                    if gap["symbol"] in (None, symbol) and ours:
                        first, last = before - _AROUND, gap["received_after"] + _AROUND
                        if table == "candles":  # from the start of the candle that it begins in
                            length = 60 * minutes_of(interval)
                            begun = first.timestamp() // length * length
                            first = datetime.fromtimestamp(begun, UTC)
                        yield Past(table, symbol, market, first, last, interval)
