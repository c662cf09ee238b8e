"""Binance's side of a connection, and its REST answers."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest

from fluxforge.segments import read_segment
from fluxforge.simulator.binance import BinanceSession, BinanceVenue
from fluxforge.simulator.venue import ExchangeOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

START = 1_786_309_548_000_000_000
STREAMS = ("depth@100ms", "aggTrade", "trade", "bookTicker", "kline_1m", "ticker")


def venue(tick_ns: int = 1_000_000) -> BinanceVenue:
    return BinanceVenue(ExchangeOptions(clock=itertools.count(START, tick_ns).__next__))


def request(*streams: str, method: str = "SUBSCRIBE") -> str:
    return json.dumps({"method": method, "params": streams, "id": 7})


def take(client: BinanceSession, count: int) -> list[dict[str, Any]]:
    frames: list[dict[str, Any]] = []
    while len(frames) < count:
        text = client.next_frame()
        if text is not None:
            frames.append(json.loads(text))
    return frames


def rest(exchange: BinanceVenue, call: str, **query: object) -> Any:
    status, text = exchange.answer(f"/api/v3/{call}", {k: str(v) for k, v in query.items()})
    assert status == 200
    return json.loads(text)


def apply(book: dict[str, dict[str, str]], content: dict[str, Any], bids: str, asks: str) -> None:
    for side, levels in (("b", content[bids]), ("a", content[asks])):
        for price, size in levels:
            if float(size):
                book[side][price] = size
            else:
                book[side].pop(price, None)


def test_a_book_is_the_rest_answer_and_the_changes_that_follow_it() -> None:
    exchange = venue()
    client = exchange.open_session("/stream")
    client.receive(request("btcusdt@depth@100ms"))
    early = take(client, 20)[1:]
    answer = rest(exchange, "depth", symbol="BTCUSDT", limit=5000)
    late = take(client, 500)
    book: dict[str, dict[str, str]] = {"b": {}, "a": {}}
    apply(book, answer, "bids", "asks")
    assert len(book["b"]) > 1_000
    reached = None
    for frame in early + late:
        data = frame["data"]
        assert reached is None or data["U"] == reached + 1
        reached = data["u"]
        if data["u"] > answer["lastUpdateId"]:
            apply(book, data, "b", "a")
    assert any(frame["data"]["u"] == answer["lastUpdateId"] for frame in early)
    fresh = rest(exchange, "depth", symbol="BTCUSDT", limit=5000)
    assert fresh["lastUpdateId"] == reached
    assert book == {"b": dict(fresh["bids"]), "a": dict(fresh["asks"])}
    assert len(rest(exchange, "depth", symbol="BTCUSDT", limit=5)["bids"]) == 5


def test_streams_by_path_and_by_request_are_the_same() -> None:
    names = "/".join(f"btcusdt@{stream}" for stream in STREAMS)
    by_path = venue().open_session(f"/stream?streams={names}")
    by_request = venue().open_session("/stream")
    by_request.receive(request(*names.split("/")))
    assert take(by_request, 1) == [{"result": None, "id": 7}]
    frames = take(by_path, 4_000)
    assert {frame["stream"] for frame in frames} == set(names.split("/"))
    assert {frame["stream"] for frame in take(by_request, 4_000)} == set(names.split("/"))
    raw = venue().open_session("/ws/btcusdt@trade")
    assert {frame["e"] for frame in take(raw, 50)} == {"trade"}


def test_an_unknown_symbol_is_acknowledged_and_stays_silent_but_rest_refuses_it() -> None:
    exchange = venue()
    client = exchange.open_session("/stream")
    client.receive(request("nopeusdt@trade", "btcusdt@weather"))
    assert client.subscribed
    assert take(client, 1) == [{"result": None, "id": 7}]
    assert client.next_frame() is None
    client.receive(request(method="LIST_SUBSCRIPTIONS"))
    assert take(client, 1)[0]["result"] == ["nopeusdt@trade", "btcusdt@weather"]
    status, text = exchange.answer("/api/v3/depth", {"symbol": "NOPEUSDT"})
    assert (status, json.loads(text)["code"]) == (400, -1121)


def test_malformed_requests_are_answered() -> None:
    client = venue().open_session("/stream")
    for message in ("hello", "[]", '{"method":"DANCE","id":1}'):
        client.receive(message)
        assert take(client, 1)[0]["error"]["code"] == 2
    assert not client.subscribed


def test_unsubscribing() -> None:
    client = venue().open_session("/stream")
    client.receive(request("btcusdt@trade", "ethusdt@trade"))
    take(client, 20)
    client.receive(request("btcusdt@trade", method="UNSUBSCRIBE"))
    frames = take(client, 200)
    after = frames[frames.index({"result": None, "id": 7}) + 1 :]
    assert {frame["stream"] for frame in after} == {"ethusdt@trade"}


def test_the_past_is_what_was_sent() -> None:
    exchange = venue()
    client = exchange.open_session("/stream?streams=btcusdt@aggTrade")
    sent = [frame["data"] for frame in take(client, 2_500)]
    first = sent[0]["a"]
    page = rest(exchange, "aggTrades", symbol="BTCUSDT", fromId=first, limit=1000)
    assert [trade["a"] for trade in page] == list(range(first, first + 1_000))
    assert page == [
        {k: v for k, v in trade.items() if k not in ("e", "E", "s")} for trade in sent[:1_000]
    ]
    moment = sent[500]["T"]
    found = rest(exchange, "aggTrades", symbol="BTCUSDT", startTime=moment, endTime=moment)
    assert {trade["T"] for trade in found} == {moment}
    candles = rest(exchange, "klines", symbol="BTCUSDT", interval="5m", limit=10)
    assert [row[0] % 300_000 for row in candles] == [0] * 10
    again = rest(exchange, "klines", symbol="BTCUSDT", interval="5m", startTime=candles[3][0])
    assert again == candles[3:]


def test_the_list_of_symbols_has_what_was_asked_for() -> None:
    exchange = venue()
    exchange.open_session("/stream?streams=suiusdt@trade")
    listed = {row["symbol"]: row for row in rest(exchange, "exchangeInfo")["symbols"]}
    assert {"BTCUSDT", "ETHBTC", "SUIUSDT"} <= set(listed)
    assert (listed["ETHBTC"]["baseAsset"], listed["ETHBTC"]["quoteAsset"]) == ("ETH", "BTC")


def test_frames_have_the_shapes_of_the_real_ones(
    captures: Path, shape: Callable[[object], object]
) -> None:
    path = captures / "binance" / "nkn-lrc.ndjson.zst"
    exchange = venue(tick_ns=50_000_000)
    made: dict[str, set[str]] = {}
    client = exchange.open_session("/stream")
    client.receive(request(*(f"lrcbtc@{stream}" for stream in STREAMS)))
    for frame in take(client, 3_000)[1:]:
        made.setdefault(frame["stream"].partition("@")[2], set()).add(repr(shape(frame)))
    book = repr(shape(rest(exchange, "depth", symbol="LRCBTC", limit=100)))
    for envelope in read_segment(path):
        frame = json.loads(envelope.frame)
        if "depth" in frame:
            assert repr(shape(frame["response"])) == book
        else:
            assert repr(shape(frame)) in made[frame["stream"].partition("@")[2]]


@pytest.mark.parametrize("stream", ["btcusdt@kline_2m", "btcusdt", "@trade"])
def test_what_is_no_stream_stays_silent(stream: str) -> None:
    client = venue().open_session("/stream")
    client.receive(request(stream))
    take(client, 1)
    assert client.next_frame() is None
