"""Recorded traffic of each venue through the ETL: rows, accounts, and the books at the end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import polars as pl
import pytest

from fluxforge import Lake
from fluxforge.analytics.read import read_book, read_coverage
from fluxforge.errors import UnknownSymbolError, UsageError
from fluxforge.simulator import local_exchange
from fluxforge.sources.checksum import ChecksumBook
from tests.support.recordings import capture

if TYPE_CHECKING:
    from pathlib import Path

GOLDEN = {
    ("coinbase", "five-channels"): {
        "lines": 1030, "orderbook": 74193, "trades": 279, "ticker": 160, "candles": 204,
    },
    ("coinbase", "reconnect"): {"lines": 1839, "orderbook": 99947},
    ("kraken", "btc-short"): {"lines": 377, "orderbook": 479},
    ("kraken", "eth"): {"lines": 1170, "orderbook": 2243},
    ("bybit", "btc-doge"): {
        "lines": 1601, "orderbook": 11848, "trades": 150, "candles": 51, "ticker": 390,
    },
    ("binance", "nkn-lrc"): {
        "lines": 254, "orderbook": 406 + 2785, "trades": 2, "candles": 2, "ticker": 83,
    },
}  # fmt: skip

DISTINCT = {
    ("coinbase", "five-channels"): {"trades": 279, "candles": 200},
    ("bybit", "btc-doge"): {"trades": 150, "candles": 6},
    ("binance", "nkn-lrc"): {"trades": 2, "candles": 2},
}
CONNECTIONS = {("coinbase", "reconnect"): 2, ("bybit", "btc-doge"): 2}
FRAMES = {
    ("coinbase", "five-channels"): {
        "l2_data": 775, "market_trades": 59, "ticker": 160, "candles": 6, "heartbeats": 25,
        "subscriptions": 5,
    },
    ("coinbase", "reconnect"): {"l2_data": 1731, "heartbeats": 104, "subscriptions": 4},
    ("kraken", "btc-short"): {
        "book": 301, "heartbeat": 60, "status": 1, "subscribe": 8, "unsubscribe": 7,
    },
    ("kraken", "eth"): {"book": 1129, "heartbeat": 39, "status": 1, "subscribe": 1},
    ("bybit", "btc-doge"): {
        "orderbook": 1094, "tickers": 390, "publicTrade": 44, "kline": 49, "subscribe": 24,
    },
    ("binance", "nkn-lrc"): {
        "depthUpdate": 165, "bookTicker": 83, "aggTrade": 2, "kline": 2, "depth": 2,
    },
}  # fmt: skip

BOOKS = {
    ("kraken", "btc-short", "BTC/USD"): (63004.9, 0.01661321, 63005.0, 0.74804549, 10, 10),
    ("kraken", "eth", "ETH/USD"): (1877.43, 0.02367331, 1877.47, 1.74941086, 25, 25),
    ("bybit", "btc-doge", "linear:BTCUSDT"): (65114.2, 5.974, 65114.3, 9.06, 200, 200),
    ("bybit", "btc-doge", "spot:BTCUSDT"): (65140.4, 0.622237, 65140.5, 0.606831, 200, 200),
    ("bybit", "btc-doge", "DOGEUSDT"): (0.07055, 192121.0, 0.07056, 4200.0, 200, 200),
    ("binance", "nkn-lrc", "NKNUSDT"): (0.3527, 9602.0, 0.3531, 152.0, 614, 994),
    ("binance", "nkn-lrc", "LRCBTC"): (0.00000637, 2500.0, 0.00000638, 2285.0, 176, 1000),
}

_lakes: dict[tuple[str, str], Lake] = {}


@pytest.fixture
def lake(
    request: pytest.FixtureRequest, captures: Path, tmp_path_factory: pytest.TempPathFactory
) -> Lake:
    """Return a lake into which one recording was captured over real sockets, and processed."""
    source, name = request.param
    if (source, name) not in _lakes:
        recording = captures / source / f"{name}.ndjson.zst"
        frames, folder = GOLDEN[source, name]["lines"], tmp_path_factory.mktemp(name)
        _lakes[source, name], _ = capture(recording, source, frames, folder)
    return _lakes[source, name]


@pytest.mark.parametrize(("lake", "golden"), [(key, key) for key in GOLDEN], indirect=["lake"])
def test_every_line_is_accounted_for(lake: Lake, golden: tuple[str, str]) -> None:
    source, _ = golden
    wanted = dict(GOLDEN[golden])
    [account] = lake.scan(source, "segments").collect().to_dicts()
    assert account["lines_read"] == account["lines_taken"] == wanted.pop("lines")
    assert account["unknown_fields"] == "{}"
    assert json.loads(account["frames"]) == FRAMES[golden]
    rows = {name: lake.scan(source, name, raw=True).collect() for name in wanted}
    assert {name: frame.height for name, frame in rows.items()} == wanted
    for frame in rows.values():
        assert frame.select("symbol", "instrument", "market", "ts_event").null_count().row(0)[
            :3
        ] == (0, 0, 0)
    connections = rows["orderbook"]["conn"].n_unique()
    assert connections == CONNECTIONS.get(golden, 1)
    distinct = {name: lake.scan(source, name).collect().height for name in DISTINCT.get(golden, {})}
    assert distinct == DISTINCT.get(golden, {})
    assert lake.gaps(source).is_empty()
    assert not read_coverage(lake.scan, source, lake.gaps).is_empty()


@pytest.mark.parametrize(("lake", "golden"), [(key[:2], key) for key in BOOKS], indirect=["lake"])
def test_the_book_at_the_end(lake: Lake, golden: tuple[str, str, str]) -> None:
    source, _, symbol = golden
    book = read_book(lake.scan, source, symbol, None, None)
    bid, bid_size, ask, ask_size, bids, asks = BOOKS[golden]
    assert book.bids.row(0) == (bid, bid_size)
    assert book.asks.row(0) == (ask, ask_size)
    assert (book.bids.height, book.asks.height) == (bids, asks)
    assert book.complete


def check(lake: Lake, symbol: str, depth: int, decimals: int, size_decimals: int) -> int:
    """Compare the checksum of every frame of a book; return how many there are."""
    rows = lake.scan("kraken", "orderbook", symbols=[symbol]).collect().sort("ts_recv", "position")
    checked, book = 0, ChecksumBook(depth)
    for (_, checksum), frame in rows.group_by("ts_recv", "checksum", maintain_order=True):
        if frame["is_snapshot"][0]:
            book = ChecksumBook(depth)
        levels = {
            side: [
                (price, f"{price:.{decimals}f}", f"{size:.{size_decimals}f}")
                for price, size in frame.filter(pl.col("side") == side)
                .select("price", "size")
                .rows()
            ]
            for side in ("bid", "ask")
        }
        book.apply(levels["bid"], levels["ask"])
        assert book.checksum() == checksum
        checked += 1
    return checked


@pytest.mark.parametrize(
    ("lake", "symbol", "depth", "decimals", "frames"),
    [(("kraken", "btc-short"), "BTC/USD", 10, 1, 301), (("kraken", "eth"), "ETH/USD", 25, 2, 1129)],
    indirect=["lake"],
)
def test_all_checksums_are_right_when_computed_from_the_table(
    lake: Lake, symbol: str, depth: int, decimals: int, frames: int
) -> None:
    """The recordings have no list of instruments: these are the decimals of their frames."""
    assert check(lake, symbol, depth, decimals, 8) == frames


def test_checksums_of_the_local_exchange_with_the_decimals_of_its_instruments(
    tmp_path: Path,
) -> None:
    with local_exchange("kraken", seed=5, rate=0) as exchange:
        lake = Lake(
            overrides=[
                f"storage.base_dir={tmp_path}/lake",
                f"ingestion.spool_dir={tmp_path}/spool",
                f"ingestion.sources.kraken.url={exchange.url}",
                "ingestion.sources.kraken.products=[BTC/USD,DOGE/USD]",
                "ingestion.sources.kraken.channels=[book]",
            ]
        )
        lake.ingest_sync("kraken", frames=400)
        listed = lake.instruments("kraken").rows_by_key("symbol", named=True, unique=True)
    lake.etl("kraken")
    for symbol in ("BTC/USD", "DOGE/USD"):
        decimals = listed[symbol]["price_decimals"], listed[symbol]["size_decimals"]
        assert check(lake, symbol, 100, *decimals) > 50


@pytest.mark.parametrize("lake", [("bybit", "btc-doge")], indirect=True)
def test_markets_of_one_symbol_are_told_apart(lake: Lake) -> None:
    found = lake.scan("bybit", "orderbook").select("symbol", "market", "instrument").unique()
    assert sorted(found.collect().rows()) == [
        ("BTCUSDT", "linear", "BTC-USDT-PERP"),
        ("BTCUSDT", "spot", "BTC-USDT"),
        ("DOGEUSDT", "linear", "DOGE-USDT-PERP"),
    ]
    both = lake.scan("bybit", "orderbook", symbols=["linear:BTCUSDT", "linear:DOGEUSDT"])
    assert both.select("market").unique().collect()["market"].to_list() == ["linear"]
    for wrong in (":BTCUSDT", "foo:BTCUSDT", "LINEAR:BTCUSDT", "inverse:DOGEUSDT"):
        with pytest.raises(UnknownSymbolError, match=r"linear:|spot:"):
            lake.book("bybit", wrong)
        with pytest.raises(UnknownSymbolError, match=r"linear:|spot:"):
            lake.scan("bybit", "trades", symbols=[wrong])
    for ask in (
        lambda: lake.book("bybit", "BTCUSDT"),
        lambda: lake.tail("bybit", "trades", symbols=["BTCUSDT"]),
        lambda: lake.bars("bybit", "BTCUSDT"),
    ):
        with pytest.raises(UsageError, match="linear:BTCUSDT or spot:BTCUSDT"):
            ask()
