"""The arguments and options that several commands share, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from fluxforge.cli import complete

Source = Annotated[
    str | None,
    typer.Argument(
        metavar="SOURCE",
        help="The exchange. The default, unless noted, is all that are configured.",
        autocompletion=complete.sources,
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Configuration settings to override."),
]
Overlays = Annotated[
    list[str] | None,
    typer.Option(
        *("-c", "--config"),
        metavar="OVERLAY",
        help="Name or path of a configuration overlay. Repeatable.",
        autocompletion=complete.overlays,
    ),
]
ConfigDir = Annotated[
    Path | None,
    typer.Option("--config-dir", metavar="DIR", help="The directory that contains config.yaml."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log more messages.")]
LogFormat = Annotated[
    Literal["text", "json"], typer.Option("--log-format", help="Format of the log.")
]

SourceName = Annotated[
    str, typer.Argument(metavar="SOURCE", help="The exchange.", autocompletion=complete.sources)
]
TableName = Annotated[
    str,
    typer.Argument(
        metavar="TABLE", help="The table, for example trades.", autocompletion=complete.tables
    ),
]
Symbol = Annotated[
    str,
    typer.Argument(
        metavar="SYMBOL", help="In the venue's spelling.", autocompletion=complete.symbols
    ),
]
Symbols = Annotated[
    list[str] | None,
    typer.Option(
        "--symbol",
        metavar="SYMBOL",
        help="Include only this symbol. Repeatable.",
        autocompletion=complete.symbols,
    ),
]
Live = Annotated[bool, typer.Option("--live", help="Include rows that are not in the tables yet.")]
Start = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="Start of the range in venue time, for example 2026-08-09T21:00 (UTC)."
    ),
]
End = Annotated[
    str | None, typer.Option(metavar="TIME", help="End of the range in venue time, exclusive.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be done, but change nothing.")
]
