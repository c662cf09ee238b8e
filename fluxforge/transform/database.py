"""A DuckDB connection that transforms segments, and SQL text made safely."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager, suppress
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
_SESSION = f"SET search_path = 'work.main,memory.main'; SET TimeZone = 'UTC'; {_QUIET}"
_idle: dict[str, duckdb.DuckDBPyConnection] = {}
"""A database that nobody uses: to open another takes 60 ms, to empty this one takes three."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_idle.clear)  # a fork has none of its threads, and waits for them


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


def _new_database() -> duckdb.DuckDBPyConnection:
    import duckdb

    database = duckdb.connect(config={"autoinstall_known_extensions": False})
    database.execute(sql("macros"))
    return database


@contextmanager
def open_database(
    work_dir: Path, *, memory_limit_mb: int = 1024, threads: int = 0
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open an empty database in UTC that spills into `work_dir` beyond its memory limit."""
    import duckdb

    try:
        with ExitStack() as closing:  # unless it ends well, and nothing of it is left
            unused = _idle.pop(_SESSION, None)
            database = closing.enter_context(unused if unused is not None else _new_database())
            # Row groups are what threads share among them.
            database.execute(
                f"SET memory_limit = '{memory_limit_mb}MB'; "
                f"SET temp_directory = {literal(str(work_dir))}; "
                f"{f'SET threads = {threads}' if threads else 'RESET threads'}; "
                f"ATTACH ':memory:' AS work (ROW_GROUP_SIZE {_ROW_GROUP})"
            )
            with session(database) as own:
                yield own
            with suppress(duckdb.Error):  # one that has spilled keeps its folder
                database.execute("DETACH work; SET temp_directory = ''")
                if _idle.setdefault(_SESSION, database) is database:
                    closing.pop_all()
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
