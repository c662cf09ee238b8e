"""Tables: a folder of Parquet files under a Delta log.

A file belongs to a table when the log says so, and not before: commits are whole, ordered, and
carry the identities of what they commit, so that the same segment is never committed twice.
Everything that knows of the ``deltalake`` package is in this folder: ``files`` (what is in a
table), ``log`` (what a commit says), ``snapshot`` (a version), ``table``,
``moving``, ``errors``.
"""

from fluxforge.tables.errors import table_error
from fluxforge.tables.files import PARTITION, TableFile, checksum_in_name
from fluxforge.tables.log import Commit
from fluxforge.tables.moving import close_table, drop_table
from fluxforge.tables.snapshot import KEEP_TRANSACTIONS, Snapshot
from fluxforge.tables.table import Table, table_names

__all__ = [
    "KEEP_TRANSACTIONS",
    "PARTITION",
    "Commit",
    "Snapshot",
    "Table",
    "TableFile",
    "checksum_in_name",
    "close_table",
    "drop_table",
    "table_error",
    "table_names",
]
