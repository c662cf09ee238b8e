from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from fluxforge.errors import StorageFullError
from fluxforge.etl import optimize
from fluxforge.etl.optimize import optimize_table
from fluxforge.sources.tables import Channel
from fluxforge.storage.local import LocalStorage
from fluxforge.tables import Table

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Frames, LakeFolder


@pytest.fixture
def filled(lake: LakeFolder, frames: Frames) -> LakeFolder:
    """Return a lake with six segments of three products over two days."""
    day = 86_400_000_000_000
    for number in range(6):
        at = 1_786_309_548_000_000_000 + (number % 2) * day
        lines = [
            frames.ticker(str(number * 10 + k), product=product, capture_ns=at + number + k)
            for k, product in enumerate(["ETH-USD", "BTC-USD", "SOL-USD"])
        ]
        lake.put(lines, number)
        lake.etl()
    return lake


def content(lake: LakeFolder) -> pl.DataFrame:
    return lake.rows("ticker").sort("price")


def test_small_files_are_joined_and_no_row_changes(filled: LakeFolder) -> None:
    before = content(filled)
    report = optimize_table(filled.table("ticker"), "ticker")
    assert (report.files_before, report.files_after, report.rows) == (6, 2, 18)
    assert content(filled).equals(before)
    snapshot = filled.table("ticker").snapshot()
    assert snapshot is not None
    for file in snapshot.files():
        path = filled.table("ticker").uri + "/" + file.path
        frame = pl.read_parquet(path, hive_partitioning=False, glob=False)
        assert frame.equals(frame.sort("symbol", "ts_event", "ts_recv", maintain_order=True))
        assert (file.least["symbol"], file.greatest["symbol"]) == ("BTC-USD", "SOL-USD")


def test_joining_again_changes_nothing(filled: LakeFolder) -> None:
    optimize_table(filled.table("ticker"), "ticker")
    version = filled.table("ticker").snapshot()
    report = optimize_table(filled.table("ticker"), "ticker")
    again = filled.table("ticker").snapshot()
    assert (report.files_before, report.files_after) == (2, 2)
    assert version is not None
    assert again is not None
    assert version.version == again.version


def test_a_table_that_nobody_made(lake: LakeFolder) -> None:
    assert optimize_table(lake.table("ticker"), "ticker").files_after == 0


def test_an_earlier_version_still_reads(filled: LakeFolder) -> None:
    before = filled.table("ticker").snapshot()
    assert before is not None
    optimize_table(filled.table("ticker"), "ticker")
    past = filled.table("ticker").snapshot(before.version)
    assert past is not None
    assert past.dataset().to_table().num_rows == 18


def test_columns_that_came_later_are_kept(filled: LakeFolder, frames: Frames) -> None:
    job = filled.job()
    ticker = job._tables.channels["ticker"]
    sql = ticker.sql.replace("SELECT\n", "SELECT\n    ticker.price AS price_text,\n", 1)
    grown = Channel.from_sql("ticker", f"-- columns: price_text VARCHAR\n{sql}")
    channels = job._tables.channels | {"ticker": grown}
    job._tables = replace(job._tables, channels=channels)
    filled.put(frames.ticker("99"), 9)
    job.process_all_segments()
    before = content(filled)
    assert before["price_text"].drop_nulls().to_list() == ["99"]
    optimize_table(filled.table("ticker"), "ticker")
    assert content(filled).equals(before)


def test_two_workers_at_once(filled: LakeFolder) -> None:
    before = content(filled)
    start = threading.Barrier(3)

    def work(_: int) -> None:
        start.wait()
        optimize_table(filled.table("ticker"), "ticker")

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))
    assert content(filled).equals(before)
    snapshot = filled.table("ticker").snapshot()
    assert snapshot is not None
    assert len(snapshot.files()) == 2
    filled.assert_files()


def test_beside_an_etl(filled: LakeFolder, frames: Frames) -> None:
    for number in range(10, 18):
        filled.put([frames.ticker(str(number * 10)), frames.trades([number])], number)
    worker = threading.Thread(target=filled.etl)
    worker.start()
    while worker.is_alive():
        optimize_table(filled.table("ticker"), "ticker")
        optimize_table(filled.table("trades"), "trades")
    worker.join()
    optimize_table(filled.table("ticker"), "ticker")
    assert filled.count("ticker") == 18 + 8
    assert sorted(filled.rows("trades")["trade_id"]) == list(range(10, 18))
    filled.assert_accounts()


def test_large_files_are_left_as_they_are(
    filled: LakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = filled.table("ticker").snapshot()
    assert snapshot is not None
    size = max(file.size for file in snapshot.files())
    monkeypatch.setattr(optimize, "TARGET_MB", size * 2 / 1e6 - 0.001)
    assert optimize_table(filled.table("ticker"), "ticker").files_after >= 4


def test_a_full_disk_leaves_the_table_as_it_was(filled: LakeFolder) -> None:
    class Full(LocalStorage):
        def write_file(self, path: str | Path, key: str, **options: Any) -> None:
            raise StorageFullError("no space left")

    before = content(filled)
    table = Table(Full(filled.root), filled.layout.table("coinbase", "ticker"))
    with pytest.raises(StorageFullError):
        optimize_table(table, "ticker")
    assert content(filled).equals(before)


def test_a_crash_between_writing_and_committing_changes_nothing(
    filled: LakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(filled)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Table, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            optimize_table(filled.table("ticker"), "ticker")
    assert content(filled).equals(before)
    optimize_table(filled.table("ticker"), "ticker")
    assert content(filled).equals(before)


def test_the_etl_joins_files_by_itself_where_a_table_has_many(
    lake: LakeFolder, frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fluxforge.etl.job.MANY_FILES", 4)
    for number in range(5):
        lake.put(frames.ticker(str(number)), number)
        lake.etl()
    snapshot = lake.table("ticker").snapshot()
    assert snapshot is not None
    assert len(snapshot.files()) == 2
    assert lake.rows("ticker").sort("ts_recv")["price"].to_list() == [0.0, 1.0, 2.0, 3.0, 4.0]
    lake.assert_files()
    lake.assert_accounts()
