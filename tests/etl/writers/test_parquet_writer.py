from __future__ import annotations

import hashlib
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from fluxforge.errors import StorageFullError
from fluxforge.etl.writers import ParquetWriter
from fluxforge.storage.local import LocalStorage
from fluxforge.tables import checksum_in_name
from fluxforge.transform.database import open_database
from tests.support.object_store import object_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb

ROWS = """
    CREATE TABLE stored AS
    SELECT
        ['B', 'A', 'C'][i % 3 + 1]                                            AS symbol,
        TIMESTAMPTZ '2026-08-09 00:00:00+00' + to_microseconds(i * 7919 % 1009) AS ts_event,
        TIMESTAMPTZ '2026-08-09 00:00:00+00' + to_microseconds(i)             AS ts_recv,
        i                                                                     AS seq,
        CASE WHEN i % 10 > 0 THEN i / 4 END                                   AS price,
        NULL::DOUBLE                                                          AS nothing,
        DATE '2026-08-09' + (i % 2)::INTEGER                                  AS date
    FROM range(1000) t(i)
"""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with open_database(tmp_path, memory_limit_mb=256, threads=1) as connection:
        connection.execute(ROWS)
        yield connection


def test_a_file_for_each_date_sorted_and_compressed(
    tmp_path: Path, database: duckdb.DuckDBPyConnection
) -> None:
    storage = LocalStorage(tmp_path / "lake")
    work = tmp_path / "work"
    work.mkdir()
    files = ParquetWriter(storage, "t", work).write(database, "stored")
    assert [(file.date, file.rows) for file in files] == [
        (date(2026, 8, 9), 500), (date(2026, 8, 10), 500),
    ]  # fmt: skip
    assert list(work.iterdir()) == []
    for file in files:
        path = Path(storage.get_full_path(f"t/{file.path}"))
        assert path.stat().st_size == file.size
        assert path.parent.name == f"date={file.date}"
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        assert checksum_in_name(file.path) == content[:16]
        frame = pl.read_parquet(path, hive_partitioning=False)
        assert "date" not in frame.columns
        assert frame.equals(frame.sort("symbol", "ts_recv", maintain_order=True))
        assert frame.schema["ts_event"] == pl.Datetime("us", "UTC")
        footer = pq.read_metadata(path)
        assert footer.row_group(0).column(0).compression == "ZSTD"


def test_names_never_repeat(tmp_path: Path, database: duckdb.DuckDBPyConnection) -> None:
    writer = ParquetWriter(LocalStorage(tmp_path / "lake"), "t", tmp_path)
    paths = [file.path for _ in range(3) for file in writer.write(database, "stored")]
    assert len(set(paths)) == 6


def test_statistics_are_those_of_the_rows(
    tmp_path: Path, database: duckdb.DuckDBPyConnection
) -> None:
    storage = LocalStorage(tmp_path / "lake")
    for file in ParquetWriter(storage, "t", tmp_path).write(database, "stored"):
        frame = pl.read_parquet(
            storage.get_full_path(f"t/{file.path}"), hive_partitioning=False, glob=False
        )
        for column in frame.columns:
            values = frame[column]
            assert file.nulls[column] == values.null_count()
            if column == "nothing":
                assert column not in file.least
                continue
            assert (file.least[column], file.greatest[column]) == (values.min(), values.max())


def test_many_row_groups_have_one_bound(
    tmp_path: Path, database: duckdb.DuckDBPyConnection
) -> None:
    database.execute(
        "CREATE TABLE long AS SELECT 'A' AS symbol, now() AS ts_event, now() AS ts_recv, "
        "i AS seq, CASE WHEN i < 100_000 THEN NULL ELSE i END AS late, DATE '2026-08-09' AS date "
        "FROM range(200_000) t(i)"
    )
    storage = LocalStorage(tmp_path / "lake")
    (file,) = ParquetWriter(storage, "t", tmp_path).write(database, "long")
    assert pq.read_metadata(storage.get_full_path(f"t/{file.path}")).num_row_groups > 1
    assert (file.least["seq"], file.greatest["seq"]) == (0, 199_999)
    assert (file.least["late"], file.greatest["late"]) == (100_000, 199_999)
    assert file.nulls["late"] == 100_000


def test_the_bounds_of_symbols_are_exact_so_that_polars_skips_row_groups(
    tmp_path: Path, database: duckdb.DuckDBPyConnection
) -> None:
    storage = LocalStorage(tmp_path / "lake")
    for file in ParquetWriter(storage, "t", tmp_path).write(database, "stored"):
        bounds = database.execute(
            "SELECT DISTINCT stats_min_value, stats_max_value, min_is_exact, max_is_exact "
            "FROM parquet_metadata(?) WHERE path_in_schema = 'symbol'",
            [storage.get_full_path(f"t/{file.path}")],
        ).fetchall()
        assert bounds == [("A", "C", True, True)]


def test_no_rows_no_files(tmp_path: Path, database: duckdb.DuckDBPyConnection) -> None:
    database.execute("CREATE TABLE empty AS SELECT * FROM stored LIMIT 0")
    storage = object_store()
    assert ParquetWriter(storage, "t", tmp_path).write(database, "empty") == []
    assert storage.list_files() == []


def test_any_storage_will_do(tmp_path: Path, database: duckdb.DuckDBPyConnection) -> None:
    storage = object_store()
    files = ParquetWriter(storage, "t", tmp_path).write(database, "stored")
    assert storage.list_files() == sorted(f"t/{file.path}" for file in files)
    assert all(len(storage.read_bytes(f"t/{file.path}")) == file.size for file in files)


def test_a_storage_that_refuses_leaves_nothing_behind(
    tmp_path: Path, database: duckdb.DuckDBPyConnection
) -> None:
    class Full(LocalStorage):
        def write_file(self, path: str | Path, key: str, **options: Any) -> None:
            raise StorageFullError("no space left")

    work = tmp_path / "work"
    work.mkdir()
    with pytest.raises(StorageFullError):
        ParquetWriter(Full(tmp_path / "lake"), "t", work).write(database, "stored")
    assert list(work.iterdir()) == []
