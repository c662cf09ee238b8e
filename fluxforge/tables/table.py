"""One table: its versions, and how files become part of it."""

from __future__ import annotations

import logging
import math
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from fluxforge.errors import (
    AccessDeniedError,
    CommitConflictError,
    TableError,
    UnknownTableError,
)
from fluxforge.retry import RetryPolicy
from fluxforge.tables.errors import translated
from fluxforge.tables.files import PARTITION
from fluxforge.tables.log import LOG, MOVED_TO, Log
from fluxforge.tables.snapshot import (
    COMMIT_TRIES,
    KEEP_TRANSACTIONS,
    Snapshot,
    commit_properties,
    milliseconds,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import pyarrow as pa
    from deltalake import DeltaTable

    from fluxforge.storage.base import StorageBackend, StoredFile
    from fluxforge.tables.files import TableFile

_CHECKPOINT_INTERVAL = 20  # opening a table reads at most so many small log files
_SETTINGS = {
    "delta.checkpointInterval": str(_CHECKPOINT_INTERVAL),
    "delta.logRetentionDuration": "interval 30 days",
    "delta.deletedFileRetentionDuration": "interval 7 days",
    "delta.setTransactionRetentionDuration": f"interval {KEEP_TRANSACTIONS.days} days",
}
_RETRIES = RetryPolicy(first=0.2, cap=6.4, attempts=6, seconds=30)
_RETRY_TIMEOUT = "45s"
"""How long deltalake sends one request again and again; it counts the time of slow answers too."""

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Table:
    """One table of a lake.

    Parameters
    ----------
    storage, path
        Where it lies.

    >>> import tempfile
    >>> from fluxforge.storage.local import LocalStorage
    >>> Table(LocalStorage(tempfile.mkdtemp()), "processed/coinbase/ticker").snapshot() is None
    True
    """

    def __init__(self, storage: StorageBackend, path: str) -> None:
        self.storage = storage
        self.path = path
        self.uri = storage.get_full_path(path)
        self.log = Log(storage, path)
        self._listed: dict[int, StoredFile] = {}

    def __repr__(self) -> str:
        return f"<Table {self.uri}>"

    def exists(self) -> bool:
        """Tell whether the table has a log."""
        return self.storage.exists(self.log.folder)

    def snapshot(self, version: int | None = None) -> Snapshot | None:
        """Return the newest version, or the one asked for; None where there is no table yet."""
        if version is not None:
            newest = max(self.log.versions(), default=-1)
            if type(version) is not int or not 0 <= version <= newest:
                there_are = f"there are 0 to {newest}" if newest >= 0 else "it was never written"
                raise UnknownTableError(f"{self.uri} has no version {version!r}: {there_are}")
        delta = self._open(version)
        if delta is None and self.storage.list_files(self.path, "*.parquet"):
            delta = self._open()  # files come after the log: it was made meanwhile, or is gone
            if delta is None:
                raise TableError(
                    f"{self.uri} has data files and no log: restore {LOG} from a copy, or move the "
                    "files away"
                )
        return None if delta is None else Snapshot(delta, self.log, self.retried)

    def newest(self, snapshot: Snapshot) -> Snapshot | None:
        """Return the newest version, read on from an older one, which is this one afterwards."""
        listed = self.log.listed(snapshot.version)
        known, self._listed = self._listed.get(snapshot.version), listed
        found = listed.get(snapshot.version)
        if found is None or (known or found) != found:
            return self.snapshot()  # it was removed, and perhaps made anew
        if len(listed) > 1:
            self.retried(snapshot.delta.update_incremental)
            self._check_moved(snapshot.delta)
        return self.current(snapshot)

    def current(self, snapshot: Snapshot) -> Snapshot:
        """Return the newest version that an older one's log knows of; nothing is asked for."""
        return Snapshot(snapshot.delta, self.log, self.retried)

    def _open(self, version: int | None = None) -> DeltaTable | None:
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        try:
            delta = self.retried(
                lambda: DeltaTable(self.uri, version=version, storage_options=self._options())
            )
        except TableError as exc:
            absent = isinstance(exc.__cause__, TableNotFoundError)
            if version is not None and (absent or "version" in str(exc).lower()):
                raise UnknownTableError(f"{self.uri} has no version {version}") from exc
            if absent or not self.exists():
                return None
            raise
        self._check_moved(delta)
        return delta

    def _check_moved(self, delta: DeltaTable) -> None:
        if destination := delta.metadata().configuration.get(MOVED_TO):
            raise TableError(
                f"{self.uri} is being moved to {destination}: run that sync again with --delete "
                "to finish"
            )

    def ensure(
        self,
        schema: pa.Schema,
        metadata: Mapping[str, Any] | None = None,
        known: Snapshot | None = None,
    ) -> Snapshot:
        """Return the newest version, making the table or adding columns where needed.

        `metadata` are notes for its history then. A `known` version will do if it has the columns.
        """
        delta = self._open() if known is None else known.delta
        if delta is None:
            delta = self._create(schema, metadata)
        return Snapshot(self._grow(delta, schema, metadata), self.log, self.retried)

    def retried(self, call: Callable[[], T]) -> T:
        """Return what `call`, which may be done twice, does: again where no whole answer comes."""

        def attempt() -> T:
            try:
                with translated(self.uri):
                    return call()
            except AccessDeniedError:
                self.exists()  # the storage says more clearly why it refuses
                raise

        # Asking the storage itself waits until it answers.
        return _RETRIES.call(attempt, before_retry=lambda error, delay: self.exists())

    def _options(self) -> dict[str, str]:
        """Return how deltalake reaches the storage, and when it takes a request for lost."""
        options = dict(self.storage.get_storage_options())
        if seconds := options.get("read_timeout"):
            # It knows only a timeout for whole answers; those that are cut by it are resumed.
            options |= {"timeout": seconds, "retry_timeout": _RETRY_TIMEOUT}
        return options

    def _create(self, schema: pa.Schema, metadata: Mapping[str, Any] | None) -> DeltaTable:
        from deltalake import DeltaTable

        self.storage.mkdir(self.path)
        try:
            return self.retried(
                lambda: DeltaTable.create(
                    self.uri,
                    schema=schema,
                    partition_by=[PARTITION],
                    configuration=_SETTINGS,
                    storage_options=self._options(),
                    # Only as the first version: a later one would take back grown columns.
                    commit_properties=commit_properties(metadata, retries=0),
                )
            )
        except (TableError, CommitConflictError):
            delta = self._open()  # another worker made it first
            if delta is None:
                raise
            return delta

    def _grow(
        self, delta: DeltaTable, schema: pa.Schema, metadata: Mapping[str, Any] | None
    ) -> DeltaTable:
        import pyarrow as pa
        from deltalake import Schema

        for _ in range(COMMIT_TRIES):
            present = pa.schema(delta.schema())
            for column in schema:
                if column.name in present.names:
                    found = present.field(column.name).type
                    if found != column.type:
                        raise TableError(
                            f"{self.uri}: column {column.name!r} is {found}, not {column.type}"
                        )
            missing = [column for column in schema if column.name not in present.names]
            unset = _SETTINGS.keys() - delta.metadata().configuration.keys()
            if missing:
                fields: Any = Schema.from_arrow(pa.schema(missing)).fields
                change = partial(delta.alter.add_columns, list(fields))
            elif unset:  # it was made by an earlier release
                change = partial(
                    delta.alter.set_table_properties, {name: _SETTINGS[name] for name in unset}
                )
            else:
                return delta
            try:
                self.retried(partial(change, commit_properties=commit_properties(metadata)))
            except CommitConflictError:
                logger.info("%s: another worker changed the columns", self.uri)
            self.retried(delta.update_incremental)
        raise CommitConflictError(f"{self.uri}: could not add columns, others keep changing them")

    def commit(
        self,
        snapshot: Snapshot,
        files: Sequence[TableFile],
        transactions: Iterable[str] | Mapping[str, int | None],
        metadata: Mapping[str, Any],
        *,
        removes: Sequence[TableFile] = (),
        at_version: bool = False,
    ) -> bool:
        """Add files to the table, and take others out of it, at once.

        Parameters
        ----------
        snapshot
            The version that the files were made against.
        transactions
            Identities of what is committed: a second commit of any of them is refused, for 30
            days. A mapping says when each was committed, in milliseconds since 1970.
        metadata
            Notes for the table's history, as JSON can hold them.
        removes
            Files of `snapshot` whose rows are in `files`, or go; only with `at_version`.
        at_version
            Only if nothing was committed since `snapshot`; else a CommitConflictError.

        Returns
        -------
        bool
            False if one of the identities was committed before: the files are not part of the
            table.
        """
        from deltalake import PostCommitHookProperties, Schema
        from deltalake.transaction import AddAction, RemoveAction

        now = milliseconds(datetime.now(UTC))
        if not isinstance(transactions, dict):
            transactions = dict.fromkeys(transactions, now)
        if not transactions.keys().isdisjoint(snapshot.transactions):
            return False
        new = not (removes and files)  # else the same rows in other files
        actions: list[Any] = [
            RemoveAction(one.path, new, now, one.size, _partition(one)) for one in removes
        ]
        for one in files:
            action = AddAction(one.path, one.size, _partition(one), now, new, one.stats())
            actions.append(action)
        try:
            self.retried(
                lambda: snapshot.delta.create_write_transaction(
                    actions,
                    mode="append",
                    schema=Schema.from_arrow(snapshot.schema()),
                    partition_by=[PARTITION],
                    commit_properties=commit_properties(
                        metadata, transactions, retries=0 if at_version else COMMIT_TRIES
                    ),
                    # Looking for expired files lists the whole log.
                    post_commithook_properties=PostCommitHookProperties(
                        cleanup_expired_logs=snapshot.version % _CHECKPOINT_INTERVAL == 0
                    ),
                )
            )
        except CommitConflictError:
            # A commit whose answer was lost is refused when it is sent again: it may be our own.
            newest = self.snapshot()
            if newest is None:
                raise
            paths = {file.path for file in files}
            for commit in self.log.commits(range(snapshot.version + 1, newest.version + 1)):
                if (
                    commit.transactions.keys() == transactions.keys()
                    and {file.path for file in commit.added} == paths
                    and commit.metadata == metadata
                ):
                    return True
            if transactions.keys().isdisjoint(newest.transactions):
                raise
            return False
        return True

    def sync(self, since: Snapshot | None = None) -> None:
        """Return when the table's log is durable: what was committed survives a loss of power.

        Parameters
        ----------
        since
            Only what was committed after this version, and the version itself.
        """
        self.storage.sync(self.log.folder, "" if since is None else f"{since.version:020d}")

    def replace(
        self, snapshot: Snapshot, old: Sequence[TableFile], new: Sequence[TableFile]
    ) -> None:
        """Put files in the place of others that hold the same rows, at once."""
        before = {file.path for file in old}
        newest: Snapshot | None = snapshot
        for _ in range(COMMIT_TRIES):
            # deltalake lets two commits remove the same file, which would double its rows. So
            # each try is against one version, in which the old files are known to be.
            if newest is None or not before <= {file.path for file in newest.files()}:
                break
            try:
                self.commit(newest, new, (), {"work": "optimize"}, removes=old, at_version=True)
            except CommitConflictError:
                newest = self.snapshot()
                continue
            self.sync(since=newest)
            return
        raise CommitConflictError(f"{self.uri}: another worker has replaced these files")

    def vacuum(self, keep: timedelta, *, dry_run: bool) -> list[str]:
        """Delete files that no version of the last `keep` refers to; return their paths."""
        delta = self._open()
        if delta is None:
            return []
        return self.retried(
            lambda: delta.vacuum(
                retention_hours=math.ceil(keep / timedelta(hours=1)),
                dry_run=dry_run,
                enforce_retention_duration=False,
                full=True,
            )
        )


def _partition(file: TableFile) -> dict[str, str | None]:
    return {PARTITION: file.date.isoformat()}


def table_names(storage: StorageBackend, folder: str) -> list[str]:
    """Return the names of the tables below a source's folder, sorted."""
    return [
        name
        for name in storage.list_folders(folder)
        if Table(storage, storage.join_path(folder, name)).exists()
    ]
