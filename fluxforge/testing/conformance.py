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

from fluxforge.errors import FileExistsAlreadyError, FileMissingError, InvalidKeyError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fluxforge.storage.base import StorageBackend

FILE = "raw/ready/coinbase/segment_20251203T14_00001.ndjson"
SEALED = "raw/ready/coinbase/segment_20251203T14_00002.ndjson"

INVALID_KEYS = [
    *("/absolute", "../outside", "raw/../../outside", "raw/./file", "raw\\file", "F:/raw/file"),
    *("raw/nul\x00byte", "raw/new\nline", "raw/star*", "raw/ends with dot.", "raw/CON"),
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


def threads(count: int, attempt: Callable[[int], Any]) -> list[Any]:
    """Run `attempt` in `count` threads at once; return what each returned, in order."""
    gate = threading.Barrier(count)

    def run(number: int) -> Any:
        gate.wait()
        try:
            return attempt(number)
        except (FileExistsAlreadyError, FileMissingError):
            return None

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def race(count: int, attempt: Callable[[int], object]) -> list[int]:
    """Return who of `count` threads succeeded: the others raised, or returned None."""
    return [number for number, won in enumerate(threads(count, attempt)) if won is not None]


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

    def test_a_file_comes_back_as_it_was_written(self, storage: StorageBackend) -> None:
        assert not storage.exists(FILE)
        for data in (b"a longer first content\x00\xff", b"second\n", b""):
            storage.write_bytes(FILE, data)
            assert self.get_raw(storage, FILE) == storage.read_bytes(FILE) == data
            assert self.list_raw(storage) == storage.list_files() == [FILE]
            assert [file.size for file in storage.list_entries("raw")] == [len(data)]
            assert all(map(storage.exists, (FILE, "raw/ready/coinbase", "raw")))
            assert not any(map(storage.exists, ("raw/ready/coin", FILE + "x", FILE[:-1], "ra")))

    def test_ranges(self, storage: StorageBackend) -> None:
        data = b"".join(number.to_bytes(8, "big") for number in range(9 << 17))  # 9 MiB
        size, middle = len(data), 8 << 20
        storage.write_bytes(FILE, data)
        assert storage.read_bytes(FILE) == data
        for start in (0, 3, middle - 5, size - 1, size, size + 9):
            for end in (0, 3, 4, middle + 5, size, size + 9, None):
                assert storage.read_bytes(FILE, start, end) == data[start:end], (start, end)

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_odd_names(self, storage: StorageBackend, name: str) -> None:
        storage.write_bytes(name, b"odd")
        assert self.list_raw(storage) == storage.list_files() == [name]
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
        for call in (
            lambda: storage.read_bytes(key),
            lambda: storage.write_bytes(key, b"x"),
            lambda: storage.write_file(local, key),
            lambda: storage.fetch(key, tmp_path),
            lambda: storage.move(key, "raw/other"),
            lambda: storage.move(FILE, key),
            lambda: storage.delete(key),
            lambda: storage.stat(key),
            lambda: storage.acquire_lease(key),
        ):
            with pytest.raises(InvalidKeyError):
                call()
        assert self.list_raw(storage) == [FILE]

    @pytest.mark.parametrize("key", INVALID_KEYS)
    def test_paths_outside_the_root(self, storage: StorageBackend, key: str) -> None:
        listings = (storage.list_files, storage.list_entries, storage.list_folders, storage.exists)
        for call in (*listings, storage.mkdir, storage.get_full_path, storage.join_path):
            with pytest.raises(InvalidKeyError):
                call(key)

    def test_what_creates_never_replaces(self, storage: StorageBackend, tmp_path: Path) -> None:
        local = tmp_path / "local"
        local.write_bytes(b"second")
        storage.write_bytes(FILE, b"first", exclusive=True)
        self.put_raw(storage, SEALED, b"other")
        attempts: list[Callable[[], object]] = [
            lambda: storage.write_bytes(FILE, b"second", exclusive=True),
            lambda: storage.write_file(local, FILE, exclusive=True),
            lambda: storage.move(SEALED, FILE),
        ]
        for attempt in attempts:
            with pytest.raises(FileExistsAlreadyError, match="segment_20251203T14_00001"):
                attempt()
        assert self.get_raw(storage, FILE) == b"first"
        assert self.get_raw(storage, SEALED) == b"other"
        storage.delete(FILE)
        storage.delete(FILE)
        storage.move(SEALED, FILE)
        assert self.get_raw(storage, FILE) == b"other"
        assert self.list_raw(storage) == [FILE]

    def test_of_several_at_once_one_wins(self, storage: StorageBackend) -> None:
        def write(number: int) -> bool:
            storage.write_bytes("raw/claim", b"writer %d" % number, exclusive=True)
            return True

        def move(_: int) -> bool:
            storage.move("raw/ready/x", "raw/processing/x")
            return True

        def claim(_: int) -> Any:
            return storage.acquire_lease("raw/claim")

        for _ in range(2):
            (winner,) = race(4, write)
            assert self.get_raw(storage, "raw/claim") == b"writer %d" % winner
            self.put_raw(storage, "raw/ready/x", b"segment")
            assert len(race(4, move)) == 1
            assert self.get_raw(storage, "raw/processing/x") == b"segment"
            assert storage.list_files("raw/ready") == []
            (lease,) = filter(None, threads(4, claim))
            lease.release()
            storage.delete("raw/claim")
            storage.delete("raw/processing/x")

    def test_readers_never_see_half_a_write(self, storage: StorageBackend) -> None:
        size = 300_000
        storage.write_bytes(FILE, b"0" * size)
        until = time.monotonic() + 1.0
        listed: set[int] = set()

        def work(number: int) -> int:
            count = 0
            while time.monotonic() < until or not count:
                count += 1
                if number == 0:
                    storage.write_bytes(FILE, b"%d" % (count % 10) * size)
                    continue
                data = storage.read_bytes(FILE)
                assert data == data[:1] * size
                listed.update(file.size for file in storage.list_entries("raw"))
            return count

        assert all(threads(3, work))
        assert listed == {size}
        assert self.list_raw(storage) == [FILE]

    def test_local_files_come_and_go(self, storage: StorageBackend, tmp_path: Path) -> None:
        local = tmp_path / "local.ndjson"
        local.write_bytes(b"line\n" * 1000)
        storage.write_file(local, FILE)
        storage.write_file(str(local), SEALED, exclusive=True)
        assert self.get_raw(storage, FILE) == self.get_raw(storage, SEALED) == b"line\n" * 1000
        with pytest.raises(FileMissingError, match="absent"):
            storage.write_file(tmp_path / "absent", FILE)
        assert self.get_raw(storage, FILE) == local.read_bytes()
        other = "raw/ready/other/" + FILE.rsplit("/", 1)[-1]
        self.put_raw(storage, other, b"other\n")
        paths = [storage.fetch(FILE, tmp_path), storage.fetch(other, tmp_path)]
        assert [path.read_bytes() for path in paths] == [b"line\n" * 1000, b"other\n"]
        assert {path.name for path in paths} == {"segment_20251203T14_00001.ndjson"}

    def test_what_is_missing_is_said_to_be(self, storage: StorageBackend, tmp_path: Path) -> None:
        self.put_raw(storage, "a/x.ndjson.more", b"1")
        for key in ("a", "a/x", "a/x.ndjson", "a/x.ndjson.more/z", "nowhere"):
            for call in (
                lambda key: storage.read_bytes(key),
                lambda key: storage.fetch(key, tmp_path),
                lambda key: storage.stat(key),
                lambda key: storage.move(key, "raw/x"),
            ):
                with pytest.raises(FileMissingError, match=key):
                    call(key)
        storage.delete("a/x.ndjson")
        assert self.list_raw(storage) == ["a/x.ndjson.more"]

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
        (file,) = storage.list_entries("a/b", recursive=False)
        assert storage.stat(file.key) == file
        assert file.name == "x.ndjson"
        assert abs(file.modified - datetime.now(UTC)) < timedelta(minutes=5)

    def test_listings_by_the_beginning_of_a_name(self, storage: StorageBackend) -> None:
        for key in ("a/x1", "a/x2/deep", "a/x2/e/f", "a/y1", "ax", "x1"):
            self.put_raw(storage, key, b"")

        def names(path: str, prefix: str, **how: bool) -> list[str]:
            return [file.key for file in storage.list_entries(path, name_prefix=prefix, **how)]

        assert names("a", "x") == ["a/x1", "a/x2/deep", "a/x2/e/f"]
        assert names("a", "x", recursive=False) == ["a/x1"]
        assert names("", "a") == ["a/x1", "a/x2/deep", "a/x2/e/f", "a/y1", "ax"]
        assert names("", "a", recursive=False) == ["ax"]
        assert names("a", "x2/") == names("", "a/x2/") == ["a/x2/deep", "a/x2/e/f"]
        assert names("", "a/x2/d") == names("a", "x2/", recursive=False) == ["a/x2/deep"]
        assert names("a", "z") == names("a/x1", "x") == names("nowhere", "x") == []

    def test_folders(self, storage: StorageBackend) -> None:
        for _ in range(2):
            storage.mkdir("raw/ready/a")
            assert storage.list_files() == self.list_raw(storage) == []
            assert not storage.exists("raw")
        for key in ("raw/ready/b/x", "raw/ready/a/x", "raw/ready/file", "raw/active/c/d/x", "top"):
            self.put_raw(storage, key, b"")
        assert storage.list_folders("raw/ready") == ["a", "b"]
        assert storage.list_folders("raw") == ["active", "ready"]
        assert storage.list_folders() == ["raw"]
        for absent in ("raw/a", "raw/activex", "nowhere", "raw/ready/file/y"):
            assert storage.list_entries(absent) == []
            assert storage.list_folders(absent) == []

    def test_reserved_names_never_show(self, storage: StorageBackend) -> None:
        self.put_raw(storage, "raw/.tmp-1", b"half")
        self.put_raw(storage, "raw/.cache/x", b"half")
        assert storage.list_files() == storage.list_files("raw", recursive=False) == []
        assert storage.list_folders("raw") == []
        self.put_raw(storage, "raw/x", b"whole")
        assert storage.list_files() == ["raw/x"]

    # Leases

    def test_a_lease_has_one_holder(self, storage: StorageBackend) -> None:
        other = self.reopen(storage)
        lease = storage.acquire_lease(FILE)
        assert lease is not None
        assert lease.key == FILE
        assert storage.acquire_lease(FILE) is other.acquire_lease(FILE) is None
        with other.acquire_lease(SEALED) or pytest.fail("a lease is on one key alone"):
            pass
        lease.release()
        lease.release()
        with other.acquire_lease(FILE) or pytest.fail("a released lease must be free"):
            assert storage.acquire_lease(FILE) is None
        with storage.acquire_lease(FILE) or pytest.fail("the end of the block releases it"):
            assert storage.list_files() == []

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
        assert sorted(name.rsplit("/", 1)[-1] for name in found) == [path.rsplit("/")[-1], "x"]
        with pytest.raises(FileNotFoundError):
            filesystem.open(storage.get_full_path(SEALED), "rb")

    def test_it_says_what_it_is(self, storage: StorageBackend) -> None:
        assert storage.backend_type
        assert storage.base_path
        assert storage.get_full_path() in repr(storage)
        assert storage.get_full_path(FILE).replace("\\", "/").endswith(FILE)
        assert storage.join_path("raw", "", "ready/coinbase") == "raw/ready/coinbase"
        for name, value in storage.get_storage_options().items():
            assert isinstance(name, str)
            assert isinstance(value, str)
