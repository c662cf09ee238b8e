"""Files of a table that are not on this disk, read by way of Arrow."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl
import pytest

from fluxforge import Lake

if TYPE_CHECKING:
    from pathlib import Path

    from fluxforge.testing.s3_server import S3Server

FILES, ROWS = 12, 300
QUERIES = int(50 * float(os.environ.get("FLUXFORGE_LONG", "1")))

READERS = textwrap.dedent("""
    import sys
    from concurrent.futures import ThreadPoolExecutor
    from fluxforge import Lake

    sys.setswitchinterval(1e-5)  # between any two lines another thread may have its turn
    count, *settings = sys.argv[1:]
    lake = Lake(overrides=settings)
    with ThreadPoolExecutor(2) as pool:
        query = "SELECT sum(x) FROM mine.rows"
        found = pool.map(lambda _: lake.sql(query).fetchall(), range(int(count)))
        print(set(map(tuple, found)))
""")

pytestmark = pytest.mark.s3


@pytest.fixture
def settings(s3_server: S3Server, tmp_path: Path) -> list[str]:
    settings = [
        "storage.backend=s3",
        f"storage.base_dir={s3_server.bucket}/{tmp_path.name}",
        *(f"storage.s3.{key}={value}" for key, value in s3_server.settings().items()),
        f"query.cache_dir={tmp_path}/cache",
    ]
    lake = Lake(overrides=settings)
    for number in range(FILES):
        at = [datetime(2026, 8, 9, 21, number, tzinfo=UTC)] * ROWS
        frame = {"symbol": ["A", "B", "B"] * (ROWS // 3), "x": range(ROWS), "ts_recv": at}
        lake.write("mine", "rows", pl.DataFrame(frame))
    return settings


def test_every_way_to_read_gives_the_same_rows(settings: list[str]) -> None:
    lake, expected = Lake(overrides=settings), FILES * sum(range(0, ROWS, 3))
    assert lake.sql("SELECT sum(x) FROM mine.rows WHERE symbol = 'A'").fetchall() == [(expected,)]
    assert lake.sql("SELECT count(*) FROM mine.rows").fetchall() == [(FILES * ROWS,)]
    assert len(lake.sql("SELECT x FROM mine.rows LIMIT 5").fetchall()) == 5
    scan = lake.scan("mine", "rows", symbols=["A"]).select(pl.col("x").sum())
    assert scan.collect().item() == expected


def test_readers_in_threads_do_not_wait_for_one_another(settings: list[str]) -> None:
    """Arrow's ``to_reader`` may: for a lock whose holder waits for the GIL that it keeps."""
    done = subprocess.run(
        [sys.executable, "-c", READERS, str(QUERIES), *settings],
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    assert done.stdout == f"{{(({FILES * sum(range(ROWS))},),)}}\n"
