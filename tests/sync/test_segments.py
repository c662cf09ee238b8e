"""Segments: named alike and different, damaged, claimed, and moved exactly once."""

from __future__ import annotations

import threading
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from fluxforge import Lake
from fluxforge.layout import SegmentName
from fluxforge.segments import read_segment
from fluxforge.storage.local import LocalStorage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fluxforge.storage.base import StorageBackend
    from fluxforge.sync import SyncReport
    from tests.conftest import Recorded

    Make = Callable[..., bytes]
    Content = Callable[..., dict[str, bytes]]
    MakeStorage = Callable[..., StorageBackend]
    Sync = Callable[..., SyncReport]

READY = "raw/ready/coinbase/segment_20251203T14_{:05}.ndjson"
PROCESSING = "raw/processing/coinbase/segment_20251203T14_{:05}.ndjson"
ARCHIVE = "raw/archive/coinbase/segment_20251203T14_00001.ndjson.zst"

any_kind = pytest.mark.parametrize("kind", ["local", pytest.param("s3", marks=pytest.mark.s3)])
moved_or_copied = pytest.mark.parametrize("delete", [False, True])


@any_kind
@moved_or_copied
def test_another_segment_of_the_same_name_gets_one_that_follows_from_its_content(
    make_storage: MakeStorage, sync: Sync, segment: Make, content: Content, kind: str, delete: bool
) -> None:
    here, there = make_storage(), make_storage(kind)
    here.write_bytes(READY.format(1), segment("A"))
    here.write_bytes(READY.format(2), segment("B"))
    there.write_bytes(READY.format(1), segment("C"))  # as long as the others
    there.write_bytes(PROCESSING.format(2), segment("D"))
    report = sync(here, there, delete=delete)
    assert report.problems == ()
    renamed = {
        "raw/ready/coinbase/"
        + str(SegmentName("20251203T14", number).derive(sha256(segment(name)).hexdigest())): name
        for number, name in enumerate("AB", 1)
    }
    assert report.copied == tuple(renamed)
    expected = {key: segment(name) for key, name in renamed.items()}
    expected[READY.format(1)] = segment("C")
    assert content(there, "raw/ready") == expected
    assert here.list_files() == ([] if delete else [READY.format(1), READY.format(2)])
    assert sync(here, there, delete=delete).copied == ()
    assert content(there, "raw/ready") == expected


@moved_or_copied
def test_what_is_there_under_another_name_is_not_copied_again(
    make_storage: MakeStorage, sync: Sync, segment: Make, content: Content, delete: bool
) -> None:
    here, there = make_storage(), make_storage()
    here.write_bytes(READY.format(1), segment("A"))
    there.write_bytes(READY.format(7), segment("A"))
    report = sync(here, there, delete=delete)
    assert (report.copied, report.skipped) == ((), (READY.format(1),))
    assert list(content(there)) == [READY.format(7)]
    assert here.exists(READY.format(1)) != delete


@any_kind
def test_an_archived_segment_of_the_same_name_is_kept_beside_the_other(
    make_storage: MakeStorage, sync: Sync, segment: Make, content: Content, kind: str
) -> None:
    here, there = make_storage(), make_storage(kind)
    here.write_bytes(ARCHIVE, segment("A"))
    there.write_bytes(ARCHIVE, segment("B"))
    for _ in range(2):
        assert sync(here, there).problems == ()
        kept = content(there)
        assert kept.pop(ARCHIVE) == segment("B")
        [(key, copy)] = kept.items()
        assert copy == segment("A")
        assert key.startswith(ARCHIVE.removesuffix(".ndjson.zst") + "-")
        assert key.endswith(".ndjson.zst")


@any_kind
@pytest.mark.parametrize("key", [READY.format(1), ARCHIVE])
def test_a_damaged_copy_is_noticed_before_anything_is_deleted(
    make_storage: MakeStorage, sync: Sync, segment: Make, content: Content, kind: str, key: str
) -> None:
    here, there = make_storage(), make_storage(kind)
    original = segment("A", lines=4000, wide=100)
    here.write_bytes(key, original)
    here.write_bytes(READY.format(2), segment("B"))
    assert sync(here, there).ok
    damaged = bytearray(original)
    damaged[len(damaged) // 2] ^= 1
    there.write_bytes(key, bytes(damaged))
    report = sync(here, there, delete=True)
    assert len(report.problems) == 1
    assert key in report.problems[0]
    assert "damaged" in report.problems[0]
    assert content(here) == {key: original}
    assert content(there) == {key: bytes(damaged), READY.format(2): segment("B")}

    there.delete(key)
    assert sync(here, there, delete=True).ok
    assert content(here) == {}
    assert there.read_bytes(key) == original


def test_a_copy_cut_short_is_no_copy(make_storage: MakeStorage, sync: Sync, segment: Make) -> None:
    here, there = make_storage(), make_storage()
    here.write_bytes(READY.format(1), segment("A"))
    there.write_bytes(READY.format(1), segment("A")[:-20])
    for delete in (False, True):
        assert "damaged" in sync(here, there, delete=delete).problems[0]
    assert here.exists(READY.format(1))


class Faulty(LocalStorage):
    """A disk that loses a bit of everything that is written to it."""

    def write_file(self, path: str | Path, key: str, *, exclusive: bool = False) -> None:
        super().write_file(path, key, exclusive=exclusive)
        data = bytearray(self.read_bytes(key))
        data[-1] ^= 1
        super().write_bytes(key, bytes(data))


def test_what_reads_back_otherwise_is_not_deleted_and_not_left(
    make_storage: MakeStorage, sync: Sync, segment: Make, content: Content, tmp_path: Path
) -> None:
    here, there = make_storage(), Faulty(tmp_path / "faulty")
    here.write_bytes(READY.format(1), segment("A"))
    report = sync(here, there, delete=True)
    assert "read back" in report.problems[0]
    assert content(here) == {READY.format(1): segment("A")}
    assert content(there) == {}


class Claiming(LocalStorage):
    """A disk on which an ETL tries to take each segment as soon as it can be seen."""

    taken: list[bool]

    def write_file(self, path: str | Path, key: str, *, exclusive: bool = False) -> None:
        super().write_file(path, key, exclusive=exclusive)
        claim = self.acquire_lease(key.replace("ready", "processing"))
        self.taken.append(claim is not None)


def test_neither_sides_etl_gets_a_segment_while_it_is_moved(
    make_storage: MakeStorage, sync: Sync, segment: Make, tmp_path: Path
) -> None:
    here, there = make_storage(), Claiming(tmp_path / "claiming")
    there.taken = []
    for number in (1, 2, 3):
        here.write_bytes(READY.format(number), segment(f"{number}"))
    held = here.acquire_lease(PROCESSING.format(2))
    assert held is not None
    with held:
        report = sync(here, there, delete=True)
    assert report.deleted == (READY.format(1), READY.format(3))
    assert report.skipped == (READY.format(2),)
    assert report.ok
    assert there.taken == [False, False]
    assert here.list_files() == [READY.format(2)]
    later = there.acquire_lease(PROCESSING.format(1))
    assert later is not None
    later.release()


@pytest.mark.s3
def test_etls_on_both_sides_of_a_running_move_take_every_line_once(
    make_overlay: Callable[..., Path], recording: Recorded, tmp_path: Path
) -> None:
    """Segments wait on a disk and are moved to S3; both lakes write to the same tables."""
    tables = make_overlay()
    output = tmp_path / "output.yaml"
    text = tables.read_text().replace("storage:", "storage_output:", 1).replace("\n", "\n  ")
    output.write_text(f"etl:\n  {text}\n")
    here, there = Lake(make_overlay(), output), Lake(make_overlay("s3"), output)
    lines = [envelope.line() for envelope in read_segment(recording.path)]
    size = -(-len(lines) // 4)
    segments = {}
    for number, start in enumerate(range(0, len(lines), size), 1):
        part = lines[start : start + size]
        here.storage.write_bytes(READY.format(number), b"".join(part))
        segments[READY.format(number).rpartition("/")[2]] = len(part)

    moving = threading.Thread(target=here.sync, args=(there,), kwargs={"delete": True})
    moving.start()
    here.etl("coinbase")
    while moving.is_alive():
        there.etl("coinbase")
    there.etl("coinbase")
    for lake in (here, there):
        assert lake.storage.list_files("raw") == []
    ledger = "SELECT segment, lines_taken FROM coinbase.segments ORDER BY segment"
    assert here.sql(ledger).fetchall() == sorted(segments.items())
    for name, rows in recording.rows.items():
        assert here.scan("coinbase", name, raw=True).collect().height == rows


def test_other_files_in_ready_and_living_segments_are_left(
    make_storage: MakeStorage, sync: Sync, segment: Make, content: Content
) -> None:
    here, there = make_storage(), make_storage()
    left = {
        "raw/active/coinbase/segment_20251203T14_00001.ndjson": segment("A"),
        PROCESSING.format(2): segment("B"),
        "raw/ready/coinbase/notes.txt": b"mine",
    }
    for key, data in left.items():
        here.write_bytes(key, data)
    report = sync(here, there, delete=True)
    assert (report.copied, report.deleted, report.problems) == ((), (), ())
    assert content(here) == left
    assert content(there) == {}
