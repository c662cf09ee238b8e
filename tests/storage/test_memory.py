from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fluxforge import Lake
from fluxforge.simulator import local_exchange
from fluxforge.storage.memory import MemoryStorage
from tests.storage.test_local import TestLocalStorage as LocalConformance


class TestMemoryStorage(LocalConformance):
    @pytest.fixture
    def storage(self) -> MemoryStorage:  # type: ignore[override]
        return MemoryStorage()


def test_storages_of_one_name_hold_the_same_files() -> None:
    one, same, other = MemoryStorage("one"), MemoryStorage("one"), MemoryStorage()
    one.write_bytes("x", b"1")
    assert same.read_bytes("x") == b"1"
    assert not other.exists("x")


def test_they_end_with_their_process_however_it_ends() -> None:
    code = (
        "import os, signal, sys\n"
        "from fluxforge.storage.memory import MemoryStorage\n"
        "storage = MemoryStorage('lake'); storage.write_bytes('x', b'1')\n"
        "print(storage.get_full_path(), flush=True)\n"
        "os.kill(os.getpid(), int(sys.argv[1])) if len(sys.argv) > 1 else None\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "FLUXFORGE_MEMORY"}

    def run(*arguments: str) -> Path:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True, text=True, check=False, timeout=60, env=environment,
        )  # fmt: skip
        return Path(done.stdout.strip())

    assert not run().exists()
    killed = run("9")
    assert killed.is_dir()
    assert not run().exists()
    assert not killed.exists()  # the next one removed it


@pytest.mark.parametrize("backend", ["memory", "file"])
def test_a_whole_lake(backend: str, tmp_path: Path) -> None:
    base = tmp_path / "lake" if backend == "file" else "whole"
    with local_exchange("coinbase", seed=3, rate=0) as exchange:
        lake = Lake(
            overrides=[
                f"storage.backend={backend}",
                f"storage.base_dir={base}",
                f"ingestion.sources.coinbase.url={exchange.url}",
            ]
        )
        lake.ingest_sync("coinbase", frames=200)
    assert lake.etl().lines_taken == 200
    assert lake.scan("coinbase", "ticker").collect().height > 0
    assert lake.verify().ok
