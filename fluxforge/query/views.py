"""Tables as DuckDB views: the SQL of ``coinbase.trades`` and of ``market.trades``."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from fluxforge.sources import is_source
from fluxforge.tables import PARTITION
from fluxforge.transform.database import identifier, literal, literals

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    import duckdb

    from fluxforge.query.catalog import TableVersion
    from fluxforge.tables import TableFile

RAW_SUFFIX = "_raw"
"""Beside a view with one row a key stands one of this name with all rows."""
MARKET = "market"
"""The schema of the views over all venues."""
MARKET_TABLES = ("trades", "ticker", "orderbook", "candles")


def create_views(
    connection: duckdb.DuckDBPyConnection, database: str, version: TableVersion, rows: str
) -> None:
    """Create the view of a table's `rows`, as FROM takes them, and with a key that of all rows."""
    schema = f"{database}.{identifier(version.source)}"
    place = f"{schema}.{identifier(version.name)}"
    columns = ", ".join(identifier(name) for name in version.columns)
    every, query = place, ""
    if version.channel and version.channel.keep:
        every = f"{schema}.{identifier(version.name + RAW_SUFFIX)}"
        query = f"SELECT * EXCLUDE (is_repeat) FROM {every}"
        if version.channel.keep == "last":
            key = [identifier(column) for column in version.channel.key]
            query = (
                f"SELECT * FROM {every} QUALIFY row_number() OVER "
                f"(PARTITION BY {', '.join(key)} ORDER BY ts_recv DESC, seq DESC) = 1"
                f" OR {' OR '.join(f'{column} IS NULL' for column in key)}"  # no key to share
            )
        elif version.has_repeats:
            query += " WHERE NOT is_repeat"
    connection.execute(
        f"CREATE SCHEMA IF NOT EXISTS {schema};"
        f"CREATE OR REPLACE VIEW {every} AS SELECT {columns} FROM {rows};"
        + (f"CREATE OR REPLACE VIEW {place} AS {query}" if query else "")
    )


def create_market_views(
    connection: duckdb.DuckDBPyConnection, database: str, versions: Iterable[TableVersion]
) -> None:
    """Create the views over all venues that have a table, each with a column ``source``."""
    found = [one for one in versions if one.name in MARKET_TABLES and is_source(one.source)]
    found.sort(key=lambda one: (one.name, one.source))
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {database}.{MARKET}")
    for name, group in groupby(found, key=lambda one: one.name):
        tables = list(group)
        keyed = tables[0].channel and tables[0].channel.keep
        as_text = " REPLACE (trade_id::VARCHAR AS trade_id)" if name == "trades" else ""
        for table in (identifier(name), identifier(name + RAW_SUFFIX))[: 2 if keyed else 1]:
            query = " UNION ALL BY NAME ".join(
                f"SELECT {literal(one.source)} AS source, *{as_text} "
                f"FROM {database}.{identifier(one.source)}.{table}"
                for one in tables
            )
            connection.execute(f"CREATE OR REPLACE VIEW {database}.{MARKET}.{table} AS {query}")


def read_files(
    connection: duckdb.DuckDBPyConnection,
    version: TableVersion,
    files: Collection[TableFile],
    *,
    through_arrow: bool,
) -> tuple[str, dict[str, Any]]:
    """Return what gives the rows of files, as FROM takes it, and the objects that it names."""
    names = frozenset(version.columns)
    parts, known, data = [], frozenset[str](), {}
    unique = f"{version.source}_{version.name}_{id(version)}"
    if files and through_arrow:
        from fluxforge.query.dataset import make_dataset

        known, data[unique] = names, make_dataset(version, files)
        parts.append(f"FROM {identifier(unique)}")
    elif files:
        # Where some file may lack a column, the footers of all have to be looked at.
        differ = not all(names - {PARTITION} <= file.columns for file in files)
        known = frozenset({PARTITION}).union(*(file.columns for file in files))
        parts.append(
            f"FROM read_parquet({literals(version.locate(files))}, hive_partitioning = true, "
            f"hive_types = {{{literal(PARTITION)}: DATE}}, union_by_name = {str(differ).lower()})"
        )
    if version.live is not None:
        known, data[f"{unique}_live"] = names, version.live.to_arrow()
        parts.append(f"FROM {identifier(f'{unique}_live')}")
    if not known >= names:  # a column is declared, and in no file yet
        parts.append(f"SELECT {columns_of(connection, version)} WHERE false")
    return f"({' UNION ALL BY NAME '.join(parts)})", data


def columns_of(connection: duckdb.DuckDBPyConnection, version: TableVersion) -> str:
    """Return the columns of a table as nulls of their types."""
    import pyarrow as pa

    empty = connection.from_arrow(pa.Table.from_batches([], version.schema))  # asks no pandas
    return ", ".join(
        f"NULL::{kind} AS {identifier(name)}"
        for name, kind in zip(empty.columns, empty.types, strict=True)
    )
