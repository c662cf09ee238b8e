"""Tables: the copy repeats the source's commits, so that it shows one whole version after another.

Data files are copied first, since nobody sees them before a commit names them. Then follows one
commit for each version of the source, in order, with the identities and notes that it carries;
each notes which version it repeats, and is refused if another writer was faster. Where files of a
version were vacuumed, its commit brings none, and that of the next whole version brings all. A
copy that is cut short shows an earlier version, and the next sync carries on.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from fluxforge.errors import (
    CommitConflictError,
    FileExistsAlreadyError,
    TableError,
    UnknownTableError,
)
from fluxforge.tables import close_table, drop_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fluxforge.sync.transfer import Transfer
    from fluxforge.tables import Commit, Snapshot, Table, TableFile

REPEATS = "repeats"
"""The note of a commit that repeats another: the source's ``table`` and ``version``."""

_WORKERS = 4  # most of a transfer is waiting for a server


@dataclass(frozen=True)
class TablePlan:
    """One version of a table, and what the destination lacks of it."""

    version: Snapshot  # which the destination shall show
    there: Snapshot | None  # what it shows now
    commits: list[Commit]  # that it lacks
    before: Mapping[str, TableFile]  # the files of the version that these follow
    files: Mapping[str, int]  # sizes of those it shall have, of earlier versions too
    present: Mapping[str, int]  # data files at the source
    copied: Mapping[str, int]  # and at the destination
    closed: bool  # an earlier move had everything copied and began to delete the source

    @property
    def movable(self) -> list[str]:
        """The data files to delete at the source once all is compared."""
        return [path for path in self.files if path in self.present]

    def note(self, version: int) -> dict[str, Any]:
        """Return the note of the commit that repeats a version."""
        return {REPEATS: {"table": self.version.table_id, "version": version}}


@dataclass(frozen=True)
class TableSync:
    """The copying or moving of one table; where `transfer` is exact, all content is compared."""

    name: str
    source: Table
    destination: Table
    transfer: Transfer

    # Planning

    def plan(self) -> TablePlan | None:
        """Compare the table's newest version with its copy; None where there is no table."""
        versions = self.source.log.versions()
        closed = bool(versions) and self._is_closed(versions[-1])
        version = self._version(versions, closed=closed)
        if version is None:
            return None
        live = _files(version)
        present, copied = _data_files(self.source), _data_files(self.destination)
        for path, file in live.items():
            if present[path] != file.size if path in present else path not in copied:
                raise TableError(f"{path} is not there as its log says, with {file.size} bytes")
        there = self.destination.snapshot() if self.destination.exists() else None
        base = -1 if there is None else self._repeated(there, version)
        commits, before = self._commits([n for n in versions if base < n <= version.version], base)
        known = before.keys() | {file.path for commit in commits for file in commit.added}
        wanted = live.keys() | (known & present.keys())
        if self.transfer.exact:
            wanted |= copied.keys() & present.keys()  # of versions that an earlier sync copied
        files = {path: live[path].size if path in live else present[path] for path in wanted}
        for path, size in files.items():
            if copied.get(path, size) != size:
                raise self._different(path)
        ordered = dict(sorted(files.items()))
        return TablePlan(version, there, commits, before, ordered, present, copied, closed)

    def _is_closed(self, newest: int) -> bool:
        """Tell whether an earlier move has begun to delete the source."""
        destination = self.source.log.commit(newest).moved_to
        if destination is None:
            return False
        if not self.transfer.exact or destination != self.destination.uri:
            raise TableError(
                f"it is being moved to {destination}: run that sync again with --delete to finish"
            )
        return True

    def _version(self, versions: list[int], *, closed: bool) -> Snapshot | None:
        if not closed:
            return self.source.snapshot()
        try:
            return self.source.snapshot(versions[-1] - 1)
        except (TableError, UnknownTableError):
            return None  # its log is partly deleted; that comes after all data files

    def _repeated(self, there: Snapshot, version: Snapshot) -> int:
        """Return the version of the source that the copy is at."""
        note = self.destination.log.commit(there.version).metadata.get(REPEATS)
        if not note:
            raise self._diverged("its newest commit is no copy")
        if note["table"] != version.table_id or note["version"] > version.version:
            raise self._diverged("it is the copy of another table")
        return int(note["version"])

    def _commits(self, versions: list[int], base: int) -> tuple[list[Commit], dict[str, TableFile]]:
        """Read what the copy lacks; where the log begins later, the first commit stands for all."""
        commits = self.source.log.commits(versions)
        if not commits:
            return [], {}
        gap = commits[0].version > base + 1
        start = commits[0].version if gap else base
        if start < 0:
            return commits, {}
        first = self.source.snapshot(start)
        if first is None:
            raise TableError(f"its log begins with version {start}, which is damaged")
        if gap:
            whole = replace(commits[0], removed=frozenset(), transactions=first.transactions)
            commits[0] = replace(whole, columns=first.columns())
        return commits, _files(first)

    def _diverged(self, reason: str) -> TableError:
        return TableError(
            f"its copy at {self.destination.uri} has another history ({reason}): both were "
            "written to; delete the one that shall not stay and sync again"
        )

    def _different(self, path: str) -> TableError:
        where = self.destination.storage.get_full_path(self._there(path))
        return TableError(
            f"{where} has other content than the original, so one of them is damaged: delete the "
            "copy if it is that one, and sync again"
        )

    # Copying

    def preview(self, plan: TablePlan) -> None:
        """Tell what would be done."""
        for path, size in plan.files.items():
            self._count(path, size, is_new=path not in plan.copied)
        self.transfer.counters.deleted += (
            [self._here(one) for one in plan.movable] if self.transfer.exact else []
        )

    def copy(self, plan: TablePlan) -> None:
        """Copy what is missing; whatever fails, the copy shows a whole version."""
        there, commits = plan.there, list(plan.commits)
        if there is None:  # an empty table, and no data files without a log
            bare = not (plan.before or commits[0].added or commits[0].transactions)
            first = commits.pop(0) if bare else None
            schema = commits[0].schema if first is None else first.schema
            note = plan.note(-1 if first is None else first.version)
            there = self.destination.ensure(schema or plan.version.schema(), note)
        with ThreadPoolExecutor(_WORKERS, thread_name_prefix="fluxforge-sync") as pool:
            new = pool.map(partial(self._copy_data, plan), plan.files)
            for (path, size), is_new in zip(plan.files.items(), new, strict=True):
                self._count(path, size, is_new=is_new)
        live, shown = dict(plan.before), _files(there)
        for commit in commits:
            for path in commit.removed:
                live.pop(path, None)
            live |= {file.path: file for file in commit.added}
            whole = live.keys() <= plan.present.keys() | plan.copied.keys()
            target = dict(live) if whole else shown
            there = self._repeat(plan, commit, there, shown, target)
            shown = target
        self.destination.sync()
        self._compare(there, plan.version)

    def _count(self, path: str, size: int, *, is_new: bool) -> None:
        if is_new:
            self.transfer.counters.copy(self._there(path), size)
        else:
            self.transfer.counters.skip(self._here(path))

    def _here(self, path: str) -> str:
        return self.source.storage.join_path(self.source.path, path)

    def _there(self, path: str) -> str:
        return self.destination.storage.join_path(self.destination.path, path)

    def _copy_data(self, plan: TablePlan, path: str) -> bool:
        """Copy a data file, unless it is there; tell whether it is new."""
        if path not in plan.copied:
            try:
                self.transfer.copy(self._here(path), self._there(path))
            except FileExistsAlreadyError:
                pass
            else:
                return True
        # Without its original, an earlier run of this move has compared and deleted it.
        if self.transfer.exact and path in plan.present:
            size = plan.present[path]
            if not self.transfer.are_equal(self._here(path), self._there(path), size):
                raise self._different(path)
        return False

    def _repeat(
        self,
        plan: TablePlan,
        commit: Commit,
        there: Snapshot,
        shown: Mapping[str, TableFile],
        target: Mapping[str, TableFile],
    ) -> Snapshot:
        """Make one commit, after which `target` is shown; return the version that it made."""
        note = plan.note(commit.version)
        added = [target[path] for path in sorted(target.keys() - shown.keys())]
        removed = [shown[path] for path in sorted(shown.keys() - target.keys())]
        if commit.schema is not None:
            bare = not (added or removed or commit.transactions)
            at = self.destination.log.commit(there.version).metadata
            grown = self.destination.ensure(commit.schema, note if bare else at)
            self._repeated(grown, plan.version)
            if bare and grown.version > there.version:
                return grown
            there = grown
        transactions = {
            name: at for name, at in commit.transactions.items() if not there.has_transaction(name)
        }
        notes = {**commit.metadata, **note}
        try:
            self.destination.commit(
                there, added, transactions, notes, removes=removed, at_version=True
            )
        except CommitConflictError as exc:
            raise self._diverged("another program commits to it") from exc
        self.destination.sync(since=there)
        newest = self.destination.snapshot()
        if newest is None or newest.version != there.version + 1:
            raise self._diverged("another program commits to it")
        return newest

    def _compare(self, there: Snapshot, version: Snapshot) -> None:
        """Compare what the destination shows with the source."""
        if (
            there.files() != version.files()
            or set(there.schema()) != set(version.schema())
            or not version.transactions.keys() <= there.transactions.keys()
        ):
            raise TableError(
                f"its copy at {self.destination.uri} does not show version {version.version}: "
                "its log is damaged; delete it and sync again"
            )

    # Removing

    def remove(self, plan: TablePlan, is_etl_alive: Callable[[], bool]) -> None:
        """Delete the table here, whose copy was compared, unless others may commit to it."""
        if not plan.closed:
            try:
                close_table(self.source, plan.version, self.destination.uri)
            except CommitConflictError as exc:
                raise TableError(
                    "it got a new commit while it was copied and is kept: sync again to move it"
                ) from exc
        if is_etl_alive():  # it may have read the table's version before the table was closed
            if not plan.closed:
                close_table(self.source, plan.version, "")
            raise TableError("an ETL is at work on its source; it is kept: sync again later")
        self._drop(plan.movable)

    def finish(self) -> None:
        """Delete what is left of a log that an earlier move was deleting when it ended."""
        versions = self.source.log.versions()
        if versions and self._is_closed(versions[-1]):
            self._drop([])

    def _drop(self, paths: list[str]) -> None:
        for key in drop_table(self.source, paths):
            if not key.startswith(self.source.log.folder):
                self.transfer.counters.deleted.append(key)


def _files(snapshot: Snapshot) -> dict[str, TableFile]:
    return {file.path: file for file in snapshot.files()}


def _data_files(table: Table) -> dict[str, int]:
    """Return the sizes of a table's data files by their path in it."""
    log = f"{table.log.folder}/"
    return {
        file.key.removeprefix(f"{table.path}/"): file.size
        for file in table.storage.list_entries(table.path)
        if not file.key.startswith(log)
    }
