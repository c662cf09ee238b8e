"""Sockets that end in every way that sockets end."""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import socket
import ssl
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import (
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidMessage,
    InvalidStatus,
    InvalidUpgrade,
    InvalidURI,
)
from websockets.frames import Close
from websockets.http11 import Response

from fluxforge.errors import ConfigError, ConnectionFailedError, redacted_url
from fluxforge.ingestion import buffer, connection
from fluxforge.ingestion.orchestrators import IngestionPipeline, ingest
from fluxforge.ingestion.websocket import classify
from fluxforge.retry import RetryPolicy
from fluxforge.simulator import local_exchange
from fluxforge.sources import get_source
from fluxforge.sources.coinbase.protocol import CoinbaseSession

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from websockets.asyncio.server import ServerConnection

    Serve = Callable[..., Awaitable[str]]
    MakeFrame = Callable[..., str]


def closed(code: int | None) -> Exception:
    close = None if code is None else Close(code, "")
    kind = ConnectionClosedOK if code in (1000, 1001) else ConnectionClosedError
    return kind(close, close, None if close is None else True)


def status(code: int) -> Exception:
    return InvalidStatus(Response(code, "", Headers()))


@pytest.fixture
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again within milliseconds."""
    monkeypatch.setattr(connection, "RECONNECT", RetryPolicy(first=0.01, cap=0.02))


@pytest.fixture
def short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let half a second without a frame be a silence."""
    source = type(get_source("coinbase"))
    monkeypatch.setattr(source, "limits", replace(source.limits, silence_seconds=0.5))


@pytest.mark.parametrize(
    ("error", "before", "after"),
    [
        (closed(1000), "again", "again"),
        (closed(1001), "again", "again"),
        (closed(1006), "later", "later"),
        (closed(1008), "later", "later"),
        (closed(1009), "later", "later"),
        (closed(1011), "later", "later"),
        (closed(None), "later", "later"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "later", "later"),
        (ConnectionResetError(), "later", "later"),
        (socket.gaierror(-2, "Name or service not known"), "later", "later"),
        (TimeoutError(), "later", "later"),
        (InvalidMessage("did not receive a valid HTTP response"), "later", "later"),
        (status(429), "later", "later"),
        (status(500), "later", "later"),
        (status(503), "later", "later"),
        (status(401), "never", "later"),
        (status(403), "never", "later"),
        (status(404), "never", "later"),
        (status(200), "never", "later"),
        (InvalidUpgrade("Connection", "keep-alive"), "never", "later"),
        (ssl.SSLCertVerificationError("self-signed"), "never", "later"),
        (InvalidURI("x", "no scheme"), "never", "never"),
        (ValueError("a bug"), "never", "never"),
    ],
    ids=repr,
)
def test_one_function_decides_what_an_end_means(error: Exception, before: str, after: str) -> None:
    assert classify(error, reached=False) == before
    assert classify(error, reached=True) == after


def test_a_url_is_shown_without_what_may_be_secret() -> None:
    assert redacted_url("wss://key:secret@host:1/path?token=secret#x") == "wss://host:1/path"


async def test_every_frame_of_every_kind_is_stored_byte_for_byte(
    venue: Serve, lake: Any, make_frame: MakeFrame
) -> None:
    sent: list[str | bytes] = [
        make_frame(0, text="é\u2028", slash="\\/"),
        '{"channel":"subscriptions","sequence_num":1,"events":[]}',
        '{ "spaces" :  "kept",\n "and":"line ends" }',
        '{"type":"error","message":"failure to subscribe"}',
        "not json at all",
        "",
        b"\x00\xff binary",
        '{"big":"' + "x" * 6_000_000 + '"}',
        make_frame(2),
    ]

    async def serve(socket: ServerConnection) -> None:
        for data in sent:
            await socket.send(data)
        await socket.wait_closed()

    report = await ingest(lake.config(await venue(serve)), "coinbase", frames=len(sent))
    assert lake.frames() == [data.encode() if isinstance(data, str) else data for data in sent]
    assert report.to_dict() == {
        "frames": len(sent),
        "bytes": sum(path.stat().st_size for path in lake.segments()),
        "segments": 1,
        "connections": 1,
        "gaps": 0,
    }


async def test_what_a_venue_sends_in_fragments_is_one_frame(venue: Serve, lake: Any) -> None:
    async def serve(socket: ServerConnection) -> None:
        await socket.send(['{"a":', "1,", '"b":2}'])
        await socket.wait_closed()

    await ingest(lake.config(await venue(serve)), "coinbase", frames=1)
    assert lake.frames() == [b'{"a":1,"b":2}']


async def test_subscriptions_are_sent_and_frames_taken_before_any_answer(
    venue: Serve, lake: Any, make_frame: MakeFrame
) -> None:
    heard: list[Any] = []

    async def serve(socket: ServerConnection) -> None:
        await socket.send(make_frame(0))  # before the client has said anything
        heard.extend([json.loads(await socket.recv()) for _ in range(2)])
        await socket.send(make_frame(1))
        await socket.wait_closed()

    await ingest(lake.config(await venue(serve)), "coinbase", frames=2)
    assert [message["channel"] for message in heard] == ["heartbeats", "ticker"]
    assert lake.frames() == [make_frame(0).encode(), make_frame(1).encode()]


async def test_client_messages_keep_below_the_venues_rate_over_all_sockets(
    venue: Serve, lake: Any, make_frame: MakeFrame
) -> None:
    heard: list[float] = []
    complete = asyncio.Event()

    async def serve(socket: ServerConnection) -> None:
        async for _ in socket:
            heard.append(asyncio.get_running_loop().time())
            if len(heard) == 6:
                complete.set()

    products = "[" + ",".join(f"P{number}-USD" for number in range(25)) + "]"
    config = lake.config(
        await venue(serve),
        f"ingestion.sources.coinbase.products={products}",
        "ingestion.sources.coinbase.channels=[level2]",
    )
    pipeline = IngestionPipeline(config, "coinbase")
    async with pipeline:
        await complete.wait()
        assert pipeline.progress[0].connected == 3
    assert heard[-1] - heard[0] > 0.4  # five times 1/8 s, less what the way here may shift


@pytest.mark.usefixtures("quick_backoff")
@pytest.mark.parametrize("end", ["close 1000", "close 1001", "close 1011", "abort", "drop"])
async def test_a_connection_that_ends_is_followed_by_another(
    venue: Serve, lake: Any, make_frame: MakeFrame, end: str
) -> None:
    async def serve(socket: ServerConnection) -> None:
        for number in range(50):
            await socket.send(make_frame(number))
        if end == "abort":
            await socket.recv()
            socket.transport.abort()
        elif end == "drop":
            socket.transport.close()
        else:
            await socket.close(int(end.split()[1]))

    report = await ingest(lake.config(await venue(serve)), "coinbase", frames=150)
    frames = [make_frame(number).encode() for number in range(50)]
    envelopes = lake.envelopes()
    assert [envelope.frame for envelope in envelopes] == frames * 3
    assert len({envelope.conn for envelope in envelopes}) == report.connections == 3
    assert [envelope.conn for envelope in envelopes] == sorted(e.conn for e in envelopes)
    assert report.gaps == 0  # numbers start again with each connection


async def test_a_normal_end_is_no_failure_and_costs_no_delay(
    venue: Serve, lake: Any, make_frame: MakeFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NeverAgain(RetryPolicy):
        def delays(self) -> Iterator[float]:
            raise AssertionError("a normal close must not wait")
            yield

    monkeypatch.setattr(connection, "RECONNECT", NeverAgain())

    async def serve(socket: ServerConnection) -> None:
        await socket.send(make_frame(0))

    report = await ingest(lake.config(await venue(serve)), "coinbase", frames=3)
    assert report.connections == 3


async def test_the_backoff_starts_over_after_health_and_only_then(
    venue: Serve, lake: Any, make_frame: MakeFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[int] = []

    class Recorded(RetryPolicy):
        def delays(self) -> Iterator[float]:
            for attempt in itertools.count():
                waited.append(attempt)
                yield 0.0

    monkeypatch.setattr(connection, "RECONNECT", Recorded())
    monkeypatch.setattr(connection, "HEALTHY_SECONDS", 0.2)
    seen = 0

    async def serve(socket: ServerConnection) -> None:
        nonlocal seen
        seen += 1
        if seen == 4:  # says nothing for long: no health
            await asyncio.sleep(0.3)
        elif seen == 5:
            await socket.send(make_frame(0))
            await asyncio.sleep(0.3)
        elif seen >= 7:
            await socket.send(make_frame(0))
        await socket.close(1011)

    await ingest(lake.config(await venue(serve)), "coinbase", frames=2)
    assert waited[:6] == [0, 1, 2, 3, 0, 1]


@pytest.mark.usefixtures("quick_backoff", "short_silence")
async def test_silence_is_ended_by_a_new_connection(
    venue: Serve, lake: Any, make_frame: MakeFrame
) -> None:
    async def serve(socket: ServerConnection) -> None:
        await socket.send(make_frame(0))
        await socket.wait_closed()

    report = await ingest(lake.config(await venue(serve)), "coinbase", frames=3)
    assert report.connections == 3


@pytest.mark.usefixtures("short_silence")
async def test_a_writer_that_is_behind_is_no_silence(
    venue: Serve, lake: Any, make_frame: MakeFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While frames wait for room nothing is received; that is not the venue's fault."""
    monkeypatch.setattr(buffer, "BUFFER_BYTES", 1_000)

    async def serve(socket: ServerConnection) -> None:
        for number in range(15):
            await socket.send(make_frame(number))
        await socket.wait_closed()

    config = lake.config(await venue(serve), "ingestion.flush_interval_seconds=0.7")
    report = await ingest(config, "coinbase", frames=10)
    assert report.connections == 1
    assert lake.frames() == [make_frame(number).encode() for number in range(10)]


async def test_lost_frames_are_counted_per_connection(
    venue: Serve, lake: Any, make_frame: MakeFrame
) -> None:
    numbers = [[0, 1, 4, 5], [2, 3, 7]]

    async def serve(socket: ServerConnection) -> None:
        for number in numbers.pop(0):
            await socket.send(make_frame(number))

    report = await ingest(lake.config(await venue(serve)), "coinbase", frames=7)
    assert (report.connections, report.gaps, report.missing) == (2, 3, 2 + 2 + 3)


@pytest.mark.usefixtures("quick_backoff")
async def test_the_exchanges_faults_are_all_survived_and_stored(lake: Any) -> None:
    faults = "nonjson@5,binary@6,malformed@7,unknown@8,large@9:6,skip@20:3,drop@40,burst@50:30"
    with local_exchange("coinbase", rate=0, faults=faults) as exchange:
        report = await ingest(lake.config(exchange.url), "coinbase", frames=400)
    assert report.connections == 2
    assert (report.gaps, report.missing) == (1, 3)
    envelopes = lake.envelopes()
    assert len(envelopes) == 400
    assert any(len(envelope.frame) > 5_900_000 for envelope in envelopes)
    assert any(envelope.frame.startswith(b"\x00\xff") for envelope in envelopes)
    assert any(b"\n" in envelope.frame for envelope in envelopes)


# Venues that are not there, or do not want us


async def test_a_venue_that_was_never_reached_is_given_up_with_a_clear_line(lake: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refused
        address = f"ws://127.0.0.1:{taken.getsockname()[1]}/feed"
        config = lake.config(f"{address}?token=hidden")
        pipeline = IngestionPipeline(config, "coinbase", connect_timeout=0.3)
        await pipeline.start()
        with pytest.raises(ConnectionFailedError) as caught:
            await pipeline.wait_for_shutdown()
    message = str(caught.value)
    assert address in message
    assert "ingestion.sources.coinbase.url" in message
    assert "hidden" not in message
    assert "\n" not in message
    assert caught.value.exit_code == 1


async def test_a_venue_that_was_not_reached_within_the_duration_is_no_success(lake: Any) -> None:
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    async with server:  # takes connections, and says nothing
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConnectionFailedError, match=f"127.0.0.1:{port}"):
            await ingest(lake.config(f"ws://127.0.0.1:{port}"), "coinbase", duration=0.2)


async def test_a_source_that_says_what_cannot_be_sent_is_not_tried_for_ever(
    venue: Serve, lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def serve(socket: ServerConnection) -> None:
        await socket.wait_closed()

    monkeypatch.setattr(CoinbaseSession, "opening", lambda _: [object()])
    with pytest.raises(TypeError):
        await ingest(lake.config(await venue(serve)), "coinbase")


async def test_a_host_that_does_not_exist_is_given_up(lake: Any) -> None:
    config = lake.config("ws://no-such-host.invalid")
    pipeline = IngestionPipeline(config, "coinbase", connect_timeout=0.1)
    await pipeline.start()
    with pytest.raises(ConnectionFailedError, match=r"no-such-host\.invalid"):
        await pipeline.wait_for_shutdown()


@pytest.mark.usefixtures("quick_backoff")
async def test_a_venue_that_was_reached_once_is_tried_for_as_long_as_wanted(
    venue: Serve, lake: Any, make_frame: MakeFrame
) -> None:
    attempts = 0

    def turn_away(socket: ServerConnection, request: Any) -> Any:
        nonlocal attempts
        if "Upgrade" not in request.headers:
            return socket.respond(HTTPStatus.NOT_FOUND, "no such path")
        attempts += 1
        refusals = {3: HTTPStatus.NOT_FOUND, 4: HTTPStatus.FORBIDDEN}
        if 1 < attempts < 12:
            return socket.respond(refusals.get(attempts, HTTPStatus.SERVICE_UNAVAILABLE), "no")
        return None

    async def serve(socket: ServerConnection) -> None:
        await socket.send(make_frame(0))
        await socket.close(1011)

    url = await venue(serve, process_request=turn_away)
    pipeline = IngestionPipeline(lake.config(url), "coinbase", frames=2, connect_timeout=0.05)
    await pipeline.start()
    await pipeline.wait_for_shutdown()
    assert attempts == 12
    assert len(lake.frames()) == 2


async def test_a_refusal_at_the_door_ends_at_once(venue: Serve, lake: Any) -> None:
    async def serve(socket: ServerConnection) -> None:
        await socket.wait_closed()

    url = await venue(serve, process_request=lambda socket, _: socket.respond(403, "go away"))
    with pytest.raises(ConnectionFailedError, match="403"):
        await ingest(lake.config(url), "coinbase")


async def test_a_fatal_error_frame_is_stored_and_ends_with_the_venues_words(
    venue: Serve, lake: Any, make_frame: MakeFrame
) -> None:
    refusal = '{"type":"error","message":"authentication failure"}'

    async def serve(socket: ServerConnection) -> None:
        await socket.send(make_frame(0))
        await socket.send(refusal)
        await socket.wait_closed()

    with pytest.raises(ConnectionFailedError, match="authentication failure"):
        await ingest(lake.config(await venue(serve)), "coinbase")
    assert lake.frames() == [make_frame(0).encode(), refusal.encode()]


@pytest.mark.parametrize("url", ["https://example.com", "localhost:8765", "ws://"])
def test_an_address_that_cannot_be_right_is_a_wrong_setting(lake: Any, url: str) -> None:
    config = lake.config(url)
    with pytest.raises(ConfigError, match=r"ingestion\.sources\.coinbase\.url"):
        IngestionPipeline(config, "coinbase")


# Books that are in doubt


async def test_a_gap_in_a_book_asks_for_a_new_snapshot_and_everybody_says_so(
    venue: Serve, lake: Any, make_frame: MakeFrame, caplog: pytest.LogCaptureFixture
) -> None:
    asked = asyncio.Event()

    async def serve(socket: ServerConnection) -> None:
        for number in (0, 1, 5):
            await socket.send(make_frame(number))
        said: list[str] = []
        while said[-2:] != ["unsubscribe", "subscribe"]:
            message = json.loads(await socket.recv())
            said.append(message["type"] if message["channel"] == "level2" else "")
        asked.set()
        await socket.wait_closed()

    config = lake.config(await venue(serve), "ingestion.sources.coinbase.channels=[level2]")
    pipeline = IngestionPipeline(config, "coinbase")
    async with pipeline:
        await asked.wait()
        [progress] = pipeline.progress
        assert (progress.gaps, progress.missing, progress.resubscribed) == (1, 3, 1)
    [report] = pipeline.reports
    assert (report.gaps, report.resubscribed, report.connections) == (1, 1, 1)
    assert "1 new snapshots asked for" in repr(report)
    assert "asking for a new snapshot" in caplog.text


async def test_a_heartbeat_does_not_hide_a_silent_book(
    venue: Serve,
    lake: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = type(get_source("coinbase"))
    limits = replace(source.limits, channel_silence={"level2": 0.5}, silence_seconds=5.0)
    monkeypatch.setattr(source, "limits", limits)
    monkeypatch.setattr(connection, "WATCH_SECONDS", 0.1)
    asked = asyncio.Event()

    async def serve(socket: ServerConnection) -> None:
        heard = asyncio.create_task(hear(socket))
        for number in itertools.count():
            head = (
                f'{{"channel":"heartbeats","client_id":"","timestamp":"x","sequence_num":{number}'
            )
            await socket.send(head + ',"events":[]}')
            await asyncio.sleep(0.05)
        await heard

    async def hear(socket: ServerConnection) -> None:
        async for message in socket:
            if json.loads(message)["type"] == "unsubscribe":
                assert json.loads(message)["product_ids"] == ["BTC-USD"]
                asked.set()

    config = lake.config(await venue(serve), "ingestion.sources.coinbase.channels=[level2]")
    pipeline = IngestionPipeline(config, "coinbase")
    async with pipeline:
        await asked.wait()
        [progress] = pipeline.progress
        assert progress.resubscribed >= 1
        assert progress.ages["heartbeats"] < 5.0
    assert (progress.gaps, progress.connections) == (0, 1)
    assert "nothing of BTC-USD level2" in caplog.text
    assert [len(lake.frames())] == [pipeline.reports[0].frames]


async def test_fragments_of_any_kind_make_whole_frames(venue: Serve, lake: Any) -> None:
    async def serve(socket: ServerConnection) -> None:
        await socket.send(["", '{"a":', "", "1}"])
        await socket.send([b"\x00", b"\xff"])
        await socket.ping()
        await socket.send("")
        await socket.wait_closed()

    await ingest(lake.config(await venue(serve)), "coinbase", frames=3)
    assert lake.frames() == [b'{"a":1}', b"\x00\xff", b""]


async def test_a_frame_that_comes_with_the_end_of_the_connection_is_stored(
    venue: Serve, lake: Any, make_frame: MakeFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it has to wait for room while the venue is already gone."""
    monkeypatch.setattr(buffer, "BUFFER_BYTES", 50_000)
    sent = [make_frame(number, pad="x" * 1_000) for number in range(400)]

    async def serve(socket: ServerConnection) -> None:
        for data in sent:
            await socket.send(data)
        await socket.close(1001)

    report = await ingest(lake.config(await venue(serve)), "coinbase", frames=800)
    assert report.connections == 2
    assert lake.frames() == [data.encode() for data in sent] * 2
