"""Lakes on the real S3 server, and the command over them."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partialmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.retries.standard import ExponentialBackoff
from omegaconf import OmegaConf

import fluxforge
from fluxforge import Lake
from fluxforge.config import load_config
from fluxforge.simulator import local_exchange
from fluxforge.storage.factory import create_storage_backend
from fluxforge.storage.s3 import S3Storage
from tests.support import commands
from tests.support.fault_proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fluxforge.testing.s3_server import S3Server
    from tests.conftest import Recorded

PATIENCE = 90.0
CHANNELS = "ingestion.sources.coinbase.channels=[ticker, market_trades]"
_prefixes = itertools.count(1)


@dataclass(frozen=True)
class Place:
    """A lake under a prefix of its own on an S3 server.

    Attributes
    ----------
    server, prefix
        Where it is.
    folder
        A local folder for what belongs to it.
    endpoint_url
        How it is reached: directly, or through a proxy.
    settings
        More of its configuration.
    """

    server: S3Server
    prefix: str
    folder: Path
    endpoint_url: str
    settings: tuple[str, ...] = ()

    def through(self, proxy: FaultProxy) -> Place:
        return replace(self, endpoint_url=proxy.url)

    def having(self, *settings: str) -> Place:
        return replace(self, settings=(*self.settings, *settings))

    def watching(self, url: str) -> Place:
        return self.having(f"ingestion.sources.coinbase.url={url}")

    @property
    def storage_config(self) -> dict[str, Any]:
        """What a configuration has under ``storage``."""
        access = {**self.server.settings(), "endpoint_url": self.endpoint_url}
        return {"backend": "s3", "base_dir": f"{self.server.bucket}/{self.prefix}", "s3": access}

    def overlay(self) -> Path:
        """Write the configuration of this place, credentials included."""
        path = self.folder / f"overlay-{next(_prefixes)}.yaml"
        OmegaConf.save(OmegaConf.create({"storage": self.storage_config}), path)
        return path

    def config(self) -> Any:
        spool = f"ingestion.spool_dir={self.folder / 'spool'}"
        return load_config(self.overlay(), overrides=[spool, *self.settings])

    def lake(self) -> Lake:
        return Lake(config=self.config())

    def storage(self) -> S3Storage:
        storage: Any = create_storage_backend(self.config())
        return storage

    def words(self, *words: str) -> list[str]:
        """Return the command line of ``fluxforge`` over this place."""
        spool = f"ingestion.spool_dir={self.folder / 'spool'}"
        settings = ("-c", str(self.overlay()), spool, *self.settings)
        return [sys.executable, "-m", "fluxforge", *words, *settings]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return commands.run(
            self.words(*words),
            cwd=self.folder,
            env=environment(),
            capture_output=True,
            encoding="utf-8",
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE,
        )

    def json(self, *words: str) -> Any:
        done = self.run(*words, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)

    @contextmanager
    def started(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """Run a command beside the test, which has to end it."""
        process = commands.Popen(
            self.words(*words),
            cwd=self.folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            encoding="utf-8",
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    def put_segments(self, recording: Recorded, count: int) -> None:
        """Divide a recording into that many waiting segments."""
        from fluxforge.segments import read_segment

        lines = [envelope.line() for envelope in read_segment(recording.path)]
        storage = self.storage()
        for number in range(count):
            part = slice(number * len(lines) // count, (number + 1) * len(lines) // count)
            name = f"segment_20251203T14_{number + 1:05d}.ndjson"
            storage.write_bytes(f"raw/ready/coinbase/{name}", b"".join(lines[part]))


def environment() -> dict[str, str]:
    """Return the environment of a command: nothing of this machine's AWS settings is in it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    package = Path(fluxforge.__file__).resolve().parent.parent
    return {**kept, "PYTHONPATH": str(package), "PYTHONUTF8": "1"}


@pytest.fixture
def make_place(s3_server: S3Server, tmp_path: Path) -> Callable[..., Place]:
    """Return a maker of lakes."""

    def make(*settings: str, server: S3Server = s3_server) -> Place:
        number = next(_prefixes)
        folder = tmp_path / f"place-{number}"
        folder.mkdir()
        return Place(server, f"tests/lake {number}", folder, server.endpoint_url, settings)

    return make


@pytest.fixture(scope="session")
def trading(
    tmp_path_factory: pytest.TempPathFactory, recorded: Callable[[Path], Recorded]
) -> Recorded:
    """Return 500 frames of tickers and trades: few tables, that much is quick on S3 too."""
    folder = tmp_path_factory.mktemp("trading")
    with local_exchange("coinbase", seed=7, rate=1000) as served:
        lake = Lake(
            overrides=[
                f"storage.base_dir={folder}",
                f"ingestion.sources.coinbase.url={served.url}",
                CHANNELS,
            ]
        )
        lake.ingest_sync("coinbase", frames=500)
    [segment] = (folder / lake.layout.ready("coinbase")).iterdir()
    return recorded(segment)


@pytest.fixture
def place(make_place: Callable[..., Place]) -> Place:
    """Return an empty lake."""
    return make_place()


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    """Run a proxy in front of the S3 server."""
    with FaultProxy(s3_server.host, s3_server.port, seed=1) as running:
        yield running


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let storages of this process take a request for lost after a second, and ask again soon."""
    hasty: Any = partialmethod(S3Storage.__init__, attempts=9, connect_timeout=2, read_timeout=1)
    monkeypatch.setattr(S3Storage, "__init__", hasty)
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda *_: 0.1)


@pytest.fixture
def market() -> Callable[..., Any]:
    """Return what runs a local exchange."""

    def run(**options: Any) -> Any:
        return local_exchange("coinbase", **{"seed": 5, "rate": 0, **options})

    return run


@pytest.fixture(scope="session")
def wait_until() -> Callable[..., None]:
    """Return what waits for a condition."""

    def wait(reached: Callable[[], object], what: str = "it") -> None:
        until = time.monotonic() + PATIENCE
        while not reached():
            if time.monotonic() > until:
                pytest.fail(f"{what} did not happen")
            time.sleep(0.2)  # a look at S3 costs it time, too

    return wait
