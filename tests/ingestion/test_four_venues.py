"""All four venues at once, each failing in its turn: exact rows, and nobody pays for another."""

from __future__ import annotations

import json
import os
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from fluxforge import Lake
from fluxforge.segments import read_segment
from fluxforge.simulator import local_exchange

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 12.0 * float(os.environ.get("FLUXFORGE_LONG", "1"))  # 50: ten minutes
CONTROL = "bybit" if SECONDS < 60 else ""
"""Who has no fault of its own in a short run: nobody else's failure may be its own."""
RATE = 150
WANTED = {
    "coinbase": ("BTC-USD", "[market_trades,level2]"),
    "kraken": ("BTC/USD", "[trade,book]"),
    "binance": ("BTCUSDT", "[aggTrade,depth]"),
    "bybit": ("linear:BTCUSDT", "[publicTrade,orderbook]"),
}
FAULTS = ("drop@{0}", "silence@{0}:2", "refuse@1:2,drop@{0}")


def rows_of(source: str, frame: dict[str, Any]) -> dict[str, int]:
    """Count the rows of one frame, by table, from the venue's documentation."""
    match source:
        case "coinbase":
            names = {"l2_data": ("orderbook", "updates"), "market_trades": ("trades", "trades")}
            table, name = names.get(frame["channel"], ("", ""))
            return {table: sum(len(event[name]) for event in frame["events"])} if table else {}
        case "kraken" if frame.get("channel") == "book":
            return {"orderbook": sum(len(one["bids"]) + len(one["asks"]) for one in frame["data"])}
        case "kraken" if frame.get("channel") == "trade":
            return {"trades": len(frame["data"])}
        case "binance" if "depth" in frame:
            return {"orderbook": len(frame["response"]["bids"]) + len(frame["response"]["asks"])}
        case "binance" if "data" in frame and frame["data"]["e"] == "depthUpdate":
            return {"orderbook": len(frame["data"]["b"]) + len(frame["data"]["a"])}
        case "binance" if "data" in frame and frame["data"]["e"] == "aggTrade":
            return {"trades": 1}
        case "bybit" if frame.get("topic", "").startswith("orderbook"):
            return {"orderbook": len(frame["data"]["b"]) + len(frame["data"]["a"])}
        case "bybit" if frame.get("topic", "").startswith("publicTrade"):
            return {"trades": len(frame["data"])}
    return {}


def faults_of(turn: int) -> str:
    """Return what goes wrong with one venue, each in a stretch of its own, again and again."""
    stretch = int(RATE * 6)
    first = 150 + turn * stretch // 4
    whole = max(1, int(SECONDS * RATE) // stretch)
    return ",".join(FAULTS[(turn + n) % 3].format(first + n * stretch) for n in range(whole))


@pytest.mark.long
def test_each_venue_fails_by_itself_and_all_rows_are_exact(tmp_path: Path) -> None:
    settings = [f"storage.base_dir={tmp_path}", "etl.delete_after_processing=false"]
    with ExitStack() as stack:
        for turn, (source, (product, channels)) in enumerate(WANTED.items()):
            faults = "" if source == CONTROL else faults_of(turn)
            exchange = stack.enter_context(
                local_exchange(source, seed=turn, rate=RATE, faults=faults)
            )
            settings += [
                f"ingestion.sources.{source}.url={exchange.url}",
                f"ingestion.sources.{source}.products=[{product}]",
                f"ingestion.sources.{source}.channels={channels}",
            ]
        lake = Lake(overrides=settings)
        report = lake.ingest_sync(duration=SECONDS)
    reports = {one.source: one for one in report.sources}
    assert set(reports) == set(WANTED)
    assert {name for name, one in reports.items() if one.connections == 1} == {CONTROL} - {""}
    assert not report.error
    lake.etl()
    for source in WANTED:
        expected, frames = Counter[str](), 0
        for number, key in enumerate(lake.storage.list_files(lake.layout.archive(source))):
            (folder := tmp_path / f"{source}-{number}").mkdir()
            for envelope in read_segment(lake.storage.fetch(key, folder)):
                frames += 1
                expected.update(rows_of(source, json.loads(envelope.frame)))
        assert frames == reports[source].frames > 0
        found = {name: lake.scan(source, name, raw=True).collect().height for name in expected}
        assert found == expected
        assert lake.gaps(source).is_empty()
    verified = lake.verify(deep=True)
    assert verified.ok, verified
