"""The commands that read tables."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from fluxforge.cli.app import app
from fluxforge.cli.options import End, Live, SourceName, Start, Symbol, Symbols, TableName
from fluxforge.cli.output import say_frame, say_json, say_rows
from fluxforge.cli.request import Request, command


@command(app)
def sql(
    request: Request,
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="SQL over views that are named source.table.")
    ],
    live: Live = False,
    safe: Annotated[
        bool, typer.Option("--safe", help="Allow a single query over the tables and nothing else.")
    ] = False,
) -> None:
    """Run SQL over the tables. SHOW TABLES lists them."""
    from fluxforge.query.engine import fetch

    lake = request.lake()
    found = fetch(lake.live_catalog if live else lake.catalog, query, safe=safe)
    say_json(found) if request.as_json else say_rows(found.columns, found.rows)


@command(app)
def tables(request: Request) -> None:
    """List the tables with their rows, files, sizes and time ranges."""
    frame = request.lake().tables()
    say_json(frame) if request.as_json else say_frame(frame, thousands_separator=True)


@command(app)
def tail(
    request: Request,
    source: SourceName,
    table: TableName,
    count: Annotated[int, typer.Option("-n", min=1, help="Number of rows.")] = 20,
    symbol: Symbols = None,
) -> None:
    """Show the last rows of a table, including rows that are not committed yet."""
    request.show(request.lake().tail(source, table, count, symbol))


@command(app)
def bars(
    request: Request,
    source: SourceName,
    symbol: Symbol,
    every: Annotated[
        str,
        typer.Option(metavar="LENGTH", help="Length: 1s, 5m; a number for other kinds."),
    ] = "1m",
    kind: Annotated[str, typer.Option(help="Kind of bar: time, tick, volume or dollar.")] = "time",
    start: Start = None,
    end: End = None,
    live: Live = False,
) -> None:
    """Show bars that are computed from the trades of a symbol."""
    with suppress(ValueError):
        every = float(every)  # type: ignore[assignment]
    request.show(
        request.lake().bars(source, symbol, every, kind, start, end, live=live)  # type: ignore[arg-type]
    )


@command(app)
def book(
    request: Request,
    source: SourceName,
    symbol: Symbol,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="Venue time. Default: the end of the data.")
    ] = None,
    depth: Annotated[int, typer.Option(min=1, help="Number of levels per side.")] = 10,
    live: Live = False,
) -> None:
    """Show the order book of a symbol at a point in time."""
    import polars as pl

    found = request.lake().book(source, symbol, at, depth, live=live)
    sides = [
        frame.rename(lambda name, side=side: f"{side}_{name}")  # type: ignore[misc]
        for side, frame in (("bid", found.bids), ("ask", found.asks))
    ]
    with pl.Config(fmt_float="full", tbl_rows=-1):
        request.show(found, f"{found!r}\n{pl.concat(sides, how='horizontal')}")


@command(app)
def export(
    request: Request,
    source: SourceName,
    table: TableName,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A .parquet, .csv or .arrow file.")],
    symbol: Symbols = None,
    start: Start = None,
    end: End = None,
) -> None:
    """Write the rows of a table to a file."""
    written = request.lake().export(source, table, path, symbols=symbol, start=start, end=end)
    request.show({"file": written, "bytes": written.stat().st_size}, str(written))


@command(app, of_source=True)
def gaps(request: Request) -> None:
    """List what venues sent and no capture received.

    Exits with 1 if there is any, repaired or not. Only segments in the tables are examined.
    """
    frame = request.lake().gaps(request.source)
    request.show(frame)
    if frame.height:
        raise typer.Exit(1)
