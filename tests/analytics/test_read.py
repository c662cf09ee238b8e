"""What a computation reads: trades since the capture, and not what a snapshot brought."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl

from fluxforge.analytics.read import since_capture


def trades(*rows: tuple[str, str, int, int, bool]) -> pl.LazyFrame:
    """Return trades of ``source, symbol, ts_event, ts_recv, is_snapshot``, times in seconds."""
    names = ("source", "symbol", "ts_event", "ts_recv", "is_snapshot")
    frame = pl.LazyFrame(rows, schema=names, orient="row")
    return frame.with_row_index("trade_id").with_columns(
        pl.lit(value=False).alias("is_repeat"),
        pl.from_epoch(pl.col("ts_event", "ts_recv")).dt.replace_time_zone("UTC"),
    )


def seconds(frame: pl.LazyFrame) -> list[int]:
    return frame.collect()["ts_event"].dt.epoch("s").to_list()


def test_each_source_has_a_begin_of_its_own() -> None:
    captured = trades(
        ("bybit", "BTCUSDT", 1, 10, True),
        ("bybit", "BTCUSDT", 11, 11, False),
        ("binance", "BTCUSDT", 12, 100, True),
        ("binance", "BTCUSDT", 101, 101, False),
    )
    assert seconds(since_capture(captured, captured)) == [11, 101]
    one = captured.filter(pl.col("source") == "binance").drop("source")
    assert seconds(since_capture(one, one)) == [101]


def test_a_reconnect_inside_the_capture_leaves_out_nothing() -> None:
    captured = trades(
        ("kraken", "BTC/USD", 1, 10, True),
        ("kraken", "BTC/USD", 11, 11, False),
        ("kraken", "BTC/USD", 12, 20, True),
    )
    begun = datetime(1970, 1, 1, 0, 0, 12, tzinfo=UTC)
    asked = captured.filter(pl.col("ts_event") >= begun)
    assert seconds(since_capture(asked, captured)) == [12]
