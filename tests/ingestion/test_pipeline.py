"""Pipelines from start to stop: bounds, signals, cancellation, and disks in trouble."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import sys
import threading
from dataclasses import FrozenInstanceError
from typing import TYPE_CHECKING, Any

import pytest

from fluxforge.errors import (
    AccessDeniedError,
    ConfigError,
    StorageError,
    StorageFullError,
    UnknownSourceError,
    UsageError,
)
from fluxforge.ingestion import buffer, capture
from fluxforge.ingestion.log_writer import LogWriter
from fluxforge.ingestion.orchestrators import IngestionPipeline, ingest
from fluxforge.ingestion.report import IngestProgress, IngestReport
from fluxforge.segments import files
from fluxforge.simulator import local_exchange
from fluxforge.simulator.instrument import all_products
from fluxforge.sources import get_source

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from websockets.asyncio.server import ServerConnection

    Serve = Callable[..., Awaitable[str]]
    MakeFrame = Callable[..., str]


@pytest.fixture
def exchange_url() -> Iterator[str]:
    """Run the market model at full speed."""
    with local_exchange("coinbase", rate=0) as exchange:
        yield exchange.url


@pytest.fixture
def steady(make_frame: MakeFrame) -> Callable[[ServerConnection], Awaitable[None]]:
    """Send a frame every few milliseconds."""

    async def serve(socket: ServerConnection) -> None:
        number = 0
        while True:
            await socket.send(make_frame(number))
            number += 1
            await asyncio.sleep(0.002)

    return serve


class Disk:
    """A switch for the disk under every local storage."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.trouble: OSError | None = None
        self.refused = threading.Event()
        real = files.sync_file

        def sync_file(file: Any) -> None:
            if self.trouble is not None:
                self.refused.set()
                raise self.trouble
            real(file)

        patch.setattr(files, "sync_file", sync_file)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


async def received(pipeline: IngestionPipeline, count: int) -> None:
    """Wait until so many frames have arrived."""
    while pipeline.progress[0].frames < count:
        await asyncio.sleep(0.005)


def sequences(lake: Any) -> list[int | None]:
    return [json.loads(frame)["sequence_num"] for frame in lake.frames()]


# The users' own way through


async def test_the_documented_way(lake: Any, exchange_url: str) -> None:
    pipeline = IngestionPipeline(lake.config(exchange_url), frames=500)
    await pipeline.start()
    await pipeline.wait_for_shutdown()
    await pipeline.stop()
    assert len(lake.frames()) == 500


# Bounds


@pytest.mark.parametrize("frames", [1, 2, 999])
async def test_exactly_the_wanted_frames_are_stored_though_more_arrive(
    lake: Any, exchange_url: str, frames: int
) -> None:
    report = await ingest(lake.config(exchange_url), "coinbase", frames=frames)
    assert report.frames == frames
    assert sequences(lake) == list(range(frames))
    assert lake.segments("active") == []


async def test_exactly_the_wanted_frames_over_several_sockets(lake: Any, exchange_url: str) -> None:
    products = ",".join(all_products("USD", "EUR")[:30])
    config = lake.config(
        exchange_url,
        f"ingestion.sources.coinbase.products=[{products}]",
        "ingestion.sources.coinbase.channels=[level2]",
    )
    report = await ingest(config, "coinbase", frames=4_000)
    envelopes = lake.envelopes()
    assert len(envelopes) == report.frames == 4_000
    assert report.connections == len({envelope.conn for envelope in envelopes}) == 3
    assert report.gaps == 0


async def test_a_duration_ends_the_capture(
    venue: Serve, lake: Any, steady: Callable[..., Awaitable[None]]
) -> None:
    report = await ingest(lake.config(await venue(steady)), "coinbase", duration=0.8)
    assert report.frames == len(lake.frames()) > 0
    assert report.seconds >= 0.8
    assert sequences(lake) == list(range(report.frames))


@pytest.mark.parametrize("bounds", [{"frames": 0}, {"duration": 0}, {"duration": -1}])
def test_bounds_that_make_no_sense_are_refused(lake: Any, bounds: Any) -> None:
    with pytest.raises(UsageError):
        IngestionPipeline(lake.config("ws://x"), "coinbase", **bounds)


# Stopping


async def test_stop_stores_everything_received_and_can_be_called_again(
    venue: Serve, lake: Any, steady: Callable[..., Awaitable[None]]
) -> None:
    # No flush comes before the stop.
    config = lake.config(await venue(steady), "ingestion.flush_interval_seconds=60")
    pipeline = IngestionPipeline(config, "coinbase")
    await pipeline.start()
    await received(pipeline, 50)
    first, second = await asyncio.gather(pipeline.stop(), pipeline.stop())
    assert first == second == await pipeline.stop() == pipeline.reports
    await pipeline.wait_for_shutdown()  # returns at once
    assert first[0].frames == len(lake.frames()) >= 50
    assert sequences(lake) == list(range(first[0].frames))


async def test_stop_elsewhere_ends_the_wait(
    venue: Serve, lake: Any, steady: Callable[..., Awaitable[None]]
) -> None:
    pipeline = IngestionPipeline(lake.config(await venue(steady)), "coinbase")
    await pipeline.start()
    waiting = asyncio.create_task(pipeline.wait_for_shutdown())
    await received(pipeline, 5)
    await pipeline.stop()
    await asyncio.wait_for(waiting, 10)


async def test_stop_before_the_venue_answers(lake: Any) -> None:
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        pipeline = IngestionPipeline(lake.config(f"ws://127.0.0.1:{port}"), "coinbase")
        await pipeline.start()
        await asyncio.sleep(0.05)
        [report] = await pipeline.stop()
    assert report.to_dict() == dict.fromkeys(
        ("frames", "bytes", "segments", "connections", "gaps"), 0
    )
    assert lake.segments("active") == lake.segments("ready") == []


async def test_nothing_is_left_running(lake: Any, exchange_url: str) -> None:
    before = asyncio.all_tasks()
    await ingest(lake.config(exchange_url), "coinbase", frames=50, on_progress=lambda _: None)
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("how", ["ingest", "wait_for_shutdown"])
async def test_cancelling_stores_everything_received(
    venue: Serve, lake: Any, steady: Callable[..., Awaitable[None]], how: str
) -> None:
    config = lake.config(await venue(steady), "ingestion.flush_interval_seconds=60")
    enough = asyncio.Event()
    if how == "ingest":
        seen: list[int] = []

        def watch(progress: IngestProgress) -> None:
            seen.append(progress.frames)
            if progress.frames:
                enough.set()

        task = asyncio.create_task(ingest(config, "coinbase", on_progress=watch))
        await enough.wait()
        least = seen[-1]
    else:
        pipeline = IngestionPipeline(config, "coinbase")
        await pipeline.start()
        await received(pipeline, 20)
        least = 20
        task = asyncio.create_task(pipeline.wait_for_shutdown())
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(lake.frames()) >= least
    assert sequences(lake) == list(range(len(lake.frames())))
    assert lake.segments("active") == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals to oneself end the process there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_cleanly_and_the_old_handlers_return(
    venue: Serve, lake: Any, steady: Callable[..., Awaitable[None]], number: int
) -> None:
    heard: list[int] = []
    old = signal.signal(number, lambda *_: heard.append(1))
    try:
        mine = signal.getsignal(number)
        url = await venue(steady)
        both = [IngestionPipeline(lake.config(url), "coinbase") for _ in range(2)]
        for pipeline in both:
            await pipeline.start()
        waits = [asyncio.create_task(pipeline.wait_for_shutdown()) for pipeline in both]
        await received(both[1], 5)
        assert signal.getsignal(number) is not mine
        os.kill(os.getpid(), number)
        await asyncio.wait_for(asyncio.gather(*waits), 20)
        assert signal.getsignal(number) is mine
        assert heard == []
    finally:
        signal.signal(number, old)
    stored = sum(pipeline.reports[0].frames for pipeline in both)
    assert stored == len(lake.frames())


async def test_outside_the_main_thread_no_signal_handler_is_needed(
    lake: Any, exchange_url: str
) -> None:
    def work() -> IngestReport:
        return asyncio.run(ingest(lake.config(exchange_url), "coinbase", frames=20))

    assert (await asyncio.to_thread(work)).frames == 20


# Disks in trouble


async def test_a_disk_that_recovers_costs_no_frame(
    lake: Any, exchange_url: str, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buffer, "BUFFER_BYTES", 200_000)
    config = lake.config(exchange_url)
    pipeline = IngestionPipeline(config, "coinbase", frames=3_000, write_timeout=0.2)
    await pipeline.start()
    await received(pipeline, 100)
    disk.trouble = OSError(errno.ENOSPC, "No space left on device")
    await asyncio.to_thread(disk.refused.wait)
    await asyncio.sleep(0.5)
    assert pipeline.progress[0].buffered_bytes < 220_000
    disk.trouble = None
    await pipeline.wait_for_shutdown()
    assert sequences(lake) == list(range(3_000))


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), StorageFullError),
        (OSError(errno.EACCES, "Permission denied"), AccessDeniedError),
        (OSError(errno.EIO, "Input/output error"), StorageError),
    ],
)
async def test_a_disk_that_stays_broken_ends_the_capture_and_says_what_it_cost(
    venue: Serve,
    lake: Any,
    steady: Callable[..., Awaitable[None]],
    disk: Disk,
    trouble: OSError,
    kind: type[StorageError],
) -> None:
    config = lake.config(await venue(steady))
    pipeline = IngestionPipeline(config, "coinbase", write_timeout=0.5, stop_timeout=0.3)
    await pipeline.start()
    while not pipeline.reports[0].frames:
        await asyncio.sleep(0.005)
    disk.trouble = trouble
    # Room is waited for, however long it takes; a stop does not wait.
    end = pipeline.stop if kind is StorageFullError else pipeline.wait_for_shutdown
    with pytest.raises(kind, match="could not be written") as caught:
        await end()
    disk.trouble = None
    assert caught.value.exit_code == 1
    total = pipeline.progress[0].frames
    safe = pipeline.reports[0].frames
    assert f"{total - safe:,} coinbase frames" in str(caught.value)
    with pytest.raises(kind):
        await pipeline.stop()

    # What was flushed is safe, and the next start finds it; of the rest, what reached the disk.
    await ingest(lake.config(await venue(steady)), "coinbase", frames=1)
    # Two writers' segments have the same counter: their names do not tell which came first.
    new, *stored = sorted(sequences(lake))
    assert new == 0
    assert stored == list(range(len(stored)))
    assert safe <= len(stored) <= total


async def test_a_disk_that_breaks_just_before_the_end_gets_a_last_chance(
    venue: Serve, lake: Any, steady: Callable[..., Awaitable[None]], disk: Disk
) -> None:
    pipeline = IngestionPipeline(lake.config(await venue(steady)), "coinbase", frames=100)
    await pipeline.start()
    await received(pipeline, 50)
    disk.trouble = OSError(errno.EIO, "Input/output error")
    waiting = asyncio.create_task(pipeline.wait_for_shutdown())
    await received(pipeline, 100)
    await asyncio.to_thread(disk.refused.wait)
    disk.trouble = None
    await waiting
    assert sequences(lake) == list(range(100))


async def test_a_place_that_cannot_be_written_fails_before_anything_is_captured(
    venue: Serve, lake: Any, tmp_path: Path
) -> None:
    connected = False

    async def serve(socket: ServerConnection) -> None:
        nonlocal connected
        connected = True

    lake.root.write_text("a file where the lake belongs")
    pipeline = IngestionPipeline(lake.config(await venue(serve)), "coinbase")
    with pytest.raises(StorageError):
        await pipeline.start()
    assert not connected


async def test_a_running_collector_finds_what_another_one_leaves(
    venue: Serve,
    lake: Any,
    steady: Callable[..., Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(capture, "RECOVERY_SECONDS", 0.05)
    pipeline = IngestionPipeline(lake.config(await venue(steady)), "coinbase")
    await pipeline.start()
    name = "segment_20251203T14_00001.ndjson"
    orphan = lake.root / "raw/active/coinbase" / name
    orphan.write_bytes(b'{"capture_ns":1,"conn":"0","data":{}}\n')
    while not (lake.root / "raw/ready/coinbase" / name).exists():
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.5)  # the recovery counts what it closed a moment later
    [report] = await pipeline.stop()
    assert report.recovered == 1
    assert len(lake.frames()) == report.frames + 1


async def test_strays_and_a_damaged_file_end_no_capture_and_keep_no_other_from_recovery(
    lake: Any,
    venue: Serve,
    steady: Callable[..., Awaitable[None]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where a file cannot be read, it is passed over; all others are recovered."""
    config = lake.config(await venue(steady))
    writer = LogWriter.from_config(config, "coinbase")
    folder = writer._store.folder
    folder.mkdir(parents=True)
    names = [f"segment_20251203T14_0000{number}.ndjson" for number in range(1, 6)]
    for name in names[::2]:
        (folder / name).write_bytes(b'{"capture_ns":1,"conn":"0","data":{}}\n')
    (folder / names[1]).mkdir()
    (folder / names[3]).symlink_to(tmp_path)
    (folder / "desktop.ini").write_bytes(b"x")
    adopt = files.SegmentFile.adopt

    def damaged(path: Path) -> Any:
        if path.name == names[0]:
            raise StorageError(f"{path}: Input/output error")
        return adopt(path)

    monkeypatch.setattr(files.SegmentFile, "adopt", damaged)
    pipeline = IngestionPipeline(config, "coinbase")
    async with pipeline:
        await received(pipeline, 20)
    [report] = pipeline.reports
    assert report.frames >= 20
    left = sorted(path.name for path in folder.iterdir() if path.name[0] != ".")
    assert left == sorted(["desktop.ini", names[0], names[1], names[3]])
    ready = {segment.name for segment in writer._store.list("ready")}
    assert {names[2], names[4]} <= ready


# Settings, progress, reports


def test_an_unknown_source_is_named_with_the_nearest_right_one(lake: Any) -> None:
    with pytest.raises(UnknownSourceError, match="coinbase"):
        IngestionPipeline(lake.config("ws://x"), "coinbsae")


def test_a_source_that_is_not_configured_says_which_key_to_add(lake: Any) -> None:
    config = lake.config("ws://x")
    config.ingestion.sources.pop("coinbase")
    with pytest.raises(UnknownSourceError, match=r"ingestion\.sources\.coinbase"):
        IngestionPipeline(config, "coinbase")
    with pytest.raises(ConfigError, match=r"ingestion\.sources"):
        IngestionPipeline(config)


def test_a_misspelt_channel_is_refused_before_anything_starts(lake: Any) -> None:
    config = lake.config("ws://x", "ingestion.sources.coinbase.channels=[tikcer]")
    with pytest.raises(ConfigError, match="ticker"):
        IngestionPipeline(config, "coinbase")


async def test_all_configured_sources_run_side_by_side(
    lake: Any, exchange_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    coinbase = type(get_source("coinbase"))

    class Other(coinbase):  # type: ignore[valid-type,misc]
        name = "other"

    class Point:
        name = "other"

        def load(self) -> type:
            return Other

    monkeypatch.setattr("fluxforge.sources._plugins", lambda: {"other": Point()})
    config = lake.config(exchange_url)
    config.ingestion.sources["other"] = config.ingestion.sources["coinbase"]
    pipeline = IngestionPipeline(config, frames=300)
    await pipeline.start()
    await pipeline.wait_for_shutdown()
    assert [(report.source, report.frames) for report in pipeline.reports] == [
        ("coinbase", 300),
        ("other", 300),
    ]
    assert list(lake.root.glob("raw/ready/other/segment_*.ndjson"))


async def test_progress_is_told_from_the_start_to_the_end(
    lake: Any, exchange_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[IngestProgress] = []
    report = await ingest(
        lake.config(exchange_url), "coinbase", frames=700, on_progress=told.append
    )
    assert told[0].frames == 0
    last = told[-1]
    assert (last.frames, last.connections, last.buffered_bytes) == (700, 1, 0)
    assert [progress.frames for progress in told] == sorted(progress.frames for progress in told)
    with pytest.raises(FrozenInstanceError):
        last.frames = 1  # type: ignore[misc]
    assert report.frames == 700


async def test_a_progress_that_fails_ends_the_capture_and_loses_nothing(
    venue: Serve, lake: Any, steady: Callable[..., Awaitable[None]]
) -> None:
    def show(progress: IngestProgress) -> None:
        if progress.frames:
            raise RuntimeError("the caller's mistake")

    with pytest.raises(RuntimeError, match="the caller's mistake"):
        await ingest(lake.config(await venue(steady)), "coinbase", on_progress=show)
    assert sequences(lake) == list(range(len(lake.frames())))


def test_a_report_reads_well_everywhere() -> None:
    report = IngestReport("coinbase", 1_030, 8_500_000, 2, 1, 1, 12, 24.25, 1)
    assert repr(report) == (
        "<IngestReport coinbase: 1,030 frames (8.5 MB) in 2 segments, 1 connections, "
        "1 gaps (12 missing), 24.2 s, 1 segments recovered>"
    )
    assert "1,030" in report._repr_html_()
    assert "<table" in report._repr_html_()


# Several sources, and products that come and go


async def test_products_come_and_go_without_a_frame_of_the_others_lost(lake: Any) -> None:
    with local_exchange("coinbase", rate=400) as exchange:
        config = lake.config(
            exchange.url, "ingestion.sources.coinbase.channels=[ticker, market_trades]"
        )
        pipeline = IngestionPipeline(config, "coinbase")
        async with pipeline:
            await received(pipeline, 50)
            await asyncio.to_thread(pipeline.add, "coinbase", "ETH-USD")
            while not any(b'"ETH-USD"' in frame for frame in lake.frames("active")):
                await asyncio.sleep(0.02)
            pipeline.remove("coinbase", "ETH-USD")
            with pytest.raises(ConfigError, match="SOL-USD"):
                pipeline.add("coinbase", "sol/usd")
            with pytest.raises(UsageError, match="kraken"):
                pipeline.add("kraken", "BTC/USD")
            before = pipeline.progress[0].frames
            await received(pipeline, before + 200)
            while "heartbeats" not in pipeline.progress[0].ages:  # one a second
                await asyncio.sleep(0.02)
            [progress] = pipeline.progress
            assert (progress.running, progress.connected, progress.error) == (True, 1, "")
            assert progress.segment.startswith("segment_")
            while not {"ticker", "heartbeats"} <= set(pipeline.progress[0].ages):
                await asyncio.sleep(0.02)
        with pytest.raises(UsageError, match="not being captured"):
            pipeline.add("coinbase", "ETH-USD")
    frames = lake.frames()
    assert sequences(lake) == list(range(len(frames)))
    assert b'"ETH-USD"' in b"".join(frames)
    last = [frame for frame in frames if b'"channel":"ticker"' in frame][-20:]
    assert not any(b'"ETH-USD"' in frame for frame in last)
    [report] = pipeline.reports
    assert (report.connections, report.gaps) == (1, 0)


async def test_a_product_with_no_room_left_gets_a_socket_of_its_own(lake: Any) -> None:
    with local_exchange("coinbase", rate=400) as exchange:
        config = lake.config(
            exchange.url,
            f"ingestion.sources.coinbase.products=[{','.join(all_products('EUR')[:10])}]",
            "ingestion.sources.coinbase.channels=[level2]",
        )
        pipeline = IngestionPipeline(config, "coinbase")
        async with pipeline:
            await received(pipeline, 20)
            pipeline.add("coinbase", "BTC-USD")
            while pipeline.progress[0].connected < 2:
                await asyncio.sleep(0.02)
            pipeline.remove("coinbase", "BTC-USD")
            while pipeline.progress[0].connected > 1:
                await asyncio.sleep(0.02)
            await received(pipeline, pipeline.progress[0].frames + 50)


async def test_one_sources_failure_does_not_end_the_others(
    lake: Any, monkeypatch: pytest.MonkeyPatch, venue: Serve
) -> None:
    from fluxforge.ingestion import pipeline as pipelines
    from fluxforge.retry import RetryPolicy

    refusals = 0

    def turn_away(socket: ServerConnection, request: object) -> Any:
        nonlocal refusals
        refusals += 1
        return socket.respond(403, "no") if refusals < 3 else None

    async def serve(socket: ServerConnection) -> None:
        for number in range(40):
            await socket.send(f'{{"channel":"heartbeat","n":{number}}}')
        await socket.wait_closed()

    monkeypatch.setattr(pipelines, "RESTART", RetryPolicy(first=0.02, cap=0.02))
    with local_exchange("coinbase", rate=200) as exchange:
        config = lake.config(
            exchange.url,
            f"ingestion.sources.kraken.url={await venue(serve, process_request=turn_away)}",
            "ingestion.sources.kraken.products=[BTC/USD]",
            "ingestion.sources.kraken.channels=[trade]",
        )
        pipeline = IngestionPipeline(config)
        await pipeline.start()
        while pipeline.progress[1].frames < 40:
            await asyncio.sleep(0.02)
        coinbase, kraken = await pipeline.stop()
    assert refusals >= 3
    assert (coinbase.error, kraken.error, kraken.frames) == ("", "", 40)
    assert sequences(lake) == list(range(coinbase.frames))
    assert coinbase.connections == 1


async def test_a_source_that_never_works_is_told_at_the_end(lake: Any, venue: Serve) -> None:
    async def serve(socket: ServerConnection) -> None:
        await socket.wait_closed()

    url = await venue(serve, process_request=lambda socket, _: socket.respond(403, "no"))
    with local_exchange("coinbase", rate=200) as exchange:
        config = lake.config(
            exchange.url,
            f"ingestion.sources.kraken.url={url}",
            "ingestion.sources.kraken.products=[BTC/USD]",
            "ingestion.sources.kraken.channels=[trade]",
        )
        pipeline = IngestionPipeline(config, duration=1.5)
        async with pipeline:
            await pipeline.wait_for_shutdown()
    report = IngestReport.total(pipeline.reports)
    assert report.frames == len(lake.frames()) > 0
    assert "kraken: cannot connect" in report.error
    assert "403" in report.to_dict()["sources"]["kraken"]["error"]
    assert report.to_dict()["sources"]["coinbase"]["error"] == ""
