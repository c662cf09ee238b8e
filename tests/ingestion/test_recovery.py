"""What crashed collectors leave, and who may touch it."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fluxforge.errors import StorageError, StorageUnavailableError
from fluxforge.ingestion.claims import SegmentFolders
from fluxforge.ingestion.recovery import Recovered, recover_segments
from fluxforge.ingestion.writers import LogWriter
from fluxforge.segments import Envelope
from fluxforge.simulator import local_exchange
from fluxforge.sources import get_source
from fluxforge.storage.local import LocalStorage
from fluxforge.storage.memory import MemoryStorage

if TYPE_CHECKING:
    from collections.abc import Callable

    from fluxforge.storage import StorageBackend

FOLDERS = SegmentFolders.around("raw/active/coinbase", "raw/ready/coinbase")
NAME = "segment_20251203T14_00001.ndjson"
LINE = b'{"capture_ns":1,"conn":"A","data":{"n":1}}\n'


def orphan(storage: StorageBackend, content: bytes, name: str = NAME) -> str:
    """Leave a segment behind, as a collector does that dies."""
    key = f"{FOLDERS.active}/{name}"
    journal = storage.create_journal(key)
    if content:
        journal.append(content)
    journal.close()
    return key


def files(storage: StorageBackend) -> dict[str, bytes]:
    return {key: storage.read_bytes(key) for key in storage.list_files()}


@pytest.fixture(params=["local", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> StorageBackend:
    return LocalStorage(tmp_path) if request.param == "local" else MemoryStorage()


def test_complete_lines_go_to_ready(storage: StorageBackend) -> None:
    orphan(storage, LINE * 3)
    assert recover_segments(storage, FOLDERS) == Recovered((f"{FOLDERS.ready}/{NAME}",))
    assert files(storage) == {f"{FOLDERS.ready}/{NAME}": LINE * 3}
    assert storage.list_journals(FOLDERS.active) == []
    assert recover_segments(storage, FOLDERS) == Recovered()


def test_a_torn_tail_goes_to_quarantine_and_can_be_restored(storage: StorageBackend) -> None:
    tail = LINE[:-9] + "é".encode()[:1]  # cut in the middle of a character
    orphan(storage, LINE * 2 + tail)
    recovered = recover_segments(storage, FOLDERS)
    assert recovered.segments == (f"{FOLDERS.ready}/{NAME}",)
    assert storage.read_bytes(f"{FOLDERS.ready}/{NAME}") == LINE * 2
    [key] = recovered.torn
    assert key.startswith(f"{FOLDERS.quarantine}/segment_20251203T14_00001-")
    [record] = [json.loads(line) for line in storage.read_bytes(key).splitlines()]
    assert base64.b64decode(record["base64"]) == tail
    assert f"at byte {2 * len(LINE)}" in record["reason"]


def test_a_segment_that_is_all_torn_leaves_only_its_quarantine(storage: StorageBackend) -> None:
    orphan(storage, b'{"capture_ns":1,"co')
    recovered = recover_segments(storage, FOLDERS)
    assert recovered.segments == ()
    assert list(files(storage)) == list(recovered.torn)
    assert storage.list_journals(FOLDERS.active) == []


def test_an_empty_segment_vanishes(storage: StorageBackend) -> None:
    orphan(storage, b"")
    assert recover_segments(storage, FOLDERS) == Recovered()
    assert storage.list_journals(FOLDERS.active) == []
    assert files(storage) == {}


def test_a_name_that_is_taken_in_ready_is_never_overwritten(storage: StorageBackend) -> None:
    orphan(storage, LINE)
    storage.write_bytes(f"{FOLDERS.ready}/{NAME}", b"theirs\n")
    [key] = recover_segments(storage, FOLDERS).segments
    assert key == f"{FOLDERS.ready}/segment_20251203T14_00002.ndjson"
    assert files(storage) == {f"{FOLDERS.ready}/{NAME}": b"theirs\n", key: LINE}


def test_what_is_no_segment_is_left_alone(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write_bytes(f"{FOLDERS.active}/notes.txt", b"mine")
    assert recover_segments(storage, FOLDERS) == Recovered()
    assert files(storage) == {f"{FOLDERS.active}/notes.txt": b"mine"}


def test_a_living_writers_segment_is_not_touched(storage: StorageBackend) -> None:
    with LogWriter(
        storage=storage,
        active_path=FOLDERS.active,
        ready_path=FOLDERS.ready,
        source_name="coinbase",
    ) as writer:
        writer.write('{"n":1}')
        writer.flush()
        assert recover_segments(storage, FOLDERS) == Recovered()
        writer.write('{"n":2}')
        writer.flush()
    [content] = files(storage).values()
    assert [Envelope.parse(line).frame for line in content.splitlines()] == [
        b'{"n":1}',
        b'{"n":2}',
    ]


@pytest.mark.parametrize("dies_at", ["write_bytes", "move"])
def test_a_recovery_that_dies_is_completed_by_the_next(tmp_path: Path, dies_at: str) -> None:
    class Dying(LocalStorage):
        dead = False

        def write_bytes(self, key: str, data: bytes, *, exclusive: bool = False) -> None:
            super().write_bytes(key, data, exclusive=exclusive)
            self.die_once("write_bytes")

        def move(self, source: str, destination: str) -> None:
            self.die_once("move")
            super().move(source, destination)

        def die_once(self, where: str) -> None:
            if where == dies_at and not self.dead:
                self.dead = True
                raise StorageUnavailableError("died")

    storage = Dying(tmp_path)
    orphan(storage, LINE * 2 + LINE[:10])
    with pytest.raises(StorageError):
        recover_segments(storage, FOLDERS)
    recovered = recover_segments(storage, FOLDERS)
    assert recovered.segments == (f"{FOLDERS.ready}/{NAME}",)
    assert storage.read_bytes(f"{FOLDERS.ready}/{NAME}") == LINE * 2
    assert len(storage.list_files(FOLDERS.quarantine)) == 1
    assert len(files(storage)) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows renames in one step")
def test_a_seal_that_died_between_its_two_names_is_completed(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    orphan(storage, LINE)
    (tmp_path / FOLDERS.ready).mkdir(parents=True)
    os.link(tmp_path / FOLDERS.active / NAME, tmp_path / FOLDERS.ready / NAME)
    recover_segments(storage, FOLDERS)
    assert files(storage) == {f"{FOLDERS.ready}/{NAME}": LINE}


COLLECTOR = textwrap.dedent("""
    import asyncio, sys
    from fluxforge.config import load_config
    from fluxforge.ingestion import collector
    from fluxforge.ingestion.orchestrators import IngestionPipeline

    collector.PROGRESS_SECONDS = 0.02

    def say(progress):
        print(pipeline._collectors[0]._writer.flushed_frames, flush=True)

    async def main():
        await pipeline.start()
        await pipeline.wait_for_shutdown()
        print("stopped", pipeline.reports[0].frames, flush=True)

    config = load_config(overrides=[
        f"storage.base_dir={sys.argv[1]}",
        f"ingestion.sources.coinbase.url={sys.argv[2]}",
        "ingestion.flush_interval_seconds=0.02",
        "ingestion.segment_max_mb=0.2",
    ])
    pipeline = IngestionPipeline(config, "coinbase", on_progress=say)
    asyncio.run(main())
""")


def start_collector(root: Path, url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", COLLECTOR, str(root), url],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )


def read_until(process: subprocess.Popen[str], enough: Callable[[int], bool]) -> int:
    """Read what a collector says it has flushed, until that is enough."""
    assert process.stdout is not None
    for line in process.stdout:
        if enough(int(line)):
            return int(line)
    raise AssertionError(f"the collector ended by itself: {process.wait()}")


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="no signal asks a process there to end")
def test_collectors_that_are_killed_lose_nothing_they_had_flushed(
    lake: Any, tmp_path: Path
) -> None:
    """Five collectors are killed while a sixth writes the same source, and goes on unharmed."""
    rounds = int(5 * float(os.environ.get("FLUXFORGE_LONG", "1")))
    chance = random.Random(5)
    flushed = []
    with local_exchange("coinbase", rate=1_500) as exchange:
        survivor = start_collector(lake.root, exchange.url)
        read_until(survivor, lambda count: count > 0)
        for _ in range(rounds):
            victim = start_collector(lake.root, exchange.url)
            goal = chance.randint(1, 900)
            flushed.append(read_until(victim, lambda count, goal=goal: count >= goal))
            victim.kill()  # SIGKILL
            rest = victim.communicate()[0].split()
            flushed[-1] = max([flushed[-1], *map(int, rest)])
        survivor.send_signal(signal.SIGTERM)
        said = survivor.communicate(timeout=30)[0].split()
        assert survivor.returncode == 0
    recover_segments(LocalStorage(lake.root), FOLDERS)
    assert lake.segments("active") == []

    numbers: dict[str, list[int]] = {}
    source = get_source("coinbase")
    for envelope in lake.envelopes():
        sequence = source.summarize(envelope.frame).sequence
        assert sequence is not None
        numbers.setdefault(envelope.conn, []).append(sequence)
    assert len(numbers) == rounds + 1
    # Each connection's frames are there from the first on, without a hole and without a repeat.
    assert all(sorted(seen) == list(range(len(seen))) for seen in numbers.values())
    survived, *killed = [len(numbers[conn]) for conn in sorted(numbers)]
    assert survived == int(said[said.index("stopped") + 1])
    assert all(stored >= told for stored, told in zip(killed, flushed, strict=True))
