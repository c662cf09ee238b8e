"""The columns of every table, as they are declared beside its SQL."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from fluxforge.sources import get_source
from fluxforge.sources.tables import LEADING, parse_columns
from fluxforge.tables import PARTITION
from fluxforge.transform.database import identifier, sql

if TYPE_CHECKING:
    import pyarrow as pa

    from fluxforge.sources.tables import Channel

LEDGER = "segments"
"""The table that says of each segment what became of it."""
SEQUENCES = "sequences"
"""The table of what was received, by connection."""
BOOKKEEPING = (SEQUENCES, LEDGER)
"""Tables that are not a channel's, in the order in which they are committed."""

_COLUMNS = re.compile(r"^-- columns: *(.*)$", re.MULTILINE)


def channel_columns(channel: Channel) -> dict[str, str]:
    """Return the columns of a channel's table and their types in DuckDB, the partition last."""
    flag = {"is_repeat": "BOOLEAN"} if channel.keep == "first" else {}
    return {**channel.columns, **flag, PARTITION: "DATE"}


def bookkeeping_columns(name: str) -> dict[str, str]:
    """Return the columns of one of the tables of :data:`BOOKKEEPING`, the partition last."""
    declared = ", ".join(_COLUMNS.findall(sql(name)))
    return {**LEADING, **parse_columns(declared), PARTITION: "DATE"}


def column_list(columns: dict[str, str]) -> str:
    """Write columns as CREATE TABLE takes them.

    >>> column_list({"start": "BIGINT"})
    '"start" BIGINT'
    """
    return ", ".join(f"{identifier(name)} {kind}" for name, kind in columns.items())


@cache
def table_columns(source: str) -> dict[str, dict[str, str]]:
    """Return the columns of a source's tables and their types in DuckDB, the partition last."""
    channels = get_source(source).tables.channels
    return {name: _columns(name, channels.get(name)) for name in (*channels, *BOOKKEEPING)}


def _columns(name: str, channel: Channel | None) -> dict[str, str]:
    return bookkeeping_columns(name) if channel is None else channel_columns(channel)


@cache
def table_schemas(source: str) -> dict[str, pa.Schema]:
    """Return the columns of a source's tables, by name, the partition column last.

    >>> table_schemas("coinbase")["trades"].names[:8]
    ['symbol', 'ts_event', 'ts_recv', 'seq', 'conn', 'instrument', 'market', 'trade_id']
    """
    channels = get_source(source).tables.channels
    return {name: table_schema(name, channels.get(name)) for name in table_columns(source)}


def table_schema(name: str, channel: Channel | None) -> pa.Schema:
    """Return the columns of a channel's table, or of one of the tables of :data:`BOOKKEEPING`."""
    import pyarrow as pa

    types = {
        "VARCHAR": pa.string(),
        "DOUBLE": pa.float64(),
        "BIGINT": pa.int64(),
        "INTEGER": pa.int32(),
        "BOOLEAN": pa.bool_(),
        "TIMESTAMPTZ": pa.timestamp("us", "UTC"),
        "DATE": pa.date32(),
    }
    columns = _columns(name, channel)
    return pa.schema([(column, types[kind]) for column, kind in columns.items()])
