"""The commands that read tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fluxforge.cli import complete
from fluxforge.cli.app import app
from fluxforge.cli.output import say_frame, say_json
from fluxforge.cli.request import Request, command

SourceName = Annotated[
    str, typer.Argument(metavar="SOURCE", help="The exchange.", autocompletion=complete.sources)
]
TableName = Annotated[
    str,
    typer.Argument(metavar="TABLE", help="For instance trades.", autocompletion=complete.tables),
]
Symbol = Annotated[
    str,
    typer.Argument(
        metavar="SYMBOL", help="As the venue spells it.", autocompletion=complete.symbols
    ),
]
Symbols = Annotated[
    list[str] | None,
    typer.Option(
        "--symbol", metavar="SYMBOL", help="Only this; repeatable.", autocompletion=complete.symbols
    ),
]
Live = Annotated[bool, typer.Option("--live", help="Also rows that are not in tables yet.")]
Start = Annotated[
    str | None, typer.Option(metavar="TIME", help="From this venue time on: 2026-08-09T21:00, UTC.")
]
End = Annotated[str | None, typer.Option(metavar="TIME", help="Before this time.")]


@command(app)
def sql(
    request: Request,
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="SQL over views named source.table.")
    ],
    live: Live = False,
    safe: Annotated[
        bool,
        typer.Option("--safe", help="Take one query of the tables, and nothing else."),
    ] = False,
) -> None:
    """Run SQL over the tables; SHOW TABLES lists them."""
    from fluxforge.query.engine import fetch

    lake = request.lake()
    request.show(fetch(lake.live_catalog if live else lake.catalog, query, safe=safe))


@command(app)
def tables(request: Request) -> None:
    """List the tables: rows, files, bytes and times."""
    frame = request.lake().tables()
    say_json(frame) if request.as_json else say_frame(frame, thousands_separator=True)


@command(app)
def tail(
    request: Request,
    source: SourceName,
    table: TableName,
    count: Annotated[int, typer.Option("-n", min=1, help="How many rows.")] = 20,
    symbol: Symbols = None,
) -> None:
    """Show the last rows of a table, also those that are not in it yet."""
    request.show(request.lake().tail(source, table, count, symbol))


@command(app)
def bars(
    request: Request,
    source: SourceName,
    symbol: Symbol,
    every: Annotated[
        str, typer.Option(metavar="LENGTH", help="1s, 5m; or a number, for the other kinds.")
    ] = "1m",
    kind: Annotated[str, typer.Option(help="time, tick, volume or dollar.")] = "time",
    start: Start = None,
    end: End = None,
    live: Live = False,
) -> None:
    """Show bars of a symbol's trades."""
    request.show(
        request.lake().bars(source, symbol, every, kind, start=start, end=end, live=live)  # type: ignore[arg-type]
    )


@command(app)
def book(
    request: Request,
    source: SourceName,
    symbol: Symbol,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="At this venue time; by default the end.")
    ] = None,
    depth: Annotated[int, typer.Option(min=1, help="Levels a side.")] = 10,
    live: Live = False,
) -> None:
    """Show the order book of a symbol at a moment."""
    import polars as pl

    found = request.lake().book(source, symbol, at, depth, live=live)
    sides = [
        frame.rename(lambda name, side=side: f"{side}_{name}")  # type: ignore[misc]
        for side, frame in (("bid", found.bids), ("ask", found.asks))
    ]
    request.show(found, f"{found!r}\n{pl.concat(sides, how='horizontal')}")


@command(app)
def export(
    request: Request,
    source: SourceName,
    table: TableName,
    path: Annotated[Path, typer.Argument(metavar="FILE", help=".parquet, .csv or .arrow")],
    symbol: Symbols = None,
    start: Start = None,
    end: End = None,
) -> None:
    """Write rows of a table to a file."""
    written = request.lake().export(source, table, path, symbols=symbol, start=start, end=end)
    request.show({"file": written, "bytes": written.stat().st_size}, str(written))


@command(app, of_source=True)
def gaps(request: Request) -> None:
    """List the frames that the venue sent and nobody received.

    Exit 1 if there are any. Only what is in tables is looked at.
    """
    lake = request.lake()
    frame = lake.gaps(request.one_source(lake))
    request.show(frame)
    if frame.height:
        raise typer.Exit(1)
