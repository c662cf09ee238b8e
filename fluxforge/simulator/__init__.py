"""The local exchange: a real WebSocket server for demonstrations, notebooks and tests.

To read, bottom up: ``book`` and ``market`` (a seeded market), ``faults``, ``venue`` (what a venue's
server side is made of), ``coinbase`` (one of them), ``replay``, ``connection``, ``server``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fluxforge.simulator.server import (
        ExchangeOptions,
        LocalExchange,
        local_exchange,
        run_exchange,
    )

__all__ = ["ExchangeOptions", "LocalExchange", "local_exchange", "run_exchange"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from fluxforge.simulator import server

        return getattr(server, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
