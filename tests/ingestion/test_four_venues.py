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
from fluxforge.simulator.connection import Connection

if TYPE_CHECKING:
    from pathlib import Path

    from fluxforge.simulator.faults import Fault

SECONDS = 9.0 * float(os.environ.get("FLUXFORGE_LONG", "1"))  # 67: ten minutes
RATE = 150
WANTED = {
    "coinbase": ("BTC-USD", "[market_trades,level2]"),
    "kraken": ("BTC/USD", "[trade,book]"),
    "binance": ("BTCUSDT", "[aggTrade,depth]"),
    "bybit": ("linear:BTCUSDT", "[publicTrade,orderbook]"),
}


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
    """Return what goes wrong with one venue: a stall, a drop, and refusals, again and again."""
    stall = 100 + turn * 150
    times = int(SECONDS * RATE) // (stall + 200) + 1
    faults = [f"silence@{stall}:1,drop@{stall + 200},refuse@{1 + 4 * n}:2" for n in range(times)]
    return ",".join(faults)


@pytest.mark.long
def test_each_venue_fails_by_itself_and_all_rows_are_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: dict[str, list[Any]] = {source: [] for source in WANTED}
    faults = Counter[tuple[str, str]]()
    send, apply = Connection.send, Connection._apply

    async def note_sent(self: Connection, frame: Any) -> None:
        await send(self, frame)
        sent[type(self.session).__module__.rpartition(".")[2]].append(json.loads(frame))

    async def note_fault(self: Connection, fault: Fault) -> None:
        faults[type(self.session).__module__.rpartition(".")[2], fault.kind] += 1
        await apply(self, fault)

    monkeypatch.setattr(Connection, "send", note_sent)
    monkeypatch.setattr(Connection, "_apply", note_fault)
    settings = [f"storage.base_dir={tmp_path}", "etl.delete_after_processing=false"]
    with ExitStack() as stack:
        for turn, (source, (product, channels)) in enumerate(WANTED.items()):
            exchange = stack.enter_context(
                local_exchange(source, seed=turn, rate=RATE, faults=faults_of(turn))
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
    assert not report.error
    lake.etl()
    for source, frames in sent.items():
        # Nobody pays for another's failure: a socket ended where its own venue cut it. After the
        # last cut there may have been no time to come back.
        cut = faults[source, "drop"]
        assert cut <= reports[source].connections <= cut + 1
        assert reports[source].connections >= 2
        assert faults[source, "silence"] >= 1
        answers = [frame for frame in archived(lake, source, tmp_path) if "depth" in frame]
        expected = Counter[str]()
        for frame in [*frames, *answers]:
            expected.update(rows_of(source, frame))
        found = {name: lake.scan(source, name, raw=True).collect().height for name in expected}
        assert found == expected
        assert lake.gaps(source).is_empty()
    verified = lake.verify(deep=True)
    assert verified.ok, verified


def archived(lake: Lake, source: str, folder: Path) -> list[Any]:
    return [
        json.loads(envelope.frame)
        for key in lake.storage.list_files(lake.layout.archive(source))
        for envelope in read_segment(lake.storage.fetch(key, folder))
    ]
