"""The life of a source's segments: what crashed captures leave, and who may touch it."""

from __future__ import annotations

import base64
import json
import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from fluxforge.errors import StorageError, StorageUnavailableError
from fluxforge.ingestion.writers import LogWriter
from fluxforge.layout import Layout
from fluxforge.segments import Envelope, RecoveryReport, SegmentStore
from fluxforge.storage.fsspec_storage import FsspecStorage
from fluxforge.storage.local import LocalStorage
from tests.support.object_store import object_store

if TYPE_CHECKING:
    from pathlib import Path

    from fluxforge.storage import StorageBackend

ACTIVE, READY = "raw/active/coinbase", "raw/ready/coinbase"
QUARANTINE, PROCESSING = "raw/quarantine/coinbase", "raw/processing/coinbase"
NAME = "segment_20251203T14_00001.ndjson"
LINE = b'{"capture_ns":1,"conn":"A","data":{"n":1}}\n'
NOW = datetime(2025, 12, 3, 14, 10, tzinfo=UTC)


@pytest.fixture(params=["local", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> StorageBackend:
    return LocalStorage(tmp_path / "lake") if request.param == "local" else object_store()


@pytest.fixture
def store(storage: StorageBackend, tmp_path: Path) -> SegmentStore:
    return SegmentStore(storage, Layout(), "coinbase", spool_dir=tmp_path / "spool")


def orphan(store: SegmentStore, content: bytes, name: str = NAME) -> None:
    """Leave a segment behind, as a collector does that dies."""
    store.folder.mkdir(parents=True, exist_ok=True)
    (store.folder / name).write_bytes(content)


def files(storage: StorageBackend) -> dict[str, bytes]:
    """Return all files; an end that a dead owner's requests may still meet stays for ever."""
    keys = [key for key in storage.list_files() if not key.endswith(".ndjson/end")]
    return {key: storage.read_bytes(key) for key in keys}


def on_disk(store: SegmentStore) -> list[str]:
    return sorted(path.name for path in store.folder.glob("*"))


class TestRecovery:
    def test_complete_lines_go_to_ready(self, storage: StorageBackend, store: SegmentStore) -> None:
        orphan(store, LINE * 3)
        assert store.recover() == RecoveryReport((f"{READY}/{NAME}",))
        assert files(storage) == {f"{READY}/{NAME}": LINE * 3}
        assert on_disk(store) == []
        assert store.recover() == RecoveryReport()

    def test_a_torn_tail_goes_to_quarantine_and_can_be_restored(
        self, storage: StorageBackend, store: SegmentStore
    ) -> None:
        tail = LINE[:-9] + "é".encode()[:1]  # cut in the middle of a character
        orphan(store, LINE * 2 + tail)
        recovered = store.recover()
        assert recovered.segments == (f"{READY}/{NAME}",)
        assert storage.read_bytes(f"{READY}/{NAME}") == LINE * 2
        [key] = recovered.torn
        assert key.startswith(f"{QUARANTINE}/segment_20251203T14_00001-")
        [record] = [json.loads(line) for line in storage.read_bytes(key).splitlines()]
        assert base64.b64decode(record["base64"]) == tail
        assert f"at byte {2 * len(LINE)}" in record["reason"]

    def test_a_segment_that_is_all_torn_leaves_only_its_quarantine(
        self, storage: StorageBackend, store: SegmentStore
    ) -> None:
        orphan(store, b'{"capture_ns":1,"co')
        recovered = store.recover()
        assert recovered.segments == ()
        assert list(files(storage)) == list(recovered.torn)
        assert on_disk(store) == []

    def test_a_torn_line_longer_than_any_chunk(
        self, storage: StorageBackend, store: SegmentStore
    ) -> None:
        orphan(store, LINE + b"x" * 200_000)
        [key] = store.recover().torn
        assert json.loads(storage.read_bytes(key))["text"] == "x" * 200_000
        assert storage.read_bytes(f"{READY}/{NAME}") == LINE

    def test_an_empty_segment_vanishes(self, storage: StorageBackend, store: SegmentStore) -> None:
        orphan(store, b"")
        assert store.recover() == RecoveryReport()
        assert on_disk(store) == []
        assert files(storage) == {}

    def test_a_name_that_is_taken_in_ready_is_never_overwritten(self, tmp_path: Path) -> None:
        storage = LocalStorage(tmp_path)
        store = SegmentStore(storage, Layout(), "coinbase")
        orphan(store, LINE)
        storage.write_bytes(f"{READY}/{NAME}", b"theirs\n")
        [key] = store.recover().segments
        assert files(storage) == {f"{READY}/{NAME}": b"theirs\n", key: LINE}

    def test_odd_things_are_named_left_alone_and_in_nobodys_way(
        self, storage: StorageBackend, store: SegmentStore, tmp_path: Path
    ) -> None:
        orphan(store, LINE)
        (store.folder / "desktop.ini").write_bytes(b"mine")
        (store.folder / "segment_20251203T13_00001.ndjson").mkdir()
        (store.folder / "segment_20251203T13_00002.ndjson").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere").write_bytes(b"not ours\n")
        if hasattr(os, "mkfifo"):
            os.mkfifo(store.folder / "segment_20251203T13_00003.ndjson")
        recovered = store.recover()
        assert recovered.segments == (f"{READY}/{NAME}",)
        odd = on_disk(store)
        assert len(odd) == len(recovered.problems) >= 3
        assert all(
            name in problem for name, problem in zip(odd, sorted(recovered.problems), strict=True)
        )
        assert (tmp_path / "elsewhere").read_bytes() == b"not ours\n"

    def test_a_living_writers_segment_is_not_touched(
        self, storage: StorageBackend, store: SegmentStore, tmp_path: Path
    ) -> None:
        with LogWriter(
            storage=storage,
            active_path=ACTIVE,
            ready_path=READY,
            source_name="coinbase",
            spool_dir=tmp_path / "spool",
        ) as writer:
            writer.write('{"n":1}')
            writer.flush()
            assert store.recover() == RecoveryReport()
            writer.write('{"n":2}')
            writer.flush()
        [content] = files(storage).values()
        assert [Envelope.parse(line).frame for line in content.splitlines()] == [
            b'{"n":1}',
            b'{"n":2}',
        ]

    @pytest.mark.parametrize("dies_at", ["quarantine", "drop_torn", "ready"])
    def test_a_recovery_that_dies_is_completed_by_the_next(
        self,
        storage: StorageBackend,
        store: SegmentStore,
        dies_at: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def die(*_: object, **__: object) -> None:
            raise StorageUnavailableError("died")

        orphan(store, LINE * 2 + LINE[:10])
        with monkeypatch.context() as patch:
            match dies_at:
                case "quarantine":
                    patch.setattr(type(storage), "write_bytes", die)
                case "drop_torn":
                    patch.setattr("fluxforge.segments.files.SegmentFile.drop_torn", die)
                case "ready":
                    patch.setattr("fluxforge.segments.files.SegmentFile.move", die)
                    patch.setattr(type(storage), "write_file", die)
            with pytest.raises(StorageError):
                store.recover()
        assert store.recover().segments == (f"{READY}/{NAME}",)
        assert storage.read_bytes(f"{READY}/{NAME}") == LINE * 2
        assert len(storage.list_files(QUARANTINE)) == 1
        assert len(files(storage)) == 2

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows renames in one step")
    def test_a_seal_that_died_between_its_two_names_is_completed(self, tmp_path: Path) -> None:
        storage = LocalStorage(tmp_path)
        store = SegmentStore(storage, Layout(), "coinbase")
        orphan(store, LINE)
        (tmp_path / READY).mkdir(parents=True)
        os.link(tmp_path / ACTIVE / NAME, tmp_path / READY / NAME)
        store.recover()
        assert files(storage) == {f"{READY}/{NAME}": LINE}


class TestNames:
    def test_no_two_stores_open_the_same_name(
        self, storage: StorageBackend, tmp_path: Path
    ) -> None:
        stores = [
            SegmentStore(storage, Layout(), "coinbase", spool_dir=tmp_path / "spool")
            for _ in range(2)
        ]
        segments = [stores[number % 2].open(NOW) for number in range(8)]
        assert len({segment.name for segment in segments}) == 8
        assert [segment.name.counter for segment in segments] == [1, 1, 2, 2, 3, 3, 4, 4]
        later = stores[0].open(NOW.replace(hour=15))
        assert (later.name.hour, later.name.counter) == ("20251203T15", 1)
        for segment in [*segments, later]:
            segment.release()

    def test_lists_hold_segments_of_one_state_the_oldest_first(
        self, storage: StorageBackend, store: SegmentStore
    ) -> None:
        new = "segment_20251203T14_00002_0123abcd.ndjson"
        for name in (new, NAME, "README.txt", f"{NAME}.zst", "segment_x.ndjson"):
            storage.write_bytes(f"{READY}/{name}", LINE)
        storage.write_bytes(f"{READY}/deeper/{NAME}", LINE)
        storage.write_bytes(f"{PROCESSING}/{new}", LINE * 2)
        storage.write_bytes(f"raw/archive/coinbase/{NAME}.zst", b"z")
        storage.write_bytes(f"raw/archive/coinbase/{NAME}", b"z")
        storage.write_bytes(f"{QUARANTINE}/segment_20251203T14_00001-0123456789ab.ndjson", b"q")
        assert [segment.name for segment in store.list("ready")] == [NAME, new]
        assert [(each.state, each.name, each.size) for each in store.waiting()] == [
            ("processing", new, 2 * len(LINE)),
            ("ready", NAME, len(LINE)),
            ("ready", new, len(LINE)),
        ]
        assert [each.name for each in store.list("archive")] == [f"{NAME}.zst"]
        assert len(store.list("quarantine")) == 1
        assert store.list("active") == []


class TestClaims:
    def test_a_dead_workers_comes_first_then_the_oldest(
        self, storage: StorageBackend, store: SegmentStore
    ) -> None:
        names = [f"segment_20251203T14_0000{number}.ndjson" for number in (1, 2, 3)]
        storage.write_bytes(f"{READY}/{names[0]}", LINE)
        storage.write_bytes(f"{READY}/{names[1]}", LINE)
        storage.write_bytes(f"{PROCESSING}/{names[2]}", LINE)
        claims = store.claim(10)
        assert [(claim.name, claim.orphan) for claim in claims] == [
            (names[2], True),
            (names[0], False),
            (names[1], False),
        ]
        for claim in claims:
            assert storage.exists(claim.key)
            assert not storage.exists(f"{READY}/{claim.name}")
            store.finish(claim)
        assert files(storage) == {}

    def test_a_batch_has_bounds_and_takes_only_what_it_is_told(
        self, storage: StorageBackend, store: SegmentStore
    ) -> None:
        names = [f"segment_20251203T14_0000{number}.ndjson" for number in range(1, 6)]
        for name in names:
            storage.write_bytes(f"{READY}/{name}", LINE * 10)
        last_one = [one for one in store.waiting() if one.name == names[4]]
        taken = [store.claim(2), store.claim(9, len(LINE) * 15), store.claim(9, 1, last_one)]
        assert [[claim.name for claim in batch] for batch in taken] == [
            names[:2],
            names[2:3],
            names[4:],
        ]
        assert store.claim(9, among=()) == []
        with store.claim()[0] as last:
            assert last.name == names[3]
        for batch in taken:
            for claim in batch:
                claim.release()
        assert [claim.orphan for claim in store.claim(9)] == [True] * 5

    def test_a_living_workers_claim_is_passed_over(
        self, storage: StorageBackend, store: SegmentStore
    ) -> None:
        storage.write_bytes(f"{READY}/{NAME}", LINE)
        [claim] = store.claim()
        assert store.claim() == []
        claim.release()
        assert [claim.orphan for claim in store.claim()] == [True]

    def test_only_what_was_read_is_deleted(
        self, storage: StorageBackend, store: SegmentStore
    ) -> None:
        storage.write_bytes(f"{READY}/{NAME}", LINE)
        [claim] = store.claim()
        storage.write_bytes(claim.key, LINE.replace(b"1", b"2"))  # its lease had lapsed
        store.finish(claim)
        assert storage.read_bytes(claim.key) == LINE.replace(b"1", b"2")
        [claim] = store.claim()
        storage.delete(claim.key)
        store.finish(claim)

    def test_odd_things_in_ready_are_left_alone_and_in_nobodys_way(self, tmp_path: Path) -> None:
        store = SegmentStore(LocalStorage(tmp_path), Layout(), "coinbase")
        ready = tmp_path / READY
        ready.mkdir(parents=True)
        (tmp_path / "elsewhere").write_bytes(b"not ours\n")
        (ready / "desktop.ini").write_bytes(b"mine")
        (ready / "segment_20251203T13_00001.ndjson").mkdir()
        (ready / "segment_20251203T13_00002.ndjson").symlink_to(tmp_path / "elsewhere")
        if hasattr(os, "mkfifo"):
            os.mkfifo(ready / "segment_20251203T13_00003.ndjson")
        (ready / NAME).write_bytes(LINE)
        [claim] = store.claim(9)
        assert claim.name == NAME
        store.finish(claim)
        assert store.claim(9) == []
        assert (tmp_path / "elsewhere").read_bytes() == b"not ours\n"
        assert (ready / "desktop.ini").exists()

    def test_a_claim_that_fails_holds_nothing(
        self, storage: StorageBackend, store: SegmentStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names = [f"segment_20251203T14_0000{number}.ndjson" for number in (1, 2)]
        for name in names:
            storage.write_bytes(f"{READY}/{name}", LINE)
        real, looked = type(storage).stat, []

        def stat(self: StorageBackend, key: str) -> object:
            looked.append(key)
            if len(looked) > 3:
                raise StorageUnavailableError("no answer")
            return real(self, key)

        with monkeypatch.context() as patch:
            patch.setattr(type(storage), "stat", stat)
            looked += ["x"] * storage.is_local * 2
            with pytest.raises(StorageUnavailableError):
                store.claim(2)
        assert len(store.claim(2)) == 2

    def test_an_orphan_and_its_namesake_in_ready_are_both_taken(
        self, storage: StorageBackend, store: SegmentStore
    ) -> None:
        storage.write_bytes(f"{READY}/{NAME}", LINE)
        storage.write_bytes(f"{PROCESSING}/{NAME}", LINE)
        taken = []
        while claims := store.claim(5):
            for claim in claims:
                taken.append(claim.orphan)
                store.finish(claim)
        assert taken == [True, False]
        assert files(storage) == {}

    def test_a_sleeper_between_the_copy_and_the_delete_of_its_claim_spoils_nothing(
        self, tmp_path: Path
    ) -> None:
        """A name from elsewhere may come back; what came since is not what was copied."""

        class Asleep(FsspecStorage):
            def copy_object(self, source: str, destination: str) -> None:
                super().copy_object(source, destination)
                wake()

        storage = Asleep("memory", "lake/asleep", lease_seconds=0.2)
        store = SegmentStore(storage, Layout(), "coinbase", spool_dir=tmp_path)
        storage.write_bytes(f"{READY}/{NAME}", LINE)

        def wake() -> None:
            """Another worker does the segment, and a new one comes under its name."""
            storage.delete(f"{READY}/{NAME}")
            storage.delete(f"{PROCESSING}/{NAME}")
            storage.write_bytes(f"{READY}/{NAME}", LINE.replace(b"1", b"2"))

        assert store.claim() == []
        assert files(storage) == {f"{READY}/{NAME}": LINE.replace(b"1", b"2")}
