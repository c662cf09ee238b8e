"""The writer of segments: nothing lost, nothing doubled, whatever the storage does."""

from __future__ import annotations

import errno
import subprocess
import sys
import textwrap
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from fluxforge.errors import (
    SpoolFullError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
    UsageError,
)
from fluxforge.ingestion import pending
from fluxforge.ingestion.writers import LogWriter, S3LogWriter
from fluxforge.layout import Layout, SegmentName
from fluxforge.segments import Envelope, SegmentStore, files
from fluxforge.segments.active import LocalSegment
from fluxforge.segments.files import SegmentFile
from fluxforge.segments.mirror import MirroredSegment
from fluxforge.storage.local import LocalStorage
from tests.support.object_store import object_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fluxforge.storage import StorageBackend

ACTIVE, READY = "raw/active/coinbase", "raw/ready/coinbase"


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2025, 12, 3, 14, 10, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def open_writer(storage: StorageBackend, **options: object) -> LogWriter:
    return LogWriter(
        storage=storage, active_path=ACTIVE, ready_path=READY, source_name="coinbase", **options
    )


def recover(storage: StorageBackend) -> None:
    SegmentStore(storage, Layout(), "coinbase").recover()


@pytest.fixture(autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let spools lie in a folder of the test's own."""
    for name in ("XDG_STATE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path_factory.mktemp("state")))


def names(storage: StorageBackend, folder: str) -> list[str]:
    return [key.rpartition("/")[2] for key in storage.list_files(folder)]


def frames_in(storage: StorageBackend, *folders: str) -> list[bytes]:
    """Return all frames below the folders, in the order of the segments' names."""
    keys = [key for folder in folders for key in storage.list_files(folder)]
    found = []
    for key in sorted(keys, key=lambda key: key.rpartition("/")[2]):
        content = storage.read_bytes(key)
        assert not content or content.endswith(b"\n")
        found += [Envelope.parse(line).frame for line in content.splitlines()]
    return found


def frame(number: int, size: int = 0) -> bytes:
    return b'{"n":%d,"pad":"%s"}' % (number, b"x" * size)


# What a writer does when all is well


@pytest.mark.parametrize("make", [LocalStorage, lambda _: object_store()])
def test_frames_come_back_byte_for_byte(
    make: Callable[[Path], StorageBackend], tmp_path: Path
) -> None:
    frames = [
        b'{"channel":"ticker","price":"65086.10"}',
        b"not json",
        b"",
        b'{"two":\n"lines"}',
        b"\xff\xfe",
        '{"text":"é\u2028"}'.encode(),
        b'{"big":"' + b"x" * 5_100_000 + b'"}',
    ]
    storage = make(tmp_path)
    with open_writer(storage) as writer:
        for data in frames:
            writer.write(data, conn="A")
        assert storage.list_files(ACTIVE) == []  # nothing was flushed
    assert frames_in(storage, READY) == frames
    assert storage.list_files(ACTIVE) == []
    assert (writer.flushed_frames, writer.segments, writer.buffered_bytes) == (7, 1, 0)
    assert writer.flushed_bytes == sum(file.size for file in storage.list_entries(READY))


def test_text_is_stored_as_utf8_and_lone_surrogates_survive(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    with open_writer(storage) as writer:
        writer.write('{"a":"é"}')
        writer.write("\ud800")
    assert frames_in(storage, READY) == ['{"a":"é"}'.encode(), b"\xed\xa0\x80"]


def test_a_flush_is_durable_and_visible_before_any_rotation(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    writer = open_writer(storage)
    writer.write(frame(1))
    writer.flush()
    assert frames_in(storage, ACTIVE) == [frame(1)]
    assert names(storage, READY) == []
    writer.close()
    assert frames_in(storage, READY) == [frame(1)]


def test_a_writer_that_gets_nothing_leaves_nothing(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    with open_writer(storage) as writer:
        writer.flush()
        writer.rotate()
    assert storage.list_files() == []


def test_a_closed_writer_goes_on_in_a_new_segment(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    writer = open_writer(storage)
    for number in range(3):
        writer.write(frame(number))
        writer.close()
    assert len(names(storage, READY)) == 3
    assert frames_in(storage, READY) == [frame(0), frame(1), frame(2)]


# Rotation


def test_a_segment_closes_by_size_with_one_batch_over_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending, "BATCH_BYTES", 1_000)
    monkeypatch.setattr(pending, "_BLOCK_BYTES", 100)
    storage = LocalStorage(tmp_path)
    with open_writer(storage, segment_max_mb=0.005) as writer:
        for number in range(400):
            writer.write(frame(number, 50))
        writer.flush()
    sizes = [file.size for file in storage.list_entries(READY)]
    assert len(sizes) > 5
    assert all(5_000 <= size < 6_000 for size in sizes[:-1])
    assert frames_in(storage, READY) == [frame(number, 50) for number in range(400)]


def test_a_quiet_segment_closes_by_age(tmp_path: Path) -> None:
    storage, clock = LocalStorage(tmp_path), Clock()
    writer = open_writer(storage, segment_max_seconds=300, clock=clock)
    writer.write(frame(1))
    writer.flush()
    clock.now += timedelta(seconds=299)
    writer.flush()
    assert names(storage, READY) == []
    clock.now += timedelta(seconds=1)
    writer.flush()  # nothing new was written
    [name] = names(storage, READY)
    assert SegmentName.parse(name).hour == "20251203T14"
    assert storage.list_files(ACTIVE) == []


def test_a_segment_closes_with_the_hour_and_the_counter_starts_again(tmp_path: Path) -> None:
    storage, clock = LocalStorage(tmp_path), Clock()
    writer = open_writer(storage, segment_max_seconds=10_000, clock=clock)
    for number, minutes in enumerate((0, 49, 1, 0)):
        clock.now += timedelta(minutes=minutes)
        writer.write(frame(number))
        writer.flush()
    writer.close()
    found = [SegmentName.parse(name) for name in names(storage, READY)]
    assert [(name.hour, name.counter) for name in found] == [
        ("20251203T14", 1),
        ("20251203T15", 1),
    ]
    assert frames_in(storage, READY) == [frame(number) for number in range(4)]


# Names and times


def test_names_never_come_back_and_nothing_is_listed_for_them(tmp_path: Path) -> None:
    class Unlisted(LocalStorage):
        def list_entries(self, path: str = "", *, recursive: bool = True) -> list[object]:
            raise StorageUnavailableError("the listing broke off")

    storage, clock = Unlisted(tmp_path), Clock()
    writers = [open_writer(storage, clock=clock) for _ in range(2)]
    seen = []
    for number in range(6):
        writers[number % 2].write(frame(number))
        writers[number % 2].close()
        [path] = (tmp_path / READY).iterdir()
        seen.append(SegmentName.parse(path.name))
        path.unlink()  # an ETL has taken it
    assert len(set(seen)) == 6
    assert {(name.hour, len(name.token)) for name in seen} == {("20251203T14", 8)}
    assert [name.counter for name in seen] == [1, 1, 2, 2, 3, 3]


def test_a_name_that_is_taken_in_ready_is_never_overwritten(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    writer = open_writer(storage)
    writer.write(frame(1))
    writer.flush()
    [name] = names(storage, ACTIVE)
    storage.write_bytes(f"{READY}/{name}", b"theirs\n")
    writer.close()
    assert storage.read_bytes(f"{READY}/{name}") == b"theirs\n"
    [other] = set(names(storage, READY)) - {name}
    assert Envelope.parse(storage.read_bytes(f"{READY}/{other}")).frame == frame(1)


def test_times_grow_by_a_microsecond_at_least_on_each_connection(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    with open_writer(storage) as writer:
        for conn, at in [("A", 5_000), ("A", 5_000), ("B", 5_000), ("A", 2), ("A", 9_000)]:
            writer.write(b"{}", capture_ns=at, conn=conn)
        for _ in range(100):
            writer.write(b"{}", conn="C")
    [key] = storage.list_files(READY)
    found = [Envelope.parse(line) for line in storage.read_bytes(key).splitlines()]
    assert [line.capture_ns for line in found if line.conn == "A"] == [5_000, 6_000, 7_000, 9_000]
    assert [line.capture_ns for line in found if line.conn == "B"] == [5_000]
    times = [line.capture_ns for line in found if line.conn == "C"]
    assert all(later - earlier >= 1_000 for earlier, later in pairwise(times))


def test_old_names_say_what_they_are_called_now() -> None:
    with pytest.raises(UsageError, match="get_ingestion_path"):
        LogWriter(output_dir="F:/raw", source_name="coinbase")
    with pytest.raises(UsageError, match="LogWriter"):
        S3LogWriter(s3_manager=None)
    with pytest.raises(UsageError, match="different sources"):
        LogWriter(
            storage=object_store(), active_path="a/x", ready_path="b/y", source_name="coinbase"
        )


def test_two_processes_never_share_a_segment(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import sys
        from fluxforge.ingestion.writers import LogWriter
        from fluxforge.storage.local import LocalStorage
        writer = LogWriter(storage=LocalStorage(sys.argv[1]), active_path="raw/active/coinbase",
                           ready_path="raw/ready/coinbase", source_name="coinbase")
        for number in range(60):
            writer.write('{"who":"%s","n":%d}' % (sys.argv[2], number), conn=sys.argv[2])
            writer.flush()
            if number % 2:
                writer.rotate()
        writer.close()
    """)
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path), who]) for who in "ABC"
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    storage = LocalStorage(tmp_path)
    assert names(storage, ACTIVE) == []
    assert len(names(storage, READY)) == 90
    lines = [
        Envelope.parse(line)
        for key in storage.list_files(READY)
        for line in storage.read_bytes(key).splitlines()
    ]
    assert sorted(line.frame for line in lines) == sorted(
        b'{"who":"%s","n":%d}' % (who.encode(), number) for who in "ABC" for number in range(60)
    )
    for key in storage.list_files(READY):
        content = storage.read_bytes(key).splitlines()
        assert len({Envelope.parse(line).conn for line in content}) == 1


# Trouble


def test_frames_written_during_a_flush_are_neither_lost_nor_doubled(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    writer = open_writer(storage, segment_max_mb=0.01)
    done = threading.Event()

    def keep_flushing() -> None:
        while not done.is_set():
            writer.flush()

    flusher = threading.Thread(target=keep_flushing)
    flusher.start()
    for number in range(3_000):
        writer.write(frame(number))
    done.set()
    flusher.join()
    writer.close()
    assert frames_in(storage, READY) == [frame(number) for number in range(3_000)]


def test_a_full_disk_costs_nothing_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = LocalStorage(tmp_path)
    writer = open_writer(storage)
    writer.write(frame(1))
    writer.flush()

    def no_room(_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "sync_file", no_room)
        for number in (2, 3):
            writer.write(frame(number))
            with pytest.raises(StorageFullError):
                writer.flush()
        with pytest.raises(StorageFullError):
            writer.close()
        assert writer.buffered_frames == 2
    writer.close()
    assert frames_in(storage, READY) == [frame(1), frame(2), frame(3)]
    assert (writer.segments, writer.flushed_frames) == (1, 3)


@pytest.mark.parametrize("size", [0, 40, 2_000])
def test_a_full_spool_empties_however_much_waits_for_it(
    size: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answers = threading.Event()
    advance = MirroredSegment.advance

    def advance_or_not(segment: MirroredSegment) -> bool:
        if not answers.is_set():
            raise StorageUnavailableError("the store does not answer")
        return advance(segment)

    monkeypatch.setattr(MirroredSegment, "advance", advance_or_not)
    storage = object_store()
    writer = open_writer(
        storage, spool_dir=tmp_path, spool_max_mb=0.001, mirror_interval_seconds=0.01
    )
    written = [frame(number, size) for number in range(200)]
    writer.write(written[0])
    writer.flush()  # an empty spool takes a line that is longer than it may become
    for data in written[1:]:
        writer.write(data)
    with pytest.raises(SpoolFullError, match="spool_max_mb"):
        writer.flush()
    answers.set()
    while writer.buffered_frames:  # ends, whatever a batch's size: the full segment was closed
        with suppress(SpoolFullError):
            writer.flush()
    writer.close()
    assert frames_in(storage, READY) == written


def test_what_cannot_be_closed_is_left_for_recovery(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    writer = open_writer(storage)
    writer.write(frame(1))
    writer.flush()
    blocker = tmp_path / READY
    blocker.parent.mkdir(parents=True)
    blocker.write_bytes(b"")  # a file where the folder belongs
    with pytest.raises(StorageError):
        writer.close()
    writer.abandon()
    assert frames_in(storage, ACTIVE) == [frame(1)]
    blocker.unlink()
    recover(storage)
    assert frames_in(storage, READY) == [frame(1)]


class Faults:
    """Lets the next operations of real files fail as told, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pending: list[str] = []
        monkeypatch.setattr(files, "sync_file", self.sync)
        monkeypatch.setattr(files, "sync_directory", lambda folder: None)
        self._append, self._create = SegmentFile.append, SegmentFile.create
        self._advance = LocalSegment.advance
        monkeypatch.setattr(SegmentFile, "append", lambda file, *parts: self.append(file, *parts))
        monkeypatch.setattr(SegmentFile, "create", self.create)
        monkeypatch.setattr(LocalSegment, "advance", lambda segment: self.advance(segment))

    def strike(self, *kinds: str) -> str:
        """Use up the next fault if it is one of these kinds."""
        return self.pending.pop(0) if self.pending and self.pending[0] in kinds else ""

    def sync(self, file: object) -> None:
        if self.strike("sync"):
            raise OSError(errno.EIO, "Input/output error")

    def append(self, file: SegmentFile, *parts: bytes) -> None:
        data = b"".join(parts)
        match self.strike("refuse", "half", "all"):
            case "refuse":
                raise StorageFullError("no space left")
            case "half" | "all" as fault:
                file._file.truncate(file.size)
                file._file.seek(file.size)
                file._dirty = True
                file._file.write(data[: len(data) // (2 if fault == "half" else 1)])
                raise StorageFullError("no space left")
        self._append(file, *parts)

    def create(self, path: Path) -> SegmentFile:
        if self.strike("create"):
            raise StorageError("no file can be made")
        return self._create(path)

    def advance(self, segment: LocalSegment) -> bool:
        if self.strike("refuse seal"):
            raise StorageError("it cannot be renamed")
        return self._advance(segment)


FAULTS = ["refuse", "half", "all", "sync", "refuse seal", "create"]


class WriterMachine(RuleBasedStateMachine):
    """Any mixture of writes, flushes, failures and time: every frame once, in order."""

    folder: Callable[[], Path]
    faults: Faults

    @initialize()
    def begin(self) -> None:
        self.storage = LocalStorage(type(self).folder())
        self.clock = Clock()
        self.writer = open_writer(self.storage, segment_max_mb=0.0008, clock=self.clock)
        self.written: list[bytes] = []
        self.flushed = 0

    @rule(count=st.integers(1, 12), size=st.sampled_from([0, 40, 700]))
    def write(self, count: int, size: int) -> None:
        for _ in range(count):
            data = frame(len(self.written), size)
            self.writer.write(data)
            self.written.append(data)

    @rule(faults=st.lists(st.sampled_from(FAULTS), max_size=3), how=st.sampled_from("fffrc"))
    def store(self, faults: list[str], how: str) -> None:
        self.faults.pending = list(faults)
        try:
            {"f": self.writer.flush, "r": self.writer.rotate, "c": self.writer.close}[how]()
        except StorageError:
            assert len(self.faults.pending) < len(faults)
        else:
            if how != "r":
                self.flushed = len(self.written)
        self.faults.pending = []

    @rule(seconds=st.sampled_from([1, 200, 3_000]))
    def wait(self, seconds: int) -> None:
        self.clock.now += timedelta(seconds=seconds)

    @rule()
    def recover_beside(self) -> None:
        recover(self.storage)

    @invariant()
    def everything_flushed_is_stored_once_and_in_order(self) -> None:
        durable = self._durable()
        assert durable == self.written[: len(durable)]
        assert self.flushed <= self.writer.flushed_frames == len(durable)
        assert self.writer.buffered_frames == len(self.written) - len(durable)

    def teardown(self) -> None:
        self.faults.pending = []
        self.writer.close()
        assert frames_in(self.storage, READY) == self.written
        assert self.storage.list_files(ACTIVE) == []

    def _durable(self) -> list[bytes]:
        """Return what is stored, without the rest of failed appends."""
        if self.writer._segment is not None:
            file = self.writer._segment.file
            file.path.write_bytes(file.path.read_bytes()[: file.size])
        return frames_in(self.storage, READY, ACTIVE)


def test_every_frame_once_whatever_fails(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending, "BATCH_BYTES", 500)
    monkeypatch.setattr(WriterMachine, "faults", Faults(monkeypatch), raising=False)
    monkeypatch.setattr(
        WriterMachine,
        "folder",
        staticmethod(lambda: tmp_path_factory.mktemp("lake")),
        raising=False,
    )
    run_state_machine_as_test(
        WriterMachine,
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
