"""A database that is used again, and one that is not."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from fluxforge.errors import SegmentError
from fluxforge.transform.database import open_database, session
from tests.support import commands

if TYPE_CHECKING:
    from pathlib import Path

STATE = (
    "SELECT current_setting('memory_limit'), current_setting('threads'), "
    "current_setting('temp_directory'), current_setting('search_path'), current_setting('TimeZone')"
)
NAMES = (
    "SELECT table_name FROM duckdb_tables() UNION ALL "
    "SELECT view_name FROM duckdb_views() WHERE NOT internal"
)
SPILL = "CREATE TABLE much AS SELECT range, md5(range::VARCHAR) AS text FROM range(500_000)"


def test_an_emptied_database_is_as_a_new_one(tmp_path: Path) -> None:
    def state(folder: str) -> object:
        with open_database(tmp_path / folder, memory_limit_mb=256) as database:
            assert database.execute(NAMES).fetchall() == []
            assert database.execute("SELECT number('1.5')").fetchall() == [(1.5,)]
            return database.execute(STATE).fetchall()

    with pytest.raises(ZeroDivisionError), open_database(tmp_path):
        raise ZeroDivisionError  # so that the next one is new
    new = state("one")
    with open_database(tmp_path / "two", memory_limit_mb=100, threads=1) as database:
        database.execute("SET TimeZone = 'Asia/Tokyo'; CREATE TEMP TABLE passing AS SELECT 1 AS a")
        database.execute("CREATE TABLE kept AS SELECT 1 AS a; CREATE VIEW seen AS FROM kept")
        database.execute("CREATE MACRO number(text) AS 7")
        other = session(database)
        assert other.execute("SELECT number('1.5'), * FROM seen").fetchall() == [(7, 1)]
    assert state("one") == new


def test_what_failed_or_spilled_is_not_used_again(tmp_path: Path) -> None:
    with open_database(tmp_path, memory_limit_mb=20, threads=1) as database:
        database.execute(SPILL)
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())
    with (
        pytest.raises(SegmentError, match="do not suffice"),
        open_database(tmp_path, memory_limit_mb=1, threads=1) as database,
    ):
        database.execute("CREATE TABLE failed AS SELECT 1 AS a")
        database.execute(f"SET temp_directory = ''; {SPILL}")
    other = tmp_path / "other"
    with open_database(other, memory_limit_mb=20, threads=1) as database:
        assert database.execute(NAMES).fetchall() == []
        database.execute(SPILL)
        assert list(other.iterdir())


def test_databases_at_once_are_apart(tmp_path: Path) -> None:
    with open_database(tmp_path) as one, open_database(tmp_path) as other:
        one.execute("CREATE TABLE a AS SELECT 1 AS a")
        assert other.execute(NAMES).fetchall() == []


@pytest.mark.skipif(sys.platform == "win32", reason="nothing forks there")
def test_a_fork_has_a_database_of_its_own_and_ends(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path\n"
        "from fluxforge.transform.database import open_database\n"
        "def count():\n"
        "    with open_database(Path(sys.argv[1])) as database:\n"
        "        return database.sql('SELECT sum(range) FROM range(1_000_000)').fetchall()\n"
        "before, child = count(), os.fork()\n"
        "assert count() == before\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) if child else 3)"
    )
    done = commands.run([sys.executable, "-c", code, tmp_path], timeout=120)
    assert done.returncode == 3
