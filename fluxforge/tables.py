"""Tables: a folder of Parquet files under a Delta log.

A file belongs to a table when the log says so, and not before: commits are whole, ordered, and
carry the identity of what they commit, so that the same segment is never committed twice.
Everything that knows of the ``deltalake`` package is in this file, and its errors in
:mod:`fluxforge.table_errors`.
"""

from __future__ import annotations

import json
import logging
import math
import random
import time
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from fluxforge.errors import (
    AccessDeniedError,
    CommitConflictError,
    StorageUnavailableError,
    TableError,
    UnknownTableError,
)
from fluxforge.table_errors import translated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pyarrow as pa
    from deltalake import DeltaTable

    from fluxforge.storage.base import StorageBackend

PARTITION = "date"
"""Every table is divided by this column: the UTC date of capture."""

_LOG = "_delta_log"
_SETTINGS = {
    "delta.checkpointInterval": "20",  # opening a table reads at most so many small log files
    "delta.logRetentionDuration": "interval 30 days",
    "delta.deletedFileRetentionDuration": "interval 7 days",
}
_COMMIT_TRIES = 100
_ANSWER_TRIES = 6
_GIVE_UP_SECONDS = 30.0
_RETRY_TIMEOUT = "45s"
"""How long deltalake sends one request again and again; it counts the time of slow answers too."""

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataFile:
    """A Parquet file that is written and not yet committed.

    Attributes
    ----------
    path
        Relative to the table.
    size
        Bytes.
    date
        Its partition: the UTC date of capture of all its rows.
    rows
        Number of rows.
    stats
        Least and greatest value and number of nulls of each column, as Delta writes them.
    """

    path: str
    size: int
    date: date
    rows: int
    stats: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class TableFile:
    """A file of a table's snapshot, with what the log knows of it.

    Attributes
    ----------
    path
        Relative to the table.
    size, rows, date
        Bytes, number of rows, and the partition.
    least, greatest
        Bounds of each column, where they are known.
    columns
        The columns that are in the file; others were added to the table later.
    """

    path: str
    size: int
    rows: int
    date: date
    least: Mapping[str, Any] = field(repr=False)
    greatest: Mapping[str, Any] = field(repr=False)
    columns: frozenset[str] = field(repr=False)

    def may_hold(self, column: str, low: Any = None, high: Any = None) -> bool:
        """Tell whether a row with ``low <= column <= high`` can be in the file."""
        least, greatest = self.least.get(column), self.greatest.get(column)
        if low is not None and greatest is not None and greatest < low:
            return False
        return not (high is not None and least is not None and least > high)


class Snapshot:
    """One version of a table."""

    def __init__(self, delta: DeltaTable, table: Table) -> None:
        self._delta = delta
        self._table = table
        self._transactions: dict[str, bool] = {}
        self.version: int = delta.version()

    def has_transaction(self, identity: str) -> bool:
        """Tell whether something of that identity is committed."""
        if identity not in self._transactions:  # deltalake reads the log again for each question
            found = self._table.patiently(lambda: self._delta.transaction_version(identity))
            self._transactions[identity] = found is not None
        return self._transactions[identity]

    def schema(self) -> pa.Schema:
        """Return the columns, the partition included, as Arrow types."""
        import pyarrow as pa

        return pa.schema(self._delta.schema())

    def dataset(self) -> Any:
        """Return this version as an Arrow dataset, which opens only files that a filter needs."""
        return self._table.patiently(self._delta.to_pyarrow_dataset)

    def read(self, columns: list[str]) -> pa.Table:
        """Return some columns of all rows."""
        return self._table.patiently(
            lambda: self._delta.to_pyarrow_dataset().to_table(columns=columns)
        )

    def files(self) -> list[TableFile]:
        """Return the files of this version, oldest capture first."""
        import pyarrow as pa

        added = self._table.patiently(lambda: self._delta.get_add_actions(flatten=True))
        actions = pa.table(added).to_pylist()
        files = []
        for action in actions:
            least = {k[4:]: v for k, v in action.items() if k.startswith("min.")}
            greatest = {k[4:]: v for k, v in action.items() if k.startswith("max.")}
            files.append(
                TableFile(
                    path=action["path"],
                    size=action["size_bytes"],
                    rows=action["num_records"],
                    date=action[f"partition.{PARTITION}"],
                    least=least,
                    greatest=greatest,
                    columns=_counted_columns(action),
                )
            )
        return sorted(files, key=lambda file: (file.date, file.path))


class Table:
    """One table of a lake.

    Parameters
    ----------
    storage, path
        Where it lies.

    Examples
    --------
    >>> import tempfile
    >>> from fluxforge.storage.local import LocalStorage
    >>> Table(LocalStorage(tempfile.mkdtemp()), "processed/coinbase/ticker").snapshot() is None
    True
    """

    def __init__(self, storage: StorageBackend, path: str) -> None:
        self.storage = storage
        self.path = path
        self.uri = storage.get_full_path(path)

    def __repr__(self) -> str:
        return f"<Table {self.uri}>"

    def snapshot(self, version: int | None = None) -> Snapshot | None:
        """Return the newest version, or the one asked for; None where there is no table yet.

        Raises
        ------
        UnknownTableError
            If the version asked for does not exist.
        """
        delta = self._open(version)
        return None if delta is None else Snapshot(delta, self)

    def is_newest(self, snapshot: Snapshot | None) -> bool:
        """Tell whether nothing was committed since a snapshot; asks for one file of the log."""
        log, version = f"{self.path}/{_LOG}", -1 if snapshot is None else snapshot.version
        if self.storage.exists(f"{log}/{version + 1:020d}.json"):
            return False
        # On a disk a folder may have been removed and made anew; asking again costs nothing.
        known = snapshot is None or self.storage.backend_type != "local"
        return known or self.storage.exists(f"{log}/{version:020d}.json")

    def _open(self, version: int | None = None) -> DeltaTable | None:
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        try:
            return self.patiently(
                lambda: DeltaTable(self.uri, version=version, storage_options=self._options())
            )
        except TableError as exc:
            absent = isinstance(exc.__cause__, TableNotFoundError)
            if version is not None and (absent or "version" in str(exc).lower()):
                raise UnknownTableError(f"{self.uri} has no version {version}") from exc
            if absent or not self._ask_storage():
                return None
            raise

    def ensure(self, schema: pa.Schema) -> Snapshot:
        """Return the newest version, making the table or adding columns where needed.

        Raises
        ------
        TableError
            If a column of the table has another type than `schema` gives it.
        """
        delta = self._open()
        if delta is None:
            delta = self._create(schema)
        return Snapshot(self._grow(delta, schema), self)

    def patiently(self, call: Callable[[], T]) -> T:
        """Return what `call` does, repeating it while the storage gives no whole answer.

        Only for what may be done twice.

        Raises
        ------
        StorageUnavailableError
            If that goes on.
        """
        attempt, last = 1, time.monotonic() + _GIVE_UP_SECONDS
        while True:
            try:
                with translated(self.uri):
                    return call()
            except AccessDeniedError:
                self._ask_storage()
                raise
            except StorageUnavailableError as exc:
                if attempt == _ANSWER_TRIES or time.monotonic() > last:
                    raise
                logger.debug("attempt %d: %s", attempt, exc)
            self._ask_storage()
            time.sleep(random.uniform(0, 0.1 * 2**attempt))  # noqa: S311
            attempt += 1

    def _ask_storage(self) -> bool:
        """Wait until the storage answers; where it refuses, it says more clearly why."""
        return self.storage.exists(f"{self.path}/{_LOG}")

    def _options(self) -> dict[str, str]:
        """Return how deltalake reaches the storage, and when it takes a request for lost."""
        options = dict(self.storage.get_storage_options())
        if seconds := options.get("read_timeout"):
            # It knows only a timeout for whole answers; those that are cut by it are resumed.
            options |= {"timeout": seconds, "retry_timeout": _RETRY_TIMEOUT}
        return options

    def _create(self, schema: pa.Schema) -> DeltaTable:
        from deltalake import CommitProperties, DeltaTable

        self.storage.mkdir(self.path)
        try:
            return self.patiently(
                lambda: DeltaTable.create(
                    self.uri,
                    schema=schema,
                    partition_by=[PARTITION],
                    configuration=_SETTINGS,
                    storage_options=self._options(),
                    # Only as the first version: a later one would take back grown columns.
                    commit_properties=CommitProperties(max_commit_retries=0),
                )
            )
        except (TableError, CommitConflictError):
            delta = self._open()  # another worker made it first
            if delta is None:
                raise
            return delta

    def _grow(self, delta: DeltaTable, schema: pa.Schema) -> DeltaTable:
        import pyarrow as pa
        from deltalake import Field, Schema

        for _ in range(_COMMIT_TRIES):
            present = pa.schema(delta.schema())
            for column in schema:
                if column.name in present.names:
                    found = present.field(column.name).type
                    if found != column.type:
                        raise TableError(
                            f"{self.uri}: column {column.name!r} is {found}, not {column.type}"
                        )
            missing = [column for column in schema if column.name not in present.names]
            if not missing:
                return delta
            fields: list[Field] = list(Schema.from_arrow(pa.schema(missing)).fields)
            try:
                self.patiently(partial(delta.alter.add_columns, fields))
            except CommitConflictError:
                logger.info("%s: another worker changed the columns", self.uri)
            self.patiently(delta.update_incremental)
        raise CommitConflictError(f"{self.uri}: could not add columns, others keep changing them")

    def commit(
        self,
        snapshot: Snapshot,
        files: Sequence[DataFile],
        identity: str,
        metadata: Mapping[str, str],
        *,
        at_version: bool = False,
    ) -> bool:
        """Add files to the table, at once.

        Parameters
        ----------
        snapshot
            The version that the files were made against.
        identity
            What is committed, for ever: a second commit of it is refused.
        metadata
            Notes for the table's history.
        at_version
            Only if nothing was committed since `snapshot`.

        Returns
        -------
        bool
            False if this identity was committed before: the files are not part of the table.

        Raises
        ------
        CommitConflictError
            With `at_version`, if the table has moved on.
        """
        from deltalake import CommitProperties, Schema, Transaction

        if snapshot.has_transaction(identity):
            return False
        properties = CommitProperties(
            app_transactions=[Transaction(identity, 1)],
            custom_metadata=dict(metadata),
            max_commit_retries=0 if at_version else _COMMIT_TRIES,
        )
        delta = snapshot._delta  # noqa: SLF001 -- this file is the only one that knows of it
        try:
            self.patiently(
                lambda: delta.create_write_transaction(
                    [_add_action(file) for file in files],
                    mode="append",
                    schema=Schema.from_arrow(snapshot.schema()),
                    partition_by=[PARTITION],
                    commit_properties=properties,
                )
            )
        except CommitConflictError:
            newest = self.snapshot()
            if newest is None or not newest.has_transaction(identity):
                raise
            # A commit whose answer was lost is refused when it is sent again: it may be our own.
            present = {file.path for file in newest.files()}
            return all(file.path in present for file in files)
        return True

    def sync(self, since: Snapshot | None = None) -> None:
        """Return when the table's log is durable: what was committed survives a loss of power.

        Parameters
        ----------
        since
            Only what was committed after this version, and the version itself.
        """
        after = "" if since is None else f"{since.version:020d}"
        self.storage.sync(self.storage.join_path(self.path, _LOG), after)

    def replace(
        self, snapshot: Snapshot, old: Sequence[TableFile], new: Sequence[DataFile]
    ) -> None:
        """Put files in the place of others that hold the same rows, at once.

        Raises
        ------
        CommitConflictError
            If another worker has replaced one of the old files.
        """
        from deltalake import CommitProperties, Schema
        from deltalake.transaction import RemoveAction

        now = int(datetime.now(UTC).timestamp() * 1000)
        removals = [
            RemoveAction(file.path, False, now, file.size, {PARTITION: file.date.isoformat()})
            for file in old
        ]
        additions = [_add_action(file, data_change=False) for file in new]
        before, after = {file.path for file in old}, {file.path for file in new}
        newest: Snapshot | None = snapshot
        for _ in range(_COMMIT_TRIES):
            # deltalake lets two commits remove the same file, which would double its rows. So
            # each try is against one version, in which the old files are known to be.
            present = set() if newest is None else {file.path for file in newest.files()}
            if newest is not snapshot and after and after <= present:
                return  # a commit whose answer was lost
            if newest is None or not before <= present:
                break
            try:
                self.patiently(
                    partial(
                        newest._delta.create_write_transaction,  # noqa: SLF001 -- see commit
                        [*removals, *additions],
                        mode="append",
                        schema=Schema.from_arrow(newest.schema()),
                        partition_by=[PARTITION],
                        commit_properties=CommitProperties(
                            custom_metadata={"work": "optimize"}, max_commit_retries=0
                        ),
                    )
                )
            except CommitConflictError:
                newest = self.snapshot()
                continue
            self.sync(since=newest)
            return
        raise CommitConflictError(f"{self.uri}: another worker has replaced these files")

    def write_checkpoint(self) -> None:
        """Write the newest version's whole state into the log: it then opens without the past."""
        delta = self._open()
        if delta is not None:
            self.patiently(delta.create_checkpoint)

    def vacuum(self, keep: timedelta, *, dry_run: bool) -> list[str]:
        """Delete files that no version of the last `keep` refers to; return their paths."""
        delta = self._open()
        if delta is None:
            return []
        return self.patiently(
            lambda: delta.vacuum(
                retention_hours=math.ceil(keep / timedelta(hours=1)),
                dry_run=dry_run,
                enforce_retention_duration=False,
                full=True,
            )
        )


def _counted_columns(action: Mapping[str, Any]) -> frozenset[str]:
    """Return the columns whose nulls were counted: those that are in the file at all."""
    nulls = "null_count."
    return frozenset(
        name.removeprefix(nulls)
        for name, count in action.items()
        if name.startswith(nulls) and count is not None
    )


def _add_action(file: DataFile, *, data_change: bool = True) -> Any:
    from deltalake.transaction import AddAction

    return AddAction(
        path=file.path,
        size=file.size,
        partition_values={PARTITION: file.date.isoformat()},
        modification_time=int(datetime.now(UTC).timestamp() * 1000),
        data_change=data_change,
        # Unescaped: the log's reader takes every escaped surrogate pair for U+10000.
        stats=json.dumps({"numRecords": file.rows, **file.stats}, ensure_ascii=False),
    )


def table_names(storage: StorageBackend, folder: str) -> list[str]:
    """Return the names of the tables below a source's folder, sorted."""
    return [
        name
        for name in storage.list_folders(folder)
        if storage.exists(storage.join_path(folder, name, _LOG))
    ]
