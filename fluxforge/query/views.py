"""Tables as DuckDB views: ``coinbase.trades`` in SQL, in ``%sql`` cells and in BI tools."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from fluxforge.errors import QueryError, UnknownSourceError, UnknownTableError
from fluxforge.query.httpfs import open_httpfs
from fluxforge.tables import PARTITION
from fluxforge.transform.database import identifier, literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    import duckdb
    import polars as pl

    from fluxforge.query.catalog import Catalog, TableVersion
    from fluxforge.tables import TableFile

RAW_SUFFIX = "_raw"
"""Beside a view with one row a key stands one of this name with all rows."""

logger = logging.getLogger(__name__)

_databases: WeakKeyDictionary[Catalog, Database] = WeakKeyDictionary()
"""What each catalog's queries ran on last: opening a database takes longer than a query."""


class Database:
    """A DuckDB database in memory with a schema for each source and a view for each table.

    A view shows one version of its table for ever, so that what was made of it stays what it was.
    """

    def __init__(self) -> None:
        import duckdb

        self.connection = duckdb.connect(config={"autoinstall_known_extensions": False})
        self.connection.execute("SET TimeZone = 'UTC'")
        self._shown: dict[tuple[str, str], TableVersion] = {}
        self._data: dict[str, Any] = {}

    def can_show(self, versions: Iterable[TableVersion]) -> bool:
        """Tell whether no view of another version of these tables is here."""
        return all(self._shown.get((v.source, v.name), v) is v for v in versions)

    def show(self, versions: Iterable[TableVersion]) -> None:
        """Create the views that are not here yet."""
        for version in versions:
            if (version.source, version.name) not in self._shown:
                schema = identifier(version.source)
                self.connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
                self._data |= create_views(self.connection, version)
                self._shown[version.source, version.name] = version

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Return a connection of its own to this database."""
        cursor = self.connection.cursor()
        cursor.execute("SET TimeZone = 'UTC'")
        # Variables of this module are not tables; a caller's own frames are, through `connect`.
        cursor.execute("SET python_enable_replacements = false")
        for name, data in self._data.items():
            cursor.register(name, data)
        return cursor


def connect(catalog: Catalog, only: Iterable[str] | None = None) -> duckdb.DuckDBPyConnection:
    """Open a database in memory with a schema for each source and a view for each table.

    The views show the versions of this moment; connect again to see later ones.

    Parameters
    ----------
    catalog
        The tables.
    only
        ``source.table`` names, where only these are needed.
    """
    database = Database()
    database.show(_open(catalog, None if only is None else set(only)))
    return database.connection


def _open(catalog: Catalog, names: set[str] | None) -> list[TableVersion]:
    """Open the tables of these names that exist, or all."""
    if names is None:
        return [catalog.open(s, name) for s in catalog.sources() for name in catalog.names(s)]
    found = []
    for full in sorted(names):
        source, _, table = full.replace('"', "").partition(".")
        with suppress(UnknownSourceError, UnknownTableError):
            found.append(catalog.open(source, table))
            continue
        with suppress(UnknownSourceError, UnknownTableError):
            found.append(catalog.open(source, table.removesuffix(RAW_SUFFIX)))
    return found


def run(catalog: Catalog, query: str) -> duckdb.DuckDBPyRelation:
    """Run one SQL statement; see :meth:`fluxforge.Lake.sql`."""
    return _prepare(catalog, query)[1]


def fetch(catalog: Catalog, query: str) -> pl.DataFrame:
    """Run one SQL statement and return its rows; Ctrl-C ends it at once.

    Raises
    ------
    UnknownTableError, QueryError
        As :meth:`fluxforge.Lake.sql` does, and also if a value cannot be computed.
    """
    import duckdb

    database, relation = _prepare(catalog, query)
    # DuckDB hears of Ctrl-C only between its tasks; waiting here, and telling it, does not.
    with ThreadPoolExecutor(1) as worker:
        rows = worker.submit(relation.pl)
        try:
            while not wait([rows], timeout=0.5).done:
                pass  # on Windows, a wait without an end hears no Ctrl-C
            frame: pl.DataFrame = rows.result()
        except duckdb.Error as exc:
            raise QueryError(_message(exc)) from exc
        except BaseException:
            while not wait([rows], timeout=0.1).done:
                database.interrupt()  # again and again: before a query begins, it is forgotten
            raise
    return frame


def _prepare(
    catalog: Catalog, query: str
) -> tuple[duckdb.DuckDBPyConnection, duckdb.DuckDBPyRelation]:
    import duckdb

    try:
        names = _tables_of(query)
        return _bind(_showing(catalog, _open(catalog, names)), query)
    except duckdb.CatalogException:
        pass  # with every view at hand, DuckDB can say which name may have been meant
    except duckdb.BinderException as exc:
        raise UnknownTableError(_message(exc)) from exc
    except duckdb.Error as exc:
        raise QueryError(_message(exc)) from exc
    try:
        return _bind(_showing(catalog, _open(catalog, None)), query)
    except duckdb.Error as exc:
        raise UnknownTableError(_message(exc)) from exc


def _showing(catalog: Catalog, versions: list[TableVersion]) -> duckdb.DuckDBPyConnection:
    """Return a connection with views of these versions; what was made of others stays."""
    database = _database(catalog)
    if not database.can_show(versions):
        database = _databases[catalog] = Database()
    database.show(versions)
    return database.cursor()


def _database(catalog: Catalog) -> Database:
    if catalog not in _databases:
        _databases[catalog] = Database()
    return _databases[catalog]


def _bind(
    connection: duckdb.DuckDBPyConnection, query: str
) -> tuple[duckdb.DuckDBPyConnection, duckdb.DuckDBPyRelation]:
    relation: duckdb.DuckDBPyRelation | None = connection.sql(query)
    if relation is None:
        raise QueryError("there is no statement to run")
    return connection, relation


def _tables_of(query: str) -> set[str] | None:
    """Return the tables that a statement names, or None where all may be needed."""
    import duckdb

    try:
        names = _parser().cursor().get_table_names(query, qualified=True)
    except duckdb.Error:
        return None  # it is wrong, or several statements: let the query itself tell
    return names or None


@cache
def _parser() -> duckdb.DuckDBPyConnection:
    """Return a database without tables: it takes names as they are written."""
    import duckdb

    return duckdb.connect()


def _message(exc: Exception) -> str:
    return " ".join(line.strip() for line in str(exc).splitlines()[:4] if line.strip())


def create_views(connection: duckdb.DuckDBPyConnection, version: TableVersion) -> dict[str, Any]:
    """Create the view of one table, and for a table with a key the one with all rows.

    Returns
    -------
    dict
        What the views read that is no file, by the name under which it is registered.
    """
    channel = version.channel
    select, data = _select(connection, version)
    place = f"{identifier(version.source)}.{identifier(version.name)}"
    if channel is None or channel.keep is None:
        connection.execute(f"CREATE VIEW {place} AS {select}")
        return data
    every = f"{identifier(version.source)}.{identifier(version.name + RAW_SUFFIX)}"
    connection.execute(f"CREATE VIEW {every} AS {select}")
    if channel.keep == "first":
        query = f"SELECT * EXCLUDE (is_repeat) FROM {every} WHERE NOT is_repeat"
    else:
        key = ", ".join(identifier(column) for column in channel.key)
        query = (
            f"SELECT * FROM {every} QUALIFY row_number() OVER "
            f"(PARTITION BY {key} ORDER BY ts_recv DESC, seq DESC) = 1"
        )
    connection.execute(f"CREATE VIEW {place} AS {query}")
    return data


def _select(
    connection: duckdb.DuckDBPyConnection, version: TableVersion
) -> tuple[str, dict[str, Any]]:
    files = version.files()
    columns = ", ".join(identifier(name) for name in version.schema.names)
    storage = version.table.storage
    held: dict[str, Any] = {}
    if version.snapshot is None or not files:
        data = version.schema.empty_table() if version.live is None else version.live.to_arrow()
        rows, held = _register(connection, version, "data", data)
        return f"SELECT {columns} FROM {rows}", held
    if storage.backend_type != "local" and not open_httpfs(connection, storage):
        dataset = version.snapshot.dataset()
        known = set(dataset.schema.names)
        rows, held = _register(connection, version, "data", dataset)
    else:
        paths = "[" + ", ".join(literal(path) for path in version.locate(files)) + "]"
        rows = (
            f"read_parquet({paths}, hive_partitioning = true, "
            f"hive_types = {{{literal(PARTITION)}: DATE}}, "
            f"union_by_name = {str(_schemas_differ(version, files)).lower()})"
        )
        known = {PARTITION}.union(*(file.columns for file in files))
    if not known.issuperset(version.schema.names):  # a column is declared, and in no file yet
        empty, more = _register(connection, version, "empty", version.schema.empty_table())
        held |= more
        rows = f"(SELECT * FROM {rows} UNION ALL BY NAME SELECT * FROM {empty})"
    if version.live is not None:
        live, more = _register(connection, version, "live", version.live.to_arrow())
        held |= more
        rows = f"(SELECT {columns} FROM {rows} UNION ALL SELECT {columns} FROM {live})"
    return f"SELECT {columns} FROM {rows}", held


def _register(
    connection: duckdb.DuckDBPyConnection, version: TableVersion, kind: str, data: Any
) -> tuple[str, dict[str, Any]]:
    name = f"{version.source}_{version.name}_{kind}"
    connection.register(name, data)
    return identifier(name), {name: data}


def _schemas_differ(version: TableVersion, files: list[TableFile]) -> bool:
    """Tell whether some file may lack a column: then the footers of all must be looked at."""
    names = set(version.schema.names) - {PARTITION}
    return not all(names <= file.columns for file in files)
