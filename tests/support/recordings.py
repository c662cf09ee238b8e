"""Recordings of venues, captured once more over real sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluxforge import Lake
from fluxforge.simulator import local_exchange

if TYPE_CHECKING:
    from pathlib import Path

    from fluxforge.ingestion.report import IngestReport

WANTED = {
    "coinbase": ("[BTC-USD,ETH-USD]", "[level2,market_trades,ticker,candles]"),
    "kraken": ("[BTC/USD,ETH/USD]", "[book]"),
    "bybit": (
        "[linear:BTCUSDT,linear:DOGEUSDT,spot:BTCUSDT]",
        "[orderbook,publicTrade,tickers,kline]",
    ),
    "binance": ("[NKNUSDT,LRCBTC]", "[depth,aggTrade,bookTicker,kline]"),
}


def capture(recording: Path, source: str, frames: int, folder: Path) -> tuple[Lake, IngestReport]:
    """Capture so many frames of a recording into a lake in a folder, and make its tables."""
    products, channels = WANTED[source]
    with local_exchange(source, replay=(recording,), rate=0) as exchange:
        lake = Lake(
            overrides=[
                f"storage.base_dir={folder}",
                f"ingestion.sources.{source}.url={exchange.url}",
                f"ingestion.sources.{source}.products={products}",
                f"ingestion.sources.{source}.channels={channels}",
            ]
        )
        report = lake.ingest_sync(source, frames=frames)
    lake.etl(source)
    return lake, report
