"""Coinbase Advanced Trade."""

from fluxforge.sources.coinbase.protocol import SOURCE as SOURCE
from fluxforge.sources.coinbase.protocol import Coinbase as Coinbase
