"""Kraken, spot, over WebSocket v2."""

from fluxforge.sources.kraken.protocol import SOURCE as SOURCE
