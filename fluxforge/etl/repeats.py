"""Rows of a key that the table has already: flagged when they are committed.

Venues repeat their last trades after each subscribe. Flagging costs a look at the few files whose
times overlap with the new rows; readers then filter on one column, for next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluxforge.tables import table_error
from fluxforge.transform.database import identifier

if TYPE_CHECKING:
    import duckdb
    import polars as pl

    from fluxforge.sources.base import Channel
    from fluxforge.tables import Snapshot, Table


def flag_repeats(
    database: duckdb.DuckDBPyConnection, table: Table, snapshot: Snapshot, channel: Channel
) -> None:
    """Set ``is_repeat`` in the rows of a channel, against themselves and against a table.

    Rows whose key has a null are never repeats.
    """
    rows = identifier(f"rows_{channel.name}")
    keys = ", ".join(identifier(column) for column in channel.key)
    complete = " AND ".join(f"{identifier(column)} IS NOT NULL" for column in channel.key)
    database.execute(f"""
        UPDATE {rows} SET is_repeat = rowid IN (
            SELECT position FROM (
                SELECT rowid AS position,
                       row_number() OVER (PARTITION BY {keys} ORDER BY ts_recv, seq, rowid) AS nth
                FROM {rows} WHERE {complete}
            ) WHERE nth > 1)""")
    known = _known_keys(database, table, snapshot, channel)
    if known is None:
        return
    database.register("known_keys", known.to_arrow())
    database.execute(
        f"UPDATE {rows} SET is_repeat = true "
        f"WHERE {complete} AND ({keys}) IN (SELECT ({keys}) FROM known_keys)"
    )
    database.unregister("known_keys")


def _known_keys(
    database: duckdb.DuckDBPyConnection, table: Table, snapshot: Snapshot, channel: Channel
) -> pl.DataFrame | None:
    """Read the keys that the table has in the times of the new rows, symbol by symbol.

    A repeated row tells of the same event: it has the same symbol and the same time.
    """
    spans = database.execute(
        "SELECT symbol, min(ts_event), max(ts_event), count(*) > count(ts_event) "
        f"FROM {identifier(f'rows_{channel.name}')} GROUP BY symbol"
    ).fetchall()
    overlapping = []
    for file in snapshot.files():
        for symbol, first, last, timeless in spans:
            low, high = (None, None) if timeless else (first, last)
            if file.may_hold("symbol", symbol, symbol) and file.may_hold("ts_event", low, high):
                overlapping.append(f"{table.path}/{file.path}")
                break
    if not overlapping:
        return None
    import polars as pl

    symbols = [symbol for symbol, *_ in spans]
    keys = (
        pl.scan_parquet(
            [table.storage.get_full_path(key) for key in overlapping],
            storage_options=table.storage.get_storage_options() or None,
            credential_provider=None,
            hive_partitioning=False,
            glob=False,
        )
        .filter(pl.col("symbol").is_in(symbols))
        .select(channel.key)
        .unique()
    )
    try:
        return keys.collect()
    except (pl.exceptions.PolarsError, OSError) as exc:
        raise table_error(table.uri, exc) from exc
