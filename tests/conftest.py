"""Fixtures that every test folder may use."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fluxforge import Lake
from fluxforge.segments import read_segment
from fluxforge.simulator import local_exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fluxforge.testing.s3_server import S3Server

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def captures() -> Path:
    """Return the folder of recorded venue traffic, which is not part of the repository."""
    chosen = os.environ.get("FLUXFORGE_CAPTURES")
    folder = Path(chosen) if chosen else REPOSITORY.parent / "shared" / "captures"
    if not (folder / "INDEX.md").is_file():
        pytest.skip("no recorded traffic: set FLUXFORGE_CAPTURES to its folder")
    return folder


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """Run a real S3 server, shared by all tests: each uses a prefix of its own."""
    from fluxforge.testing.s3_server import s3_server as run

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
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Return 1,000 frames of the market model over two connections, compressed."""
    import pyarrow as pa

    folder = tmp_path_factory.mktemp("recording")
    faults = "drop@500"
    with local_exchange("coinbase", seed=11, rate=1000, faults=faults) as exchange:
        lake = Lake(
            overrides=[
                f"storage.base_dir={folder}",
                f"ingestion.sources.coinbase.url={exchange.url}",
            ]
        )
        lake.ingest_sync("coinbase", frames=1000)
    path = folder / "recording.ndjson.zst"
    with pa.CompressedOutputStream(str(path), "zstd") as out:
        for segment in sorted((folder / lake.layout.ready("coinbase")).iterdir()):
            out.write(segment.read_bytes())
    return Recorded(path)


@pytest.fixture(scope="session")
def filled_lake(tmp_path_factory: pytest.TempPathFactory, recording: Recorded) -> Lake:
    """Return a lake of the recording, twice, and of each product alone. Only read it."""
    folder = tmp_path_factory.mktemp("filled")

    def capture(url: str, frames: int, products: str = "BTC-USD,ETH-USD") -> None:
        lake = Lake(
            overrides=[
                f"storage.base_dir={folder}",
                f"ingestion.sources.coinbase.url={url}",
                f"ingestion.sources.coinbase.products=[{products}]",
            ]
        )
        lake.ingest_sync("coinbase", frames=frames)
        lake.etl("coinbase")

    for _ in range(2):
        with local_exchange("coinbase", replay=(recording.path,), rate=0) as exchange:
            capture(exchange.url, recording.count)
    with local_exchange("coinbase", seed=5, rate=1000) as exchange:
        capture(exchange.url, 1500, "BTC-USD")
        capture(exchange.url, 1500, "ETH-USD")
    return Lake(overrides=[f"storage.base_dir={folder}"])
