"""Coinbase Advanced Trade."""

from __future__ import annotations

from fluxforge.sources.coinbase.protocol import Coinbase

__all__ = ["SOURCE", "Coinbase"]

SOURCE = Coinbase()
