"""One version of a table, as its readers and its next commit see it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fluxforge.tables.files import TableFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pyarrow as pa
    from deltalake import DeltaTable

    from fluxforge.tables.log import Log

COMMIT_TRIES = 100
KEEP_TRANSACTIONS = timedelta(days=30)


class Snapshot:
    """One version of a table."""

    def __init__(self, delta: DeltaTable, log: Log, retried: Callable[..., Any]) -> None:
        self.delta = delta
        self._log = log
        self._retried = retried
        self.version: int = delta.version()
        self.table_id = str(delta.metadata().id)

    def has_transaction(self, identity: str) -> bool:
        """Tell whether something of that identity is committed."""
        return identity in self.transactions

    @cached_property
    def transactions(self) -> Mapping[str, int | None]:
        """Identities of all that is committed, and when, in milliseconds since 1970.

        They are forgotten after 30 days, unless it is not known when they were committed.
        """
        found = self._log.transactions(self.table_id, self.version)
        oldest = milliseconds(datetime.now(UTC) - KEEP_TRANSACTIONS)
        return {name: at for name, at in found.items() if at is None or at > oldest}

    def schema(self) -> pa.Schema:
        """Return the columns, the partition included, as Arrow types."""
        import pyarrow as pa

        return pa.schema(self.delta.schema())

    def columns(self) -> str:
        """Return the columns and their types as the log states them, as JSON."""
        return self.delta.schema().to_json()

    def dataset(self) -> Any:
        """Return this version as an Arrow dataset, which opens only files that a filter needs."""
        return self._retried(self.delta.to_pyarrow_dataset)

    def holds(self, column: str, value: object) -> bool:
        """Tell whether a row has a value; only files whose bounds allow it are opened."""
        import pyarrow.dataset as ds

        rows = ds.field(column) == value
        return bool(self._retried(lambda: self.dataset().count_rows(filter=rows)))

    def read(self, columns: list[str]) -> pa.Table:
        """Return some columns of all rows."""
        import pyarrow as pa
        import pyarrow.dataset as ds
        from deltalake.fs import DeltaStorageHandler
        from pyarrow.fs import LocalFileSystem, PyFileSystem, SubTreeFileSystem

        # deltalake's own dataset has an expression of every column's bounds in every file.
        known = self.schema()
        sizes = {file.path: file.size for file in self.files()}
        options = self.delta._storage_options  # noqa: SLF001 -- nothing else tells
        if options:
            filesystem = PyFileSystem(DeltaStorageHandler(self.delta.table_uri, options, sizes))
        else:
            filesystem = SubTreeFileSystem(self._log.table_path, LocalFileSystem())
        dataset = ds.FileSystemDataset.from_paths(
            list(sizes),
            schema=pa.schema([known.field(name) for name in columns]),
            format=ds.ParquetFileFormat(),
            filesystem=filesystem,
        )
        return self._retried(lambda: dataset.to_table(columns=columns))

    def files(self) -> list[TableFile]:
        """Return the files of this version, oldest capture first."""
        return list(self._files)

    @cached_property
    def _files(self) -> list[TableFile]:
        import polars as pl  # Arrow's own way would import pandas, where it is installed

        added = self._retried(lambda: self.delta.get_add_actions())
        files = [TableFile.from_snapshot(row) for row in pl.DataFrame(added).to_dicts()]
        return sorted(files, key=lambda file: (file.date, file.path))


def milliseconds(at: datetime) -> int:
    """Return a time as Delta writes it."""
    return int(at.timestamp() * 1000)


def commit_properties(
    metadata: Mapping[str, Any] | None = None,
    transactions: Mapping[str, int | None] | None = None,
    retries: int = COMMIT_TRIES,
) -> Any:
    """Return the notes and identities of a commit as deltalake takes them."""
    from deltalake import CommitProperties, Transaction

    return CommitProperties(
        custom_metadata=dict(metadata or {}),
        max_commit_retries=retries,
        app_transactions=[Transaction(name, 1, at) for name, at in (transactions or {}).items()],
    )
