"""Frames that never arrive: found, named, asked for again, and repaired where a venue can."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest

from fluxforge import Lake
from fluxforge.errors import ConfigError, NoBookError, UsageError
from fluxforge.segments import open_segment
from fluxforge.simulator import local_exchange
from fluxforge.sources import get_source
from fluxforge.sources.rest import Past
from tests.support.recordings import capture

if TYPE_CHECKING:
    from pathlib import Path

WANTED = {
    "coinbase": ("BTC-USD", "[market_trades,candles,level2]"),
    "kraken": ("BTC/USD", "[trade,book]"),
    "binance": ("BTCUSDT", "[aggTrade,depth]"),
    "bybit": ("linear:BTCUSDT", "[publicTrade,orderbook]"),
}


def lake_at(folder: Path, source: str, url: str) -> Lake:
    product, channels = WANTED[source]
    return Lake(
        overrides=[
            f"storage.base_dir={folder}",
            f"ingestion.spool_dir={folder / 'spool'}",
            f"ingestion.sources.{source}.url={url}",
            f"ingestion.sources.{source}.products=[{product}]",
            f"ingestion.sources.{source}.channels={channels}",
        ]
    )


def assert_no_book(lake: Lake, source: str, symbol: str, at: datetime) -> None:
    try:
        book = lake.book(source, symbol, at=at)
    except NoBookError:
        return
    assert not book.complete


def event_at(lake: Lake, source: str, symbol: str, received: datetime) -> datetime:
    """Return the venue's time of the first change of a book that came at a time or later.

    Where that is a new snapshot already, it is the moment before.
    """
    rows = lake.scan(source, "orderbook", symbols=[symbol]).filter(pl.col("ts_recv") >= received)
    moment = pl.coalesce("ts_event", "ts_recv").alias("at")
    first = rows.sort("ts_recv").select(moment, "is_snapshot").head(1).collect()
    at, is_snapshot = first.row(0)
    return at - timedelta(microseconds=1) if is_snapshot else at


def spans_of(lake: Lake, source: str, conn: str) -> dict[str, int]:
    return dict(lake.coverage(source).filter(conn=conn).group_by("table").len().rows())


@pytest.mark.parametrize("source", WANTED)
def test_what_is_lost_is_named_asked_for_again_and_fetched(tmp_path: Path, source: str) -> None:
    symbol = WANTED[source][0]
    with local_exchange(
        source, seed=3, rate=300, faults="skip@200:100"
    ) as exchange:  # the snapshot comes in time
        lake = lake_at(tmp_path, source, exchange.url)
        report = lake.ingest_sync(source, frames=700)
        lake.etl(source)
        gaps = lake.gaps(source)
        assert report.gaps == gaps.height >= 1
        of_books = gaps.filter(pl.col("channel").fill_null("orderbook") == "orderbook")
        [gap] = of_books.to_dicts()
        assert gap["known_by"] == ("checksum" if source == "kraken" else "number")
        assert gap["symbol"] in (None, symbol.rpartition(":")[2])
        assert (gap["source"], gap["market"]) == (source, symbol.rpartition(":")[0] or "spot")

        # The exchange was asked for a new snapshot, and gave it on the same connection.
        rows = lake.scan(source, "orderbook", symbols=[symbol])
        snapshots = rows.filter("is_snapshot").select("conn", "ts_recv").unique().collect()
        assert snapshots.height >= 2
        assert snapshots["conn"].n_unique() == 1
        assert_no_book(lake, source, symbol, event_at(lake, source, symbol, gap["received_after"]))
        assert lake.book(source, symbol).complete

        before = spans_of(lake, source, gap["conn"])
        fetched = lake.backfill(table="trades", gaps=True)  # of all that are configured
        lake.etl(source)
    if source == "bybit":  # it numbers its books alone
        assert fetched.parts == 0
        return
    assert fetched.parts == 1
    repaired = lake.gaps(source).filter(pl.col("channel").fill_null("trades") == "trades")
    assert repaired["repaired"].list.contains("trades").to_list() == [True]
    after = spans_of(lake, source, gap["conn"])
    assert after["trades"] < before["trades"]  # the spans on both sides are one now
    assert after["orderbook"] == before["orderbook"]
    assert lake.gaps(source).filter(channel="orderbook")["repaired"].list.len().sum() == 0
    ids = lake.scan(source, "trades").select("trade_id").collect()["trade_id"]
    assert ids.max() - ids.min() + 1 == ids.len() == ids.n_unique()


@pytest.mark.parametrize(
    ("source", "name", "symbol", "kind", "number", "colon"),
    [
        ("coinbase", "five-channels", "BTC-USD", b'"l2_data"', 300, b'":'),
        ("coinbase", "five-channels", "BTC-USD", b'"l2_data"', 300, b'" : '),
        ("coinbase", "reconnect", "BTC-USD", b'"l2_data"', 400, b'":'),
        ("kraken", "btc-short", "BTC/USD", b'"book","type":"update"', 60, b'":'),
        ("kraken", "eth", "ETH/USD", b'"book","type":"update"', 501, b'":'),
        ("bybit", "btc-doge", "linear:BTCUSDT", b"orderbook.200.BTCUSDT", 200, b'":'),
        ("bybit", "btc-doge", "linear:BTCUSDT", b"orderbook.200.BTCUSDT", 200, b'" : '),
        ("binance", "nkn-lrc", "NKNUSDT", b'"depthUpdate"', 60, b'":'),
    ],
)
def test_a_frame_taken_out_of_a_recording_is_missed(
    captures: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    source: str,
    name: str,
    symbol: str,
    kind: bytes,
    number: int,
    colon: bytes,
) -> None:
    with open_segment(captures / source / f"{name}.ndjson.zst") as file:
        lines = file.read().splitlines(keepends=True)
    del lines[[index for index, line in enumerate(lines) if kind in line][number]]
    parts = [line.partition(b'"data":') for line in lines]
    lines = [head + mark + frame.replace(b'":', colon) for head, mark, frame in parts]
    recording = tmp_path / "recording.ndjson"
    recording.write_bytes(b"".join(lines))
    lake, report = capture(recording, source, len(lines), tmp_path / "lake")
    assert (report.gaps, report.resubscribed) == (1, 1)
    assert "asking for a new snapshot" in caplog.text
    [gap] = lake.gaps(source).to_dicts()
    assert gap["missing"] >= 1
    assert gap["symbol"] in (None, symbol.rpartition(":")[2])
    assert_no_book(lake, source, symbol, event_at(lake, source, symbol, gap["received_after"]))


@pytest.mark.parametrize("source", WANTED)
def test_instruments_are_kept_and_unknown_products_refused(tmp_path: Path, source: str) -> None:
    product, _ = WANTED[source]
    symbol = product.rpartition(":")[2]
    with local_exchange(source, seed=3) as exchange:
        lake = lake_at(tmp_path, source, exchange.url)
        found = lake.instruments(source, "btc")
        wrong = product.replace("BTC", "BTTC")
        config = [f"ingestion.sources.{source}.{key}" for key in ("url", "products", "channels")]
        values = [exchange.url, f"[{wrong}]", WANTED[source][1]]
        other = Lake(
            overrides=[f"storage.base_dir={tmp_path}"]
            + [f"{key}={value}" for key, value in zip(config, values, strict=True)]
        )
        with pytest.raises(ConfigError, match=symbol):
            other.ingest_sync(source, frames=1)
    [row] = found.filter(symbol=symbol, market=product.rpartition(":")[0] or "spot").to_dicts()
    assert (row["base"], row["price_decimals"], row["size_decimals"]) == ("BTC", 2, 8)
    assert lake.instruments(source, "btc").equals(found)  # the exchange has gone


def test_candles_of_the_past_are_there_once(tmp_path: Path) -> None:
    for source in WANTED:
        with local_exchange(source, seed=3) as exchange:
            lake = lake_at(tmp_path / source, source, exchange.url)
            start = "2026-01-01"
            with pytest.raises(UsageError, match="not 'orderbook'"):
                lake.backfill(source, "orderbook", start=start)
            with pytest.raises(UsageError, match="from when"):
                lake.backfill(source, "candles")
            with pytest.raises(UsageError, match="from when"):
                lake.backfill(source)
            for first, end in (("2026-01-02", "2026-01-01"), ("2100-01-01", None)):
                with pytest.raises(UsageError, match="no such past"):
                    lake.backfill([source], "candles", start=first, end=end)
            with pytest.raises(UsageError, match="choose gaps"):
                lake.backfill(source, "candles", start=start, gaps=True)
            since = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(hours=3)
            report = lake.backfill(source, "candles", start=since, interval="1h")
            again = lake.backfill(source, "candles", start=since, interval="1h")
        assert report.parts >= 1
        assert again.parts + again.already == report.parts
        live = lake.scan(source, "candles", live=True).collect()
        lake.etl(source)
        candles = lake.scan(source, "candles").collect()
        assert live.height == candles.height
        assert candles["interval"].unique().to_list() == ["1h"]
        assert 1 <= candles.height == candles["start"].n_unique() <= 4


@pytest.mark.parametrize(("source", "table"), [("kraken", "candles"), ("bybit", "trades")])
def test_what_a_venue_no_longer_gives_is_not_taken_for_fetched(
    tmp_path: Path, source: str, table: str
) -> None:
    with local_exchange(source, seed=3) as exchange:
        lake = lake_at(tmp_path, source, exchange.url)
        lake.ingest_sync(source, frames=100)
        old = datetime.now(UTC) - timedelta(hours=60)
        first, second = (lake.backfill(source, table, start=old) for _ in range(2))
        assert "no longer gives all" in str(first)
        assert first.already == 0 < first.parts < first.incomplete <= second.incomplete
        assert second.parts > 0
        assert second.already < first.parts
        assert lake.backfill(source, table, start=datetime.now(UTC)).incomplete == 0


def test_bars_have_the_trades_of_the_snapshot_that_a_backfill_brought_too(tmp_path: Path) -> None:
    with local_exchange("coinbase", seed=4, rate=200) as exchange:
        lake = lake_at(tmp_path, "coinbase", exchange.url)
        lake.ingest_sync("coinbase", frames=150)
        lake.etl()
        before = lake.bars("coinbase", every="1h")["trades"].sum()
        assert before < lake.scan("coinbase", "trades").collect().height
        lake.backfill("coinbase", "trades", start=datetime.now(UTC) - timedelta(hours=1))
        lake.etl()
    trades = lake.scan("coinbase", "trades").collect().height
    assert lake.bars("coinbase", every="1h")["trades"].sum() == trades > before


def test_single_trades_are_not_given_again_as_aggregates(tmp_path: Path) -> None:
    sources = "ingestion.sources.binance"
    lake = Lake(
        path=tmp_path, overrides=[f"{sources}.products=[BTCUSDT]", f"{sources}.channels=[trade]"]
    )
    for options in ({"start": "2026-01-01"}, {"gaps": True}):
        with pytest.raises(ConfigError, match="aggTrade"):
            lake.backfill("binance", "trades", **options)


@pytest.mark.parametrize(("rows", "whole"), [(0, True), (719, True), (720, False)])
def test_a_minute_without_a_candle_is_no_end_of_krakens_past(rows: int, whole: bool) -> None:
    start = datetime(2026, 8, 9, tzinfo=UTC)
    calls = get_source("kraken").past(
        Past("candles", "BTC/USD", "spot", start, start + timedelta(hours=13))
    )
    next(calls)
    first = int(start.timestamp()) + 60
    answer = {"result": {"XXBTZUSD": [[first + 60 * n] for n in range(rows)], "last": 0}}
    with pytest.raises(StopIteration) as ended:
        calls.send(answer)
    assert ended.value.value is whole


def test_products_that_a_venue_does_not_have_are_not_asked_for(tmp_path: Path) -> None:
    with local_exchange("coinbase") as exchange:
        lake = lake_at(tmp_path, "coinbase", exchange.url)
        with pytest.raises(ConfigError, match="did you mean BTC-USD"):
            lake.backfill("coinbase", "candles", symbols="BTTC-USD", start="2026-01-01")
        with pytest.raises(UsageError, match="names none"):
            lake.backfill("coinbase", "candles", symbols=[], start="2026-01-01")
