"""Copies of what was read of remote tables."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fluxforge import Lake
from fluxforge.errors import StorageUnavailableError
from fluxforge.query import cache as cache_module
from fluxforge.query.cache import FileCache
from fluxforge.storage.memory import MemoryStorage
from tests.query.test_engine import add
from tests.support.fault_proxy import FaultProxy

if TYPE_CHECKING:
    from pathlib import Path

    from fluxforge.testing.s3_server import S3Server

KEY = "processed/x.parquet"


@pytest.fixture
def storage() -> MemoryStorage:
    """Return a storage that is not this machine's disk."""
    return MemoryStorage()


def read(cache: FileCache, storage: MemoryStorage, start: int, count: int) -> bytes:
    file = cache.open(storage, KEY, storage.stat(KEY).size)
    file.seek(start)
    return file.read(count)


def test_blocks_are_read_once(
    storage: MemoryStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "_BLOCK", 10)
    monkeypatch.setattr(cache_module, "_WHOLE", 20)
    content = bytes(range(95))
    storage.write_bytes(KEY, content)
    cache = FileCache(tmp_path, 10_000)
    for start, count in ((0, 95), (3, 4), (8, 30), (90, 100), (95, 5), (0, 0)):
        assert read(cache, storage, start, count) == content[start : start + count]
    storage.delete(KEY)
    storage.write_bytes(KEY, bytes(95))  # what no table does: it shows where a read went
    assert read(FileCache(tmp_path, 10_000), storage, 8, 30) == content[8:38]
    assert len(list(tmp_path.iterdir())) == 10


@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_a_damaged_block_is_fetched_again(
    storage: MemoryStorage, tmp_path: Path, damage: bytes | None
) -> None:
    storage.write_bytes(KEY, b"content")
    cache = FileCache(tmp_path, 10_000)
    assert read(cache, storage, 0, 7) == b"content"
    [block] = tmp_path.iterdir()
    whole = block.read_bytes()
    block.write_bytes(b"C" + whole[1:] if damage is None else damage)
    assert read(cache, storage, 0, 7) == b"content"
    assert block.read_bytes() == whole


def test_the_least_recently_used_go_first(storage: MemoryStorage, tmp_path: Path) -> None:
    cache = FileCache(tmp_path, 5_000)
    for number in range(10):
        cache.keep(f"{number}.block", bytes(1_000))
        os.utime(tmp_path / f"{number}.block", (1_000 + number, 1_000 + number))
        if number > 1:
            assert cache.load("0.block") is not None  # it is used again and again
    left = {path.name for path in tmp_path.iterdir()}
    assert {"0.block", "9.block"} < left
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 5_000


def test_what_dead_processes_left_goes(tmp_path: Path) -> None:
    (tmp_path / ".part-dead").write_bytes(bytes(10))
    os.utime(tmp_path / ".part-dead", (0, 0))
    (tmp_path / ".part-alive").write_bytes(bytes(10))
    FileCache(tmp_path, 5_000).keep("a.block", b"x")
    assert {path.name for path in tmp_path.iterdir()} == {".part-alive", "a.block"}


def test_a_cache_that_cannot_be_written_is_no_error(storage: MemoryStorage, tmp_path: Path) -> None:
    storage.write_bytes(KEY, b"content")
    (tmp_path / "file").touch()
    assert read(FileCache(tmp_path / "file", 5_000), storage, 0, 7) == b"content"


def test_a_file_of_another_size_is_refused(storage: MemoryStorage, tmp_path: Path) -> None:
    storage.write_bytes(KEY, b"content")
    with pytest.raises(StorageUnavailableError, match="not the file that was committed"):
        FileCache(tmp_path, 5_000).open(storage, KEY, 9).read()


@pytest.mark.s3
def test_requests_of_a_lake_on_s3(s3_server: S3Server, tmp_path: Path) -> None:
    with FaultProxy(s3_server.host, s3_server.port, seed=1) as proxy:
        access = {**s3_server.settings(), "endpoint_url": proxy.url}
        settings = [
            "storage.backend=s3",
            f"storage.base_dir={s3_server.bucket}/{tmp_path.name}",
            *(f"storage.s3.{key}={value}" for key, value in access.items()),
            f"query.cache_dir={tmp_path}/cache",
        ]
        work = Lake(path=tmp_path / "work")
        for hour in (1, 5):
            add(Lake(overrides=settings), "coinbase", symbol="BTC-USD", hour=hour, work=work)
        query = "SELECT count(*), sum(price) FROM coinbase.trades WHERE symbol = 'BTC-USD'"
        counts, answers = [], []
        lake, off = Lake(overrides=settings), Lake(overrides=[*settings, "query.cache_max_mb=0"])
        other = Lake(overrides=settings)
        for asked in (lake, lake, other, off):
            before = len(proxy.requests)
            answers.append(asked.sql(query).fetchall())
            counts.append(len(proxy.requests) - before)
            data = [one for one in proxy.requests[before:] if ".parquet" in one.path]
            assert bool(data) == (len(counts) in (1, 4))  # copies are shared
        assert answers == [[(6, 618.0)]] * 4
        assert counts[0] <= 12
        assert counts[1] <= 1
        before = len(proxy.requests)
        assert lake.scan("coinbase", "trades", symbols="BTC-USD").collect().height == 6
        assert len(proxy.requests) - before <= 1
        assert lake.cache().row(0)[:2] == (f"{tmp_path}/cache", 2)
        assert off.cache().is_empty()
