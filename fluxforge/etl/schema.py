"""The columns of every table, asked of the SQL that makes them."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from fluxforge.etl.commit import BOOKKEEPING, ledger_row
from fluxforge.etl.transform import Account, transform_segment
from fluxforge.sources import get_source

if TYPE_CHECKING:
    import pyarrow as pa


@cache
def table_schemas(source: str) -> dict[str, pa.Schema]:
    """Return the columns of a source's tables, by name, the partition column last.

    Raises
    ------
    UnknownSourceError
        If there is no such source.

    Examples
    --------
    >>> table_schemas("coinbase")["trades"].names[:6]
    ['symbol', 'ts_event', 'ts_recv', 'seq', 'conn', 'instrument']
    """
    tables = get_source(source).tables
    with tempfile.TemporaryDirectory(prefix="fluxforge-") as name:
        empty = Path(name) / "empty.ndjson"
        empty.touch()
        with transform_segment(empty, tables, Path(name)) as rows:
            ledger_row(rows, "", Account(0, 0, 0))
            return {
                table: rows.database.table(f"rows_{table}").to_arrow_table().schema
                for table in (*tables.channels, *BOOKKEEPING)
            }
