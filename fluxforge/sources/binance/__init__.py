"""Binance, spot."""

from fluxforge.sources.binance.protocol import SOURCE, Binance

__all__ = ["SOURCE", "Binance"]
