"""The writer of segments: nothing lost, nothing doubled, whatever the storage does."""

from __future__ import annotations

import errno
import subprocess
import sys
import textwrap
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from fluxforge.errors import (
    FileExistsAlreadyError,
    JournalFencedError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)
from fluxforge.ingestion.claims import SegmentFolders
from fluxforge.ingestion.recovery import recover_segments
from fluxforge.ingestion.writers import LogWriter, log_writer
from fluxforge.segments import Envelope
from fluxforge.storage import local
from fluxforge.storage.local import LocalStorage
from fluxforge.storage.memory import MemoryStorage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fluxforge.storage import Journal, StorageBackend

ACTIVE, READY = "raw/active/coinbase", "raw/ready/coinbase"
FOLDERS = SegmentFolders.around(ACTIVE, READY)


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2025, 12, 3, 14, 10, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def open_writer(storage: StorageBackend, **options: object) -> LogWriter:
    return LogWriter(
        storage=storage, active_path=ACTIVE, ready_path=READY, source_name="coinbase", **options
    )


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


@pytest.mark.parametrize("make", [LocalStorage, lambda _: MemoryStorage()])
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
            writer.write(data, conn="A", capture_ns=7)
        assert storage.list_journals(ACTIVE) == []  # nothing was flushed
    assert frames_in(storage, READY) == frames
    assert storage.list_journals(ACTIVE) == []
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
    monkeypatch.setattr(log_writer, "BATCH_BYTES", 1_000)
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
    assert names(storage, READY) == ["segment_20251203T14_00001.ndjson"]
    assert storage.list_journals(ACTIVE) == []


def test_a_segment_closes_with_the_hour_and_the_counter_starts_again(tmp_path: Path) -> None:
    storage, clock = LocalStorage(tmp_path), Clock()
    writer = open_writer(storage, segment_max_seconds=10_000, clock=clock)
    for number, minutes in enumerate((0, 49, 1, 0)):
        clock.now += timedelta(minutes=minutes)
        writer.write(frame(number))
        writer.flush()
    writer.close()
    assert names(storage, READY) == [
        "segment_20251203T14_00001.ndjson",
        "segment_20251203T15_00001.ndjson",
    ]
    assert frames_in(storage, READY) == [frame(number) for number in range(4)]


# Names


@pytest.mark.parametrize("state", ["ready", "processing", "archive", "quarantine", "active"])
def test_a_name_that_is_taken_anywhere_is_not_used(tmp_path: Path, state: str) -> None:
    storage, clock = LocalStorage(tmp_path), Clock()
    taken = {
        "archive": "segment_20251203T14_00041.ndjson.zst",
        "quarantine": "segment_20251203T14_00041-9f86d081884c.ndjson",
    }.get(state, "segment_20251203T14_00041.ndjson")
    storage.write_bytes(f"raw/{state}/coinbase/{taken}", b"theirs\n")
    with open_writer(storage, clock=clock) as writer:
        writer.write(frame(1))
    assert storage.exists(f"{READY}/segment_20251203T14_00042.ndjson")
    assert storage.read_bytes(f"raw/{state}/coinbase/{taken}") == b"theirs\n"


def test_names_do_not_come_back_while_the_process_lives(tmp_path: Path) -> None:
    storage, clock = LocalStorage(tmp_path), Clock()
    writer = open_writer(storage, clock=clock)
    seen = []
    for number in range(3):
        writer.write(frame(number))
        writer.close()
        seen += names(storage, READY)
        storage.delete(f"{READY}/{seen[-1]}")  # an ETL has taken it
    assert seen == [f"segment_20251203T14_0000{number}.ndjson" for number in (1, 2, 3)]


def test_a_segment_whose_name_was_taken_meanwhile_closes_under_the_next(tmp_path: Path) -> None:
    storage, clock = LocalStorage(tmp_path), Clock()
    writer = open_writer(storage, clock=clock)
    writer.write(frame(1))
    writer.flush()
    for number in (1, 2):
        storage.write_bytes(f"{READY}/segment_20251203T14_0000{number}.ndjson", b"theirs\n")
    writer.close()
    assert storage.read_bytes(f"{READY}/segment_20251203T14_00001.ndjson") == b"theirs\n"
    assert storage.read_bytes(f"{READY}/segment_20251203T14_00002.ndjson") == b"theirs\n"
    [line] = storage.read_bytes(f"{READY}/segment_20251203T14_00003.ndjson").splitlines()
    assert Envelope.parse(line).frame == frame(1)


def test_a_listing_that_fails_never_starts_the_counter_again(tmp_path: Path) -> None:
    class Forgetful(LocalStorage):
        broken = True

        def list_entries(self, path: str = "", *, recursive: bool = True) -> list[object]:
            if self.broken and "ready" in path:
                raise StorageUnavailableError("the listing broke off")
            return super().list_entries(path, recursive=recursive)

    storage, clock = Forgetful(tmp_path), Clock()
    storage.write_bytes(f"{READY}/segment_20251203T14_00001.ndjson", b"theirs\n")
    writer = open_writer(storage, clock=clock)
    writer.write(frame(1))
    with pytest.raises(StorageUnavailableError):
        writer.flush()
    assert list(tmp_path.glob("raw/active/coinbase/segment*")) == []
    storage.broken = False
    writer.close()
    assert names(storage, READY) == [
        "segment_20251203T14_00001.ndjson",
        "segment_20251203T14_00002.ndjson",
    ]


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
        patch.setattr(local, "sync_file", no_room)
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
    recover_segments(storage, FOLDERS)
    assert frames_in(storage, READY) == [frame(1)]


class FaultyStorage(LocalStorage):
    """A real local storage whose next operations fail as told, in order."""

    def __init__(self, base_dir: Path) -> None:
        super().__init__(base_dir)
        self.faults: list[str] = []

    def fails(self, *kinds: str) -> str:
        """Use up the next fault if it is one of these kinds."""
        return self.faults.pop(0) if self.faults and self.faults[0] in kinds else ""

    def list_entries(self, path: str = "", *, recursive: bool = True) -> list[object]:
        if self.fails("list"):
            raise StorageUnavailableError("the listing broke off")
        return super().list_entries(path, recursive=recursive)

    def create_journal(self, key: str) -> Journal:
        match self.fails("create", "taken"):
            case "create":
                raise StorageUnavailableError("no answer")
            case "taken":
                raise FileExistsAlreadyError(f"{key} was taken a moment ago")
        journal = super().create_journal(key)
        journal.__class__ = FaultyJournal
        return journal


class FaultyJournal(local.LocalJournal):
    def append(self, data: bytes) -> None:
        match self._storage.fails("refuse", "half", "all", "fence"):
            case "refuse":
                raise StorageUnavailableError("no answer")
            case "half":
                self._file.seek(self._size)
                self._file.write(data[: len(data) // 2])
                raise StorageFullError("no space left")
            case "all":
                self._file.seek(self._size)
                self._file.write(data)
                raise StorageError("the sync failed")
            case "fence":
                self._move_away()
                raise JournalFencedError("another process took it over")
        super().append(data)

    def seal(self, destination: str) -> None:
        match self._storage.fails("refuse seal", "fence seal"):
            case "refuse seal":
                raise StorageUnavailableError("no answer")
            case "fence seal":
                self._move_away()
                raise JournalFencedError("another process took it over")
        super().seal(destination)

    def _move_away(self) -> None:
        """Do what another collector's recovery does with a journal that it took over."""
        self._file.truncate(self._size)
        name = self.key.rpartition("/")[2]
        if self._size:
            super().seal(f"{READY}/{name}")
        else:
            self._storage.delete(self.key)


FAULTS = ["refuse", "half", "all", "fence", "refuse seal", "fence seal", "list", "create", "taken"]


class WriterMachine(RuleBasedStateMachine):
    """Any mixture of writes, flushes, failures and time: every frame once, in order."""

    folder: Callable[[], Path]

    @initialize()
    def begin(self) -> None:
        self.storage = FaultyStorage(type(self).folder())
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
        self.storage.faults = list(faults)
        try:
            {"f": self.writer.flush, "r": self.writer.rotate, "c": self.writer.close}[how]()
        except StorageError:
            assert len(self.storage.faults) < len(faults)
        else:
            if how != "r":
                self.flushed = len(self.written)
        self.storage.faults = []

    @rule(seconds=st.sampled_from([1, 200, 3_000]))
    def wait(self, seconds: int) -> None:
        self.clock.now += timedelta(seconds=seconds)

    @rule()
    def recover_beside(self) -> None:
        recover_segments(self.storage, FOLDERS)

    @invariant()
    def everything_flushed_is_stored_once_and_in_order(self) -> None:
        durable = self._durable()
        assert durable == self.written[: len(durable)]
        assert self.flushed <= self.writer.flushed_frames == len(durable)
        assert self.writer.buffered_frames == len(self.written) - len(durable)

    def teardown(self) -> None:
        self.writer.close()
        assert frames_in(self.storage, READY) == self.written
        assert self.storage.list_journals(ACTIVE) == []

    def _durable(self) -> list[bytes]:
        """Return what a crash would leave: without the rest of failed appends."""
        unfinished = self.writer._out._segment
        if unfinished is None or unfinished.journal._file.closed:
            return frames_in(self.storage, READY, ACTIVE)
        path = self.storage._path(unfinished.journal.key)
        kept, whole = unfinished.journal.size, path.read_bytes()
        path.write_bytes(whole[:kept])
        return frames_in(self.storage, READY, ACTIVE)


def test_every_frame_once_whatever_fails(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "BATCH_BYTES", 500)
    monkeypatch.setattr(local, "sync_file", lambda file: None)  # speed; durability is not tested
    monkeypatch.setattr(local, "sync_directory", lambda folder: None)
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


class Unanswering(MemoryStorage):
    """An object store whose next requests go unanswered: some are carried out all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.fates: list[str] = []

    def put_object(self, key: str, content: bytes | Path, *, exclusive: bool = False) -> bool:
        fate = self.fates.pop(0) if self.fates else "answered"
        if fate != "refused":
            settled = super().put_object(key, content, exclusive=exclusive)
        if fate == "answered":
            return settled
        raise StorageUnavailableError("no answer")


STEPS = st.lists(
    st.tuples(
        st.integers(0, 5),  # frames written
        st.lists(st.sampled_from(["answered", "refused", "carried out"]), max_size=4),
        st.sampled_from(["flush", "flush", "rotate", "close"]),
        st.sampled_from([0, 0, 3_600]),  # seconds that pass
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS)
def test_every_frame_once_on_an_object_store_that_does_not_answer(
    steps: list[tuple[int, list[str], str, int]],
) -> None:
    storage, clock = Unanswering(), Clock()
    writer = open_writer(storage, clock=clock)
    written: list[bytes] = []
    for count, fates, how, seconds in steps:
        for _ in range(count):
            written.append(frame(len(written)))
            writer.write(written[-1])
        storage.fates = list(fates)
        with suppress(StorageError):
            getattr(writer, how)()
        storage.fates = []
        clock.now += timedelta(seconds=seconds)
    writer.close()
    assert frames_in(storage, READY) == written
    recover_segments(storage, FOLDERS)  # of a journal whose creation went unanswered
    assert frames_in(storage, READY) == written
    assert storage.list_journals(ACTIVE) == []
