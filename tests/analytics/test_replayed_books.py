"""Books at random moments against a book that plain Python keeps, frame by frame."""

from __future__ import annotations

import json
import os
import random
from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import pytest

from fluxforge import Lake
from fluxforge.analytics.books import book_at
from fluxforge.analytics.read import epochs_of
from fluxforge.errors import NoBookError
from fluxforge.segments import Envelope, read_segment
from fluxforge.sources import get_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tests.conftest import Recorded

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOMENTS = 200
SEED = int(os.environ.get("FLUXFORGE_SEED") or 5)
DIRECT = 0.05 * float(os.environ.get("FLUXFORGE_LONG") or 1)
"""The share of moments for which the lake is read anew; for the others it is read once."""


@dataclass
class Change:
    """What one frame says of a book: the venue's time, a number, and levels as they now stand."""

    symbol: str
    at: datetime
    whole: bool
    levels: list[tuple[str, float, float]]
    number: int | None = None


def coinbase(frame: dict[str, Any], _: datetime) -> Iterator[Change]:
    if frame["channel"] == "l2_data":
        for event in frame["events"]:
            levels = [
                ("bid" if u["side"] == "bid" else "ask",
                 float(u["price_level"]), float(u["new_quantity"]))
                for u in event["updates"]
            ]  # fmt: skip
            at = max(datetime.fromisoformat(u["event_time"]) for u in event["updates"])
            yield Change(event["product_id"], at, event["type"] == "snapshot", levels)


def kraken(frame: dict[str, Any], received: datetime) -> Iterator[Change]:
    if frame.get("channel") == "book":
        for book in frame["data"]:
            levels = [
                (side, float(level["price"]), float(level["qty"]))
                for side, name in (("bid", "bids"), ("ask", "asks"))
                for level in book[name]
            ]
            at = datetime.fromisoformat(book["timestamp"]) if "timestamp" in book else received
            yield Change(book["symbol"], at, frame["type"] == "snapshot", levels)


def bybit(frame: dict[str, Any], _: datetime) -> Iterator[Change]:
    if frame.get("topic", "").startswith("orderbook"):
        data = frame["data"]
        at = EPOCH + timedelta(milliseconds=frame.get("cts") or frame["ts"])
        whole = frame["type"] == "snapshot" or data["u"] == 1
        yield Change(data["s"], at, whole, _pairs(data["b"], data["a"]), data["u"])


def binance(frame: dict[str, Any], received: datetime) -> Iterator[Change]:
    if "depth" in frame:
        answer = frame["response"]
        levels = _pairs(answer["bids"], answer["asks"])
        yield Change(frame["depth"], received, True, levels, answer["lastUpdateId"])
    elif frame.get("data", {}).get("e") == "depthUpdate":
        data = frame["data"]
        at = EPOCH + timedelta(milliseconds=data["E"])
        yield Change(data["s"], at, False, _pairs(data["b"], data["a"]), data["u"])


def _pairs(bids: list[Any], asks: list[Any]) -> list[tuple[str, float, float]]:
    return [("bid", float(p), float(q)) for p, q in bids] + [
        ("ask", float(p), float(q)) for p, q in asks
    ]


READERS = {"coinbase": coinbase, "kraken": kraken, "bybit": bybit, "binance": binance}


@dataclass
class Life:
    """The books of one symbol over one connection, from one snapshot to the next."""

    conn: str
    frames: list[tuple[datetime, Change]] = field(default_factory=list)
    broken: bool = False

    def books(
        self, moments: list[datetime], depth: int | None
    ) -> Iterator[tuple[datetime, dict[str, list[tuple[float, float]]]]]:
        """Yield the book at each of these moments, which ascend."""
        book: dict[str, dict[float, float]] = {"bid": {}, "ask": {}}
        following = iter([*self.frames, (datetime.max.replace(tzinfo=UTC), self.frames[0][1])])
        at, change = next(following)
        for moment in moments:
            while at <= moment:
                for side, price, size in change.levels:
                    if size:
                        book[side][price] = size
                    else:
                        book[side].pop(price, None)
                for side, levels in book.items():
                    for price in sorted(levels, reverse=side == "bid")[depth:] if depth else ():
                        del levels[price]
                at, change = next(following)
            yield moment, {s: sorted(b.items(), reverse=s == "bid") for s, b in book.items()}


def lives(source: str, symbol: str, envelopes: Iterable[Envelope]) -> list[Life]:
    """Return what plain Python makes of the frames: lives of a book, oldest first."""
    rules = get_source(source).book
    by_conn: dict[str, list[tuple[datetime, Change | None]]] = {}
    last: dict[str, int] = {}
    for envelope in envelopes:
        frame = json.loads(envelope.frame)
        received = EPOCH + timedelta(microseconds=envelope.capture_ns // 1000)
        changes = by_conn.setdefault(envelope.conn, [])
        if source == "coinbase":
            if frame["sequence_num"] > last.get(envelope.conn, -1) + 1:
                changes.append((received, None))  # a hole
            last[envelope.conn] = frame["sequence_num"]
        for change in READERS[source](frame, received):
            if change.symbol == symbol:
                changes.append((received, change))
    found = []
    for conn, changes in by_conn.items():
        if rules.by_number:
            changes.sort(key=lambda pair: (pair[1].number, pair[1].whole))  # type: ignore[union-attr]
        life, reached = None, EPOCH
        for _, change in changes:
            if change is None:
                if life:
                    life.broken = True
                life = None
            elif change.whole:
                life, reached = Life(conn), change.at
                found.append(life)
            if life is not None and change is not None:
                reached = max(reached, change.at)
                life.frames.append((reached, change))
    return sorted(found, key=lambda life: life.frames[0][0])


def lake_of(folder: Path, source: str, envelopes: list[Envelope]) -> Lake:
    lake = Lake(path=folder)
    ready = folder / lake.layout.ready(source)
    ready.mkdir(parents=True)
    lines = b"".join(envelope.line() for envelope in envelopes)
    (ready / "segment_20260809T21_00001.ndjson").write_bytes(lines)
    lake.etl(source)
    return lake


def compare(lake: Lake, source: str, symbol: str, found: list[Life]) -> None:
    """Compare books at random moments, in the holes between two lives too."""
    chance = random.Random(SEED)
    print("seed", SEED)
    cut = bool(get_source(source).book.depths)
    held = epochs_of(lake.scan, source, symbol)
    following = [*(life.frames[0][0] for life in found[1:]), found[-1].frames[-1][0]]
    steps = [
        (number, low, high)
        for number, life in enumerate(found)
        for (low, _), high in zip(
            life.frames, [*(at for at, _ in life.frames[1:]), following[number]], strict=True
        )
    ]
    chosen: dict[int, list[datetime]] = {}
    for number, low, high in sorted(chance.choices(steps, k=MOMENTS)):
        moment = low + (high - low) * chance.choice([0.0, chance.random()])
        chosen.setdefault(number, []).append(min(moment, high - timedelta(microseconds=1)))
    right = 0
    for number, moments in chosen.items():
        life = found[number]
        depth = len(life.frames[0][1].levels) // 2 if cut else None
        for moment, expected in life.books(sorted(moments), depth):
            direct = chance.random() < DIRECT
            try:
                book = (
                    lake.book(source, symbol, moment, None)
                    if direct
                    else book_at(held, source, symbol, moment, None)
                )
            except NoBookError:
                assert moment > life.frames[-1][0], "there is a book"
                continue
            assert book.complete
            assert moment <= life.frames[-1][0] or not life.broken, "frames are missing"
            assert (book.conn, book.snapshot_at) == (life.conn, life.frames[0][0])
            reached = bisect_right(life.frames, moment, key=itemgetter(0))
            assert book.ts_event == life.frames[reached - 1][0]  # their times ascend
            assert {"bid": book.bids.rows(), "ask": book.asks.rows()} == expected
            assert book.spread is None or book.spread > 0
            right += 1
    assert right > 0.8 * MOMENTS


@pytest.mark.parametrize(
    ("source", "name", "symbol"),
    [
        ("coinbase", "reconnect", "BTC-USD"),
        ("kraken", "btc-short", "BTC/USD"),
        ("kraken", "eth", "ETH/USD"),
        ("bybit", "btc-doge", "DOGEUSDT"),
        ("binance", "nkn-lrc", "NKNUSDT"),
        ("binance", "nkn-lrc", "LRCBTC"),
    ],
)
def test_books_of_recorded_traffic(
    source: str, name: str, symbol: str, captures: Path, tmp_path: Path
) -> None:
    envelopes = list(read_segment(captures / source / f"{name}.ndjson.zst"))
    lake = lake_of(tmp_path, source, envelopes)
    compare(lake, source, symbol, lives(source, symbol, envelopes))


def test_books_of_recorded_traffic_with_frames_missing(captures: Path, tmp_path: Path) -> None:
    envelopes = list(read_segment(captures / "coinbase" / "reconnect.ndjson.zst"))
    holes = {300, 301, len(envelopes) - 300}
    left = [envelope for number, envelope in enumerate(envelopes) if number not in holes]
    found = lives("coinbase", "BTC-USD", left)
    assert [life.broken for life in found] == [True, True]
    compare(lake_of(tmp_path, "coinbase", left), "coinbase", "BTC-USD", found)


def test_books_of_the_local_exchange_with_frames_missing(
    recording: Recorded, tmp_path: Path
) -> None:
    envelopes = list(read_segment(recording.path))
    del envelopes[350:353], envelopes[-100]
    for symbol in ("BTC-USD", "ETH-USD"):
        found = lives("coinbase", symbol, envelopes)
        assert [life.broken for life in found] == [True, True]
        compare(lake_of(tmp_path / symbol, "coinbase", envelopes), "coinbase", symbol, found)
