"""Tables as DuckDB views: ``coinbase.trades`` in SQL, in ``%sql`` cells and in BI tools."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

from fluxforge.errors import QueryError, UnknownTableError
from fluxforge.etl.database import identifier, literal
from fluxforge.query.httpfs import open_httpfs
from fluxforge.tables import PARTITION

if TYPE_CHECKING:
    from collections.abc import Iterable

    import duckdb
    import polars as pl

    from fluxforge.query.catalog import Catalog, TableVersion
    from fluxforge.tables import TableFile

RAW_SUFFIX = "_raw"
"""Beside a view with one row a key stands one of this name with all rows."""

logger = logging.getLogger(__name__)


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
    import duckdb

    database = duckdb.connect(config={"autoinstall_known_extensions": False})
    database.execute("SET TimeZone = 'UTC'")
    wanted = None if only is None else {name.replace('"', "") for name in only}
    for source in catalog.sources():
        database.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(source)}")
        for name in catalog.names(source):
            full = f"{source}.{name}"
            if wanted is None or full in wanted or full + RAW_SUFFIX in wanted:
                create_views(database, catalog.open(source, name))
    return database


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
        return _bind(connect(catalog, only=_tables_of(query)), query)
    except duckdb.CatalogException:
        pass  # with every view at hand, DuckDB can say which name may have been meant
    except duckdb.BinderException as exc:
        raise UnknownTableError(_message(exc)) from exc
    except duckdb.Error as exc:
        raise QueryError(_message(exc)) from exc
    try:
        return _bind(connect(catalog), query)
    except duckdb.Error as exc:
        raise UnknownTableError(_message(exc)) from exc


def _bind(
    database: duckdb.DuckDBPyConnection, query: str
) -> tuple[duckdb.DuckDBPyConnection, duckdb.DuckDBPyRelation]:
    # Variables of this module are not tables; a caller's own frames are, through `connect`.
    database.execute("SET python_enable_replacements = false")
    relation: duckdb.DuckDBPyRelation | None = database.sql(query)
    if relation is None:
        raise QueryError("there is no statement to run")
    return database, relation


def _tables_of(query: str) -> set[str] | None:
    """Return the tables that a statement names, or None where all may be needed."""
    import duckdb

    with duckdb.connect() as parser:
        try:
            names = parser.get_table_names(query, qualified=True)
        except duckdb.Error:
            return None  # it is wrong, or several statements: let the query itself tell
    return names or None


def _message(exc: Exception) -> str:
    return " ".join(line.strip() for line in str(exc).splitlines()[:4] if line.strip())


def create_views(database: duckdb.DuckDBPyConnection, version: TableVersion) -> None:
    """Create the view of one table, and for a table with a key the one with all rows."""
    channel = version.channel
    place = f"{identifier(version.source)}.{identifier(version.name)}"
    if channel is None or channel.keep is None:
        database.execute(f"CREATE OR REPLACE VIEW {place} AS {_select(database, version)}")
        return
    every = f"{identifier(version.source)}.{identifier(version.name + RAW_SUFFIX)}"
    database.execute(f"CREATE OR REPLACE VIEW {every} AS {_select(database, version)}")
    if channel.keep == "first":
        query = f"SELECT * EXCLUDE (is_repeat) FROM {every} WHERE NOT is_repeat"
    else:
        key = ", ".join(identifier(column) for column in channel.key)
        query = (
            f"SELECT * FROM {every} QUALIFY row_number() OVER "
            f"(PARTITION BY {key} ORDER BY ts_recv DESC, seq DESC) = 1"
        )
    database.execute(f"CREATE OR REPLACE VIEW {place} AS {query}")


def _select(database: duckdb.DuckDBPyConnection, version: TableVersion) -> str:
    files = version.files()
    columns = ", ".join(identifier(name) for name in version.schema.names)
    if version.snapshot is None or not files:
        return f"SELECT {columns} FROM {_register(database, version, version.schema.empty_table())}"
    storage = version.table.storage
    if storage.backend_type != "local" and not open_httpfs(database, storage):
        return f"SELECT {columns} FROM {_register(database, version, version.snapshot.dataset())}"
    paths = "[" + ", ".join(literal(path) for path in version.locate(files)) + "]"
    rows = (
        f"read_parquet({paths}, hive_partitioning = true, "
        f"hive_types = {{{literal(PARTITION)}: DATE}}, "
        f"union_by_name = {str(_schemas_differ(version, files)).lower()})"
    )
    known = {PARTITION}.union(*(file.columns for file in files))
    if not known.issuperset(version.schema.names):  # a column is declared, and in no file yet
        empty = _register(database, version, version.schema.empty_table())
        rows = f"(SELECT * FROM {rows} UNION ALL BY NAME SELECT * FROM {empty})"
    return f"SELECT {columns} FROM {rows}"


def _register(database: duckdb.DuckDBPyConnection, version: TableVersion, data: Any) -> str:
    name = f"{version.source}_{version.name}_data"
    database.register(name, data)
    return identifier(name)


def _schemas_differ(version: TableVersion, files: list[TableFile]) -> bool:
    """Tell whether some file may lack a column: then the footers of all must be looked at."""
    names = set(version.schema.names) - {PARTITION}
    return not all(names <= file.columns for file in files)
