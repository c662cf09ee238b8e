"""What the shell completes: names that the configuration and the tables of this folder have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def sources(incomplete: str) -> list[str]:
    """Return the sources that FluxForge speaks with."""
    from fluxforge.sources import source_names

    return _beginning(incomplete, source_names())


def tables(incomplete: str) -> list[str]:
    """Return the tables of all sources."""
    from fluxforge.sources import source_names
    from fluxforge.transform.schema import table_schemas

    return _beginning(incomplete, {name for one in source_names() for name in table_schemas(one)})


def symbols(incomplete: str) -> list[str]:
    """Return the symbols that the configuration captures."""
    from fluxforge.config import load_config

    configured = load_config().ingestion.sources.values()
    return _beginning(incomplete, {name for source in configured for name in source.products})


def overlays(incomplete: str) -> list[str]:
    """Return the overlays that lie beside the configuration."""
    from fluxforge.config import load_config

    folders = {path.parent for path in load_config().files} or {Path("conf")}
    found = {path.stem for folder in folders for path in folder.glob("*.yaml")}
    return _beginning(incomplete, found - {"config"})


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
