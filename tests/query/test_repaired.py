"""Which gaps a backfill has filled: a symbol, or a candle, that it left out keeps the gap."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from fluxforge import Lake

if TYPE_CHECKING:
    from pathlib import Path

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


class Frames:
    """Frames of one connection and REST answers, as lines of a segment."""

    def __init__(self, folder: Path) -> None:
        self.lake = Lake(path=folder)
        self.lines: list[str] = []
        self._ready = folder / self.lake.layout.ready("coinbase")

    def add(self, at: datetime, data: dict[str, Any], conn: str = "c1") -> None:
        line = {"capture_ns": int(at.timestamp()) * 10**9, "conn": conn, "data": data}
        self.lines.append(json.dumps(line, separators=(",", ":")) + "\n")

    def message(self, at: datetime, number: int, channel: str, rows: list[Any]) -> None:
        events = [{"type": "update", {"market_trades": "trades"}.get(channel, channel): rows}]
        time = f"{at:%Y-%m-%dT%H:%M:%SZ}"
        self.add(
            at,
            {"channel": channel, "timestamp": time, "sequence_num": number, "events": events},
        )

    def processed(self) -> Lake:
        self._ready.mkdir(parents=True)
        (self._ready / "segment_20260101T00_00001.ndjson").write_text("".join(self.lines))
        self.lake.etl("coinbase")
        return self.lake


def trade(symbol: str, number: int, at: datetime) -> dict[str, str]:
    return {
        "product_id": symbol, "trade_id": str(number), "price": "1", "size": "1", "side": "BUY",
        "time": f"{at:%Y-%m-%dT%H:%M:%SZ}",
    }  # fmt: skip


def candle(at: datetime) -> dict[str, str]:
    prices = dict.fromkeys(("open", "high", "low", "close", "volume"), "1")
    return {"start": str(int(at.timestamp())), **prices}


def test_a_symbol_that_was_not_fetched_keeps_the_gap(tmp_path: Path) -> None:
    frames, lost = Frames(tmp_path), START + 2 * HOUR
    first = [trade("ETH-USD", 100, START), trade("BTC-USD", 1, START)]
    frames.message(START, 0, "market_trades", first)
    frames.message(lost, 1, "market_trades", [trade("BTC-USD", 2, lost)])
    after = lost + 2 * MINUTE  # BTC-USD's trade 3 and ETH-USD's trade 101 lie between
    frames.message(after, 4, "market_trades", [trade("BTC-USD", 4, after)])
    later = lost + 2 * HOUR
    last = [trade("ETH-USD", 102, later), trade("BTC-USD", 5, later)]
    frames.message(later, 5, "market_trades", last)
    answer = {"trades": [trade("BTC-USD", 3, lost + MINUTE)]}
    frames.add(
        later + HOUR, {"history": "trades", "symbol": "BTC-USD", "response": answer}, "backfill"
    )
    lake = frames.processed()
    [gap] = lake.gaps("coinbase").to_dicts()
    assert gap["repaired"] == []
    bars = lake.bars("coinbase", "ETH-USD", every="1h", empty=True)
    assert bars["complete"].to_list()[2] is False


def test_candles_that_were_not_fetched_keep_the_gap(tmp_path: Path) -> None:
    frames = Frames(tmp_path)
    product = {"product_id": "BTC-USD"}
    frames.message(START + MINUTE, 0, "candles", [product | candle(START)])
    for number, minutes in ((9, 180.5), (10, 182)):
        rows = [product | candle(START + at * MINUTE) for at in (175, 180)]
        frames.message(START + minutes * MINUTE, number, "candles", rows)
    answer = {"candles": [candle(START + at * MINUTE) for at in (0, 5)]}
    data = {"history": "candles", "symbol": "BTC-USD", "interval": "5m", "response": answer}
    frames.add(START + 5 * HOUR, data, "backfill")
    lake = frames.processed()
    [gap] = lake.gaps("coinbase").to_dicts()
    assert gap["repaired"] == []
    assert lake.coverage("coinbase").filter(conn="c1").height == 2
