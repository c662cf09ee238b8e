"""The files of a Delta log: numbered commits, each of JSON lines, and checkpoints of them all.

deltalake reads and writes the log. Read here is only what it does not tell: what a single commit
did, and the identities of all that was committed.
"""

from __future__ import annotations

import itertools
import json
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from fluxforge.errors import FileMissingError, TableError
from fluxforge.layout import join_key
from fluxforge.tables.files import TableFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import pyarrow as pa

    from fluxforge.storage.base import StorageBackend, StoredFile

LOG = "_delta_log"
MOVED_TO = "fluxforge.movedTo"
"""The property of a table that a sync is about to delete: where it is now."""

_COMMIT = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.parquet")
_DELTAS_OWN = {
    "timestamp", "operation", "operationParameters", "operationMetrics", "engineInfo",
    "clientVersion", "readVersion", "isolationLevel", "isBlindAppend", "txnId",
}  # fmt: skip
_READERS = 8


@dataclass(frozen=True)
class Commit:
    """What one version of a table did."""

    version: int  # that it made
    at: datetime  # UTC
    operation: str  # as deltalake calls it
    added: tuple[TableFile, ...] = field(repr=False)
    removed: frozenset[str] = field(repr=False)  # paths
    transactions: Mapping[str, int | None]  # identities, and when: milliseconds since 1970
    metadata: Mapping[str, Any]  # the notes that were left with it
    columns: str | None = field(repr=False)
    """The table's, where the commit states them: its columns as the log has them, as JSON."""
    properties: Mapping[str, str] = field(repr=False)
    table_id: str = field(repr=False)
    reader: int = field(repr=False)
    """The version of the protocol that a reader has to speak, where the commit states it."""

    @classmethod
    def parse(cls, version: int, data: bytes) -> Commit:
        """Read the lines of a commit."""
        actions: dict[str, list[Any]] = {}
        for line in data.splitlines():
            for kind, action in json.loads(line).items() if line.strip() else ():
                actions.setdefault(kind, []).append(action)
        info = actions.get("commitInfo", [{}])[0]
        stated = actions.get("metaData", [{}])[-1]
        return cls(
            version=version,
            at=datetime.fromtimestamp(info.get("timestamp", 0) / 1000, UTC),
            operation=info.get("operation", ""),
            added=tuple(TableFile.from_commit(action) for action in actions.get("add", ())),
            removed=frozenset(unquote(action["path"]) for action in actions.get("remove", ())),
            transactions={one["appId"]: one.get("lastUpdated") for one in actions.get("txn", ())},
            metadata={name: value for name, value in info.items() if name not in _DELTAS_OWN},
            columns=stated["schemaString"] if stated else None,
            properties=stated.get("configuration", {}),
            table_id=stated.get("id", ""),
            reader=max((one["minReaderVersion"] for one in actions.get("protocol", ())), default=1),
        )

    @property
    def schema(self) -> pa.Schema | None:
        """The table's columns as Arrow types, where the commit states them."""
        return None if self.columns is None else arrow_schema(self.columns)

    @property
    def moved_to(self) -> str | None:
        """Where the table is, if this is the commit that closed it here."""
        return self.properties.get(MOVED_TO) or None


def arrow_schema(columns: str) -> pa.Schema:
    """Return the columns that a log states as Arrow types."""
    import pyarrow as pa
    from deltalake import Schema

    stated: Any = Schema.from_json(columns)
    return pa.schema(stated)


class Log:
    """The log of a table in a storage."""

    def __init__(self, storage: StorageBackend, path: str) -> None:
        self._storage = storage
        self.folder = join_key(path, LOG)
        self.table_path = storage.get_full_path(path)
        self._known: tuple[str, int, dict[str, int | None]] = ("", -1, {})

    def key(self, version: int) -> str:
        """Return where the commit of a version lies."""
        return join_key(self.folder, f"{version:020}.json")

    def versions(self, kind: re.Pattern[str] = _COMMIT) -> list[int]:
        """Return the versions whose commits are there, ascending."""
        files = self._storage.list_entries(self.folder, recursive=False)
        return sorted(int(match[1]) for file in files if (match := kind.fullmatch(file.name)))

    def whole(self) -> dict[int, StoredFile]:
        """Return the entries of all commits of a log that has no checkpoint yet, or nothing."""
        checkpoint = join_key(self.folder, "_last_checkpoint")
        if self._storage.is_local and self._storage.exists(checkpoint):
            return {}  # without a listing, which takes long where the log is
        files = self._storage.list_entries(self.folder, recursive=False)
        found = {int(match[1]): one for one in files if (match := _COMMIT.fullmatch(one.name))}
        plain = len(found) == len(files) and sorted(found) == list(range(len(found)))
        return found if plain else {}

    def listed(self, version: int) -> dict[int, StoredFile]:
        """Return the entries of a version, if it is there, and of some or all that came after it.

        One request to an object store; on a disk, where listing a long log takes longer than
        looking for two files, not even a listing.
        """
        if self._storage.is_local:
            return dict(self._looked_up(version))
        same = f"{version + 1:020}".rstrip("0")[:-1]  # so begin both this and the next one
        files = self._storage.list_entries(self.folder, recursive=False, name_prefix=same)
        found = {int(match[1]): one for one in files if (match := _COMMIT.fullmatch(one.name))}
        return {number: one for number, one in found.items() if number >= version}

    def _looked_up(self, version: int) -> Iterator[tuple[int, StoredFile]]:
        for number in itertools.count(version):
            try:
                yield number, self._storage.stat(self.key(number))
            except FileMissingError:
                if number > version:
                    return

    def commit(self, version: int) -> Commit:
        """Read the commit of a version."""
        data = self._storage.read_bytes(self.key(version))
        try:
            return Commit.parse(version, data)
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise TableError(f"{self.key(version)} is no commit: restore it from a copy") from exc

    def commits(self, versions: Iterable[int]) -> list[Commit]:
        """Read the commits of some versions."""
        with ThreadPoolExecutor(_READERS, thread_name_prefix="fluxforge-log") as pool:
            return list(pool.map(self.commit, versions))

    def transactions(self, table_id: str, version: int) -> dict[str, int | None]:
        """Return the identities of all that was committed up to a version, and when."""
        known, base, found = self._known
        if known != table_id or base > version:
            base, found = -1, {}
        commits: list[Commit] | None = None
        if version - base <= _READERS:
            with suppress(FileMissingError):
                commits = self.commits(range(base + 1, version + 1))
        if commits is None:
            checkpoint = max((n for n in self.versions(_CHECKPOINT) if n <= version), default=-1)
            if checkpoint > base:
                base, found = checkpoint, self._in_checkpoint(checkpoint)
            commits = self.commits(range(base + 1, version + 1))
        found = dict(found) if commits else found
        for commit in commits:
            found.update(commit.transactions)
        self._known = table_id, version, found
        return found

    def _in_checkpoint(self, version: int) -> dict[str, int | None]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        key = join_key(self.folder, f"{version:020}.checkpoint.parquet")
        try:
            data = pa.BufferReader(self._storage.read_bytes(key))
            rows = pq.read_table(data, columns=["txn"])["txn"].to_pylist()
        except (pa.ArrowException, OSError) as exc:
            raise TableError(f"{key} cannot be read: restore it from a copy") from exc
        return {row["appId"]: row["lastUpdated"] for row in rows if row is not None}
