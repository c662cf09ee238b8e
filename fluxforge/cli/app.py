"""The command line itself, to which commands are added."""

from __future__ import annotations

import typer

app = typer.Typer(
    name="fluxforge",
    help="A market-data lake: capture feeds, build tables and query them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(help="Show the configuration, or convert an old one.")
app.add_typer(config_app, name="config", no_args_is_help=True)
quarantine_app = typer.Typer(help="Inspect and retry the lines that no table accepted.")
app.add_typer(quarantine_app, name="quarantine", no_args_is_help=True)
