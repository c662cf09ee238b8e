"""Tables as lazy Polars frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from fluxforge.errors import QueryError, UnknownTableError, UsageError
from fluxforge.query.catalog import TableVersion
from fluxforge.sources import get_source
from fluxforge.tables import PARTITION

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

    from fluxforge.tables import TableFile

Moment = datetime | date | str
Names = str | Sequence[str] | None

_FIRST, _LAST = datetime(1700, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SPANS = (timedelta(minutes=1), timedelta(hours=1), timedelta(days=1), None)
_FRAMES = 32  # of one version, each of other files
_NEWEST = 8  # files to look for symbols in
_SEEN: set[tuple[str, str, str]] = set()  # tables, columns and the names that were found there


def scan_table(
    version: TableVersion,
    *,
    symbols: Names = None,
    instruments: Names = None,
    start: Moment | None = None,
    end: Moment | None = None,
    raw: bool = False,
) -> pl.LazyFrame:
    """Return a lazy frame of one table version; see :meth:`fluxforge.Lake.scan`."""
    import polars as pl

    low, high = moment(start), moment(end)
    chosen = _bare(version, asked(symbols, instruments))
    frame = _read(version, _files(version, chosen, low, high))
    if symbols is not None and _has_markets(version):
        frame = _of_markets(version, frame, several(symbols) or [])
    for column, names in chosen.items():
        # Equality is looked up in the statistics of row groups; being among several is not.
        one = pl.col(column) == names[0] if len(names) == 1 else pl.col(column).is_in(names)
        frame = frame.filter(one)
    return _one_row_a_key(version, _between(frame, low, high), raw=raw)


def _between(frame: pl.LazyFrame, low: datetime | None, high: datetime | None) -> pl.LazyFrame:
    import polars as pl

    def literal(at: datetime) -> pl.Expr:  # Polars takes milliseconds for a literal with a zone
        return pl.lit((at - _EPOCH) // timedelta(microseconds=1)).cast(pl.Datetime("us", "UTC"))

    event = pl.col("ts_event")
    bounds = [event >= literal(low)] if low is not None else []
    return frame.filter(*bounds, *([event < literal(high)] if high is not None else []))


def asked(symbols: Names, instruments: Names) -> dict[str, list[str]]:
    """Return what is asked for, by column; a symbol may have its market before it."""
    both = {"symbol": several(symbols), "instrument": several(instruments)}
    return {column: names for column, names in both.items() if names is not None}


def _has_markets(version: TableVersion) -> bool:
    """Tell whether symbols may have a market before them: in the tables of venues."""
    return version.channel is not None and "market" in version.polars_schema


def _bare(version: TableVersion, chosen: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Return what is asked for, with symbols as they are in the table."""
    if "symbol" not in chosen or not _has_markets(version):
        return dict(chosen)
    return {**chosen, "symbol": [name.rpartition(":")[2] for name in chosen["symbol"]]}


def _files(
    version: TableVersion,
    chosen: Mapping[str, list[str]],
    low: datetime | None,
    high: datetime | None,
) -> list[TableFile]:
    """Return the files that may hold an answer, by their bounds."""
    return [
        file
        for file in version.files
        if file.may_hold("ts_event", low, high)
        and all(
            any(file.may_hold(column, one, one) for one in names)
            for column, names in chosen.items()
        )
    ]


def may_answer(
    version: TableVersion,
    chosen: Mapping[str, list[str]],
    low: datetime | None,
    high: datetime | None,
) -> bool:
    """Tell whether a table may have rows of these names and times, without opening a file."""
    chosen = _bare(version, chosen)
    if _files(version, chosen, low, high):
        return True
    if version.live is None:
        return False
    import polars as pl

    rows = version.live.lazy()
    for column, names in chosen.items():
        rows = rows.filter(pl.col(column).is_in(names))
    return not _between(rows, low, high).head(1).collect().is_empty()


def holds_name(version: TableVersion, column: str, name: str) -> bool:
    """Tell whether a table has, or had, a symbol: mostly the bounds of a file say so."""
    import polars as pl

    if column not in version.polars_schema:
        return False
    known = version.table.uri, column, name
    if known in _SEEN:
        return True
    bare = _bare(version, {column: [name]})[column][0]
    files = [file for file in version.files if file.may_hold(column, bare, bare)]
    found = any(name in (file.least.get(column), file.greatest.get(column)) for file in files)
    for part in () if found else (*([file] for file in reversed(files)), []):
        rows = _read(version, part).filter(pl.col(column) == bare)
        if bare != name:
            rows = rows.filter(_with_market() == name)
        if found := not rows.select(column).head(1).collect().is_empty():
            break
    if found:
        _SEEN.add(known)
    return found


def names_in(version: TableVersion, column: str) -> list[str]:
    """Return all symbols, or instruments, of a table; with the market where there are several."""
    if column not in version.polars_schema:
        return []

    rows = _read(version, list(version.files))
    of_markets = column == "symbol" and _has_markets(version)
    if of_markets and len(get_source(version.source).markets) > 1:
        rows = rows.with_columns(_with_market())
    return rows.select(column).unique().drop_nulls().collect()[column].to_list()


def _read(version: TableVersion, files: list[TableFile]) -> pl.LazyFrame:
    import polars as pl

    parts = [_committed(version, files)] if files else []
    if version.live is not None:
        parts.append(version.live.lazy().select(*version.polars_schema))
    if not parts:
        return pl.LazyFrame(schema=version.polars_schema)
    return pl.concat(parts) if len(parts) > 1 else parts[0]


def _committed(version: TableVersion, files: list[TableFile]) -> pl.LazyFrame:
    """Return the rows of files; a frame is kept, for it keeps what it read of their footers."""
    import polars as pl

    columns = version.polars_schema
    # Credentials may be others the next time; through the cache none are used.
    options = {} if version.cache else version.table.storage.get_storage_options()
    key = (*(file.path for file in files), repr(sorted(options.items())))
    if key in version.frames:
        return version.frames[key]
    if version.cache:
        from fluxforge.query.dataset import make_dataset

        frame = pl.scan_pyarrow_dataset(make_dataset(version, files))
    else:
        frame = pl.scan_parquet(
            version.locate(files),
            schema={name: kind for name, kind in columns.items() if name != PARTITION},
            hive_partitioning=True,
            hive_schema={PARTITION: columns[PARTITION]},
            missing_columns="insert",
            extra_columns="ignore",
            glob=False,  # a folder may be named [1]
            storage_options=options or None,
            credential_provider=None,
        ).select(*columns)
    if len(version.frames) >= _FRAMES:
        version.frames.clear()
    version.frames[key] = frame
    return frame


def _of_markets(version: TableVersion, frame: pl.LazyFrame, symbols: Sequence[str]) -> pl.LazyFrame:
    """Keep the market of symbols that are written with it, as ``linear:BTCUSDT``."""
    import polars as pl

    markets = get_source(version.source).markets
    bare = [name for name in symbols if ":" not in name and len(markets) > 1]
    if bare:
        found = frame.filter(pl.col("symbol").is_in(bare)).select("symbol", "market").unique()
        of_symbol = found.collect().sort("symbol", "market").group_by("symbol", maintain_order=True)
        for symbol, several in of_symbol.agg("market").rows():
            if len(several) > 1:
                choice = " or ".join(f"{market}:{symbol}" for market in several)
                raise UsageError(f"{symbol!r} is in several markets of {version.source}: {choice}")
    if not any(":" in name for name in symbols):
        return frame
    return frame.filter(_with_market().is_in(symbols) | pl.col("symbol").is_in(symbols))


def _with_market() -> pl.Expr:
    import polars as pl

    return pl.concat_str("market", pl.lit(":"), "symbol").alias("symbol")


def scan_tables(versions: TableVersion | Sequence[TableVersion], **options: Any) -> pl.LazyFrame:
    """Return a table, or those of several sources as one frame with a column ``source``."""
    import polars as pl

    if isinstance(versions, TableVersion):
        return scan_table(versions, **options)
    if not versions:
        raise UnknownTableError("no source has such a table")
    frames = []
    for version in versions:
        frame = scan_table(version, **options)
        if "trade_id" in version.columns:  # numbers at one venue, text at another
            frame = frame.with_columns(pl.col("trade_id").cast(pl.String))
        frames.append(frame.select(pl.lit(version.source).alias("source"), pl.all()))
    return pl.concat(frames, how="diagonal_relaxed")


def last_rows(
    versions: TableVersion | Sequence[TableVersion], n: int, **options: Any
) -> pl.DataFrame:
    """Return the last rows by ``ts_event``, from as short a time as holds enough of them."""
    if type(n) is not int or not 0 <= n < 2**31:
        raise QueryError(f"{n!r} is not a number of rows")
    times, columns = [], set[str]()
    for version in [versions] if isinstance(versions, TableVersion) else versions:
        columns.update(version.polars_schema)
        times += [file.greatest.get("ts_event") for file in version.files]
        if version.live is not None:
            times.append(version.live["ts_event"].max())
    latest = max((at for at in times if at is not None), default=None)
    order = [name for name in ("ts_event", "ts_recv", PARTITION) if name in columns]
    for span in _SPANS:
        start = latest - span if latest is not None and span is not None else None
        rows = scan_tables(versions, start=start, **options)
        found = rows.sort(order).tail(n).collect()
        if found.height >= n or start is None:
            break
    return found


def several(names: Names) -> list[str] | None:
    """Return names as a list, also of one, and of what can be gone through once only."""
    if names is None or isinstance(names, str):
        return None if names is None else [names]
    found = list(names) if isinstance(names, Iterable) else None
    if found is None or not all(isinstance(one, str) for one in found):
        raise QueryError(f"{names!r} are not names: write ['BTC-USD']")
    return found


def _one_row_a_key(version: TableVersion, frame: pl.LazyFrame, *, raw: bool) -> pl.LazyFrame:
    import polars as pl

    channel = version.channel
    if raw or channel is None or channel.keep is None:
        return frame
    if channel.keep == "first":
        shown = frame.filter(~pl.col("is_repeat")) if version.has_repeats else frame
        return shown.drop("is_repeat")
    keyless = pl.any_horizontal(pl.col(channel.key).is_null())
    own = pl.when(keyless).then(pl.int_range(pl.len())).alias("own")  # it has no key to share
    ordered = frame.sort("ts_recv", "seq").with_columns(own)
    return ordered.unique([*channel.key, "own"], keep="last", maintain_order=True).drop("own")


def moment(value: Moment | None) -> datetime | None:
    """Read a point in time; without a zone it is UTC, and the ends of the calendar are centuries.

    >>> moment("2026-08-09T21:05")
    datetime.datetime(2026, 8, 9, 21, 5, tzinfo=datetime.timezone.utc)
    >>> moment(date(2026, 8, 9))
    datetime.datetime(2026, 8, 9, 0, 0, tzinfo=datetime.timezone.utc)
    """
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as exc:
            raise QueryError(f"{value!r} is not a time: write 2026-08-09T21:05") from exc
    if not isinstance(value, date):
        raise QueryError(f"{value!r} is not a time: write 2026-08-09T21:05")
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)  # noqa: DTZ001 -- the zone follows
    aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value
    return min(max(aware, _FIRST), _LAST).astimezone(UTC)  # with room for any span beside it


def table_summary(versions: Sequence[TableVersion]) -> pl.DataFrame:
    """Return one row a table, from the logs alone; see :meth:`fluxforge.Lake.tables`."""
    import polars as pl

    schema: dict[str, Any] = {
        "source": pl.String,
        "channel": pl.String,
        "rows": pl.Int64,
        "files": pl.Int64,
        "bytes": pl.Int64,
        "first": pl.Datetime("us", "UTC"),
        "last": pl.Datetime("us", "UTC"),
        "version": pl.Int64,
    }
    rows = []
    for version in versions:
        files = version.files
        firsts = [at for file in files if (at := file.least.get("ts_event")) is not None]
        lasts = [at for file in files if (at := file.greatest.get("ts_event")) is not None]
        rows.append(
            {
                "source": version.source,
                "channel": version.name,
                "rows": sum(file.rows for file in files),
                "files": len(files),
                "bytes": sum(file.size for file in files),
                "first": min(firsts, default=None),
                "last": max(lasts, default=None),
                "version": None if version.version < 0 else version.version,
            }
        )
    return pl.DataFrame(rows, schema=schema)


def table_history(version: TableVersion) -> pl.DataFrame:
    """Return one row per version, from its commits; see :meth:`fluxforge.Lake.history`."""
    import polars as pl

    schema: dict[str, Any] = {
        "version": pl.Int64,
        "time": pl.Datetime("ms", "UTC"),
        "operation": pl.String,
        "segments": pl.Int64,
        "rows": pl.Int64,
        "files": pl.Int64,
        "removed": pl.Int64,
    }
    log = version.table.log
    rows = [
        (
            commit.version,
            commit.at,
            commit.metadata.get("work", commit.operation.lower()),
            sum(name.startswith("segment_") for name in commit.transactions),
            sum(file.rows for file in commit.added),
            len(commit.added),
            len(commit.removed),
        )
        for commit in log.commits(reversed(log.versions()))
    ]
    return pl.DataFrame(rows, schema=schema, orient="row")


def known_symbols(version: TableVersion) -> list[str]:
    """Return the symbols in the newest files of a table, sorted."""
    import polars as pl

    if not version.files or "symbol" not in version.columns:
        return []
    rows = _read(version, list(version.files[-_NEWEST:])).select(
        pl.col("symbol").drop_nulls().unique()
    )
    return sorted(rows.collect()["symbol"])
