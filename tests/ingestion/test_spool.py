"""The spool and what moves through it, on stores that behave badly on command."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fluxforge.errors import (
    AccessDeniedError,
    ConfigError,
    SegmentError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
    UsageError,
)
from fluxforge.ingestion.claims import SegmentFolders
from fluxforge.ingestion.recovery import recover_segments
from fluxforge.ingestion.spool import relay
from fluxforge.ingestion.spool.location import default_spool_dir, spool_name
from fluxforge.ingestion.spool.shipping import Shipper
from fluxforge.ingestion.spool.spool import Place, Spool, SpoolFullError, UnsettledBatch
from fluxforge.ingestion.writers import LogWriter, log_writer
from fluxforge.segments import Envelope
from fluxforge.storage import local
from fluxforge.storage.local import LocalStorage
from fluxforge.storage.memory import MemoryStorage
from fluxforge.storage.object_journal import part_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fluxforge.storage import StorageBackend

ACTIVE, READY = "raw/active/coinbase", "raw/ready/coinbase"
FOLDERS = SegmentFolders.around(ACTIVE, READY)
NAME = "segment_20251203T14_00001.ndjson"
LINES = b'{"capture_ns":1,"conn":"A","data":{"n":1}}\n{"capture_ns":2,"conn":"A","data":{"n":2}}\n'


class Store(MemoryStorage):
    """An object store in memory that answers, fails or waits as told.

    Attributes
    ----------
    trouble
        Raised by every request; None: all is well.
    fates
        What becomes of the next puts: ``"answered"``, ``"refused"``, or ``"carried out"`` although
        no answer comes.
    gate
        Where puts of parts wait, until it is set.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trouble: StorageError | None = None
        self.fates: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.reached_gate = threading.Event()

    def put_object(self, key: str, content: bytes | Path, *, exclusive: bool = False) -> bool:
        if key.endswith(".part") and not key.endswith(".00000000.part"):
            if not self.gate.is_set():
                self.reached_gate.set()
            self.gate.wait()
        self.fail_if_told()
        fate = self.fates.pop(0) if self.fates else "answered"
        if fate != "refused":
            settled = super().put_object(key, content, exclusive=exclusive)
        if fate == "answered":
            return settled
        raise StorageUnavailableError("no answer")

    def get_range(self, *args: object, **options: object) -> object:
        self.fail_if_told()
        return super().get_range(*args, **options)

    def scan(self, *args: object, **options: object) -> Iterator[object]:
        self.fail_if_told()
        return super().scan(*args, **options)

    def delete_object(self, key: str) -> None:
        self.fail_if_told()
        super().delete_object(key)

    def fail_if_told(self) -> None:
        if self.trouble is not None:
            raise self.trouble


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody wait for long."""
    monkeypatch.setattr(relay, "TAKEOVER_SECONDS", 0.2)
    monkeypatch.setattr(relay, "CLOSE_PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(relay, "RETRY_SECONDS", 0.01)


@pytest.fixture
def store() -> Store:
    return Store()


def open_spool(root: Path, max_mb: float = 10, **options: object) -> Spool:
    return Spool(root, source_name="coinbase", max_mb=max_mb, **options)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return open_spool(tmp_path / "spool")


def open_writer(store: StorageBackend, spool: Spool, **options: object) -> LogWriter:
    return LogWriter(
        storage=store,
        active_path=ACTIVE,
        ready_path=READY,
        source_name="coinbase",
        spool=spool,
        **options,
    )


def frame(number: int) -> bytes:
    return b'{"n":%d}' % number


def stored_segments(store: StorageBackend) -> list[bytes]:
    """Return the segments that an ETL would commit: each content once."""
    return list(dict.fromkeys(store.read_bytes(key) for key in store.list_files(READY)))


def stored(store: StorageBackend) -> list[bytes]:
    """Return the frames that an ETL would commit."""
    lines = [line for content in stored_segments(store) for line in content.splitlines()]
    return [Envelope.parse(line).frame for line in lines]


def restart(store: Store, root: Path, *, after: LogWriter | None = None) -> None:
    """Do what the next collector on this machine does.

    `after` has ended; a store that it could not reach is not told, and its leases lapse.
    """
    if after is not None:
        after._relay._carrier.join()
        for file in list(store.scan(ACTIVE)):
            if file.key.endswith(".lease"):
                store.delete_object(file.key)
    spool = open_spool(root)
    recover_segments(store, FOLDERS)
    spool.prepare()
    open_writer(store, spool).close()


# While the store answers, while it does not, and when it answers again


def test_the_spool_is_not_touched_while_the_store_answers(store: Store, spool: Spool) -> None:
    with open_writer(store, spool) as writer:
        for number in range(5):
            writer.write(frame(number))
            writer.flush()
    assert stored(store) == [frame(number) for number in range(5)]
    assert (writer.segments, writer.spooled_frames) == (1, 0)
    assert not Path(spool.path).exists()


def test_an_outage_is_bridged(store: Store, spool: Spool) -> None:
    writer = open_writer(store, spool)
    writer.write(frame(0))
    writer.flush()
    store.trouble = StorageUnavailableError("no answer")
    for number in range(1, 6):
        writer.write(frame(number))
        writer.flush()
    assert (writer.flushed_frames, writer.buffered_frames) == (6, 0)
    assert spool.count_frames() == 5
    store.trouble = None
    writer.write(frame(6))
    writer.close()
    assert sorted(stored(store)) == [frame(number) for number in range(7)]
    assert len(stored(store)) == 7
    assert writer.segments == len(store.list_files(READY))
    assert (spool.size, writer.spooled_frames) == (0, 0)
    assert store.list_journals(ACTIVE) == []


def test_frames_go_to_the_store_again_after_an_outage(store: Store, spool: Spool) -> None:
    writer = open_writer(store, spool)
    store.trouble = StorageUnavailableError("no answer")
    writer.write(frame(0))
    writer.flush()
    store.trouble = None
    number = 0
    while not writer._relay._segments.has_content:  # the journal of a new segment grows
        number += 1
        writer.write(frame(number))
        writer.flush()
    writer.close()
    assert Counter(stored(store)) == Counter(frame(n) for n in range(number + 1))
    assert not Path(spool.path).exists()  # no empty folder stays behind


@pytest.mark.parametrize("fate", ["answered", "carried out", "refused"])
def test_a_slow_append_is_taken_over_and_settled(store: Store, spool: Spool, fate: str) -> None:
    writer = open_writer(store, spool)
    store.gate.clear()
    writer.write(frame(0))
    writer.flush()  # returns although the append is still under way
    assert store.reached_gate.is_set()
    assert (writer.flushed_frames, spool.count_frames()) == (1, 1)
    writer.write(frame(1))
    writer.flush()
    assert len(spool.storage.list_files("unsettled")) == 1
    store.fates = [fate]
    store.gate.set()
    writer.close()
    assert sorted(stored(store)) == [frame(0), frame(1)]
    assert (spool.size, len(stored(store))) == (0, 2)


@pytest.mark.parametrize("fenced", [False, True])
def test_an_append_that_ends_while_its_note_is_written(
    store: Store, tmp_path: Path, fenced: bool
) -> None:
    class Slow(Spool):
        def write_note(self, place: Place, *args: object, **options: object) -> object:
            note = super().write_note(place, *args, **options)
            if fenced:
                end = part_key(place.journal, place.part)
                MemoryStorage.put_object(store, end, b"", exclusive=True)
            store.gate.set()
            while not writer._relay._delivery.is_done:
                time.sleep(0.001)
            return note

    spool = Slow(tmp_path / "spool", source_name="coinbase", max_mb=10)
    writer = open_writer(store, spool)
    store.gate.clear()
    for number in range(3):
        writer.write(frame(number))
        writer.flush()
    writer.close()
    restart(store, tmp_path / "spool", after=writer)
    assert sorted(stored(store)) == [frame(0), frame(1), frame(2)]
    assert not Path(spool.path).exists()


def test_a_batch_that_never_found_a_journal_is_the_spools(store: Store, spool: Spool) -> None:
    store.trouble = StorageUnavailableError("no answer")
    writer = open_writer(store, spool)
    writer.write(frame(0))
    writer.flush()
    assert spool.storage.list_files("unsettled") == []
    assert spool.count_frames() == 1
    store.trouble = None
    writer.close()
    assert stored(store) == [frame(0)]


def test_a_journal_that_is_taken_over_during_the_outage(store: Store, spool: Spool) -> None:
    writer = open_writer(store, spool)
    writer.write(frame(0))
    writer.flush()
    [key] = store.list_journals(ACTIVE)
    store.gate.clear()
    writer.write(frame(1))
    writer.flush()
    # Its lease has lapsed, and a collector elsewhere ends it before the append arrives.
    MemoryStorage.put_object(store, part_key(key, 2), b"", exclusive=True)
    store.gate.set()
    writer.close()
    restart(store, Path(spool.path), after=writer)
    assert sorted(stored(store)) == [frame(0), frame(1)]
    assert len(stored(store)) == 2
    assert spool.size == 0


# Ending and starting again


def test_a_stop_during_an_outage_leaves_everything_to_the_next_start(
    store: Store, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    writer = open_writer(store, spool)
    writer.write(frame(0))
    writer.flush()
    store.trouble = StorageUnavailableError("no answer")
    for number in (1, 2):
        writer.write(frame(number))
        writer.flush()
    writer.write(frame(3))
    writer.close()
    assert (writer.flushed_frames, writer.buffered_frames, writer.spooled_frames) == (4, 0, 3)
    assert f"3 frames wait in {spool.path}" in caplog.text
    store.trouble = None
    restart(store, Path(spool.path), after=writer)
    assert Counter(stored(store)) == Counter(frame(number) for number in range(4))
    assert spool.size == 0


@pytest.mark.parametrize("fate", ["carried out", "refused"])
def test_a_stop_after_an_answer_was_lost(store: Store, spool: Spool, fate: str) -> None:
    writer = open_writer(store, spool)
    writer.write(frame(0))
    writer.flush()
    store.fates = [fate] + ["refused"] * 1_000
    writer.write(frame(1))
    writer.close()
    assert writer.spooled_frames == 1
    writer._relay._carrier.join()
    store.fates = []
    restart(store, Path(spool.path), after=writer)
    assert sorted(stored(store)) == [frame(0), frame(1)]
    assert len(stored(store)) == 2
    assert spool.size == 0


def test_a_late_append_is_refused_once_the_next_start_has_settled_it(
    store: Store, spool: Spool
) -> None:
    writer = open_writer(store, spool)
    writer.write(frame(0))
    writer.flush()
    store.gate.clear()
    writer.write(frame(1))
    writer.close()  # the append hangs on
    settled = Store()
    settled._objects, settled._lock = store._objects, store._lock
    restart(settled, Path(spool.path))
    store.gate.set()
    restart(settled, Path(spool.path), after=writer)
    assert sorted(stored(settled)) == [frame(0), frame(1)]
    assert len(stored(settled)) == 2


def test_a_writer_goes_on_after_a_close_in_an_outage(store: Store, spool: Spool) -> None:
    writer = open_writer(store, spool)
    store.trouble = StorageUnavailableError("no answer")
    for number in (0, 1):
        writer.write(frame(number))
        writer.close()
    store.trouble = None
    writer._relay._carrier.join()
    writer.write(frame(2))
    writer.close()
    assert sorted(stored(store)) == [frame(0), frame(1), frame(2)]
    assert spool.size == 0


def test_what_a_living_collector_has_in_the_spool_is_left_alone(store: Store, spool: Spool) -> None:
    writer = open_writer(store, spool)
    store.gate.clear()
    for number in range(3):
        writer.write(frame(number))
        writer.flush()
    other = Store()
    restart(other, Path(spool.path))
    assert other.list_files() == []
    assert spool.count_frames() == 3
    store.gate.set()
    writer.close()
    assert Counter(stored(store)) == Counter(frame(number) for number in range(3))


def test_a_torn_line_in_the_spool_goes_to_the_lakes_quarantine(store: Store, spool: Spool) -> None:
    journal = spool.storage.create_journal(f"active/{NAME}")
    journal.append(LINES + LINES[:20])
    journal.close()
    restart(store, Path(spool.path))
    assert stored_segments(store) == [LINES]
    [torn] = store.list_files(FOLDERS.quarantine)
    assert b"capture_ns" in store.read_bytes(torn)
    assert spool.size == 0


# Bounds and broken disks


def test_a_full_spool_makes_the_writer_wait_and_drops_nothing(store: Store, tmp_path: Path) -> None:
    spool = open_spool(tmp_path / "spool", max_mb=0.0003)
    writer = open_writer(store, spool)
    store.trouble = StorageUnavailableError("no answer")
    for number in range(20):
        writer.write(frame(number))
        if number < 9:
            with suppress(SpoolFullError):
                writer.flush()
        else:
            with pytest.raises(SpoolFullError, match=r"ingestion\.spool_max_mb"):
                writer.flush()
    assert spool.size <= 300
    assert writer.buffered_frames == 20 - writer.flushed_frames
    store.trouble = None
    while True:
        with suppress(SpoolFullError):
            writer.flush()
            break
    writer.close()
    assert Counter(stored(store)) == Counter(frame(number) for number in range(20))
    assert spool.size == 0


@pytest.mark.parametrize("hangs", [True, False])
def test_at_the_end_what_is_in_memory_goes_into_a_full_spool(
    store: Store, tmp_path: Path, hangs: bool
) -> None:
    spool = open_spool(tmp_path / "spool", max_mb=0.000001)
    writer = open_writer(store, spool)
    if hangs:
        store.gate.clear()
    else:
        store.trouble = StorageUnavailableError("no answer")
    for number in range(3):
        writer.write(frame(number))
        with pytest.raises(SpoolFullError):
            writer.flush()
    writer.close()
    assert (writer.buffered_frames, writer.spooled_frames) == (0, 3)
    store.trouble = None
    store.gate.set()
    restart(store, Path(spool.path), after=writer)
    assert Counter(stored(store)) == Counter(frame(number) for number in range(3))
    assert spool.size == 0


def test_a_store_that_refuses_for_good_is_an_error_that_costs_nothing(
    store: Store, spool: Spool
) -> None:
    writer = open_writer(store, spool)
    writer.write(frame(0))
    writer.flush()
    store.trouble = AccessDeniedError("no permission")
    writer.write(frame(1))
    with pytest.raises(AccessDeniedError, match="no permission"):
        writer.flush()
    writer.write(frame(2))
    with pytest.raises(AccessDeniedError):
        writer.flush()
    assert (writer.flushed_frames, writer.buffered_frames) == (1, 2)
    with pytest.raises(AccessDeniedError):
        writer.close()
    assert (writer.flushed_frames, writer.buffered_frames, writer.spooled_frames) == (3, 0, 2)
    writer._relay._carrier.join()
    store.trouble = None
    restart(store, Path(spool.path), after=writer)
    assert Counter(stored(store)) == Counter(frame(number) for number in range(3))


def test_a_refusal_that_passes_costs_nothing(store: Store, spool: Spool) -> None:
    writer = open_writer(store, spool)
    store.trouble = AccessDeniedError("no permission")
    writer.write(frame(0))
    with pytest.raises(AccessDeniedError):
        writer.flush()
    store.trouble = None
    while True:
        with suppress(AccessDeniedError):
            writer.flush()
            break
    writer.close()
    assert stored(store) == [frame(0)]


def test_a_mistake_in_the_carrier_is_heard_of(store: Store, spool: Spool) -> None:
    store.trouble = ZeroDivisionError("a mistake")  # type: ignore[assignment]
    writer = open_writer(store, spool)
    writer.write(frame(0))
    with pytest.raises(ZeroDivisionError):
        writer.flush()
    with pytest.raises(ZeroDivisionError):
        writer.close()
    store.trouble = None
    restart(store, Path(spool.path))
    assert stored(store) == [frame(0)]


def test_a_spool_whose_disk_is_full_takes_half_a_batch_back(
    store: Store, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = open_writer(store, spool)
    store.trouble = StorageUnavailableError("no answer")
    writer.write(frame(0))
    writer.flush()
    real = local.LocalJournal.append

    def half(journal: local.LocalJournal, data: bytes) -> None:
        journal._file.seek(journal._size)
        journal._file.write(data[: data.index(b"\n") + 5])
        raise StorageFullError("no space left")

    monkeypatch.setattr(local.LocalJournal, "append", half)
    for number in (1, 2):
        writer.write(frame(number))
    with pytest.raises(StorageFullError, match=r"ingestion\.spool_dir"):
        writer.flush()
    store.trouble = None
    while writer.buffered_frames:  # the store takes what the spool could not
        with suppress(StorageFullError):
            writer.flush()
    monkeypatch.setattr(local.LocalJournal, "append", real)
    writer.close()
    assert Counter(stored(store)) == Counter(frame(number) for number in range(3))
    assert spool.size == 0


def test_a_local_storage_has_no_spool(tmp_path: Path, spool: Spool) -> None:
    with pytest.raises(UsageError, match="no object store"):
        open_writer(LocalStorage(tmp_path), spool)


def test_a_spool_that_cannot_be_written_says_which_setting_to_change(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file where the folder belongs")
    with pytest.raises(StorageError, match=r"ingestion\.spool_dir"):
        open_spool(tmp_path / "spool").prepare()


# Shipping


def shipper(store: Store, spool: Spool) -> Shipper:
    return Shipper(store, FOLDERS, spool, "coinbase")


def leave_segment(spool: Spool, data: bytes = LINES, name: str = NAME) -> None:
    spool.storage.write_bytes(f"ready/{name}", data)


def test_names_that_are_taken_anywhere_are_not_used(store: Store, spool: Spool) -> None:
    store.write_bytes(f"{READY}/{NAME}", b"theirs\n")
    store.write_bytes("raw/archive/coinbase/segment_20251203T14_00007.ndjson.zst", b"theirs")
    leave_segment(spool)
    assert shipper(store, spool).ship_next()
    assert store.read_bytes(f"{READY}/{NAME}") == b"theirs\n"
    assert store.read_bytes(f"{READY}/segment_20251203T14_00008.ndjson") == LINES
    assert spool.size == 0


@pytest.mark.parametrize("fate", ["carried out", "refused"])
def test_an_upload_without_an_answer_is_there_once(store: Store, spool: Spool, fate: str) -> None:
    leave_segment(spool)
    store.fates = [fate]
    ships = shipper(store, spool)
    with pytest.raises(StorageUnavailableError):
        ships.ship_next()
    assert spool.size == len(LINES)
    assert ships.ship_next()
    assert not ships.ship_next()
    assert [store.read_bytes(key) for key in store.list_files(READY)] == [LINES]
    assert (spool.size, ships.segments) == (0, 1)


def test_a_name_that_another_took_at_the_last_moment(store: Store, spool: Spool) -> None:
    class Crowded(Store):
        def write_file(self, path: str | Path, key: str, *, exclusive: bool = False) -> None:
            if key.endswith("_00001.ndjson"):
                self.write_bytes(key, b"theirs\n")
            super().write_file(path, key, exclusive=exclusive)

    store = Crowded()
    leave_segment(spool)
    shipper(store, spool).ship_next()
    assert store.read_bytes(f"{READY}/{NAME}") == b"theirs\n"
    assert store.read_bytes(f"{READY}/segment_20251203T14_00002.ndjson") == LINES


def test_what_another_collector_is_shipping_is_left_to_it(store: Store, spool: Spool) -> None:
    leave_segment(spool)
    lease = spool.storage.acquire_lease(f"ready/{NAME}")
    assert lease is not None
    assert not shipper(store, spool).ship_next()
    lease.release()
    assert shipper(store, spool).ship_next()


def test_a_note_whose_journal_is_forgotten_is_stored_rather_than_lost(
    store: Store, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    note = spool.write_note(Place(f"{ACTIVE}/{NAME}", 3), LINES)
    assert not shipper(store, spool).ship_next()  # its collector lives
    note.lease.release()
    ships = shipper(store, spool)
    while ships.ship_next():
        pass
    assert stored_segments(store) == [LINES]
    assert "2 frames" in caplog.text


def test_a_note_that_became_a_segment_before_a_crash_is_committed_once(
    store: Store, spool: Spool
) -> None:
    note = spool.write_note(Place(f"{ACTIVE}/{NAME}", 3), LINES)
    note.lease.release()
    leave_segment(spool)
    ships = shipper(store, spool)
    while ships.ship_next():
        pass
    assert stored_segments(store) == [LINES]
    assert spool.size == 0


def test_a_note_comes_back_as_it_was() -> None:
    batch = UnsettledBatch(Place("raw/active/x/é.ndjson", 12), b"\n{}\n\xff\n")
    assert UnsettledBatch.from_bytes(batch.to_bytes()) == batch
    with pytest.raises(SegmentError):
        UnsettledBatch.from_bytes(LINES)


def test_spools_of_different_lakes_lie_apart() -> None:
    ready = "s3://lake/raw/ready/coinbase"
    names = {
        spool_name(ready, None),
        spool_name(ready, "http://localhost:9000"),
        spool_name("s3://lake/raw-ready/coinbase", None),
        spool_name(f"s3://{'lake/' * 60}ready", None),
    }
    assert len(names) == 4
    assert all(len(name) < 100 and "/" not in name for name in names)


def test_the_default_folder_is_in_the_users_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert default_spool_dir().is_relative_to(tmp_path)
    assert default_spool_dir().parts[-2:] == ("fluxforge", "spool")

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    for name in ("XDG_STATE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name)
    with pytest.raises(ConfigError, match=r"ingestion\.spool_dir"):
        default_spool_dir()


# Whatever happens


FATES = st.lists(st.sampled_from(["answered", "refused", "carried out"]), max_size=5)
STEPS = st.lists(
    st.tuples(
        st.integers(0, 4),
        FATES,
        st.sampled_from(["flush", "flush", "flush", "rotate", "close", "restart"]),
    ),
    max_size=10,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS)
def test_every_frame_once_whatever_becomes_of_the_requests(
    steps: list[tuple[int, list[str], str]],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log_writer, "BATCH_BYTES", 120)
    monkeypatch.setattr(local, "sync_file", lambda file: file.flush())
    monkeypatch.setattr(local, "sync_directory", lambda folder: None)
    monkeypatch.setattr(relay, "CLOSE_PATIENCE_SECONDS", 0.02)
    root = tmp_path_factory.mktemp("spool")
    store = Store()
    writer = open_writer(store, open_spool(root))
    writers = [writer]
    written: list[bytes] = []
    for count, fates, how in steps:
        for _ in range(count):
            written.append(frame(len(written)))
            writer.write(written[-1])
        store.fates = list(fates)
        if how == "restart":  # as a collector that is stopped, and started again
            store.fates += ["refused"] * 3
            writer.close()
            writer = open_writer(store, open_spool(root))
            writers.append(writer)
        else:
            with suppress(StorageUnavailableError):  # of a rotation
                getattr(writer, how)()
        assert writer.buffered_frames == 0 or how == "rotate"
    store.fates = []
    writer.close()
    for ended in writers:
        restart(store, root, after=ended)
    assert Counter(stored(store)) == Counter(written)
    assert open_spool(root).size == 0
    assert store.list_journals(ACTIVE) == []
