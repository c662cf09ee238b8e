"""What a lake answers with rows: tables, scans, SQL, gaps, exports."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fluxforge.config import Role
from fluxforge.errors import UnknownSourceError, UnknownTableError, UsageError, reason_of
from fluxforge.lake.explaining import check_answer
from fluxforge.lake.places import Places
from fluxforge.sources import get_source, source_names

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import duckdb
    import polars as pl

    from fluxforge.query.catalog import Catalog, TableVersion
    from fluxforge.query.scan import Moment


class Reader(Places):
    """The part of :class:`~fluxforge.Lake` that reads its tables."""

    def tables(self) -> pl.DataFrame:
        """Describe every table, from its log alone.

        Returns
        -------
        polars.DataFrame
            ``source, channel, rows, files, bytes, first, last, version``; ``rows`` counts all
            rows, duplicates included; ``first`` and ``last`` are the bounds of ``ts_event``, UTC.
        """
        from fluxforge.query.scan import table_summary

        self._warn_of_place(Role.ETL_OUTPUT)
        return table_summary([self.catalog.open(*name) for name in self._written(None)])

    def names_of(self, source: str | Sequence[str]) -> list[str]:
        """Return the sources that a name, a list of names or ``"*"`` means."""
        if source == "*":
            return self.catalog.sources()
        if isinstance(source, str) or not isinstance(source, Iterable):
            try:
                return [get_source(source).name]
            except UnknownSourceError:
                if source not in self.catalog.sources():  # one's own tables are there too
                    raise
                return [source]
        named = list(source)
        if not named:
            raise UsageError("no source is named: write '*' for all")
        return list(dict.fromkeys(name for one in named for name in self.names_of(one)))

    def scan(
        self,
        source: str | Sequence[str],
        table: str,
        symbols: Sequence[str] | None = None,
        instruments: Sequence[str] | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
        version: int | None = None,
        as_of: Moment | None = None,
        live: bool = False,
        raw: bool = False,
    ) -> pl.LazyFrame:
        """Return a table as a lazy Polars frame.

        Symbols and times are looked up in the table's log, so that files without them are not
        even opened; columns and further filters are pushed into the files by Polars.

        Parameters
        ----------
        source
            A source, a list of them, or ``"*"`` for all; of several, the frame has a column
            ``source``, and ``trade_id`` is text.
        table
            For instance ``"trades"``.
        symbols, instruments
            Only these: the venue's own spelling, or the common one (``"BTC-USD"``).
        start, end
            Only ``start <= ts_event < end``; without a zone they are UTC.
        version, as_of
            An earlier version of the table, by its number, or the one that was the newest at a
            time; see :meth:`history`.
        live
            Also the rows of segments that are not in the table yet: of running captures, and of
            those that wait for the ETL. They are those of this moment; scan again for newer ones.
        raw
            All rows, also duplicates of a key (trades and candles).

        Raises
        ------
        UnknownSourceError, UnknownTableError
            If there is no such source, table or version.
        UnknownSymbolError
            If the table has no such symbol or instrument.
        UsageError
            If `start` is not before `end`.

        Warns
        -----
        EmptyAnswerWarning
            If the answer is empty; it says why, and what waits to come into tables.
        """
        from fluxforge.query.scan import scan_tables, several

        if [version is not None, as_of is not None, live].count(True) > 1:
            raise UsageError("choose one of version, as_of and live: a past table is as it was")
        opened = self._open(source, table, version, as_of, live=live)
        options: dict[str, Any] = {
            "symbols": several(symbols), "instruments": several(instruments),
            "start": start, "end": end,
        }  # fmt: skip
        check_answer(self, opened, live=live, **options)
        return scan_tables(opened, raw=raw, **options)

    def _scan(self, source: str, table: str, *, live: bool = False, **options: Any) -> pl.LazyFrame:
        """Scan for a computation, which tells by itself what is missing."""
        from fluxforge.query.scan import scan_tables

        return scan_tables(self._open(source, table, live=live), **options)

    def __getitem__(self, name: str | tuple[str, str]) -> pl.LazyFrame:
        """Return :meth:`scan` of a table, as ``lake["coinbase.trades"]``; IPython completes names.

        ``lake["coinbase.trades", "BTC-USD"]`` has one symbol.
        """
        full, *symbols = [name] if isinstance(name, str) else name
        source, _, table = full.partition(".")
        return self.scan(source, table, symbols=symbols or None)

    def _ipython_key_completions_(self) -> list[Any]:
        from fluxforge.query.scan import known_symbols

        versions = [self.catalog.open(*name) for name in self._written(None)]
        names = [(f"{one.source}.{one.name}", one) for one in versions]
        return [name for name, _ in names] + [
            (name, symbol) for name, one in names for symbol in known_symbols(one)
        ]

    def _open(
        self,
        source: str | Sequence[str],
        table: str,
        version: int | None = None,
        as_of: Moment | None = None,
        *,
        live: bool,
    ) -> TableVersion | list[TableVersion]:
        from fluxforge.query.scan import moment

        catalog, at = self._catalog(live), moment(as_of)
        table = table if isinstance(table, str) else repr(table)
        if isinstance(source, str) and source != "*":
            return catalog.open(source, table, version, at)
        if version is not None:
            raise UsageError("each source's table has versions of its own: use as_of for several")
        every = {name: catalog.names(name) for name in self.names_of(source)}
        names = [name for name, tables in every.items() if table in tables]
        if every and not names:
            known = sorted({one for tables in every.values() for one in tables})
            raise UnknownTableError(
                f"no source has a table {table!r}: there are {', '.join(known)}"
            )
        return [catalog.open(name, table, as_of=at) for name in names]

    def _catalog(self, live: bool) -> Catalog:
        return self.live_catalog if live else self.catalog

    def sql(self, query: str, live: bool = False) -> duckdb.DuckDBPyRelation:
        """Run SQL over views named ``source.table``, and ``market.table`` over all venues.

        Tables with a key show one row per key; all rows are in ``source.table_raw``. The views
        over all venues have a column ``source``, and ``trade_id`` as text. With `live`, rows of
        segments that are not in tables yet are there too, as of this moment. ``SHOW TABLES`` lists
        what there is. Of several statements, only the last may be a query.

        The statement may do all that DuckDB can, such as read and write any file of this machine:
        to run statements of people whom you do not trust, use ``connect(read_only=True)``.

        Raises
        ------
        UnknownTableError
            If the statement names a table or column that does not exist.
        QueryError
            If DuckDB refuses it otherwise.

        Examples
        --------
        >>> import tempfile
        >>> from fluxforge import Lake
        >>> lake = Lake(path=tempfile.mkdtemp())
        >>> lake.sql("SELECT count(*) FROM coinbase.trades").fetchall()
        [(0,)]
        """
        from fluxforge.query.engine import run

        relation, opened = run(self._catalog(live), query)
        for version in opened:
            check_answer(self, version, live=live)
        return relation

    def connect(
        self, live: bool = False, read_only: bool = False, *, as_of: Moment | None = None
    ) -> duckdb.DuckDBPyConnection:
        """Return a DuckDB connection with a view for each table, as they are now.

        Parameters
        ----------
        live
            Also the rows of segments that are not in tables yet.
        read_only
            For statements of others: they reach the rows of the tables and nothing else, no file,
            network or extension, and can change no setting. It is slower, for all is read through
            Arrow. Whoever asks may still use all of this process's memory and time.
        as_of
            The tables as they were at this time.
        """
        from fluxforge.query.engine import connect
        from fluxforge.query.scan import moment

        return connect(self._catalog(live), as_of=moment(as_of), read_only=read_only)

    def history(self, source: str, table: str) -> pl.DataFrame:
        """Return what each version of a table did, the newest first.

        Returns
        -------
        polars.DataFrame
            ``version, time, operation, segments, rows, files, removed``: when it was committed
            (UTC), how many segments it took, the rows and files that it added, and the files that
            it took out. Versions are kept for 30 days.
        """
        from fluxforge.query.scan import table_history

        return table_history(self.catalog.open(source, table))

    def cache(self) -> pl.DataFrame:
        """Return what is kept of remote tables: ``folder, blocks, bytes, max_bytes``.

        No row, where ``query.cache_max_mb`` is 0.
        """
        from fluxforge.query.cache import describe_cache

        return describe_cache(self._cache)

    def gaps(self, source: str | None = None) -> pl.DataFrame:
        """Return what venues sent and nobody received, one row per gap.

        Parameters
        ----------
        source
            The exchange; None: all that are configured, or have tables.

        Returns
        -------
        polars.DataFrame
            ``source, market, conn, channel, symbol``, the scope: a null channel or symbol stands
            for all of the connection; ``first_missing, last_missing`` in the venue's numbers, where
            it has any; ``missing``, how many, or 1 where that is unknown; ``received_before,
            received_after``, the capture times around the gap (UTC); ``known_by``: ``"number"``,
            ``"checksum"`` or ``"age"``; ``repaired``, the tables that miss nothing of it any more
            (see :meth:`backfill`). Segments that are not yet in tables are not looked at.
        """
        import polars as pl

        from fluxforge.query.gaps import find_gaps

        self._warn_of_place(Role.ETL_OUTPUT)
        here = self.catalog.sources() if source is None else [source]
        names = [name for name in here if source is not None or name in source_names()]
        if not names:
            raise UsageError("no source is configured, and none has tables")
        found = [find_gaps(self.catalog, name) for name in names]
        return pl.concat(found, how="diagonal_relaxed")

    def tail(
        self,
        source: str | Sequence[str],
        table: str,
        n: int = 20,
        symbols: Sequence[str] | None = None,
        *,
        instruments: Sequence[str] | None = None,
        live: bool = True,
    ) -> pl.DataFrame:
        """Return the last `n` rows of a table, in the order of ``ts_event``.

        Rows of segments that are not in the table yet are among them, unless `live` is false.
        """
        from fluxforge.query.scan import last_rows, several

        opened = self._open(source, table, live=live)
        names = {"symbols": several(symbols), "instruments": several(instruments)}
        check_answer(self, opened, live=live, **names)
        return last_rows(opened, n, **names)

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
            If the path ends otherwise, or cannot be written.
        """
        target, rows = Path(path), self.scan(source, table, **scan)
        sinks: dict[str, Callable[[Path], object]]
        sinks = {".parquet": rows.sink_parquet, ".csv": rows.sink_csv, ".arrow": rows.sink_ipc}
        if (form := target.suffix.lower()) not in sinks:
            raise UsageError(f"cannot export to {form!r}: choose .parquet, .csv or .arrow")
        try:
            sinks[form](target)
        except OSError as exc:
            raise UsageError(f"cannot write {target}: {reason_of(exc)}") from exc
        return target
