"""The commands that read tables."""

from __future__ import annotations

from typing import Annotated

import typer

from fluxforge.cli.app import app
from fluxforge.cli.output import say_frame, say_json
from fluxforge.cli.request import Request, command


@command(app)
def sql(
    request: Request,
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="SQL over views named source.table.")
    ],
) -> None:
    """Run a SQL statement over the tables."""
    from fluxforge.query.engine import fetch

    frame = fetch(request.lake().catalog, query)
    say_json(frame) if request.as_json else say_frame(frame, thousands_separator=False)


@command(app)
def tables(request: Request) -> None:
    """List the tables: rows, files, bytes and times."""
    request.show(request.lake().tables())


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
