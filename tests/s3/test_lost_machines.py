"""A collector that is killed: its machine is lost, or starts again before or after a takeover."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from fluxforge.layout import Layout
from fluxforge.segments import SegmentStore
from fluxforge.storage.factory import create_storage_backend

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from fluxforge.storage.s3 import S3Storage
    from tests.s3.conftest import Place

pytestmark = [
    pytest.mark.s3,
    pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL"),
]

LEASE_SECONDS = 2.0
ACTIVE, READY = "raw/active/coinbase", "raw/ready/coinbase"
NAME = "segment_20251203T14_00001.ndjson"
LINE = b'{"capture_ns":1,"conn":"A","data":{"n":1}}\n'
QUICK = (
    f"storage.lease_seconds={LEASE_SECONDS}",
    "ingestion.flush_interval_seconds=0.1",
    "ingestion.mirror_interval_seconds=1.5",
    "ingestion.sources.coinbase.channels=[ticker, market_trades]",
)


def lines_below(storage: S3Storage, folder: str) -> list[bytes]:
    """The frames in the objects below a folder, parts included."""
    contents = [storage.read_bytes(key) for key in storage.list_files(folder)]
    return [
        line
        for content in contents
        for line in content.splitlines(keepends=True)
        if line.startswith(b'{"capture_ns"')
    ]


def spooled(folder: Path) -> list[bytes]:
    """The frames on a machine's disk that were flushed."""
    files = [path for path in folder.rglob("segment_*.ndjson") if path.is_file()]
    lines = [line for path in files for line in path.read_bytes().splitlines(keepends=True)]
    return [line for line in lines if line.endswith(b"}\n")]


@pytest.mark.parametrize("then", ["lost", "before", "after"])
def test_a_killed_collectors_frames_are_there_once(
    place: Place,
    market: Callable[..., Any],
    wait_until: Callable[..., None],
    tmp_path: Path,
    then: str,
) -> None:
    storage = place.storage()
    with market(rate=200) as served:
        first = place.having(*QUICK).watching(served.url)
        other_folder = tmp_path / "other machine"
        other_folder.mkdir()
        second = replace(first, folder=other_folder)
        spool = first.folder / "spool"
        with first.started("ingest", "coinbase") as killed:
            wait_until(lambda: len(lines_below(storage, ACTIVE)) > 100, "the mirror's parts")
            mirrored = len(lines_below(storage, ACTIVE))
            wait_until(lambda: len(spooled(spool)) > mirrored + 30, "frames beyond the mirror's")
            killed.kill()
            killed.wait()
        flushed = set(spooled(spool))
        on_store = set(lines_below(storage, ACTIVE))
        if then == "lost":
            shutil.rmtree(spool)
        if then != "before":
            time.sleep(LEASE_SECONDS + 0.5)
            second.json("ingest", "coinbase", "--frames", "30")
            assert on_store <= set(lines_below(storage, READY))
        if then != "lost":
            first.json("ingest", "coinbase", "--frames", "30")
    kept = Counter(lines_below(storage, READY))
    assert max(kept.values()) == 1
    assert (on_store if then == "lost" else flushed) <= set(kept)
    assert spooled(spool) == []
    assert not [file for file in storage.list_entries(ACTIVE) if file.name == "head"]


def test_a_worker_that_sleeps_over_its_claim_deletes_nothing_that_came_since(place: Place) -> None:
    """Its lease lapses between the copy and the delete; a name from elsewhere comes back."""
    config = place.having(f"storage.lease_seconds={LEASE_SECONDS}").config()
    storage: Any = create_storage_backend(config)
    other = create_storage_backend(config)
    storage.write_bytes(f"{READY}/{NAME}", LINE)
    sleeper, awake = (SegmentStore(one, Layout(), "coinbase") for one in (storage, other))
    copy, renewed = storage.copy_object, storage._leases._renew
    second = LINE.replace(b"1", b"2")

    def sleep_after_copy(source: str, destination: str) -> None:
        copy(source, destination)
        time.sleep(LEASE_SECONDS + 1.5)
        while claims := awake.claim(9):
            for claim in claims:
                awake.finish(claim)
        assert other.list_files("raw") == []
        other.write_bytes(f"{READY}/{NAME}", second)

    storage._leases._renew = lambda lease: None  # nothing in a stopped process renews
    storage.copy_object = sleep_after_copy
    assert sleeper.claim() == []
    storage._leases._renew = renewed
    assert storage.read_bytes(f"{READY}/{NAME}") == second
    [claim] = awake.claim()
    assert storage.read_bytes(claim.key) == second
    claim.release()
