"""Bybit v5, public: spot, linear and inverse."""

from fluxforge.sources.bybit.protocol import SOURCE as SOURCE
