"""Fixtures that every test folder may use.

What tests import is in ``tests/support``: ``from tests.support.fault_proxy import FaultProxy``. The
repository's root is on the path (``pythonpath`` in pyproject.toml), so that it works everywhere.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from filelock import FileLock
from hypothesis import settings
from websockets.sync.client import connect

from fluxforge import Lake
from fluxforge.logs import CountingHandler
from fluxforge.segments import Envelope, new_connection_id, read_segment
from fluxforge.simulator import local_exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fluxforge.testing.s3_server import S3Server

# A busy machine is no fault: nothing here depends on how long an example takes.
settings.register_profile("fluxforge", deadline=None)
settings.load_profile("fluxforge")

NAME = "recording.ndjson.zst"


@pytest.fixture(scope="session")
def captures() -> Path:
    """Return the folder of recorded venue traffic, which is not part of the repository."""
    folder = Path(os.environ.get("FLUXFORGE_CAPTURES", "without any"))
    if not (folder / "INDEX.md").is_file():
        pytest.skip("no recorded traffic: set FLUXFORGE_CAPTURES to its folder")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep copies of what tests read of S3 out of the user's cache."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _logs() -> Iterator[None]:
    """Take away what a command in this process logs to: that stream ends with its test."""
    yield
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, CountingHandler):
            root.removeHandler(handler)


@pytest.fixture(scope="session")
def s3_server(request: pytest.FixtureRequest) -> Iterator[S3Server]:
    """Run a real S3 server, shared by all tests: each uses a prefix of its own."""
    from fluxforge.testing.s3_server import S3Server
    from fluxforge.testing.s3_server import s3_server as run

    worker = getattr(request.config, "workerinput", {})
    if "s3_server" in worker:  # one for all processes, with a bucket for each
        import s3fs

        server = S3Server(**worker["s3_server"], bucket=f"lake-{worker['workerid']}")
        s3fs.S3FileSystem(
            key=server.access_key, secret=server.secret_key, endpoint_url=server.endpoint_url
        ).mkdir(server.bucket)
        yield server
    else:
        with run() as server:
            yield server


@dataclass(frozen=True)
class Recorded:
    """A recording, and what plain Python finds in it."""

    path: Path

    @cached_property
    def frames(self) -> dict[str, list[bytes]]:
        """The frames of each connection, in order."""
        found: dict[str, list[bytes]] = {}
        for envelope in read_segment(self.path):
            found.setdefault(envelope.conn, []).append(envelope.frame)
        return found

    @property
    def count(self) -> int:
        """All frames."""
        return sum(len(frames) for frames in self.frames.values())

    @cached_property
    def rows(self) -> dict[str, int]:
        """The rows of each table, repeats included."""
        lists = {
            "l2_data": ("orderbook", "updates"),
            "market_trades": ("trades", "trades"),
            "ticker": ("ticker", "tickers"),
            "candles": ("candles", "candles"),
        }
        rows: Counter[str] = Counter()
        for frames in self.frames.values():
            for frame in frames:
                message = json.loads(frame)
                if message["channel"] in lists:
                    table, name = lists[message["channel"]]
                    rows[table] += sum(len(event[name]) for event in message["events"])
        return dict(sorted(rows.items()))


@pytest.fixture(scope="session")
def recorded() -> Callable[[Path], Recorded]:
    """Return what reads a recording."""
    return Recorded


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """Return what fills a folder once, for all processes that run the tests. Only read it."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent

    def make(name: str, fill: Callable[[Path], None]) -> Path:
        folder = base / name
        with FileLock(base / f"{name}.lock"):
            if not folder.exists():
                begun = base / f"{name}.begun"
                begun.mkdir()
                fill(begun)
                begun.rename(folder)
        return folder

    return make


def record(path: Path, *products: str, seed: int, connections: int, frames: int) -> None:
    """Record at least so many frames of the market model, of each connection, compressed.

    A connection is recorded until the venue has acknowledged all of its subscriptions, so that
    every recording holds every channel, however slow this machine is.
    """
    channels = ("heartbeats", "ticker", "level2", "market_trades", "candles")
    with (
        pa.CompressedOutputStream(str(path), "zstd") as out,
        local_exchange("coinbase", seed=seed, rate=1000) as exchange,
    ):
        for _ in range(connections):
            conn, received, acknowledged = new_connection_id(), 0, 0
            with connect(exchange.url, max_size=None) as socket:
                for channel in channels:
                    message = {"type": "subscribe", "channel": channel, "product_ids": products}
                    socket.send(json.dumps(message))
                while received < frames or acknowledged < len(channels):
                    frame = socket.recv(decode=False)
                    acknowledged += b'"channel":"subscriptions"' in frame
                    out.write(Envelope(time.time_ns(), conn, frame).line())
                    received += 1


@pytest.fixture(scope="session")
def recording(once: Callable[[str, Callable[[Path], None]], Path]) -> Recorded:
    """Return 1,000 frames of the market model over two connections, compressed."""

    def fill(folder: Path) -> None:
        products = ("BTC-USD", "ETH-USD")
        record(folder / NAME, *products, seed=11, connections=2, frames=500)

    return Recorded(once("recording", fill) / NAME)


@pytest.fixture(scope="session")
def filled_lake(once: Callable[[str, Callable[[Path], None]], Path], recording: Recorded) -> Lake:
    """Return a lake of the recording, twice, and of each product alone. Only read it."""

    def capture(folder: Path, recorded: Recorded, products: str) -> None:
        with local_exchange("coinbase", replay=(recorded.path,), rate=0) as exchange:
            lake = Lake(
                overrides=[
                    f"storage.base_dir={folder}",
                    f"ingestion.sources.coinbase.url={exchange.url}",
                    f"ingestion.sources.coinbase.products=[{products}]",
                ]
            )
            lake.ingest_sync("coinbase", frames=recorded.count)
            lake.etl("coinbase")

    def fill(folder: Path) -> None:
        for _ in range(2):
            capture(folder, recording, "BTC-USD,ETH-USD")
        for product in ("BTC-USD", "ETH-USD"):
            path = folder.parent / f"{product}.ndjson.zst"
            record(path, product, seed=5, connections=1, frames=1500)
            capture(folder, Recorded(path), product)

    return Lake(overrides=[f"storage.base_dir={once('filled', fill)}"])
