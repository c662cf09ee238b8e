"""Kraken's side of a connection, without a socket."""

from __future__ import annotations

import itertools
import json
import zlib
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from fluxforge.segments import read_segment
from fluxforge.simulator.kraken import KrakenSession, KrakenVenue
from fluxforge.simulator.venue import ExchangeOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

START = 1_786_309_548_000_000_000


def session(tick_ns: int = 1_000_000) -> KrakenSession:
    clock = itertools.count(START, tick_ns).__next__
    return KrakenVenue(ExchangeOptions(clock=clock)).open_session()


def request(channel: str, *symbols: str, method: str = "subscribe", **params: Any) -> str:
    return json.dumps(
        {"method": method, "params": {"channel": channel, "symbol": symbols, **params}}
    )


def take(client: KrakenSession, count: int) -> list[dict[str, Any]]:
    """Return frames with their numbers as text."""
    frames: list[dict[str, Any]] = []
    while len(frames) < count:
        text = client.next_frame()
        if text is not None:
            frames.append(json.loads(text, parse_float=str))
    return frames


class Book:
    """A book as a client keeps it, with the checksum as the venue describes it."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.sides: dict[str, dict[Decimal, tuple[str, str]]] = {"bids": {}, "asks": {}}

    def apply(self, frame: dict[str, Any]) -> dict[str, Any]:
        (data,) = frame["data"]
        for name, side in self.sides.items():
            if frame["type"] == "snapshot":
                side.clear()
            for level in data[name]:
                if Decimal(level["qty"]):
                    side[Decimal(level["price"])] = (level["price"], level["qty"])
                else:
                    del side[Decimal(level["price"])]
            for price in sorted(side, reverse=name == "bids")[self.depth :]:
                del side[price]
        return data

    def checksum(self) -> int:
        best = [self.sides["asks"][price] for price in sorted(self.sides["asks"])[:10]]
        best += [self.sides["bids"][p] for p in sorted(self.sides["bids"], reverse=True)[:10]]
        digits = (number.replace(".", "").lstrip("0") for level in best for number in level)
        return zlib.crc32("".join(digits).encode())


@pytest.mark.parametrize("depth", [10, 25, 1000])
def test_every_checksum_is_right_for_a_book_cut_to_its_depth(depth: int) -> None:
    client = session()
    client.receive(request("book", "DOGE/USD", depth=depth))
    book, below = Book(depth), 0
    for frame in take(client, 1_500):
        if frame.get("channel") == "book":
            before = set(book.sides["bids"])
            data = book.apply(frame)
            assert book.checksum() == data["checksum"]
            told = {Decimal(level["price"]) for level in data["bids"]}
            below += bool(before - set(book.sides["bids"]) - told)
            assert len(book.sides["bids"]) == depth or depth == 1000
            assert max(book.sides["bids"]) < min(book.sides["asks"])
    assert below or depth == 1000  # levels fell below the depth without a word


def test_each_symbol_is_acknowledged_or_refused_by_itself() -> None:
    client = session()
    client.receive(request("book", "BTC/USD", "NOPE/USD", "btcusd", "ETH/USD", depth=25))
    frames = take(client, 6)
    answers = [frame for frame in frames if "method" in frame]
    assert [answer["success"] for answer in answers] == [True, False, False, True]
    assert answers[0]["result"] == {
        "channel": "book", "depth": 25, "snapshot": True, "symbol": "BTC/USD",
    }  # fmt: skip
    assert answers[1]["error"] == "Currency pair not supported NOPE/USD"
    assert answers[1]["symbol"] == "NOPE/USD"
    books = [frame["data"][0]["symbol"] for frame in frames if frame.get("channel") == "book"]
    assert books == ["BTC/USD", "ETH/USD"]


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ("hello", "Malformed request"),
        ("[]", "Malformed request"),
        ('{"method":"dance","params":{}}', "Invalid method"),
        (request("l4", "BTC/USD"), "Channel not supported l4"),
        (request("book", "BTC/USD", depth=11), "Depth not supported"),
        (request("ohlc", "BTC/USD", interval=2), "Interval not supported"),
    ],
)
def test_refusals(message: str, says: str) -> None:
    client = session()
    client.receive(message)
    (answer,) = take(client, 1)
    assert (answer["success"], answer["error"]) == (False, says)
    assert not client.subscribed


def test_heartbeats_come_only_when_nothing_else_does() -> None:
    quiet = session(tick_ns=100_000_000)
    quiet.receive(request("instrument"))
    take(quiet, 2)
    assert {frame["channel"] for frame in take(quiet, 10)} == {"heartbeat"}
    busy = session(tick_ns=1_000_000)
    busy.receive(request("book", "BTC/USD"))
    assert all(frame.get("channel") != "heartbeat" for frame in take(busy, 5_000))


def test_trades_candles_and_tickers_go_together() -> None:
    client = session()
    client.greet()
    for channel in ("trade", "ticker", "ohlc"):
        client.receive(request(channel, "ETH/USD", snapshot=True))
    frames = take(client, 1_000)
    assert frames[0]["channel"] == "status"
    assert frames[0]["data"][0]["connection_id"] > 1 << 53
    trades = [t for frame in frames if frame.get("channel") == "trade" for t in frame["data"]]
    numbers = [trade["trade_id"] for trade in trades]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    kinds = [(frame.get("channel"), frame.get("type")) for frame in frames]
    assert kinds.count(("ticker", "update")) > 50
    assert kinds.count(("ohlc", "update")) > 50
    last = next(frame["data"][0] for frame in reversed(frames) if frame["channel"] == "ohlc")
    assert last["interval"] == 1
    assert last["interval_begin"].endswith(":00.000000000Z")


def test_unsubscribing_ends_a_book() -> None:
    client = session()
    client.receive(request("book", "BTC/USD"))
    take(client, 50)
    client.receive(request("book", "BTC/USD", method="unsubscribe"))
    rest = []
    while text := client.next_frame():
        rest.append(json.loads(text))
    assert rest[-1]["result"] == {"channel": "book", "depth": 10, "symbol": "BTC/USD"}


def test_the_instrument_channel_has_the_decimals_of_each_pair() -> None:
    client = session()
    client.receive(request("ticker", "SUI/USD"))
    client.receive(request("instrument"))
    frames = take(client, 4)
    pairs = {pair["symbol"]: pair for pair in frames[-1]["data"]["pairs"]}
    assert {"BTC/USD", "SUI/USD"} <= set(pairs)
    assert (pairs["BTC/USD"]["price_precision"], pairs["BTC/USD"]["qty_precision"]) == (2, 8)


def test_frames_have_the_shapes_of_the_real_ones(
    captures: Path, shape: Callable[[object], object]
) -> None:
    def shapes(frames: list[dict[str, Any]]) -> dict[Any, set[str]]:
        found: dict[Any, set[str]] = {}
        for frame in frames:
            kind = (frame.get("channel"), frame.get("type"), frame.get("method"))
            if kind != ("book", "update", None):  # either side may be empty
                found.setdefault(kind, set()).add(repr(shape(frame)))
        return found

    path = captures / "kraken" / "btc-short.ndjson.zst"
    real = shapes([json.loads(envelope.frame) for envelope in read_segment(path)])
    frames = []
    client = session()
    client.greet()
    for method in ("subscribe", "unsubscribe"):
        client.receive(request("book", "BTC/USD", method=method))
    while text := client.next_frame():
        frames.append(json.loads(text))
    made = shapes(frames)
    for kind, forms in real.items():
        if kind != ("heartbeat", None, None):
            assert forms <= made[kind], kind
