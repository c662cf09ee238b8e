"""Kraken, spot, over WebSocket v2."""

from fluxforge.sources.kraken.protocol import SOURCE, Kraken

__all__ = ["SOURCE", "Kraken"]
