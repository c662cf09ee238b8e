"""Bybit's side of a connection, without a socket."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest

from fluxforge.segments import read_segment
from fluxforge.simulator.bybit import BybitSession, BybitVenue
from fluxforge.simulator.venue import ExchangeOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

START = 1_786_309_548_000_000_000
TOPICS = ("orderbook.200", "publicTrade", "tickers", "kline.1")


def venue(tick_ns: int = 1_000_000) -> BybitVenue:
    return BybitVenue(ExchangeOptions(clock=itertools.count(START, tick_ns).__next__))


def request(*topics: str, op: str = "subscribe") -> str:
    return json.dumps({"op": op, "args": topics})


def take(client: BybitSession, count: int) -> list[dict[str, Any]]:
    frames: list[dict[str, Any]] = []
    while len(frames) < count:
        text = client.next_frame()
        if text is not None:
            frames.append(json.loads(text))
    return frames


@pytest.mark.parametrize("depth", [1, 50, 200])
def test_a_book_keeps_its_depth_and_its_numbers_have_no_hole(depth: int) -> None:
    client = venue().open_session("/v5/public/linear")
    client.receive(request(f"orderbook.{depth}.BTCUSDT"))
    frames = take(client, 1_000)[1:]
    book: dict[str, dict[str, str]] = {"b": {}, "a": {}}
    assert [frame["type"] for frame in frames] == ["snapshot", *["delta"] * (len(frames) - 1)]
    for last, frame in zip([None, *frames], frames, strict=False):
        assert last is None or frame["data"]["u"] == last["data"]["u"] + 1
        for name, side in book.items():
            for price, size in frame["data"][name]:
                if size == "0":
                    del side[price]
                else:
                    side[price] = size
            assert len(side) == depth
        assert max(map(float, book["b"])) < min(map(float, book["a"]))


def test_each_market_has_its_own_products() -> None:
    exchange = venue()
    found = {}
    for market, symbol in (("spot", "BTCUSDT"), ("linear", "BTCUSDT"), ("inverse", "BTCUSD")):
        client = exchange.open_session(f"/v5/public/{market}")
        client.receive(request(f"publicTrade.{symbol}"))
        found[market] = [t["i"] for frame in take(client, 20)[1:] for t in frame["data"]]
    assert found["spot"][0].isdigit()
    assert len(found["linear"][0]) == 36
    assert not set(found["linear"]) & set(found["inverse"])
    client = exchange.open_session("/v5/public/inverse")
    client.receive(request("publicTrade.BTCUSDT"))
    assert take(client, 1)[0]["success"] is False


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ("hello", "malformed"),
        (request("tickers.BTCUSDT", "tickers.NOPEUSDT"), "topic:tickers.NOPEUSDT"),
        (request("orderbook.7.BTCUSDT"), "topic:orderbook.7.BTCUSDT"),
        (request("kline.2.BTCUSDT"), "topic:kline.2.BTCUSDT"),
        (request(op="dance"), "unknown op"),
        (request(*(f"tickers.A{n}USDT" for n in range(11))), "args size >10"),
    ],
)
def test_a_wrong_request_is_refused_as_a_whole(message: str, says: str) -> None:
    client = venue().open_session("/v5/public/spot")
    client.receive(message)
    (answer,) = take(client, 1)
    assert answer["success"] is False
    assert says in answer["ret_msg"]
    assert not client.subscribed


def test_the_venues_own_ping_is_answered() -> None:
    client = venue().open_session("/v5/public/spot")
    client.receive('{"op":"ping"}')
    (answer,) = take(client, 1)
    assert (answer["op"], answer["ret_msg"], answer["success"]) == ("ping", "pong", True)


def test_tickers_are_deltas_on_derivatives_and_whole_on_spot() -> None:
    exchange = venue()
    for market, kinds in (("linear", {"snapshot", "delta"}), ("spot", {"snapshot"})):
        client = exchange.open_session(f"/v5/public/{market}")
        client.receive(request("tickers.ETHUSDT"))
        frames = take(client, 200)[1:]
        assert {frame["type"] for frame in frames} == kinds
        assert all(frame["data"]["symbol"] == "ETHUSDT" for frame in frames)
        if market == "linear":
            assert min(len(frame["data"]) for frame in frames) < len(frames[0]["data"])


def test_the_past_is_what_was_sent() -> None:
    exchange = venue()
    client = exchange.open_session("/v5/public/linear")
    client.receive(request("publicTrade.BTCUSDT"))
    sent = [trade for frame in take(client, 400)[1:] for trade in frame["data"]]

    def rest(call: str, **query: object) -> Any:
        words = {"category": "linear", "symbol": "BTCUSDT"} | {k: str(v) for k, v in query.items()}
        status, text = exchange.answer(f"/v5/market/{call}", words)
        assert status == 200
        return json.loads(text)["result"]["list"]

    past = rest("recent-trade", limit=100)
    assert [trade["execId"] for trade in past] == [trade["i"] for trade in reversed(sent[-100:])]
    candles = rest("kline", interval=5, limit=10)
    starts = [int(row[0]) for row in candles]
    assert starts == sorted(starts, reverse=True)
    assert rest("kline", interval=5, start=starts[4], end=starts[2]) == candles[2:5]
    assert "BTCUSDT" in {row["symbol"] for row in rest("instruments-info")}
    refused = json.loads(exchange.answer("/v5/market/kline", {"category": "linear"})[1])
    assert refused["retCode"] == 10001


def test_frames_have_the_shapes_of_the_real_ones(
    captures: Path, shape: Callable[[object], object]
) -> None:
    path = captures / "bybit" / "btc-doge.ndjson.zst"
    made: dict[tuple[str, str, str], dict[str, Any]] = {}
    for market in ("spot", "linear"):
        client = venue(tick_ns=20_000_000).open_session(f"/v5/public/{market}")
        client.receive(request(*(f"{topic}.BTCUSDT" for topic in TOPICS)))
        for frame in take(client, 2_000)[1:]:
            made.setdefault((market, frame["topic"].split(".")[0], frame["type"]), frame)
    for envelope in read_segment(path):
        frame = json.loads(envelope.frame)
        if "topic" not in frame:
            continue
        kind = frame["topic"].split(".")[0]
        ours = made[envelope.conn.partition("-")[2], kind, frame["type"]]
        assert set(ours) == set(frame) - {"cs"}, kind
        theirs, our_data = frame["data"], ours["data"]
        if isinstance(theirs, list):
            theirs, our_data = theirs[0], our_data[0]
            assert set(our_data) == set(theirs) - {"L"}, kind
        elif kind == "tickers":  # a delta has any of the fields; we leave some out throughout
            assert frame["type"] == "delta" or set(our_data) <= set(theirs)
        else:
            assert set(our_data) == set(theirs), kind
        common = set(our_data) & set(theirs) - {"b", "a"}
        assert {k: shape(our_data[k]) for k in common} == {k: shape(theirs[k]) for k in common}
