"""Syncs that end at any moment, by a real SIGKILL or after each single write, and carry on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import fluxforge
from fluxforge import Lake
from fluxforge.errors import FileMissingError, TableError
from fluxforge.storage.local import LocalStorage
from fluxforge.tables import Table
from tests.support import commands

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fluxforge.storage.base import StorageBackend
    from fluxforge.sync import SyncReport
    from tests.sync.conftest import Numbers

    Content = Callable[..., dict[str, bytes]]
    Fill = Callable[[StorageBackend, str], None]
    Read = Callable[..., list[int] | None]

SEGMENT = "raw/{}/coinbase/segment_20251203T14_{:05}.ndjson"
TICKER, CANDLES = "processed/coinbase/ticker", "processed/coinbase/candles"
SEGMENTS, ROWS = 3, list(range(6))


@pytest.fixture
def fill(
    make_numbers: Callable[..., Numbers], segment: Callable[..., bytes]
) -> Callable[[StorageBackend, str], None]:
    """Return what fills a storage: segments in a state, and tables, one of them vacuumed."""

    def run(storage: StorageBackend, state: str) -> None:
        for number in range(1, SEGMENTS + 1):
            key = SEGMENT.format(state, number) + (".zst" if state == "archive" else "")
            storage.write_bytes(key, segment(f"{number}"))
        ticker = make_numbers(storage, *ROWS[:4])
        ticker.join(vacuum=True)
        ticker.add(*ROWS[4:])
        make_numbers(storage, *ROWS, name="candles")

    return run


def environment(folder: Path) -> dict[str, str]:
    """Let what a killed process leaves lie in the test's own folder."""
    package = Path(fluxforge.__file__).resolve().parent
    temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    return {**os.environ, **temporary, "PYTHONPATH": str(package.parent), "PYTHONUTF8": "1"}


def command(overlays: tuple[Path, Path], *options: str) -> list[str]:
    here, there = (str(overlay) for overlay in overlays)
    return [sys.executable, "-m", "fluxforge", "sync", "-c", here, "--to", there, *options]


@contextmanager
def syncing(overlays: tuple[Path, Path], *options: str) -> Iterator[subprocess.Popen[bytes]]:
    with commands.Popen(
        command(overlays, *options),
        cwd=overlays[0].parent,
        env=environment(overlays[0].parent),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def finish(overlays: tuple[Path, Path], *options: str) -> None:
    done = commands.run(
        command(overlays, *options),
        cwd=overlays[0].parent,
        env=environment(overlays[0].parent),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def files(storage: StorageBackend) -> int:
    return len(storage.list_files())


def without_logs(files: dict[str, bytes]) -> dict[str, bytes]:
    return {key: data for key, data in files.items() if "_delta_log" not in key}


def sees_all(storage: StorageBackend, numbers: Read) -> bool:
    """Check what readers see of a copy; return whether they see everything."""
    ticker, candles = numbers(Table(storage, TICKER)), numbers(Table(storage, CANDLES))
    assert ticker in (None, [], ROWS[:4], ROWS[:5], ROWS)  # those whose files are there
    assert candles is None or candles == ROWS[: len(candles)]
    return ticker == candles == ROWS


def nothing_is_lost(
    source: StorageBackend,
    destination: StorageBackend,
    segments: dict[str, bytes],
    numbers: Read,
) -> None:
    """Check that each segment and each table is whole at one end at least."""
    for key, data in segments.items():
        try:
            assert source.read_bytes(key) == data
        except FileMissingError:
            assert destination.read_bytes(key) == data
    for path in (TICKER, CANDLES):
        try:
            there = numbers(Table(source, path)) == ROWS
        except (TableError, OSError):
            there = False
        assert there or numbers(Table(destination, path)) == ROWS


@pytest.mark.s3
def test_readers_see_whole_versions_however_often_a_copy_is_killed(
    make_overlay: Callable[..., Path], fill: Fill, content: Content, numbers: Read
) -> None:
    overlays = make_overlay(), make_overlay("s3")
    source, destination = (Lake(overlay).storage for overlay in overlays)
    fill(source, "ready")
    expected = content(source)
    kills = 0
    for target in (SEGMENTS + 1, 16):
        with syncing(overlays) as process:
            while process.poll() is None and files(destination) < target:
                sees_all(destination, numbers)
                time.sleep(0.05)
            kills += process.poll() is None
            process.kill()
        sees_all(destination, numbers)
    assert kills
    finish(overlays)
    assert sees_all(destination, numbers)
    assert without_logs(content(destination)) == without_logs(expected)


@pytest.mark.s3
def test_nothing_is_lost_or_doubled_however_often_a_move_is_killed(
    make_overlay: Callable[..., Path], fill: Fill, content: Content, numbers: Read
) -> None:
    overlays = make_overlay("s3"), make_overlay()
    source, destination = (Lake(overlay).storage for overlay in overlays)
    fill(source, "archive")  # a claim on S3 would outlive its holder by a minute
    segments = content(source, "raw")
    count, kills = files(source), 0
    for left in (count - SEGMENTS - 2, 6):
        with syncing(overlays, "--delete") as process:
            while process.poll() is None and files(source) > left:
                nothing_is_lost(source, destination, segments, numbers)
                time.sleep(0.05)
            kills += process.poll() is None
            process.kill()
        nothing_is_lost(source, destination, segments, numbers)
    assert kills
    finish(overlays, "--delete")
    assert sees_all(destination, numbers)
    assert content(destination, "raw") == segments
    assert files(source) == 0


class DeadError(BaseException):
    """The process has ended."""


class Mortal(LocalStorage):
    """A disk whose user ends right after a write or a deletion; the temporaries stay."""

    def _end(self) -> None:
        raise DeadError

    def write_bytes(self, key: str, data: bytes, *, exclusive: bool = False) -> None:
        super().write_bytes(key, data, exclusive=exclusive)
        self._end()

    def write_file(self, path: str | Path, key: str, *, exclusive: bool = False) -> None:
        super().write_file(path, key, exclusive=exclusive)
        self._end()

    def delete(self, key: str) -> None:
        super().delete(key)
        self._end()

    def sync(self, path: str, after: str = "") -> None:
        super().sync(path, after)
        if after:  # not the last one, which has nothing to do
            self._end()


def test_a_copy_may_end_after_every_single_write(
    make_storage: Callable[..., StorageBackend],
    fill: Fill,
    sync: Callable[..., SyncReport],
    content: Content,
    numbers: Read,
) -> None:
    source, destination = make_storage(), make_storage()
    fill(source, "ready")
    mortal = Mortal(destination.base_path)
    ends, shown = 0, 0
    while True:
        try:
            report = sync(source, mortal)
            break
        except DeadError:
            ends += 1
            shown += not sees_all(destination, numbers)
    assert report.copied == ()
    assert ends > 12  # of a table, up to four data files are written at a time
    assert 0 < shown < ends
    assert sees_all(destination, numbers)


def test_a_move_may_end_after_every_single_write_and_deletion(
    make_storage: Callable[..., StorageBackend],
    fill: Fill,
    sync: Callable[..., SyncReport],
    content: Content,
    numbers: Read,
) -> None:
    source, destination = make_storage(), make_storage()
    fill(source, "ready")
    segments, count = content(source, "raw"), files(source)
    ends = 0
    while True:
        try:
            report = sync(Mortal(source.base_path), Mortal(destination.base_path), delete=True)
            break
        except DeadError:
            ends += 1
            nothing_is_lost(source, destination, segments, numbers)
    assert (report.copied, report.deleted, report.problems) == ((), (), ())
    assert ends > count
    assert sees_all(destination, numbers)
    assert content(destination, "raw") == segments
    assert files(source) == 0
