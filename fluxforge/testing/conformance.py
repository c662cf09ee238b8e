"""The conformance suite: what every storage must do, seen through it and beside it."""

# ruff: noqa: D102  (a test's name says what it shows)

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from fluxforge.errors import (
    FileExistsAlreadyError,
    FileMissingError,
    InvalidKeyError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fluxforge.storage.base import StorageBackend

FILE = "raw/ready/coinbase/segment_20251203T14_00001.ndjson"
JOURNAL = "raw/active/coinbase/segment_20251203T14_00002.ndjson"
SEALED = "raw/ready/coinbase/segment_20251203T14_00002.ndjson"

INVALID_KEYS = [
    "/absolute",
    "../outside",
    "raw/../../outside",
    "raw/./file",
    "raw\\file",
    "F:/raw/file",
    "raw/nul\x00byte",
    "raw/new\nline",
    "raw/star*",
    "raw/ends with dot.",
    "raw/CON",
    "raw/" + "x" * 300,
]
RESERVED_KEYS = [".hidden", "raw/.tmp-1", "raw/.folder/file", "", "raw//file", "raw/"]
ODD_NAMES = [
    "date=2025-12-03/part 1.parquet",
    "100%/a+b.bin",
    "número/größe/数据.ndjson",
    "a#b/c&d=e;f,g@h!(i)'j.bin",
    "_delta_log/00000000000000000000.json",
]


def race(count: int, attempt: Callable[[int], object]) -> list[int]:
    """Run `attempt` in `count` threads at once; return who succeeded.

    An attempt loses by raising `FileExistsAlreadyError` or `FileMissingError`, or returning None.
    """
    gate = threading.Barrier(count)

    def run(number: int) -> bool:
        gate.wait()
        try:
            return attempt(number) is not None
        except (FileExistsAlreadyError, FileMissingError):
            return False

    with ThreadPoolExecutor(count) as pool:
        return [number for number, won in enumerate(pool.map(run, range(count))) if won]


class StorageConformance(ABC):
    """Subclass it as ``class TestMyStorage(StorageConformance)`` to test a storage.

    The subclass has a pytest fixture ``storage``, a new and empty storage for each test, and the
    hooks below, which reach the same place without it.
    """

    @abstractmethod
    def put_raw(self, storage: StorageBackend, key: str, data: bytes) -> None:
        """Put a file where the storage keeps `key`, not through the storage."""

    @abstractmethod
    def get_raw(self, storage: StorageBackend, key: str) -> bytes:
        """Read what the storage keeps under `key`, not through the storage."""

    @abstractmethod
    def list_raw(self, storage: StorageBackend) -> list[str]:
        """List all keys that are really there, reserved names too, not through the storage."""

    @abstractmethod
    def reopen(self, storage: StorageBackend) -> StorageBackend:
        """Return another storage on the same place, as another process would have it."""

    # Whole files

    def test_what_is_written_is_there(self, storage: StorageBackend) -> None:
        storage.write_bytes(FILE, b"one\ntwo\n")
        assert self.get_raw(storage, FILE) == b"one\ntwo\n"
        assert self.list_raw(storage) == [FILE]

    def test_what_is_there_is_read(self, storage: StorageBackend) -> None:
        self.put_raw(storage, FILE, b"\x00\xff\n")
        assert storage.read_bytes(FILE) == b"\x00\xff\n"

    def test_a_second_write_replaces_the_first(self, storage: StorageBackend) -> None:
        storage.write_bytes(FILE, b"a longer first content")
        storage.write_bytes(FILE, b"second")
        assert self.get_raw(storage, FILE) == b"second"
        assert storage.read_bytes(FILE) == b"second"

    def test_a_file_may_be_empty(self, storage: StorageBackend) -> None:
        storage.write_bytes(FILE, b"")
        assert storage.read_bytes(FILE) == b""
        assert [file.size for file in storage.list_entries("raw")] == [0]
        assert storage.exists(FILE)

    @pytest.mark.parametrize(
        ("start", "end"),
        [(0, None), (0, 4), (3, 7), (9, None), (9, 10), (5, 5), (0, 99), (8, 99), (10, None)],
    )
    def test_ranges(self, storage: StorageBackend, start: int, end: int | None) -> None:
        self.put_raw(storage, FILE, b"0123456789")
        assert storage.read_bytes(FILE, start, end) == b"0123456789"[start:end]

    def test_a_large_file_comes_back_whole(self, storage: StorageBackend) -> None:
        data = b"".join(number.to_bytes(8, "big") for number in range(9 << 17))  # 9 MiB
        storage.write_bytes(FILE, data)
        assert storage.read_bytes(FILE) == data
        middle = 8 << 20
        assert storage.read_bytes(FILE, middle - 5, middle + 5) == data[middle - 5 : middle + 5]

    def test_reading_a_missing_file(self, storage: StorageBackend, tmp_path: Path) -> None:
        with pytest.raises(FileMissingError, match="segment_20251203T14_00001"):
            storage.read_bytes(FILE)
        with pytest.raises(FileMissingError, match="segment_20251203T14_00001"):
            storage.fetch(FILE, tmp_path)

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_odd_names(self, storage: StorageBackend, name: str) -> None:
        storage.write_bytes(name, b"odd")
        assert self.list_raw(storage) == [name]
        assert storage.list_files() == [name]
        assert storage.read_bytes(name) == b"odd"
        storage.move(name, "moved/" + name)
        assert storage.list_files() == ["moved/" + name]
        storage.delete("moved/" + name)
        assert not storage.exists("moved/" + name)

    @pytest.mark.parametrize("key", INVALID_KEYS + RESERVED_KEYS)
    def test_keys_no_file_may_have(self, storage: StorageBackend, key: str, tmp_path: Path) -> None:
        local = tmp_path / "local"
        local.write_bytes(b"x")
        self.put_raw(storage, FILE, b"x")
        calls: list[Callable[[], object]] = [
            lambda: storage.read_bytes(key),
            lambda: storage.write_bytes(key, b"x"),
            lambda: storage.write_file(local, key),
            lambda: storage.fetch(key, tmp_path),
            lambda: storage.move(key, "raw/other"),
            lambda: storage.move(FILE, key),
            lambda: storage.delete(key),
            lambda: storage.stat(key),
            lambda: storage.acquire_lease(key),
            lambda: storage.stat(key),
        ]
        for call in calls:
            with pytest.raises(InvalidKeyError):
                call()
        assert self.list_raw(storage) == [FILE]

    @pytest.mark.parametrize("key", INVALID_KEYS)
    def test_paths_outside_the_root(self, storage: StorageBackend, key: str) -> None:
        calls: list[Callable[[], object]] = [
            lambda: storage.list_files(key),
            lambda: storage.list_entries(key),
            lambda: storage.list_folders(key),
            lambda: storage.exists(key),
            lambda: storage.mkdir(key),
            lambda: storage.get_full_path(key),
            lambda: storage.join_path(key),
        ]
        for call in calls:
            with pytest.raises(InvalidKeyError):
                call()

    def test_exclusive_writes_never_replace(self, storage: StorageBackend, tmp_path: Path) -> None:
        local = tmp_path / "local"
        local.write_bytes(b"second")
        storage.write_bytes(FILE, b"first", exclusive=True)
        with pytest.raises(FileExistsAlreadyError, match="segment_20251203T14_00001"):
            storage.write_bytes(FILE, b"second", exclusive=True)
        with pytest.raises(FileExistsAlreadyError, match="segment_20251203T14_00001"):
            storage.write_file(local, FILE, exclusive=True)
        assert self.get_raw(storage, FILE) == b"first"
        assert self.list_raw(storage) == [FILE]

    def test_of_several_exclusive_writers_one_wins(self, storage: StorageBackend) -> None:
        for round_ in range(2):
            key = f"raw/claim_{round_}"

            def write(number: int, key: str = key) -> bool:
                storage.write_bytes(key, b"writer %d" % number, exclusive=True)
                return True

            winners = race(4, write)
            assert len(winners) == 1
            assert self.get_raw(storage, key) == b"writer %d" % winners[0]

    def test_readers_never_see_half_a_write(self, storage: StorageBackend) -> None:
        size = 300_000
        storage.write_bytes(FILE, b"0" * size)
        until = time.monotonic() + 1.0
        listed: set[int] = set()

        def write() -> int:
            count = 0
            while time.monotonic() < until:
                count += 1
                storage.write_bytes(FILE, b"%d" % (count % 10) * size)
            return count

        def read() -> int:
            count = 0
            while time.monotonic() < until:
                count += 1
                data = storage.read_bytes(FILE)
                assert len(data) == size
                assert data == data[:1] * size
                listed.update(file.size for file in storage.list_entries("raw"))
            return count

        with ThreadPoolExecutor(3) as pool:
            jobs = [pool.submit(write), pool.submit(read), pool.submit(read)]
            assert all(job.result() > 0 for job in jobs)
        assert listed == {size}
        assert self.list_raw(storage) == [FILE]

    def test_local_files_are_stored(self, storage: StorageBackend, tmp_path: Path) -> None:
        local = tmp_path / "local.ndjson"
        local.write_bytes(b"line\n" * 1000)
        storage.write_file(local, FILE)
        storage.write_file(str(local), SEALED, exclusive=True)
        assert self.get_raw(storage, FILE) == b"line\n" * 1000
        assert self.get_raw(storage, SEALED) == b"line\n" * 1000
        assert local.exists()
        with pytest.raises(FileMissingError, match="absent"):
            storage.write_file(tmp_path / "absent", FILE)
        assert self.get_raw(storage, FILE) == b"line\n" * 1000

    def test_fetch(self, storage: StorageBackend, tmp_path: Path) -> None:
        other = "raw/ready/other/" + FILE.rsplit("/", 1)[-1]
        self.put_raw(storage, FILE, b"coinbase\n")
        self.put_raw(storage, other, b"other\n")
        paths = [storage.fetch(FILE, tmp_path), storage.fetch(other, tmp_path)]
        assert [path.read_bytes() for path in paths] == [b"coinbase\n", b"other\n"]
        assert {path.name for path in paths} == {"segment_20251203T14_00001.ndjson"}

    def test_move(self, storage: StorageBackend) -> None:
        self.put_raw(storage, FILE, b"content")
        storage.move(FILE, "raw/processing/coinbase/x.ndjson")
        assert self.list_raw(storage) == ["raw/processing/coinbase/x.ndjson"]
        assert self.get_raw(storage, "raw/processing/coinbase/x.ndjson") == b"content"

    def test_a_missing_file_cannot_be_moved(self, storage: StorageBackend) -> None:
        with pytest.raises(FileMissingError, match="segment_20251203T14_00001"):
            storage.move(FILE, "raw/processing/x")
        assert self.list_raw(storage) == []

    def test_a_move_never_replaces(self, storage: StorageBackend) -> None:
        self.put_raw(storage, FILE, b"source")
        self.put_raw(storage, SEALED, b"destination")
        with pytest.raises(FileExistsAlreadyError):
            storage.move(FILE, SEALED)
        assert self.get_raw(storage, FILE) == b"source"
        assert self.get_raw(storage, SEALED) == b"destination"

    def test_of_several_movers_one_wins(self, storage: StorageBackend) -> None:
        for round_ in range(2):
            source, destination = f"raw/ready/{round_}", f"raw/processing/{round_}"
            self.put_raw(storage, source, b"segment")

            def move(_: int, source: str = source, destination: str = destination) -> bool:
                storage.move(source, destination)
                return True

            assert len(race(4, move)) == 1
            assert self.get_raw(storage, destination) == b"segment"
        assert storage.list_files("raw/ready") == []

    def test_exists(self, storage: StorageBackend) -> None:
        assert not storage.exists(FILE)
        assert not storage.exists("raw")
        self.put_raw(storage, FILE, b"")
        for key in (FILE, "raw/ready/coinbase", "raw"):
            assert storage.exists(key), key
        for key in ("raw/ready/coin", FILE + "x", FILE[:-1], "ra"):
            assert not storage.exists(key), key

    def test_delete(self, storage: StorageBackend) -> None:
        self.put_raw(storage, FILE, b"x")
        self.put_raw(storage, SEALED, b"y")
        storage.delete(FILE)
        assert self.list_raw(storage) == [SEALED]
        storage.delete(FILE)
        storage.delete("never/was")
        assert not storage.exists(FILE)
        assert self.list_raw(storage) == [SEALED]

    # Listings

    def test_listings_are_complete_and_sorted(self, storage: StorageBackend) -> None:
        keys = ["a-b/x", "a/b/c/deep.json", "a/b/x.ndjson", "a/x.json", "a/x.ndjson", "a.b", "z"]
        for number, key in enumerate(keys):
            self.put_raw(storage, key, b"x" * number)
        entries = storage.list_entries()
        assert [file.key for file in entries] == sorted(keys)
        assert {file.key: file.size for file in entries} == {
            key: number for number, key in enumerate(keys)
        }
        assert storage.list_files("a") == sorted(key for key in keys if key.startswith("a/"))
        assert storage.list_files("a/") == storage.list_files("a")
        assert storage.list_files("a", recursive=False) == ["a/x.json", "a/x.ndjson"]
        assert storage.list_files("", recursive=False) == ["a.b", "z"]
        assert storage.list_files("a", "*.ndjson") == ["a/b/x.ndjson", "a/x.ndjson"]
        assert storage.list_files("a", "X*") == []
        assert storage.list_files("a/b", "x.?d*") == ["a/b/x.ndjson"]

    def test_modification_times_are_utc(self, storage: StorageBackend) -> None:
        storage.write_bytes(FILE, b"x")
        (file,) = storage.list_entries("raw")
        assert file.name == "segment_20251203T14_00001.ndjson"
        assert abs(file.modified - datetime.now(UTC)) < timedelta(minutes=5)

    def test_listings_by_the_beginning_of_a_name(self, storage: StorageBackend) -> None:
        for key in ("a/x1", "a/x2/deep", "a/y1", "ax", "x1"):
            self.put_raw(storage, key, b"")

        def names(path: str, prefix: str, **how: bool) -> list[str]:
            return [file.key for file in storage.list_entries(path, name_prefix=prefix, **how)]

        assert names("a", "x") == ["a/x1", "a/x2/deep"]
        assert names("a", "x", recursive=False) == ["a/x1"]
        assert names("", "a") == ["a/x1", "a/x2/deep", "a/y1", "ax"]
        assert names("", "a", recursive=False) == ["ax"]
        assert names("a", "z") == names("a/x1", "x") == names("nowhere", "x") == []

    def test_what_is_known_of_one_file(self, storage: StorageBackend) -> None:
        self.put_raw(storage, "a/x.ndjson", b"1234")
        self.put_raw(storage, "a/x.ndjson.more", b"1")
        self.put_raw(storage, "a/y/deep", b"")
        assert storage.stat("a/x.ndjson") == storage.list_entries("a", recursive=False)[0]
        assert storage.stat("a/x.ndjson").size == 4
        for missing in ("a", "a/x", "a/y", "a/x.ndjson/z", "nowhere"):
            with pytest.raises(FileMissingError, match=missing):
                storage.stat(missing)

    def test_an_absent_path_has_no_files(self, storage: StorageBackend) -> None:
        self.put_raw(storage, "raw/ab/x", b"")
        for path in ("raw/a", "raw/abc", "nowhere", "raw/ab/x/y"):
            assert storage.list_entries(path) == []
            assert storage.list_folders(path) == []

    def test_folders(self, storage: StorageBackend) -> None:
        for key in ("raw/ready/b/x", "raw/ready/a/x", "raw/ready/file", "raw/active/c/d/x", "top"):
            self.put_raw(storage, key, b"")
        assert storage.list_folders("raw/ready") == ["a", "b"]
        assert storage.list_folders("raw") == ["active", "ready"]
        assert storage.list_folders() == ["raw"]

    def test_reserved_names_never_show(self, storage: StorageBackend) -> None:
        self.put_raw(storage, "raw/.tmp-1", b"half")
        self.put_raw(storage, "raw/.cache/x", b"half")
        assert storage.list_files() == []
        assert storage.list_files("raw", recursive=False) == []
        assert storage.list_folders("raw") == []
        self.put_raw(storage, "raw/x", b"whole")
        assert storage.list_files() == ["raw/x"]

    def test_folders_can_be_made(self, storage: StorageBackend) -> None:
        storage.mkdir("raw/ready/coinbase")
        storage.mkdir("raw/ready/coinbase")
        assert storage.list_files() == []
        assert not storage.exists("raw")
        storage.write_bytes(FILE, b"x")
        assert storage.list_files("raw/ready") == [FILE]

    # Leases

    def test_a_lease_has_one_holder(self, storage: StorageBackend) -> None:
        other = self.reopen(storage)
        lease = storage.acquire_lease(FILE)
        assert lease is not None
        assert lease.key == FILE
        assert storage.acquire_lease(FILE) is None
        assert other.acquire_lease(FILE) is None
        unrelated = other.acquire_lease(SEALED)
        assert unrelated is not None
        unrelated.release()
        lease.release()
        lease.release()
        with other.acquire_lease(FILE) or pytest.fail("a released lease must be free"):
            assert storage.acquire_lease(FILE) is None
        again = storage.acquire_lease(FILE)
        assert again is not None
        again.release()
        assert storage.list_files() == []

    def test_of_several_claimants_one_gets_the_lease(self, storage: StorageBackend) -> None:
        for round_ in range(2):
            leases: list[Any] = []

            def claim(_: int, key: str = f"raw/claim_{round_}", got: Any = leases) -> Any:
                lease = storage.acquire_lease(key)
                got.append(lease)
                return lease

            assert len(race(4, claim)) == 1
            for lease in leases:
                if lease is not None:
                    lease.release()

    # For people and other libraries

    def test_others_read_what_was_written(self, storage: StorageBackend) -> None:
        storage.write_bytes(FILE, b"shared\n")
        storage.write_bytes("raw/ready/coinbase/deeper/x", b"more\n")
        filesystem = storage.get_filesystem()
        path = storage.get_full_path(FILE)
        with filesystem.open(path, "rb") as file:
            assert file.read() == b"shared\n"
        assert filesystem.cat_file(path, start=2, end=5) == b"are"
        assert filesystem.info(path)["size"] == 7
        found = filesystem.find(storage.get_full_path("raw"))
        assert sorted(name.rsplit("/", 1)[-1] for name in found) == [
            "segment_20251203T14_00001.ndjson",
            "x",
        ]
        with pytest.raises(FileNotFoundError):
            filesystem.open(storage.get_full_path(SEALED), "rb")

    def test_options_are_text(self, storage: StorageBackend) -> None:
        for name, value in storage.get_storage_options().items():
            assert isinstance(name, str)
            assert isinstance(value, str)

    def test_it_says_what_it_is(self, storage: StorageBackend) -> None:
        assert storage.backend_type
        assert storage.base_path
        assert storage.get_full_path() in repr(storage)
        assert storage.get_full_path(FILE).replace("\\", "/").endswith(FILE)
        assert storage.join_path("raw", "", "ready/coinbase") == "raw/ready/coinbase"
