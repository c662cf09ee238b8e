"""A DuckDB connection that transforms segments, and SQL text made safely."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache
from importlib import resources
from string import Template
from typing import TYPE_CHECKING

from fluxforge.errors import FluxForgeError, SegmentError, StorageFullError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import duckdb


_ROW_GROUP = 32_768
_QUIET = "SET enable_progress_bar = false"  # a process of ``python -c`` would have one in its log
_SESSION = f"USE work; SET TimeZone = 'UTC'; {_QUIET}"


@cache
def sql(name: str) -> str:
    """Return the text of one of this layer's own ``.sql`` files."""
    return (
        resources.files("fluxforge.transform.sql")
        .joinpath(f"{name}.sql")
        .read_text(encoding="utf-8")
    )


def fill(name: str, **values: object) -> str:
    """Return the text of a ``.sql`` file with its ``$words`` filled in."""
    return Template(sql(name)).substitute(values)


def literal(value: str) -> str:
    """Quote text for SQL.

    >>> literal("it's")
    "'it''s'"
    """
    return "'" + value.replace("'", "''") + "'"


def literals(values: Iterable[str]) -> str:
    """Write a list of texts for SQL.

    >>> literals(["a", "b"])
    "['a', 'b']"
    """
    return "[" + ", ".join(literal(value) for value in values) + "]"


def identifier(name: str) -> str:
    """Quote a name for SQL.

    >>> identifier("date")
    '"date"'
    """
    return '"' + name.replace('"', '""') + '"'


def session(database: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """Return another connection to an open database, for another thread."""
    cursor = database.cursor()
    cursor.execute(_SESSION)
    return cursor


@contextmanager
def open_database(
    work_dir: Path, *, memory_limit_mb: int = 1024, threads: int = 0
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open an empty database in UTC that spills into `work_dir` beyond its memory limit."""
    import duckdb

    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": f"{memory_limit_mb}MB",
        "temp_directory": str(work_dir),
        "autoinstall_known_extensions": False,
    }
    if threads:
        settings["threads"] = threads
    try:
        with duckdb.connect(config=settings) as database:
            # Row groups are what threads share among them.
            database.execute(f"ATTACH ':memory:' AS work (ROW_GROUP_SIZE {_ROW_GROUP})")
            database.execute(_SESSION)
            database.execute(sql("macros"))
            yield database
    except FluxForgeError:
        raise
    except duckdb.Error as exc:
        message = (str(exc).splitlines() or [type(exc).__name__])[0][:300]
        if "No space left" in str(exc) or "not enough space" in str(exc).lower():
            raise StorageFullError(
                f"no space left in {work_dir}: free some, or set TMPDIR"
            ) from exc
        if isinstance(exc, duckdb.OutOfMemoryException):
            raise SegmentError(
                f"{memory_limit_mb} MB do not suffice ({message}): raise etl.memory_limit_mb"
            ) from exc
        raise SegmentError(message) from exc
