"""The local exchange over real sockets."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from fluxforge.errors import ExchangeError, UnknownSourceError, UsageError
from fluxforge.segments import read_segment
from fluxforge.simulator import ExchangeOptions, LocalExchange, local_exchange
from fluxforge.simulator import market as market_module
from fluxforge.simulator.coinbase import CoinbaseVenue
from fluxforge.simulator.faults import BINARY_FRAME, NONJSON_FRAME

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.simulator.conftest import Heard

    Client = Callable[..., Awaitable[Heard]]
    Subscribe = Callable[..., str]

CHILD = """
import json, sys
from pathlib import Path
from fluxforge.simulator import ExchangeOptions, run_exchange

options = json.loads(sys.argv[1])
options["replay"] = tuple(Path(path) for path in options.get("replay", ()))
run_exchange(
    "coinbase", ExchangeOptions(**options), lambda url: print(url, flush=True)
)
"""


def exchange(**options: Any) -> LocalExchange:
    options.setdefault("rate", 0)
    return LocalExchange("coinbase", ExchangeOptions(**options))


def frame(number: int) -> bytes:
    return b'{"channel":"ticker","timestamp":"","sequence_num":%d,"events":[]}' % number


def as_bytes(frames: list[str | bytes]) -> list[bytes]:
    return [frame.encode() if isinstance(frame, str) else frame for frame in frames]


def numbers(heard: Heard) -> list[int]:
    return [json.loads(text)["sequence_num"] for text in heard.frames]


@pytest.fixture
def two_connections(write_segment: Callable[..., Path]) -> Path:
    """Write a recording of two connections, with every kind of line a segment can hold."""
    return write_segment(
        "two.ndjson",
        ("A", frame(0)),
        ("A", b'{ "spaced" : [1.50, "\\u00e9"] , "sequence_num":1}'),
        ("A", '{"text":"é🙂"}'.encode()),
        ("B", frame(0)),
        ("A", b"not\njson"),
        ("A", b""),
        ("A", b"\x00\xff"),
        ("B", frame(1)),
    )


class TestReplay:
    async def test_each_client_gets_the_next_connection_byte_for_byte(
        self, two_connections: Path, client: Client, subscribe: Subscribe
    ) -> None:
        recorded: dict[str, list[bytes]] = {"A": [], "B": []}
        for envelope in read_segment(two_connections):
            recorded[envelope.conn].append(envelope.frame)
        async with exchange(replay=(two_connections,)) as running:
            first = await client(running.url, [subscribe("heartbeats")])
            second = await client(running.url, [subscribe("heartbeats")])
            await running.finished()
            third = await client(running.url, [subscribe("heartbeats")])
        assert as_bytes(first.frames) == recorded["A"]
        assert as_bytes(second.frames) == recorded["B"]
        assert [type(f) for f in first.frames] == [str, str, str, str, str, bytes]
        assert (first.code, second.code) == (1000, 1000)
        assert (third.code, third.reason, third.frames) == (1001, "no more recordings", [])

    @pytest.mark.parametrize("name", ["five-channels", "reconnect"])
    async def test_real_traffic_comes_byte_for_byte(
        self, name: str, captures: Path, client: Client, subscribe: Subscribe
    ) -> None:
        path = captures / "coinbase" / f"{name}.ndjson.zst"
        recorded: dict[str, list[bytes]] = {}
        for envelope in read_segment(path):
            recorded.setdefault(envelope.conn, []).append(envelope.frame)
        async with exchange(replay=(path,)) as running:
            for frames in recorded.values():
                heard = await client(running.url, [subscribe("level2", "BTC-USD")])
                assert as_bytes(heard.frames) == frames
                assert heard.code == 1000

    async def test_two_clients_at_once_get_different_connections(
        self, two_connections: Path, client: Client, subscribe: Subscribe
    ) -> None:
        async with exchange(replay=(two_connections,)) as running:
            heard = await asyncio.gather(
                *(client(running.url, [subscribe("heartbeats")]) for _ in range(2))
            )
        assert sorted(len(one.frames) for one in heard) == [2, 6]

    async def test_a_client_that_leaves_early_leaves_its_recording_to_the_next(
        self, write_segment: Callable[..., Path], client: Client, subscribe: Subscribe
    ) -> None:
        many = [("A", frame(number) + b" " * 10_000) for number in range(2_000)]
        path = write_segment("many.ndjson", *many, ("B", frame(0)))
        async with exchange(replay=(path,), once=True) as running:
            for _ in range(2):
                early = await client(running.url, [subscribe("heartbeats")], frames=5)
                assert numbers(early) == [0, 1, 2, 3, 4]
            whole = await client(running.url, [subscribe("heartbeats")])
            last = await client(running.url, [subscribe("heartbeats")])
            await running.finished()
        assert numbers(whole) == list(range(2_000))
        assert numbers(last) == [0]

    async def test_it_keeps_the_recorded_pace_times_the_rate(
        self, write_segment: Callable[..., Path], client: Client, subscribe: Subscribe
    ) -> None:
        path = write_segment("x.ndjson", *[("A", frame(number)) for number in range(301)])
        loop = asyncio.get_running_loop()
        async with exchange(replay=(path,), rate=2) as running:
            began = loop.time()
            heard = await client(running.url, [subscribe("heartbeats")])
            took = loop.time() - began
        assert numbers(heard) == list(range(301))
        assert took >= 0.149  # 300 ms were recorded

    async def test_filtered_by_what_the_client_asked_for(
        self, captures: Path, client: Client, subscribe: Subscribe
    ) -> None:
        path = captures / "coinbase" / "five-channels.ndjson.zst"
        async with exchange(replay=(path,), filter=True) as running:
            heard = await client(
                running.url, [subscribe("heartbeats"), subscribe("market_trades", "ETH-USD")]
            )
        assert {message["channel"] for message in heard.messages} == {
            "heartbeats",
            "market_trades",
            "subscriptions",
        }
        trades = [m for m in heard.messages if m["channel"] == "market_trades"]
        assert trades
        assert all("BTC-USD" not in json.dumps(message) for message in trades)

    async def test_recordings_that_cannot_be_replayed_are_known_before_anything_is_served(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "bad.ndjson").write_bytes(b"hello\n")
        for name in ("missing.ndjson", "bad.ndjson"):
            with pytest.raises(ExchangeError, match=name):
                await exchange(replay=(tmp_path / name,)).__aenter__()

    async def test_a_recording_that_vanishes_is_reported(
        self, two_connections: Path, client: Client, subscribe: Subscribe
    ) -> None:
        async with exchange(replay=(two_connections,)) as running:
            two_connections.unlink()
            heard = await client(running.url, [subscribe("heartbeats")])
            assert heard.code == 1011
            with pytest.raises(ExchangeError, match=r"two\.ndjson"):
                await running.finished()


class TestModel:
    async def test_numbers_run_without_a_hole_and_each_connection_starts_at_0(
        self, client: Client, subscribe: Subscribe
    ) -> None:
        messages = [subscribe("heartbeats"), subscribe("level2", "BTC-USD", "ETH-USD")]
        async with exchange() as running:
            for count in (3_000, 500):
                heard = await client(running.url, messages, frames=count)
                assert numbers(heard) == list(range(count))

    async def test_two_clients_see_one_market(self, client: Client, subscribe: Subscribe) -> None:
        messages = [subscribe("market_trades", "BTC-USD")]
        async with exchange() as running:
            heard = await asyncio.gather(
                *(client(running.url, messages, frames=1_000) for _ in range(2))
            )
        prints: list[dict[str, Any]] = []
        for one in heard:
            assert numbers(one) == list(range(1_000))
            trades = [
                trade
                for message in one.messages
                for event in message["events"]
                for trade in event.get("trades", [])
            ]
            prints.append({trade["trade_id"]: trade for trade in trades})
        common = prints[0].keys() & prints[1].keys()
        assert len(common) > 500
        assert all(prints[0][key] == prints[1][key] for key in common)

    async def test_it_ends_after_so_many_frames(self, client: Client, subscribe: Subscribe) -> None:
        async with exchange(frames=250, once=True) as running:
            heard = await client(running.url, [subscribe("ticker", "BTC-USD")])
            await running.finished()
        assert len(heard.frames) == 250
        assert heard.code == 1000

    async def test_a_client_that_subscribes_to_nothing_is_disconnected(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(CoinbaseVenue, "subscribe_seconds", 0.2)
        async with exchange() as running:
            heard = await client(running.url, [])
        assert (heard.code, heard.frames) == (1008, [])

    async def test_an_unknown_channel_gets_an_error_frame_and_the_socket_stays_open(
        self, client: Client, subscribe: Subscribe
    ) -> None:
        refusal = '{"type": "error", "message": "authentication failure"}'
        async with exchange() as running:
            heard = await client(running.url, [subscribe("full", "BTC-USD")], frames=1)
            assert heard.frames == [refusal]
            messages = [subscribe("full", "BTC-USD"), subscribe("ticker", "BTC-USD")]
            heard = await client(running.url, messages, frames=3)
            assert heard.frames[0] == refusal
            assert [m["sequence_num"] for m in heard.messages[1:]] == [0, 1]

    async def test_a_client_that_does_not_read_is_cut_off_when_it_holds_others_up(
        self, client: Client, subscribe: Subscribe, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(market_module, "_SLOWEST_SECONDS", 0.1)
        monkeypatch.setattr(market_module, "_LOG_STEPS", 50)
        async with (
            exchange() as running,
            connect(running.url, max_size=None, max_queue=1, close_timeout=0.2) as stuck,
        ):
            await stuck.send(subscribe("level2", "BTC-USD"))
            await stuck.recv()
            heard = await client(running.url, [subscribe("level2", "BTC-USD")], frames=20_000)
            assert numbers(heard) == list(range(20_000))
            with pytest.raises(ConnectionClosedError) as closed:
                while True:
                    await stuck.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "slow consumer")

    async def test_pings_are_answered(self, subscribe: Subscribe) -> None:
        async with exchange(rate=1) as running, connect(running.url) as socket:
            await socket.send(subscribe("ticker", "BTC-USD"))
            await (await socket.ping())


class TestFaults:
    """Each fault as the client sees it, from the model and in a replay."""

    @pytest.fixture(params=["model", "replay"])
    def faulty(
        self, request: pytest.FixtureRequest, write_segment: Callable[..., Path]
    ) -> Callable[[str], LocalExchange]:
        path = write_segment("x.ndjson", *[("A", frame(number)) for number in range(60)])

        def open_exchange(faults: str) -> LocalExchange:
            source: dict[str, Any] = (
                {"replay": (path,)} if request.param == "replay" else {"frames": 60}
            )
            return exchange(faults=faults, **source)

        return open_exchange

    @pytest.fixture
    def messages(self, subscribe: Subscribe) -> list[str]:
        return [subscribe("ticker", "BTC-USD")]

    async def test_drop(
        self, faulty: Callable[[str], LocalExchange], client: Client, messages: list[str]
    ) -> None:
        async with faulty("drop@20,drop@30") as running:
            first = await client(running.url, messages)
            second = await client(running.url, messages)
            third = await client(running.url, messages)
        assert (first.code, numbers(first)) == (1006, list(range(20)))
        assert (second.code, numbers(second)) == (1006, list(range(30)))
        assert (third.code, numbers(third)) == (1000, list(range(60)))

    async def test_skip(
        self, faulty: Callable[[str], LocalExchange], client: Client, messages: list[str]
    ) -> None:
        async with faulty("skip@10,skip@20:3") as running:
            heard = await client(running.url, messages)
        assert numbers(heard) == [n for n in range(60) if n not in (10, 20, 21, 22)]

    async def test_extra_frames(
        self, faulty: Callable[[str], LocalExchange], client: Client, messages: list[str]
    ) -> None:
        async with faulty("malformed@5,nonjson@10,binary@15,unknown@20,large@25") as running:
            heard = await client(running.url, messages)
        frames = list(heard.frames)
        assert len(frames) == 65
        assert max(len(f) for f in frames) >= 6_000_000
        large = next(f for f in frames if len(f) >= 6_000_000)
        assert json.loads(large)["channel"] == "l2_data"
        unreadable = []
        sequence = []
        for index, text in enumerate(frames):
            try:
                sequence.append(json.loads(text).get("sequence_num"))
            except ValueError:
                unreadable.append((index, text))
        assert [index for index, _ in unreadable] == [5, 11, 17]
        assert unreadable[1][1] == NONJSON_FRAME
        assert unreadable[2][1] == BINARY_FRAME
        unknown = json.loads(frames[23])
        assert unknown["channel"] == "weather"
        numbered = [number for number in sequence if number is not None]
        assert numbered == list(range(len(numbered)))
        assert len(numbered) in (60, 62)

    async def test_silence_and_burst(
        self, client: Client, messages: list[str], subscribe: Subscribe
    ) -> None:
        faults = "silence@10:0.3,burst@0:40"
        # At this rate a second frame would come after an hour and a half.
        async with exchange(rate=0.0002, faults=faults) as running:
            heard = await client(running.url, messages, frames=40)
        assert numbers(heard) == list(range(40))
        seconds = [float(str(m["timestamp"])[17:-1]) % 60 for m in heard.messages]
        assert (seconds[10] - seconds[9]) % 60 >= 0.3

    async def test_a_burst_in_a_replay_ignores_the_pace(
        self, write_segment: Callable[..., Path], client: Client, messages: list[str]
    ) -> None:
        path = write_segment("x.ndjson", *[("A", frame(number)) for number in range(40)])
        faults = "burst@0:40"
        async with exchange(replay=(path,), rate=0.00001, faults=faults) as running:
            heard = await client(running.url, messages)
        assert numbers(heard) == list(range(40))


class TestVenues:
    """What a venue needs of the server beyond frames."""

    @staticmethod
    async def get(url: str, path: str) -> tuple[int, Any]:
        def call() -> tuple[int, Any]:
            host = url.split("/")[2]
            try:
                with urlopen(f"http://{host}{path}") as answer:
                    return answer.status, json.load(answer)
            except HTTPError as refused:
                with refused:
                    return refused.code, refused.read().decode()

        return await asyncio.to_thread(call)

    @pytest.mark.parametrize(
        ("name", "path"),
        [("coinbase", ""), ("kraken", "/v2"), ("binance", "/stream"), ("bybit", "/v5/public")],
    )
    def test_each_has_its_own_address(self, name: str, path: str) -> None:
        with local_exchange(name) as running:
            assert re.fullmatch(rf"ws://127\.0\.0\.1:\d+{path}", running.url)

    def test_a_venue_without_a_server_side_is_named(self) -> None:
        with pytest.raises(UnknownSourceError, match="did you mean 'coinbase'"):
            LocalExchange("coinbsae")

    async def test_rest_is_answered_on_the_same_port(self, client: Client) -> None:
        subscribed = '{"method":"SUBSCRIBE","params":["btcusdt@depth@100ms"],"id":1}'
        async with LocalExchange("binance", ExchangeOptions(rate=0)) as running:
            heard = await client(running.url, [subscribed], frames=50)
            path = "/api/v3/depth?symbol=BTCUSDT&limit=10"
            status, book = await self.get(running.url, path)
            assert status == 200
            assert len(book["bids"]) == 10
            assert book["lastUpdateId"] >= heard.messages[-1]["data"]["u"]  # type: ignore[index]
            assert (await self.get(running.url, "/nowhere"))[0] == 404

    async def test_requests_are_refused_as_asked(self, client: Client) -> None:
        options = ExchangeOptions(rate=0, faults="refuse@0:2,refuse@3")
        async with LocalExchange("binance", options) as running:
            for _ in range(2):
                with pytest.raises(InvalidStatus) as refused:
                    await client(running.url, [], frames=1)
                assert refused.value.response.status_code == 503
            call = "/api/v3/klines?symbol=BTCUSDT&interval=1m"
            assert (await self.get(running.url, call))[0] == 200
            assert (await self.get(running.url, call))[0] == 503
            assert (await self.get(running.url, call))[0] == 200

    async def test_recorded_rest_answers_are_given_to_rest_calls(
        self, write_segment: Callable[..., Path], client: Client
    ) -> None:
        path = write_segment(
            "binance.ndjson",
            ("A", b'{"stream":"btcusdt@trade","data":{"n":0}}'),
            ("A", b'{"depth": "BTCUSDT", "response": {"lastUpdateId":1,"bids":[]}}'),
            ("A", b'{"depth":"BTCUSDT","response":{"lastUpdateId":2,"bids":[]}}'),
            ("A", b'{"stream":"btcusdt@trade","data":{"n":1}}'),
        )
        subscribed = '{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1}'
        options = ExchangeOptions(rate=0, replay=(path,))
        async with LocalExchange("binance", options) as running:
            call = "/api/v3/depth?symbol=BTCUSDT"
            numbers = [(await self.get(running.url, call))[1]["lastUpdateId"] for _ in range(3)]
            assert (await self.get(running.url, call.replace("BTC", "ETH")))[0] == 503
            heard = await client(running.url, [subscribed])
        assert numbers == [1, 2, 1]
        assert [message["data"] for message in heard.messages] == [{"n": 0}, {"n": 1}]

    async def test_an_address_gets_its_own_recording(
        self, write_segment: Callable[..., Path], client: Client
    ) -> None:
        frames = [(f"x-{market}", b'{"topic":"tickers.X"}') for market in ("spot", "linear")]
        path = write_segment("bybit.ndjson", *frames, ("x-linear", b"{}"))
        subscribed = '{"op":"subscribe","args":["tickers.BTCUSDT"]}'
        options = ExchangeOptions(rate=0, replay=(path,))
        async with LocalExchange("bybit", options) as running:
            linear = await client(running.url + "/linear", [subscribed])
            again = await client(running.url + "/linear", [subscribed])
            spot = await client(running.url + "/spot", [subscribed])
        assert (len(linear.frames), len(again.frames), len(spot.frames)) == (2, 0, 1)
        assert again.reason == "no more recordings"


class TestStopping:
    async def test_a_busy_port_is_one_clear_error(self) -> None:
        async with exchange() as running:
            port = int(running.url.rpartition(":")[2])
            with pytest.raises(ExchangeError, match=f"port {port}"):
                await exchange(port=port).__aenter__()

    def test_a_busy_port_is_reported_from_the_thread_too(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with (
                pytest.raises(ExchangeError, match=f"port {port}"),
                local_exchange("coinbase", port=port),
            ):
                pass
        assert "local exchange" not in {thread.name for thread in threading.enumerate()}

    async def test_it_stops_whatever_its_clients_are_doing(self, subscribe: Subscribe) -> None:
        async with exchange(faults="silence@5:3600") as running:
            silent = await connect(running.url, close_timeout=0.2)
            await silent.send(subscribe("ticker", "BTC-USD"))
            for _ in range(5):
                await silent.recv()
            waiting = await connect(running.url, close_timeout=0.2)
            stuck = await connect(running.url, max_queue=1, max_size=None, close_timeout=0.1)
            await stuck.send(subscribe("level2", "BTC-USD"))
            await stuck.recv()
            await asyncio.sleep(0.2)
            host, port = running.url.removeprefix("ws://").split(":")
            half_open = socket.create_connection((host, int(port)))
        with pytest.raises(OSError):
            socket.create_connection((host, int(port)), timeout=1)
        assert len(asyncio.all_tasks()) < 10
        half_open.close()
        for client_socket in (silent, waiting, stuck):
            await client_socket.close()

    async def test_it_runs_beside_a_running_loop_and_leaves_nothing(
        self, client: Client, subscribe: Subscribe
    ) -> None:
        before = set(threading.enumerate())
        with local_exchange("coinbase", rate=0, seed=4) as running:
            heard = await client(running.url, [subscribe("ticker", "BTC-USD")], frames=100)
        assert numbers(heard) == list(range(100))
        assert set(threading.enumerate()) == before
        with pytest.raises(OSError):
            await client(running.url, [])

    async def test_an_error_in_the_block_stops_it_too(self) -> None:
        before = set(threading.enumerate())
        with pytest.raises(ValueError, match="mine"), local_exchange("coinbase"):
            raise ValueError("mine")
        assert set(threading.enumerate()) == before


class TestProcess:
    @staticmethod
    def start(**options: Any) -> tuple[subprocess.Popen[str], str]:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, json.dumps(options)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        return child, child.stdout.readline().strip()

    async def test_once_ends_with_the_last_recording(
        self, two_connections: Path, client: Client, subscribe: Subscribe
    ) -> None:
        child, url = self.start(replay=[str(two_connections)], once=True, rate=0)
        first = await client(url, [subscribe("heartbeats")])
        second = await client(url, [subscribe("heartbeats")])
        out, err = child.communicate(timeout=30)
        assert (len(first.frames), len(second.frames)) == (6, 2)
        assert (child.returncode, out, err) == (0, "", "")

    @pytest.mark.skipif(sys.platform == "win32", reason="signals are sent the POSIX way")
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    async def test_signals_stop_it_cleanly(
        self, number: signal.Signals, client: Client, subscribe: Subscribe
    ) -> None:
        child, url = self.start(rate=0)
        async with connect(url, max_size=None, close_timeout=0.2) as connected:
            await connected.send(subscribe("level2", "BTC-USD"))
            await connected.recv()
            child.send_signal(number)
            out, err = await asyncio.to_thread(child.communicate, timeout=30)
        assert (child.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize(
    "options",
    [
        {"port": 70_000},
        {"port": -1},
        {"rate": -1},
        {"rate": float("nan")},
        {"rate": float("inf")},
        {"filter": True},
        {"frames": 0},
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        ExchangeOptions(**options)
