"""Running SQL over the tables, in DuckDB.

One database per lake is kept. Each set of table versions, and of the files of them that a
statement needs, has its views in an attached database of its own, which never changes: so a
relation stays what it was, whatever is committed after it.
"""

from __future__ import annotations

import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from fluxforge.errors import (
    EXHAUSTED,
    InvalidKeyError,
    QueryError,
    UnknownSourceError,
    UnknownTableError,
    translate,
)
from fluxforge.query.pruning import planner
from fluxforge.query.views import (
    MARKET,
    RAW_SUFFIX,
    create_market_views,
    create_views,
    read_files,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    import duckdb

    from fluxforge.query.catalog import Catalog, TableVersion
    from fluxforge.tables import TableFile

    Files = Mapping[TableVersion, tuple[TableFile, ...]]

_SETS = 64
"""So many sets of views are kept; then a new database begins, and the old one ends with its use."""
_OWN_NAMES = re.compile(r"\b(lake\d*|memory)\.(?=\w+\.)")
_SUGGESTED = re.compile(r'(?<=Did you mean ")[^"]+')  # a name is in two schemas of a session
_OR = re.compile(r",? or |, ")
_READS = {"SELECT", "EXPLAIN"}
_SHOW_TABLES = re.compile(r"\s*SHOW\s+TABLES\s*;?\s*", re.IGNORECASE)
_LIST = """
SELECT schema_name || '.' || view_name AS name FROM duckdb_views()
WHERE NOT internal AND NOT temporary AND database_name = current_database() ORDER BY 1
"""

_INTERVALS = "POLARS_IMPORT_INTERVAL_AS_STRUCT"
_SHOWN = {
    "INTERVAL": "CASE WHEN {0} IS NOT NULL THEN [12 * year({0}) + month({0}), day({0}), "
    "3_600_000_000 * hour({0}) + 60_000_000 * minute({0}) + microsecond({0})] END"
}
_NESTED = "{0}::VARCHAR"
"""How intervals are fetched: Python's own know no months."""

_databases: WeakKeyDictionary[Catalog, Database] = WeakKeyDictionary()
_lock = RLock()


class Database:
    """A DuckDB database in memory with views of tables; a safe one reads no file by itself."""

    def __init__(self, *, safe: bool = False) -> None:
        import duckdb

        config: dict[str, str | bool | int | float | list[str]] = {
            "autoinstall_known_extensions": False
        }
        if safe:
            config |= {"enable_external_access": False, "temp_directory": ""}
        self.connection = duckdb.connect(config=config)
        # A data file never changes, so that what its footer says may be kept.
        self.connection.execute(
            "SET GLOBAL TimeZone = 'UTC'; SET GLOBAL parquet_metadata_cache = true"
        )
        self._safe = safe
        self._sets: dict[tuple[Any, ...], tuple[str, dict[str, Any]]] = {}

    def create(self, files: Files, database: str = "memory") -> dict[str, Any]:
        """Create the views of some files; return what they read that is no file, by name."""
        every: dict[str, Any] = {}
        for version, chosen in files.items():
            through_arrow = self._safe or not version.table.storage.is_local
            rows, data = read_files(self.connection, version, chosen, through_arrow=through_arrow)
            for name, one in data.items():
                self.connection.register(name, one)
            create_views(self.connection, database, version, rows)
            every |= data
        create_market_views(self.connection, database, files)
        return every

    def cursor(self, files: Files) -> duckdb.DuckDBPyConnection:
        """Return a connection of its own that sees the views of some files."""
        key = tuple(
            (version, None if len(chosen) == len(version.files) else tuple(f.path for f in chosen))
            for version, chosen in files.items()
        )
        if key not in self._sets:
            name = f"lake{len(self._sets) or ''}"
            self.connection.execute(f"ATTACH ':memory:' AS {name}")
            try:
                self._sets[key] = name, self.create(files, name)
            except BaseException:
                self.connection.execute(f"DETACH {name}")
                raise
        name, every = self._sets[key]
        cursor = self.connection.cursor()
        # Variables of this module are not tables; a caller's own frames are, through `connect`.
        cursor.execute(f"USE {name}; SET python_enable_replacements = false")
        for registered, data in every.items():
            cursor.register(registered, data)
        return cursor

    @property
    def is_full(self) -> bool:
        """Whether no more sets of views should be added."""
        return len(self._sets) >= _SETS


def connect(
    catalog: Catalog,
    only: Iterable[tuple[str, str]] | None = None,
    *,
    as_of: datetime | None = None,
    read_only: bool = False,
) -> duckdb.DuckDBPyConnection:
    """Open a database with a view for each table, or `only` some: see ``Lake.connect``."""
    database = Database(safe=read_only)
    versions = _open(catalog, only, as_of)
    database.create({version: version.files for version in versions})
    if read_only:
        database.connection.execute("SET lock_configuration = true")
    return database.connection


def _open(
    catalog: Catalog, names: Iterable[tuple[str, str]] | None, as_of: datetime | None = None
) -> list[TableVersion]:
    """Open the tables of these names that exist, or all."""
    if names is None:
        wanted = [
            (source, table) for source in catalog.sources() for table in catalog.names(source)
        ]
    else:
        wanted = [
            (one, table)
            for source, table in ((source.lower(), table.lower()) for source, table in names)
            for one in (catalog.sources() if source == MARKET else [source])
            if one
        ]
    found = {}
    for source, table in wanted:
        for name in (table, table.removesuffix(RAW_SUFFIX)):
            with suppress(UnknownSourceError, UnknownTableError, InvalidKeyError):
                found[source, name] = catalog.open(source, name, as_of=as_of)
                break
    return list(found.values())


def run(catalog: Catalog, query: str) -> tuple[duckdb.DuckDBPyRelation, list[TableVersion]]:
    """Run SQL, and return the tables that it names too; see :meth:`fluxforge.Lake.sql`."""
    return _prepare(catalog, query)[1:]


def _let_polars_read_intervals() -> None:
    """Have them as months, days and a duration: without this, Polars refuses them."""
    if os.environ.setdefault(_INTERVALS, "1") and (polars := sys.modules.get("polars")):
        polars.Config.reload_env_vars()


@dataclass(frozen=True)
class Rows:
    """What a statement returned, as Python has it."""

    columns: list[str]
    rows: list[tuple[Any, ...]]

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return a dictionary a row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def fetch(catalog: Catalog, query: str, *, safe: bool = False) -> Rows:
    """Run SQL and return its rows; Ctrl-C ends it at once.

    Intervals are ISO 8601 durations of months, days and seconds (``P1M3DT5S``). Of columns that are
    called the same, the later ones are numbered. If `safe`, only a query of the lake's tables: see
    ``read_only`` of :meth:`fluxforge.Lake.connect`.
    """
    import duckdb

    database, relation, _ = _prepare(catalog, query, safe=safe)
    kinds = list(map(str, relation.types))
    names = list[str]()
    for name in relation.columns:
        unique = (name, *(f"{name}_{number}" for number in range(1, len(kinds))))
        names.append(next(one for one in unique if one not in names))
    shown = [_SHOWN.get(kind, _NESTED if "INTERVAL" in kind else "{0}") for kind in kinds]
    if shown != ["{0}"] * len(kinds):
        made = ", ".join(text.format(f"#{n + 1}") for n, text in enumerate(shown))
        relation = relation.project(made)
    # DuckDB hears of Ctrl-C only between its tasks; waiting here, and telling it, does not.
    with ThreadPoolExecutor(1) as worker:
        rows = worker.submit(relation.fetchall)
        try:
            while not wait([rows], timeout=0.5).done:
                pass  # on Windows, a wait without an end hears no Ctrl-C
            found = rows.result()
        except duckdb.Error as exc:
            raise translate(exc, EXHAUSTED, "in this process") or QueryError(_message(exc)) from exc
        except BaseException:
            while not wait([rows], timeout=0.1).done:
                database.interrupt()  # again and again: before a query begins, it is forgotten
            raise
    if "INTERVAL" in kinds:
        found = [
            tuple(
                _iso_duration(*value) if kind == "INTERVAL" and value else value
                for kind, value in zip(kinds, row, strict=True)
            )
            for row in found
        ]
    return Rows(names, found)


def _iso_duration(months: int, days: int, micros: int) -> str:
    """Write months, days and the rest as ISO 8601 does: P1M0DT90.500000S."""
    seconds, rest = divmod(abs(micros), 1_000_000)
    fraction = f".{rest:06}" if rest else ""
    return f"P{months}M{days}DT{'-' if micros < 0 else ''}{seconds}{fraction}S"


def _prepare(
    catalog: Catalog, query: str, *, safe: bool = False
) -> tuple[duckdb.DuckDBPyConnection, duckdb.DuckDBPyRelation, list[TableVersion]]:
    import duckdb

    if not isinstance(query, str):
        raise QueryError(f"{query!r} is not SQL: write it as text")
    query = _LIST if _SHOW_TABLES.fullmatch(query) else query
    try:
        kinds, names = planner().parse(query)
        _check(kinds, safe=safe)
        return _bind(catalog, query, names or None, prune=kinds == ["SELECT"], safe=safe)
    except duckdb.CatalogException:
        pass  # with every view at hand, DuckDB can say which name may have been meant
    except duckdb.BinderException as exc:
        raise UnknownTableError(_message(exc)) from exc
    except ValueError as exc:  # a kind of statement that DuckDB's Python does not know
        raise QueryError(_message(exc)) from exc
    except duckdb.Error as exc:
        raise translate(exc, EXHAUSTED, "in this process") or QueryError(_message(exc)) from exc
    try:
        return _bind(catalog, query, None, prune=False, safe=safe)
    except duckdb.Error as exc:
        raise UnknownTableError(_message(exc)) from exc


def _check(kinds: list[str], *, safe: bool) -> None:
    """Refuse statements of which nothing, or not everything, would come out."""
    if not kinds:
        raise QueryError("there is no statement to run")
    if safe and kinds not in (["SELECT"], ["EXPLAIN"]):
        raise QueryError("only one statement that reads is taken here: SELECT, FROM, WITH, EXPLAIN")
    if _READS.intersection(kinds[:-1]):
        raise QueryError("only the last statement may be a query: run the others by themselves")


def _bind(
    catalog: Catalog, query: str, names: set[tuple[str, str]] | None, *, prune: bool, safe: bool
) -> tuple[duckdb.DuckDBPyConnection, duckdb.DuckDBPyRelation, list[TableVersion]]:
    versions: list[TableVersion] = []
    with _lock:
        if safe:
            connection = connect(catalog, names, read_only=True)
        else:
            versions = _open(catalog, names)
            files: Files = {version: version.files for version in versions}
            if prune:
                files = planner().needed(query, versions)
            if catalog not in _databases or _databases[catalog].is_full:
                _databases[catalog] = Database()
            connection = _databases[catalog].cursor(files)
    relation = connection.sql(query)
    if relation is not None and "INTERVAL" in map(str, relation.types):
        _let_polars_read_intervals()
    sources = {source.lower() for source, _ in names or ()}
    return connection, relation, [version for version in versions if version.source in sources]


def _message(exc: Exception) -> str:
    lines = (line.strip() for line in str(exc).splitlines()[:4])
    text = _OWN_NAMES.sub("", " ".join(line for line in lines if line))
    return _SUGGESTED.sub(lambda found: " or ".join(dict.fromkeys(_OR.split(found[0]))), text)
