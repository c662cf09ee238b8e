"""FluxForge: a market-data lake for people who work in notebooks.

Importing it is cheap: the heavy libraries load when they are first needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fluxforge.lake import Lake

__version__ = "0.1.0"
__all__ = ["Lake", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Lake":
        from fluxforge.lake import Lake

        return Lake
    raise AttributeError(f"module 'fluxforge' has no attribute {name!r}")
