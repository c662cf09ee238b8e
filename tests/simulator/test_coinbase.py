"""The venue's side of a connection, without a socket: what is said, and in which order."""

from __future__ import annotations

import itertools
import json
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from fluxforge.segments import read_segment
from fluxforge.simulator.coinbase import CoinbaseSession, CoinbaseVenue
from fluxforge.simulator.venue import ExchangeOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

START = 1_786_309_548_000_000_000
DATA_CHANNELS = ("market_trades", "candles", "ticker", "level2", "ticker_batch", "status")
PRODUCTS = ("BTC-USD", "ETH-USD")


def feed(seed: int = 1, tick_ns: int = 1_000_000) -> CoinbaseVenue:
    """Open a feed whose clock moves by the same amount each time it is read."""
    clock = itertools.count(START, tick_ns).__next__
    return CoinbaseVenue(ExchangeOptions(seed=seed, clock=clock))


def take(session: CoinbaseSession, count: int) -> list[dict[str, Any]]:
    return [json.loads(text) for text in take_text(session, count)]


def take_text(session: CoinbaseSession, count: int) -> list[str]:
    frames: list[str] = []
    while len(frames) < count:
        frame = session.next_frame()
        if frame is not None:
            frames.append(frame)
    return frames


@pytest.fixture
def everything(subscribe: Callable[..., str]) -> Callable[[CoinbaseVenue], CoinbaseSession]:
    def open_all(feed: CoinbaseVenue) -> CoinbaseSession:
        session = feed.open_session()
        session.receive(subscribe("heartbeats"))
        for channel in DATA_CHANNELS:
            session.receive(subscribe(channel, *PRODUCTS))
        return session

    return open_all


class Book:
    """A book that a client keeps from l2_data events."""

    def __init__(self) -> None:
        self.sides: dict[str, dict[Decimal, str]] = {"bid": {}, "offer": {}}

    def apply(self, event: dict[str, Any]) -> None:
        if event["type"] == "snapshot":
            self.sides = {"bid": {}, "offer": {}}
        for row in event["updates"]:
            side, price = self.sides[row["side"]], Decimal(row["price_level"])
            if row["new_quantity"] == "0":
                side.pop(price, None)
            else:
                side[price] = row["new_quantity"]

    def is_crossed(self) -> bool:
        return max(self.sides["bid"]) >= min(self.sides["offer"])


def test_numbers_run_over_all_frames_from_0(
    everything: Callable[[CoinbaseVenue], CoinbaseSession],
) -> None:
    frames = take(everything(feed()), 5_000)
    assert [frame["sequence_num"] for frame in frames] == list(range(5_000))
    assert {frame["channel"] for frame in frames} == {
        "heartbeats", "subscriptions", "market_trades", "candles", "ticker", "l2_data",
        "ticker_batch", "status",
    }  # fmt: skip
    for frame in frames:
        assert list(frame) == ["channel", "timestamp", "sequence_num", "events"]
        assert len(frame["events"]) == 1
        assert re.fullmatch(r"2026-08-09T\d\d:\d\d:\d\d(\.\d{0,8}[1-9])?Z", frame["timestamp"])
    times = [frame["timestamp"] for frame in frames]
    assert len(set(times)) == len(times)


def shape(value: Any) -> Any:
    """Reduce JSON to its keys, their order and the types of their values."""
    if isinstance(value, dict):
        return tuple((key, shape(inner)) for key, inner in value.items())
    if isinstance(value, list):
        return ("list", *sorted({repr(shape(inner)) for inner in value}))
    return type(value).__name__


def test_frames_have_the_shapes_of_the_real_ones(
    captures: Path, everything: Callable[[CoinbaseVenue], CoinbaseSession]
) -> None:
    def shapes(frames: list[dict[str, Any]]) -> dict[Any, set[Any]]:
        found: dict[Any, set[Any]] = {}
        for frame in frames:
            if frame["channel"] != "subscriptions":
                kind = (frame["channel"], frame["events"][0].get("type"))
                found.setdefault(kind, set()).add(repr(shape(frame)))
        return found

    recording = captures / "coinbase" / "five-channels.ndjson.zst"
    real = shapes([json.loads(envelope.frame) for envelope in read_segment(recording)])
    made = shapes(take(everything(feed()), 5_000))
    for kind, forms in real.items():
        assert made[kind] == forms, kind


def test_the_book_never_crosses_and_is_the_snapshot_of_a_later_client(
    subscribe: Callable[..., str],
) -> None:
    exchange = feed()
    session = exchange.open_session()
    session.receive(subscribe("level2", *PRODUCTS))
    books = {product: Book() for product in PRODUCTS}
    for frame in take(session, 6_000):
        if frame["channel"] == "l2_data":
            (event,) = frame["events"]
            book = books[event["product_id"]]
            book.apply(event)
            assert not book.is_crossed()
    later = exchange.open_session()
    later.receive(subscribe("level2", *PRODUCTS))
    for frame in take(later, 2):
        (event,) = frame["events"]
        assert event["type"] == "snapshot"
        fresh = Book()
        fresh.apply(event)
        assert fresh.sides == books[event["product_id"]].sides
        prices = [Decimal(row["price_level"]) for row in event["updates"]]
        bids = len(fresh.sides["bid"])
        assert len(prices) > 2_000
        assert prices[:bids] == sorted(prices[:bids], reverse=True)
        assert prices[bids:] == sorted(prices[bids:])


def test_a_snapshot_fits_the_updates_of_a_client_that_lags(subscribe: Callable[..., str]) -> None:
    exchange = feed()
    lagging, leading = exchange.open_session(), exchange.open_session()
    lagging.receive(subscribe("ticker", "BTC-USD"))
    leading.receive(subscribe("level2", "BTC-USD"))
    take(leading, 1_500)
    lagging.receive(subscribe("level2", "BTC-USD"))
    leading.close()
    books = (Book(), Book())
    for frame in take(lagging, 4_000):
        if frame["channel"] == "l2_data":
            books[0].apply(frame["events"][0])
            assert not books[0].is_crossed()
    position = exchange.market.product("BTC-USD").steps
    fresh = exchange.open_session()
    fresh.receive(subscribe("level2", "BTC-USD"))
    books[1].apply(take(fresh, 1)[0]["events"][0])
    assert exchange.market.product("BTC-USD").steps == position
    assert books[0].sides == books[1].sides


def test_trades_go_on_over_reconnects(subscribe: Callable[..., str]) -> None:
    exchange = feed()
    seen: dict[str, list[int]] = {product: [] for product in PRODUCTS}
    for _ in range(3):
        session = exchange.open_session()
        session.receive(subscribe("market_trades", *PRODUCTS))
        snapshots = 0
        for frame in take(session, 300):
            if frame["channel"] != "market_trades":
                continue
            (event,) = frame["events"]
            ids = [int(trade["trade_id"]) for trade in event["trades"]]
            assert ids == sorted(ids, reverse=True)
            known = seen[event["trades"][0]["product_id"]]
            if event["type"] == "snapshot":
                snapshots += 1
                assert len(ids) == 100
                if known:
                    assert ids[0] == known[-1]
                    assert ids[::-1] == known[-100:]
                else:
                    known.extend(ids[::-1])
            else:
                known.extend(ids[::-1])
        assert snapshots == 2
        session.close()
    for ids in seen.values():
        assert len(ids) > 400
        assert ids == list(range(ids[0], ids[0] + len(ids)))


def test_a_trade_prints_its_makers_side_and_a_ticker_follows(subscribe: Callable[..., str]) -> None:
    session = feed().open_session()
    for channel in ("level2", "market_trades", "ticker"):
        session.receive(subscribe(channel, "BTC-USD"))
    book, trades, awaited = Book(), 0, None
    for frame in take(session, 4_000):
        (event,) = frame["events"]
        if frame["channel"] == "l2_data":
            before = {side: dict(levels) for side, levels in book.sides.items()}
            book.apply(event)
        elif frame["channel"] == "market_trades" and event["type"] == "update":
            awaited = event["trades"][0]["price"]
            trades += 1
        elif frame["channel"] == "ticker" and event["type"] == "update":
            (ticker,) = event["tickers"]
            if awaited is not None:
                assert ticker["price"] == awaited
                awaited = None
            assert Decimal(ticker["best_bid"]) == max(book.sides["bid"])
            assert Decimal(ticker["best_ask"]) == min(book.sides["offer"])
            best = Decimal(ticker["best_bid"])
            assert ticker["best_bid_quantity"] == book.sides["bid"][best]
    assert before
    assert trades > 100


def test_candles_come_as_a_hundred_and_then_one_by_one(subscribe: Callable[..., str]) -> None:
    session = feed(tick_ns=50_000_000).open_session()
    for channel in ("candles", "ticker"):
        session.receive(subscribe(channel, *PRODUCTS))
    events = [f["events"][0] for f in take(session, 2_000) if f["channel"] == "candles"]
    snapshots = [event for event in events if event["type"] == "snapshot"]
    updates = [event for event in events if event["type"] == "update"]
    assert [len(event["candles"]) for event in snapshots] == [100, 100]
    for event in snapshots:
        starts = [int(candle["start"]) for candle in event["candles"]]
        assert starts == sorted(set(starts))
        assert all(start % 300 == 0 for start in starts)
    assert len(updates) > 20
    assert all(len(event["candles"]) == 1 for event in updates)
    repeated = [(e["candles"][0]["product_id"], e["candles"][0]["start"]) for e in updates]
    assert len(set(repeated)) < len(repeated)


def test_candles_alone_move_too(subscribe: Callable[..., str]) -> None:
    session = feed(tick_ns=50_000_000).open_session()
    session.receive(subscribe("candles", "BTC-USD"))
    frames = take(session, 12)
    assert [f["channel"] for f in frames] == ["candles", "subscriptions", *["candles"] * 10]
    closes = {f["events"][0]["candles"][-1]["close"] for f in frames if f["channel"] == "candles"}
    assert len(closes) > 3


def test_heartbeats_count_seconds(subscribe: Callable[..., str]) -> None:
    session = feed(tick_ns=30_000_000).open_session()
    session.receive(subscribe("heartbeats"))
    session.receive(subscribe("ticker", "BTC-USD"))
    frames = take(session, 600)
    assert frames[0]["channel"] == "subscriptions"
    beats = [f["events"][0] for f in frames if f["channel"] == "heartbeats"]
    counters = [beat["heartbeat_counter"] for beat in beats]
    assert len(counters) > 10
    assert counters == list(range(counters[0], counters[0] + len(counters)))
    for beat in beats:
        assert re.fullmatch(
            r"2026-08-09 \d\d:\d\d:\d\d(\.\d+)? \+0000 UTC m=\+\d+\.\d{9}", beat["current_time"]
        )


def test_acks_are_cumulative_and_follow_the_snapshots(subscribe: Callable[..., str]) -> None:
    session = feed().open_session()
    assert not session.subscribed
    session.receive(subscribe("heartbeats", "BTC-USD"))
    session.receive(subscribe("level2", "BTC-USD"))
    session.receive(subscribe("level2", "ETH-USD", "BTC-USD"))
    assert session.subscribed
    frames = take(session, 6)
    assert [frame["channel"] for frame in frames] == [
        "subscriptions", "l2_data", "subscriptions", "l2_data", "l2_data", "subscriptions",
    ]  # fmt: skip
    acks = [f["events"] for f in frames if f["channel"] == "subscriptions"]
    assert acks == [
        [{"subscriptions": {"heartbeats": ["heartbeats"]}}],
        [{"subscriptions": {"heartbeats": ["heartbeats"], "level2": ["BTC-USD"]}}],
        [{"subscriptions": {"heartbeats": ["heartbeats"], "level2": ["BTC-USD", "ETH-USD"]}}],
    ]


def test_unsubscribing_one_product_then_the_channel(subscribe: Callable[..., str]) -> None:
    session = feed().open_session()
    session.receive(subscribe("level2", *PRODUCTS))
    session.receive(subscribe("candles", *PRODUCTS))
    take(session, 10)
    session.receive(subscribe("level2", "BTC-USD", kind="unsubscribe"))
    frames = take(session, 200)
    ack = next(frame for frame in frames if frame["channel"] == "subscriptions")
    assert ack["events"][0]["subscriptions"]["level2"] == ["ETH-USD"]
    products = {f["events"][0]["product_id"] for f in frames[5:] if f["channel"] == "l2_data"}
    assert products == {"ETH-USD"}
    session.receive(subscribe("level2", kind="unsubscribe"))
    session.receive(subscribe("candles", kind="unsubscribe"))
    rest: list[dict[str, Any]] = []
    while (text := session.next_frame()) is not None:
        rest.append(json.loads(text))
    assert rest[-1]["events"] == [{"subscriptions": {}}]
    assert all(session.next_frame() is None for _ in range(20_000))


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ("hello", "failure to parse message"),
        ("[" * 100_000, "failure to parse message"),
        ("[]", "unknown message type"),
        ('{"type":"hello"}', "unknown message type"),
        ('{"type":"subscribe"}', "authentication failure"),
        ('{"type":"subscribe","channel":"full"}', "authentication failure"),
        ('{"type":"subscribe","channel":"user"}', "authentication failure"),
        ('{"type":"subscribe","channel":["level2"]}', "authentication failure"),
        ('{"type":"subscribe","channel":"ticker"}', "failure to subscribe"),
        ('{"type":"subscribe","channel":"ticker","product_ids":"BTC-USD"}', "failure to subscribe"),
        ('{"type":"subscribe","channel":"ticker","product_ids":["a\\"b"]}', "failure to subscribe"),
    ],
)
def test_refusals_have_no_envelope_and_no_number(
    message: str, says: str, subscribe: Callable[..., str]
) -> None:
    session = feed().open_session()
    session.receive(message)
    assert session.next_frame() == json.dumps({"type": "error", "message": says})
    assert session.next_frame() is None
    assert not session.subscribed
    session.receive(subscribe("ticker", "BTC-USD"))
    assert take(session, 1)[0]["sequence_num"] == 0


def test_an_unknown_product_is_refused_and_the_others_go_on(subscribe: Callable[..., str]) -> None:
    session = feed().open_session()
    session.receive(subscribe("ticker", "NOPE-USD", "BTC-USD"))
    frames = take(session, 3)
    assert {"type": "error", "message": "failure to subscribe"} in frames
    assert [f["events"] for f in frames if f.get("channel") == "subscriptions"] == [
        [{"subscriptions": {"ticker": ["BTC-USD"]}}]
    ]


def test_books_against_usdc_are_those_against_usd(subscribe: Callable[..., str]) -> None:
    session = feed().open_session()
    session.receive(subscribe("ticker", "BTC-USDC", "USDT-USDC"))
    named = {f["events"][0]["tickers"][0]["product_id"] for f in take(session, 2)}
    assert named == {"BTC-USD", "USDT-USDC"}


def test_batched_tickers_and_status(subscribe: Callable[..., str]) -> None:
    session = feed(tick_ns=50_000_000).open_session()
    session.receive(subscribe("ticker_batch", "BTC-USD"))
    session.receive(subscribe("status", *PRODUCTS))
    frames = take(session, 30)
    batch = [f["events"][0] for f in frames if f["channel"] == "ticker_batch"]
    assert [event["type"] for event in batch[:2]] == ["snapshot", "update"]
    assert "best_bid" not in batch[0]["tickers"][0]
    assert batch[0]["tickers"][0]["type"] == "ticker"
    states = [f["events"][0] for f in frames if f["channel"] == "status"]
    assert [event["type"] for event in states[:2]] == ["snapshot", "update"]
    assert [item["id"] for item in states[0]["products"]] == list(PRODUCTS)


def test_the_same_seed_and_clock_give_the_same_bytes(
    everything: Callable[[CoinbaseVenue], CoinbaseSession],
) -> None:
    first = take_text(everything(feed(seed=9)), 3_000)
    assert first == take_text(everything(feed(seed=9)), 3_000)
    assert first != take_text(everything(feed(seed=10)), 3_000)


def test_with_another_clock_only_times_differ(subscribe: Callable[..., str]) -> None:
    def untimed(tick_ns: int) -> list[str]:
        session = feed(tick_ns=tick_ns).open_session()
        for channel in ("level2", "ticker", "market_trades"):
            session.receive(subscribe(channel, "BTC-USD"))
        return [re.sub(r"2026-08-09T[0-9:.]+Z", "", text) for text in take_text(session, 1_000)]

    assert untimed(1_000) == untimed(12_345)


@pytest.mark.parametrize("numbered", [True, False])
def test_extra_frames(numbered: bool, subscribe: Callable[..., str]) -> None:
    session = feed().open_session()
    session.receive(subscribe("ticker", "BTC-USD"))
    take(session, 2)

    malformed = session.extra_frame("malformed", 0.0, numbered=numbered)
    assert malformed.startswith("{")
    assert malformed.endswith("}")
    with pytest.raises(ValueError):
        json.loads(malformed)
    unknown = json.loads(session.extra_frame("unknown", 0.0, numbered=numbered))
    large_text = session.extra_frame("large", 6.0, numbered=numbered)
    assert 6_000_000 <= len(large_text) < 6_300_000
    large = json.loads(large_text)
    assert unknown["channel"] not in DATA_CHANNELS
    assert (large["channel"], large["events"][0]["type"]) == ("l2_data", "snapshot")
    book = Book()
    book.apply(large["events"][0])
    assert not book.is_crossed()
    if numbered:
        assert (unknown["sequence_num"], large["sequence_num"]) == (2, 3)
        assert take(session, 1)[0]["sequence_num"] == 4
    else:
        assert "sequence_num" not in unknown
        assert "sequence_num" not in large
        assert take(session, 1)[0]["sequence_num"] == 2


def test_recorded_frames_are_matched_with_subscriptions(subscribe: Callable[..., str]) -> None:
    session = feed().open_session()
    for channel in ("level2", "market_trades"):
        session.receive(subscribe(channel, "BTC-USD"))
    others = feed().open_session()
    others.receive(subscribe("heartbeats"))
    others.receive(subscribe("level2", "ETH-USD"))
    for frame in take_text(session, 50):
        data = frame.encode()
        assert session.wants(data)
        assert others.wants(data) == ('"subscriptions"' in frame)
    assert session.wants(b"not json")
    assert not session.wants(b'{"channel":"heartbeats","events":[]}')
    assert others.wants(b'{"channel":"heartbeats","events":[]}')
