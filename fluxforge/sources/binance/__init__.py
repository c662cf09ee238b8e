"""Binance, spot."""

from fluxforge.sources.binance.protocol import SOURCE as SOURCE
