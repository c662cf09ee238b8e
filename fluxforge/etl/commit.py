"""From the rows of a segment to its tables: once per table, whatever dies in between.

Each table's commit carries the segment's digest. Whoever commits it second, after a crash or
beside another worker, is refused; vacuum alone deletes the files that no version has. The ledger,
the table ``segments``, is committed last: a segment that stands there is done. All of it is
durable before the segment is deleted: deltalake by itself does not wait for the disk.
"""

from __future__ import annotations

import json
import logging
import random
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fluxforge.errors import CommitConflictError
from fluxforge.etl.repeats import flag_repeats
from fluxforge.etl.writers.parquet_writer import ParquetWriter
from fluxforge.tables import Table, table_names
from fluxforge.transform.schema import LEDGER, SEQUENCES
from fluxforge.transform.transform import make_bookkeeping

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fluxforge.sources.base import Channel
    from fluxforge.storage.base import StorageBackend
    from fluxforge.tables import TableFile
    from fluxforge.transform.transform import Account, SegmentRows

_TRIES = 50

logger = logging.getLogger(__name__)


class SegmentCommit:
    """The commit of one segment to all tables of its source.

    Parameters
    ----------
    storage, folder
        Where the source's tables lie.
    rows
        The segment's rows.
    segment
        Its name, for the record.
    work_dir
        A local folder for files on their way.
    """

    def __init__(
        self,
        storage: StorageBackend,
        folder: str,
        rows: SegmentRows,
        segment: str,
        work_dir: Path,
    ) -> None:
        self._storage = storage
        self._folder = folder
        self._rows = rows
        self._segment = segment
        self._work_dir = work_dir

    def run(self, account: Account, channels: Mapping[str, Channel]) -> bool:
        """Commit to every table that has rows; return False if all was committed before.

        Raises
        ------
        CommitConflictError
            If other workers' commits kept coming first.
        TableError, StorageError
            If a table or the storage fails; running again carries on where it stopped.
        """
        for name in account.rows:
            self._commit(name, channels[name])
        self._commit(SEQUENCES)
        ledger_row(self._rows, self._segment, account)
        return self._commit(LEDGER)

    def _commit(self, name: str, channel: Channel | None = None) -> bool:
        digest = self._rows.fingerprint.digest
        table = Table(self._storage, self._storage.join_path(self._folder, name))
        schema = self._rows.database.table(f"rows_{name}").limit(0).to_arrow_table().schema
        first_wins = channel is not None and channel.keep == "first"
        for attempt in range(_TRIES):
            snapshot = table.ensure(schema)
            if snapshot.has_transaction(digest):
                table.sync()  # whoever committed it may have died before this
                return False
            if channel is not None and first_wins:
                flag_repeats(self._rows.database, table, snapshot, channel)
            files = self._write(table, name)
            try:
                if table.commit(
                    snapshot, files, [digest], {"segment": self._segment}, at_version=first_wins
                ):
                    table.sync(since=snapshot)
                    return True
            except CommitConflictError:
                # Which rows repeat others depends on what is committed: look again.
                time.sleep(random.uniform(0, 0.05 * min(attempt + 1, 10)))  # noqa: S311
                continue
            table.sync(since=snapshot)
            return False
        raise CommitConflictError(f"{table.uri}: other commits came first {_TRIES} times")

    def _write(self, table: Table, name: str) -> list[TableFile]:
        writer = ParquetWriter(self._storage, table.path, self._work_dir)
        return writer.write(self._rows.database, f"rows_{name}")


def is_committed(storage: StorageBackend, folder: str, digest: str) -> bool:
    """Tell whether a segment is in all its tables; if so, that survives a loss of power."""
    ledger = Table(storage, storage.join_path(folder, LEDGER)).snapshot()
    if ledger is None or not (ledger.has_transaction(digest) or ledger.holds("digest", digest)):
        return False
    for name in table_names(storage, folder):
        Table(storage, storage.join_path(folder, name)).sync()
    return True


def ledger_row(rows: SegmentRows, segment: str, account: Account) -> None:
    """Make the table ``rows_segments``: one row that says what became of the segment."""
    make_bookkeeping(
        rows.database,
        LEDGER,
        {
            "segment": segment,
            "digest": rows.fingerprint.digest,
            "bytes": rows.fingerprint.size,
            "lines_read": account.read,
            "lines_taken": account.taken,
            "lines_quarantined": account.quarantined,
            "rows": _counts(account.rows),
            "frames": _counts(account.frames),
            "unknown_fields": _counts(account.unknown_fields),
            "processed_at": datetime.now(UTC),
        },
    )


def _counts(counts: Mapping[str, int]) -> str:
    return json.dumps(dict(counts), separators=(",", ":"), sort_keys=True)
