"""The commands about the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fluxforge.cli.app import config_app
from fluxforge.cli.request import Request, command


@command(config_app)
def show(request: Request) -> None:
    """Print the effective configuration and the files that it comes from.

    Secrets are masked.
    """
    config = request.config()
    request.show(config, config.to_yaml().rstrip())


@command(config_app)
def migrate(
    request: Request,
    old: Annotated[Path, typer.Argument(metavar="OLD.yaml", help="A file in the old format.")],
) -> None:
    """Print an old configuration in the current format."""
    import yaml

    from fluxforge.config import migrate_file

    new = migrate_file(old)
    request.show(yaml.safe_load(new) or {}, new.rstrip())
