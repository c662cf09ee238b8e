"""Coinbase Advanced Trade."""

from fluxforge.sources.coinbase.protocol import SOURCE, Coinbase

__all__ = ["SOURCE", "Coinbase"]
