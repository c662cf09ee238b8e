"""A lake to try things on: a temporary folder, and a local exchange for each venue."""

from __future__ import annotations

import tempfile
import weakref
from contextlib import ExitStack
from typing import TYPE_CHECKING

from fluxforge.config import FluxForgeConfig
from fluxforge.config.schema import IngestionConfig, SourceConfig, StorageConfig
from fluxforge.errors import UnknownSourceError
from fluxforge.lake.lake import Lake

if TYPE_CHECKING:
    from collections.abc import Sequence

_WANTED = {
    "coinbase": (
        ["BTC-USD", "ETH-USD"],
        ["ticker", "level2", "market_trades", "candles"],
    ),
    "kraken": (["BTC/USD", "ETH/USD"], ["ticker", "book", "trade", "ohlc"]),
    "binance": (["BTCUSDT", "ETHUSDT"], ["ticker", "depth", "aggTrade", "kline"]),
    "bybit": (
        ["spot:BTCUSDT", "linear:BTCUSDT"],
        ["tickers", "orderbook", "publicTrade", "kline"],
    ),
}


class Sandbox:
    """A lake in a temporary folder, with a local exchange of each venue to capture from.

    Everything is real but the market: the venues' protocols over WebSockets, segments, tables.
    When it is closed, or this process ends, the exchanges stop and the folder is deleted. As a
    context manager it gives the lake.

    Parameters
    ----------
    seed
        What the market does: the same for the same seed, but for the times.
    rate
        Frames a second of each connection.
    faults
        What goes wrong, as ``"drop@500, skip@900:3"``; ``fluxforge exchange --help`` lists it.
    sources
        The venues; by default ``coinbase``, ``kraken``, ``binance`` and ``bybit``.

    Attributes
    ----------
    lake
        The lake.

    Examples
    --------
    >>> with sandbox(sources=["coinbase"]) as lake:
    ...     lake.ingest_sync("coinbase", frames=200).frames
    200
    """

    lake: Lake

    def __init__(
        self,
        seed: int = 7,
        rate: float = 1000,
        faults: str | None = None,
        sources: Sequence[str] | None = None,
    ) -> None:
        from fluxforge.simulator import local_exchange

        names = list(_WANTED) if sources is None else list(sources)
        unknown = sorted(set(names) - set(_WANTED))
        if unknown:
            raise UnknownSourceError(
                f"the sandbox has no {unknown[0]!r}: choose from {', '.join(_WANTED)}"
            )
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fluxforge-sandbox-"))
            wanted = {}
            for name in names:
                exchange = stack.enter_context(
                    local_exchange(name, seed=seed, rate=rate, faults=faults or "")
                )
                products, channels = _WANTED[name]
                wanted[name] = SourceConfig(exchange.url, [*products], [*channels])
            self.lake = Lake(
                config=FluxForgeConfig(
                    storage=StorageConfig(base_dir=folder),
                    ingestion=IngestionConfig(sources=wanted),
                )
            )
            # Not left to the interpreter's end: threads are dead by then, and waited for in vain.
            self._end = weakref.finalize(self, _close, self.lake, stack.pop_all())

    def close(self) -> None:
        """Stop what captures from here, and the exchanges; delete the lake."""
        self._end()

    def __enter__(self) -> Lake:
        return self.lake

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Sandbox of {', '.join(self.lake.sources)}: {self.lake!r}>"


def _close(lake: Lake, stack: ExitStack) -> None:
    with stack:
        for capture in [*lake.captures]:
            capture.stop()


sandbox = Sandbox
