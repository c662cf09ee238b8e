"""Captures into a real S3 server that stops answering: every frame once, whatever ends when."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from dataclasses import dataclass
from functools import cached_property, partialmethod
from pathlib import Path
from socket import SO_SNDBUF, SOL_SOCKET
from typing import TYPE_CHECKING, Any

import pytest

from fluxforge import Lake
from fluxforge.config import load_config
from fluxforge.errors import AccessDeniedError, StorageUnavailableError
from fluxforge.ingestion import intake
from fluxforge.ingestion.claims import SegmentFolders
from fluxforge.ingestion.orchestrators import IngestionPipeline, ingest
from fluxforge.ingestion.recovery import recover_segments
from fluxforge.ingestion.spool import relay
from fluxforge.segments import Envelope
from fluxforge.simulator import local_exchange
from fluxforge.sources import get_source
from fluxforge.storage.s3 import S3Storage
from tests.support.fault_proxy import Fault, FaultProxy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from websockets.asyncio.server import ServerConnection

    from fluxforge.testing.s3_server import S3Server

    Serve = Callable[..., Awaitable[str]]
    MakeFrame = Callable[..., str]

pytestmark = pytest.mark.s3

FOLDERS = SegmentFolders.around("raw/active/coinbase", "raw/ready/coinbase")
_prefixes = itertools.count(1)


def impatient() -> Any:
    return partialmethod(S3Storage.__init__, attempts=2, connect_timeout=1, read_timeout=0.5)


@dataclass(frozen=True)
class S3Lake:
    """A lake on the S3 server, behind a proxy that misbehaves on request."""

    server: S3Server
    proxy: FaultProxy
    prefix: str
    spool: Path

    def overrides(self, url: str, *more: str, proxied: bool = True) -> list[str]:
        settings = self.server.settings()
        if proxied:
            settings["endpoint_url"] = self.proxy.url
        return [
            "storage.backend=s3",
            "storage.lease_seconds=2",
            f"storage.base_dir={self.server.bucket}/{self.prefix}",
            *(f"storage.s3.{key}={value}" for key, value in settings.items()),
            f"ingestion.sources.coinbase.url={url}",
            "ingestion.sources.coinbase.products=[BTC-USD]",
            "ingestion.sources.coinbase.channels=[ticker]",
            "ingestion.flush_interval_seconds=0.05",
            f"ingestion.spool_dir={self.spool}",
            *more,
        ]

    def config(self, url: str, *more: str) -> Any:
        return load_config(overrides=self.overrides(url, *more))

    @cached_property
    def storage(self) -> S3Storage:
        """The store itself, past the proxy."""
        server = self.server
        return S3Storage(
            server.bucket,
            self.prefix,
            region=server.region,
            endpoint_url=server.endpoint_url,
            access_key_id=server.access_key,
            secret_access_key=server.secret_key,
        )

    def waiting(self) -> list[Path]:
        """The files in the spool."""
        return [path for path in self.spool.rglob("[!.]*") if path.is_file()]

    def recover_all(self) -> None:
        """Recover what ended collectors left on the store, once their leases have lapsed."""
        storage = self.storage
        while storage.list_journals(FOLDERS.active):
            recover_segments(storage, FOLDERS)

    def frames(self) -> dict[str, list[int]]:
        """The frames that the ETL would commit, each segment once: numbers by connection."""
        storage, source = self.storage, get_source("coinbase")
        found: dict[str, list[int]] = {}
        for content in {storage.read_bytes(key) for key in storage.list_files(FOLDERS.ready)}:
            for line in content.splitlines():
                envelope = Envelope.parse(line)
                number = source.summarize(envelope.frame).sequence
                assert number is not None
                found.setdefault(envelope.conn, []).append(number)
        return {conn: sorted(numbers) for conn, numbers in found.items()}

    def check_complete(self) -> list[int]:
        """Check that each connection's frames are there once and without a hole; count them."""
        assert self.waiting() == []
        frames = self.frames()
        for conn, numbers in frames.items():
            twice = [number for number, times in Counter(numbers).items() if times > 1]
            assert (conn, twice, numbers) == (conn, [], list(range(len(numbers))))
        return [len(frames[conn]) for conn in sorted(frames)]


@pytest.fixture
def lake(s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Lake]:
    monkeypatch.setattr(S3Storage, "__init__", impatient())
    monkeypatch.setattr(relay, "TAKEOVER_SECONDS", 0.3)
    monkeypatch.setattr(relay, "CLOSE_PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(relay, "RETRY_SECONDS", 0.2)
    with FaultProxy(s3_server.host, s3_server.port) as proxy:
        yield S3Lake(s3_server, proxy, f"spool {next(_prefixes)}", tmp_path / "spool")


@pytest.fixture
async def endless(venue: Serve, make_frame: MakeFrame) -> str:
    """Serve numbered frames, one every few milliseconds, without end."""

    async def serve(socket: ServerConnection) -> None:
        for number in itertools.count():
            await socket.send(make_frame(number))
            await asyncio.sleep(0.003)

    return await venue(serve)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


# In one process


@pytest.mark.parametrize(
    "fault",
    [Fault("status", status=503), Fault("refuse"), Fault("stall", seconds=1.2)],
    ids=lambda fault: fault.kind,
)
async def test_an_outage_in_the_middle_costs_nothing(
    lake: S3Lake, endless: str, fault: Fault
) -> None:
    pipeline = IngestionPipeline(lake.config(endless), "coinbase")
    await pipeline.start()
    [collector] = pipeline._collectors
    await until(lambda: pipeline.reports[0].frames > 20)
    lake.proxy.inject(fault)
    await until(lambda: collector.progress().spooled_bytes > 10_000)
    spooled = pipeline.reports[0].frames
    lake.proxy.heal()
    await until(lambda: collector.progress().spooled_bytes == 0)
    await until(lambda: pipeline.reports[0].frames > spooled + 20)
    [report] = await pipeline.stop()
    assert report.segments == len(lake.storage.list_files(FOLDERS.ready)) >= 3
    assert (report.spooled, report.gaps, report.connections) == (0, 0, 1)
    if fault.kind == "stall":  # a journal may have been created that its collector gave up
        lake.recover_all()
    assert lake.storage.list_journals(FOLDERS.active) == []
    assert lake.check_complete() == [report.frames]


async def test_a_throttled_store_costs_nothing(lake: S3Lake, endless: str) -> None:
    pipeline = IngestionPipeline(lake.config(endless), "coinbase", frames=700)
    await pipeline.start()
    rule = lake.proxy.inject(Fault("status", status=503), share=0.4)
    await pipeline.wait_for_shutdown()
    lake.proxy.heal()
    assert rule.struck > 5
    if pipeline.reports[0].spooled:  # the last moment was a bad one
        await ingest(lake.config(endless), "coinbase", frames=1)
    lake.recover_all()
    assert lake.check_complete()[0] == 700


async def test_a_full_spool_makes_the_socket_wait(
    lake: S3Lake, venue: Serve, make_frame: MakeFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "BUFFER_BYTES", 100_000)
    monkeypatch.setattr("fluxforge.ingestion.flushing.REMINDER_SECONDS", 0)
    sent = 0

    async def serve(socket: ServerConnection) -> None:
        nonlocal sent
        wire = socket.transport.get_extra_info("socket")
        wire.setsockopt(SOL_SOCKET, SO_SNDBUF, 100_000)
        for number in itertools.count():
            await socket.send(make_frame(number, pad="x" * 900))
            sent += 1
            await asyncio.sleep(0)

    url = await venue(serve, ping_interval=None)
    config = lake.config(url, "ingestion.spool_max_mb=0.3")
    pipeline = IngestionPipeline(config, "coinbase", write_patience_seconds=0)
    await pipeline.start()
    [collector] = pipeline._collectors
    lake.proxy.inject(Fault("refuse"))
    running = asyncio.create_task(pipeline.wait_for_shutdown())
    before = -1
    while sent != before:  # the venue comes to a halt
        before = sent
        await asyncio.sleep(0.5)
    progress = collector.progress()
    assert progress.spooled_bytes <= 300_000
    assert 90_000 < progress.buffered_bytes <= 101_100
    assert not running.done()  # the storage's patience is for other errors
    lake.proxy.heal()
    await until(lambda: collector.progress().frames > progress.frames + 1_000)
    [report] = await pipeline.stop()
    await running
    assert lake.check_complete() == [report.frames]


async def test_a_stop_in_an_outage_is_clean_and_the_next_start_stores_the_rest(
    lake: S3Lake, endless: str, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = IngestionPipeline(lake.config(endless), "coinbase")
    await pipeline.start()
    await until(lambda: pipeline.reports[0].frames > 20)
    # The store takes the next append and cannot say so.
    lake.proxy.inject(Fault("drop_response"), method="PUT", path=".part")
    lake.proxy.inject(Fault("status", status=503))
    await until(lambda: pipeline._collectors[0].progress().spooled_bytes > 3_000)
    [first] = await pipeline.stop()
    assert first.spooled > 10
    assert f"{first.spooled:,} frames wait in the spool" in repr(first)
    assert f"{first.spooled:,} frames wait in {lake.spool}" in caplog.text
    assert len(list(lake.spool.glob("*/unsettled/*.ndjson"))) == 1
    lake.proxy.heal()
    second = await ingest(lake.config(endless), "coinbase", frames=5)
    assert second.segments >= 2
    lake.recover_all()
    assert lake.check_complete() == [first.frames, 5]


async def test_a_store_that_does_not_answer_at_the_start_is_an_error(
    lake: S3Lake, endless: str
) -> None:
    lake.proxy.inject(Fault("refuse"))
    with pytest.raises(StorageUnavailableError):
        await ingest(lake.config(endless), "coinbase", frames=5)
    lake.proxy.heal()
    with pytest.raises(AccessDeniedError, match="secret key"):
        await ingest(
            lake.config(endless, "storage.s3.aws_secret_access_key=wrong"), "coinbase", frames=5
        )
    assert lake.waiting() == []


# Processes that end, well or badly


COLLECTOR = textwrap.dedent("""
    import asyncio, json, sys
    from fluxforge.config import load_config
    from fluxforge.ingestion import collector
    from fluxforge.ingestion.orchestrators import IngestionPipeline
    from fluxforge.ingestion.spool import relay
    from functools import partialmethod
    from fluxforge.storage.s3 import S3Storage

    hasty = {'attempts': 2, 'connect_timeout': 1, 'read_timeout': 0.5}
    S3Storage.__init__ = partialmethod(S3Storage.__init__, **hasty)
    relay.TAKEOVER_SECONDS, relay.CLOSE_PATIENCE_SECONDS, relay.RETRY_SECONDS = 0.3, 0.3, 0.2
    collector.PROGRESS_SECONDS = 0.02
    collector.RECOVERY_SECONDS = 0.5

    def say(progress):
        flushed = pipeline._collectors[0]._writer.flushed_frames
        print(json.dumps({"flushed": flushed, "spooled": progress.spooled_bytes}), flush=True)

    async def main():
        await pipeline.start()
        await pipeline.wait_for_shutdown()
        [report] = pipeline.reports
        print(json.dumps({"flushed": report.frames, "left": report.spooled}), flush=True)

    pipeline = IngestionPipeline(load_config(overrides=sys.argv[1:]), "coinbase", on_progress=say)
    asyncio.run(main())
""")


class Process:
    """A collector in a process of its own, and what it says."""

    def __init__(self, lake: S3Lake, url: str) -> None:
        self.flushed = 0
        self._process = subprocess.Popen(
            [sys.executable, "-c", COLLECTOR, *lake.overrides(url)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        )

    def read_until(self, enough: Callable[[dict[str, int]], bool]) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            self.flushed = said["flushed"]
            if enough(said):
                return
        raise AssertionError(f"the collector ended by itself: {self._process.wait()}")

    def end(self, how: int) -> dict[str, int]:
        """Send a signal; return what it said last."""
        self._process.send_signal(how)
        lines = self._process.communicate(timeout=30)[0].splitlines()
        assert self._process.returncode == (0 if how != signal.SIGKILL else -how)
        said = json.loads(lines[-1]) if lines else {"flushed": self.flushed}
        self.flushed = max(self.flushed, said["flushed"])
        return dict(said)


@pytest.fixture
def exchange_url() -> Iterator[str]:
    with local_exchange("coinbase", rate=300) as exchange:
        yield exchange.url


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="no signal asks a process there to end")
@pytest.mark.parametrize(
    ("fault", "how"),
    [
        (Fault("refuse"), signal.SIGKILL),
        (Fault("drop_response"), signal.SIGKILL),
        (Fault("late", seconds=1.5), signal.SIGINT),
    ],
    ids=lambda value: getattr(value, "kind", None) or signal.Signals(value).name,
)
def test_an_end_in_an_outage_loses_nothing_that_was_flushed(
    lake: S3Lake, exchange_url: str, fault: Fault, how: int
) -> None:
    first = Process(lake, exchange_url)
    first.read_until(lambda said: said["flushed"] > 30)
    lake.proxy.inject(fault, method="PUT", path=".part")
    lake.proxy.inject(Fault("refuse"))
    first.read_until(lambda said: said["spooled"] > 20_000)
    said = first.end(how)
    assert lake.waiting()
    if how == signal.SIGINT:
        assert said["left"] > 0

    lake.proxy.heal()
    second = Process(lake, exchange_url)
    second.read_until(lambda said: said["flushed"] > 0 and said["spooled"] == 0)
    assert second.end(signal.SIGTERM)["left"] == 0
    lake.recover_all()
    counts = lake.check_complete()
    assert counts[0] >= first.flushed
    assert counts[1:] == [second.flushed]

    if fault.kind == "refuse":
        tables = Lake(overrides=lake.overrides(exchange_url, proxied=False))
        assert tables.etl("coinbase").lines_read == sum(counts)
        assert tables.gaps("coinbase").height == 0


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="no signal asks a process there to end")
def test_two_collectors_share_a_spool_and_one_is_killed(lake: S3Lake, exchange_url: str) -> None:
    both = [Process(lake, exchange_url) for _ in range(2)]
    for process in both:
        process.read_until(lambda said: said["flushed"] > 30)
    lake.proxy.inject(Fault("status", status=503))
    for process in both:
        enough = process.flushed + 100
        process.read_until(
            lambda said, enough=enough: said["flushed"] > enough and said["spooled"] > 20_000
        )
    victim, survivor = both
    victim.end(signal.SIGKILL)
    lake.proxy.heal()
    survivor.read_until(lambda said: said["spooled"] == 0)  # the victim's as well
    survivor.end(signal.SIGTERM)
    lake.recover_all()
    counts = sorted(lake.check_complete())
    assert len(counts) == 2
    assert survivor.flushed in counts
    counts.remove(survivor.flushed)
    assert counts[0] >= victim.flushed
