"""From the files of a batch to the tables: each segment once per table, whatever dies in between.

Each table's commit carries two identities of every segment in it: its name and its digest. Which
segments a table lacks is looked up in the version that is committed against; files hold rows of
these only. Vacuum alone deletes files that no version has. The ledger, the table ``segments``, is
committed last: a segment that stands there is done. All of it is durable before a segment is
deleted: deltalake by itself does not wait for the disk.
"""

from __future__ import annotations

import json
import logging
import random
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from fluxforge.errors import CommitConflictError, TableError
from fluxforge.etl.repeats import flag_files
from fluxforge.etl.work import GroupRows, SegmentGroup, transform_group, work_folder
from fluxforge.etl.writers.parquet_writer import ParquetWriter
from fluxforge.tables import KEEP_TRANSACTIONS, Table
from fluxforge.transform.database import open_database, sql
from fluxforge.transform.schema import LEDGER, SEQUENCES, table_schema

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from fluxforge.sources.tables import SourceTables
    from fluxforge.storage.base import StorageBackend
    from fluxforge.tables import Snapshot, TableFile
    from fluxforge.transform.accounts import Account

_TRIES = 50
_MARGIN = timedelta(days=1)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Done:
    """A group of segments, and what became of it."""

    group: SegmentGroup
    rows: GroupRows


class SourceCommits:
    """The tables of a source, kept open from batch to batch.

    Parameters
    ----------
    storage, folder
        Where the source's tables lie.
    """

    def __init__(self, storage: StorageBackend, folder: str, tables: SourceTables) -> None:
        self._storage = storage
        self._folder = folder
        self._tables = tables
        names = [*tables.channels, SEQUENCES, LEDGER]
        self._open = {name: Table(storage, storage.join_path(folder, name)) for name in names}
        self._snapshots: dict[str, Snapshot] = {}
        self._ensured: set[str] = set()
        self._written: set[str] = set()

    def _snapshot(self, name: str) -> Snapshot | None:
        known = self._snapshots.pop(name, None)  # one that cannot be brought up to date is dropped
        table = self._open[name]
        found = table.snapshot() if known is None else table.newest(known)
        if found is None:
            self._ensured.discard(name)
        else:
            self._snapshots[name] = found
        return found

    def committed(
        self, names: Iterable[str], segments: Collection[str]
    ) -> dict[str, frozenset[str]]:
        """Return, for each of some tables, those of some segments whose names it has."""
        names = list(names)
        opened = self._snapshots.keys() >= set(names)
        there = names if opened else self._storage.list_folders(self._folder)
        found = dict.fromkeys(names, frozenset[str]())
        for name in set(names) & {*there, *self._snapshots}:
            with suppress(TableError):  # it is told when something is committed to it
                if (snapshot := self._snapshot(name)) is not None:
                    found[name] = frozenset(filter(snapshot.has_transaction, segments))
        return found

    def in_ledger(self, segments: Mapping[str, str]) -> tuple[set[str], set[str]]:
        """Return which segments the ledger has, by digest, and which names it has for others.

        Parameters
        ----------
        segments
            Digests by name.
        """
        snapshot = self._snapshot(LEDGER)
        if snapshot is None:
            return set(), set()
        known = {one for pair in segments.items() for one in pair if snapshot.has_transaction(one)}
        known |= _long_ago(snapshot, segments)
        done = {name for name, digest in segments.items() if digest in known}
        return done, {name for name in segments if name in known} - done

    def written(self) -> list[tuple[Table, Snapshot]]:
        """Return the tables that were committed to since this was last asked, as they are now."""
        names, self._written = sorted(self._written & self._snapshots.keys()), set()
        return [(self._open[name], self._snapshots[name]) for name in names]

    @property
    def made(self) -> frozenset[str]:
        """The tables that were there when they were last looked at."""
        return frozenset(self._snapshots)

    def settle(self) -> None:
        """Return when all that is committed survives a loss of power."""
        for name, table in self._open.items():
            if name in self._snapshots:
                table.sync()

    def commit(self, batch: list[Done]) -> tuple[set[str], dict[str, Exception]]:
        """Commit a batch to every table that has rows of it, and then to the ledger.

        Returns
        -------
        tuple
            The names of the segments that this commit brought into the ledger, as others may
            have been faster; and what keeps segments from being done, by name: a table that
            cannot be written.
        """
        failed: dict[str, Exception] = {}
        accounts = {name: one for done in batch for name, one in done.rows.accounts.items()}
        for name in [*self._tables.channels, SEQUENCES]:
            concerned = {
                segment: account
                for segment, account in accounts.items()
                if segment not in failed and (name == SEQUENCES or account.rows.get(name))
            }
            if not concerned:
                continue
            try:
                self._commit(name, batch, concerned)
            except (TableError, CommitConflictError) as exc:
                failed |= dict.fromkeys(concerned, exc)
        done = {name: one for name, one in accounts.items() if name not in failed}
        added: set[str] = set()
        try:
            added = self._commit_ledger(done)
        except (TableError, CommitConflictError) as exc:
            failed |= dict.fromkeys(done, exc)
        return added, failed

    def _commit(self, name: str, batch: list[Done], segments: Mapping[str, Account]) -> None:
        table, channel = self._open[name], self._tables.channels.get(name)
        first_wins = channel is not None and channel.keep == "first"
        for attempt in range(_TRIES):
            lacking = self._lacking(name, segments)
            batch = [_without(done, name, lacking) for done in batch]
            files = [file for done in batch for file in done.rows.files.get(name, ())]
            if not files and not (name == SEQUENCES and lacking):
                if len(lacking) < len(segments):
                    table.sync()  # whoever committed them may have died before this
                return
            snapshot = self._ensure(name)
            if channel is not None and first_wins:
                keys = {path: one for done in batch for path, one in done.rows.keys.items()}
                files = flag_files(table, snapshot, channel, files, keys)
            if self._add(name, snapshot, files, lacking, at_version=first_wins):
                return
            time.sleep(random.uniform(0, 0.05 * min(attempt + 1, 10)))  # noqa: S311
        raise CommitConflictError(f"{table.uri}: other commits came first {_TRIES} times")

    def _commit_ledger(self, segments: Mapping[str, Account]) -> set[str]:
        if not segments:
            return set()
        table = self._open[LEDGER]
        for _ in range(_TRIES):
            lacking = self._lacking(LEDGER, segments)
            if not lacking:
                table.sync()
                return set()
            snapshot = self._ensure(LEDGER)  # files without a log look like a table that lost it
            with work_folder() as work, open_database(work) as database:
                database.register("accounts", ledger_rows(lacking))
                database.execute(f"CREATE TEMP TABLE ledger AS {sql(LEDGER)}")
                files = ParquetWriter(self._storage, table.path, work).write(database, "ledger")
            if self._add(LEDGER, snapshot, files, lacking):
                return set(lacking)
        raise CommitConflictError(f"{table.uri}: other commits came first {_TRIES} times")

    def _lacking(self, name: str, segments: Mapping[str, Account]) -> dict[str, Account]:
        snapshot = self._snapshot(name)
        if snapshot is None:
            return dict(segments)
        return {
            segment: account
            for segment, account in segments.items()
            if not (snapshot.has_transaction(segment) or snapshot.has_transaction(account.digest))
        }

    def _ensure(self, name: str) -> Snapshot:
        """Make the table, or add columns to it, once; return what is to be committed against."""
        if name not in self._ensured:
            schema = table_schema(name, self._tables.channels.get(name))
            known = self._snapshots.get(name)
            self._snapshots[name] = self._open[name].ensure(schema, known=known)
            self._ensured.add(name)
        return self._snapshots[name]

    def _add(
        self,
        name: str,
        snapshot: Snapshot,
        files: list[TableFile],
        segments: Mapping[str, Account],
        *,
        at_version: bool = False,
    ) -> bool:
        """Commit files; False where others came first, so that all must be worked out again."""
        identities = [
            one for segment, account in segments.items() for one in (segment, account.digest)
        ]
        try:
            added = self._open[name].commit(
                snapshot, files, identities, {"segments": len(segments)}, at_version=at_version
            )
        except CommitConflictError:
            added = False
        if added:
            self._open[name].sync(since=snapshot)
            self._snapshots[name] = self._open[name].current(snapshot)
            self._written.add(name)
        return added


def _without(done: Done, name: str, lacking: Mapping[str, Account]) -> Done:
    """Return a group whose files of a table hold rows of segments that it lacks, and no others."""
    present = frozenset(done.group.segments) - lacking.keys()
    written = done.group.skip.get(name, frozenset())
    surplus = {
        segment
        for segment in present - written
        if done.rows.accounts[segment].rows.get(name) or name == SEQUENCES
    }
    missing = written & lacking.keys()
    if not surplus and not missing:
        return done
    if not lacking.keys() & done.group.segments.keys():
        files: Mapping[str, list[TableFile]] = {**done.rows.files, name: []}
        return Done(done.group, replace(done.rows, files=files))
    group = replace(done.group, skip={**done.group.skip, name: present})
    again = transform_group(replace(group, only=(name,)))
    rows = replace(
        done.rows,
        files={**done.rows.files, **again.files},
        keys={**done.rows.keys, **again.keys},
    )
    return Done(group, rows)


def ledger_rows(segments: Mapping[str, Account]) -> Any:
    """Return what ``segments.sql`` reads as ``accounts``."""
    import pyarrow as pa

    times = {name: pa.timestamp("us", "UTC") for name in ("first_sent", "first_recv", "last_recv")}
    now = datetime.now(UTC)
    rows = [
        {
            "segment": name, "digest": one.digest, "bytes": one.size, "lines_read": one.read,
            "lines_taken": one.taken, "lines_quarantined": one.quarantined,
            "rows": _counts(one.rows), "frames": _counts(one.frames),
            "unknown_fields": _counts(one.unknown_fields), "processed_at": now,
            **{time: getattr(one, time) for time in times},
        }
        for name, one in segments.items()
    ]  # fmt: skip
    table = pa.Table.from_pylist(rows)
    for column, kind in times.items():
        at = table.schema.get_field_index(column)
        table = table.set_column(at, column, table[column].cast(kind))
    return table


def _counts(counts: Mapping[str, int]) -> str:
    return json.dumps(dict(counts), separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def _long_ago(snapshot: Snapshot, segments: Mapping[str, str]) -> set[str]:
    """Look up names and digests in ledger rows whose identities may have expired."""
    import pyarrow.compute as pc

    oldest = datetime.now(UTC) - KEEP_TRANSACTIONS + _MARGIN
    files = [file for file in snapshot.files() if file.may_hold("processed_at", None, oldest)]
    if not files:
        return set()
    old = pc.field("processed_at") < pc.scalar(oldest)
    wanted = pc.field("segment").isin(list(segments)) | pc.field("digest").isin(
        [*segments.values()]
    )
    rows = snapshot.dataset().to_table(columns=["segment", "digest"], filter=old & wanted)
    return {one for row in rows.to_pylist() for one in row.values()}
