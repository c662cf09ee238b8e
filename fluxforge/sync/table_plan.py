"""What a table's copy lacks: one version of the source, compared with what the destination has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fluxforge.errors import TableError, UnknownTableError
from fluxforge.layout import join_key
from fluxforge.sync.delta_log import LOG, CommitFiles, TableLog, commit_name, moved_to
from fluxforge.sync.parallel import in_parallel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fluxforge.storage.base import StoredFile
    from fluxforge.tables import Snapshot, Table

_LONGEST_CLOSING_COMMIT = 8192


@dataclass(frozen=True)
class TablePlan:
    """One version of a table, and what the destination has of it.

    Attributes
    ----------
    name
        ``source.table``, for people.
    source, destination
        Where it is, and where it shall be.
    version
        The version that the destination shall have.
    visible
        The version that the destination shows now; -1 where it has none.
    log, copied_log
        The log up to that version, and what the destination has of it.
    files
        Bytes of the data files that the destination shall have, by path: all of this version, and
        those of earlier versions that still exist.
    live
        Paths of this version's own files.
    present
        Paths of data files that are at the source.
    copied
        Those that are at the destination.
    commits
        The data files of commits that the destination lacks, by version, ascending.
    closed
        Whether an earlier move had everything copied and began to delete the source.
    """

    name: str
    source: Table
    destination: Table
    version: int
    visible: int
    log: TableLog = field(repr=False)
    copied_log: TableLog = field(repr=False)
    files: Mapping[str, int] = field(repr=False)
    live: frozenset[str] = field(repr=False)
    present: Mapping[str, StoredFile] = field(repr=False)
    copied: Mapping[str, StoredFile] = field(repr=False)
    commits: Mapping[int, CommitFiles] = field(repr=False)
    closed: bool = False

    @property
    def checkpoints(self) -> list[StoredFile]:
        """The files of the source's checkpoints up to this version."""
        return [file for files in self.log.checkpoints.values() for file in files]

    @property
    def copied_checkpoints(self) -> frozenset[str]:
        """The names of the checkpoints' files that the destination has."""
        files = self.copied_log.checkpoints.values()
        return frozenset(file.name for parts in files for file in parts)

    @property
    def movable(self) -> list[str]:
        """The paths of data files that may be deleted at the source once all is compared."""
        return [path for path in self.files if path in self.present]

    @property
    def count(self) -> int:
        """How many files there are to settle."""
        return len(self.files) + len(self.log.commits) + len(self.checkpoints)

    def shows_torn_versions(self) -> bool:
        """Tell whether copying commit by commit would show versions that cannot be read.

        Such a version has files that were replaced and then vacuumed, or it comes after versions
        whose commits were cleaned away.
        """
        if self.version <= self.visible + 1:
            return False
        if self.log.oldest > self.visible + 1:
            return True
        there = self.files.keys() | self.copied.keys()
        return any(
            not commit.removed <= there
            for version, commit in self.commits.items()
            if version >= self.visible + 2
        )


class TablePlanner:
    """Compares a table with its copy.

    Parameters
    ----------
    name
        ``source.table``, for people.
    source, destination
        Where it is, and where it shall be.
    delete
        Whether it is to be moved.
    """

    def __init__(self, name: str, source: Table, destination: Table, *, delete: bool) -> None:
        self._name = name
        self._source = source
        self._destination = destination
        self._delete = delete

    def plan(self) -> TablePlan | None:
        """Return what the destination lacks of the newest version; None where there is no table.

        Raises
        ------
        TableError
            If the destination has another history, or a file that the version needs is missing.
        """
        log = TableLog.of(self._list(self._source, LOG).values())
        closed = self._is_closed(log)
        snapshot = self._snapshot(log, closed=closed)
        if snapshot is None:
            return None
        shown = self._destination.snapshot()
        visible = -1 if shown is None else shown.version
        here, there = self._list(self._source), self._list(self._destination)
        present, copied = _data_files(here), _data_files(there)
        log = TableLog.of(here.values()).until(snapshot.version)
        copied_log = TableLog.of(there.values())
        self._check_history(log, copied_log, snapshot.version, visible)
        wanted = log.commits.keys() - copied_log.commits.keys()
        commits = dict(sorted(in_parallel(self._read_commit, wanted)))
        live = {file.path: file.size for file in snapshot.files()}
        return TablePlan(
            name=self._name,
            source=self._source,
            destination=self._destination,
            version=snapshot.version,
            visible=visible,
            log=log,
            copied_log=copied_log,
            files=self._wanted_files(live, commits, present, copied),
            live=frozenset(live),
            present=present,
            copied=copied,
            commits=commits,
            closed=closed,
        )

    def _list(self, table: Table, folder: str = "") -> dict[str, StoredFile]:
        """Return files below a table by their path in it."""
        root = join_key(table.path)
        entries = table.storage.list_entries(join_key(root, folder))
        return {file.key[len(root) + 1 :]: file for file in entries}

    def _is_closed(self, log: TableLog) -> bool:
        """Tell whether an earlier move has begun to delete the source."""
        newest = log.commits.get(log.newest)
        if newest is None or newest.size > _LONGEST_CLOSING_COMMIT:
            return False
        destination = moved_to(self._source.storage.read_bytes(newest.key))
        if destination is None:
            return False
        if not self._delete or destination != self._destination.uri:
            raise TableError(
                f"it is being moved to {destination}: run that sync again with --delete to finish"
            )
        return True

    def _snapshot(self, log: TableLog, *, closed: bool) -> Snapshot | None:
        if not closed:
            return self._source.snapshot()
        try:
            return self._source.snapshot(log.newest - 1)
        except (TableError, UnknownTableError):
            return None  # its log is partly deleted; that comes after all data files

    def _check_history(self, log: TableLog, copied: TableLog, version: int, visible: int) -> None:
        """Refuse a destination whose log is not the beginning of the source's."""
        if max(copied.newest, visible) > version:
            raise self._diverged(f"it is at version {max(copied.newest, visible)}, not {version}")
        common = sorted(log.commits.keys() & copied.commits.keys())
        if copied.commits and not common:
            raise TableError(
                f"the copy ends at version {copied.newest} and the log here begins at "
                f"{log.oldest}: delete {self._destination.uri}/{LOG} and sync again"
            )
        for number in common:
            if log.commits[number].size != copied.commits[number].size:
                raise self._diverged(f"version {number} is another one")
        for number in common[-1:]:
            self._compare_commit(number)

    def _compare_commit(self, number: int) -> None:
        original, copy = (
            table.storage.read_bytes(join_key(table.path, LOG, commit_name(number)))
            for table in (self._source, self._destination)
        )
        if original != copy:
            raise self._diverged(f"version {number} is another one")

    def _diverged(self, reason: str) -> TableError:
        return diverged(self._destination.uri, reason)

    def _read_commit(self, version: int) -> tuple[int, CommitFiles]:
        key = join_key(self._source.path, LOG, commit_name(version))
        try:
            return version, CommitFiles.parse(self._source.storage.read_bytes(key))
        except ValueError as exc:
            raise TableError(f"{key} is not a commit") from exc

    def _wanted_files(
        self,
        live: Mapping[str, int],
        commits: Mapping[int, CommitFiles],
        present: Mapping[str, StoredFile],
        copied: Mapping[str, StoredFile],
    ) -> dict[str, int]:
        """Return the sizes of the data files that the destination shall have."""
        for path, size in live.items():
            original = present.get(path)
            if original.size != size if original is not None else path not in copied:
                raise TableError(f"{path} is not there as its log says, with {size} bytes")
        earlier = {path for commit in commits.values() for path in commit.added}
        if self._delete:
            earlier.update(copied)  # of versions that an earlier sync copied
        earlier &= present.keys() - live.keys()
        files = dict(live) | {path: present[path].size for path in earlier}
        for path, size in files.items():
            if path in copied and copied[path].size != size:
                raise different(copied[path], self._destination)
        return files


def _data_files(files: Mapping[str, StoredFile]) -> dict[str, StoredFile]:
    return {path: file for path, file in files.items() if not path.startswith(f"{LOG}/")}


def diverged(uri: str, reason: str) -> TableError:
    """Return the error for a table that both sides were written to."""
    return TableError(
        f"its copy at {uri} has another history ({reason}): both were written to; delete the one "
        "that shall not stay and sync again"
    )


def different(file: StoredFile, table: Table) -> TableError:
    """Return the error for a copy that differs from its original."""
    path = table.storage.get_full_path(file.key)
    return TableError(
        f"{path} has other content than the original, so one of them is damaged: delete the copy "
        "if it is that one, and sync again"
    )
