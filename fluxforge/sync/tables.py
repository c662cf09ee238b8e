"""Tables: the copy repeats the source's commits, so that it shows one whole version after another.

Data files are copied first, since nobody sees them before a commit names them. Then follows one
commit for each version of the source, in order, with the identities and notes that it carries;
each notes which version it repeats, and is refused if another writer was faster. A copy that is
cut short shows an earlier version, and the next sync carries on.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from fluxforge.errors import (
    CommitConflictError,
    FileExistsAlreadyError,
    TableError,
    UnknownTableError,
)
from fluxforge.sync.transfer import in_parallel
from fluxforge.tables import close_table, drop_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Set as AbstractSet

    import pyarrow as pa

    from fluxforge.storage.base import StoredFile
    from fluxforge.sync.report import Counters
    from fluxforge.sync.transfer import Transfer
    from fluxforge.tables import Commit, Snapshot, Table, TableFile

REPEATS = "repeats"
"""The note of a commit that repeats another: the source's ``table`` and ``version``, and the
version whose files the copy ``shows`` with it."""


@dataclass(frozen=True)
class Step:
    """A commit to repeat, and the files that come and go with it.

    Versions whose files were vacuumed cannot be shown. The first of them brings the files of the
    next version that can, and the others bring none.
    """

    commit: Commit
    shows: int
    added: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()
    schema: pa.Schema | None = None

    @property
    def is_bare(self) -> bool:
        """Whether it changes nothing but columns."""
        return not (self.added or self.removed or self.commit.transactions)


@dataclass(frozen=True)
class TablePlan:
    """One version of a table, and what the destination lacks of it.

    Attributes
    ----------
    version
        The version that the destination shall show.
    there
        What it shows now; None where it has no table.
    steps
        The commits that it lacks.
    files
        Sizes of the data files that it shall have, by path: of this version, and of earlier ones
        as far as they exist.
    known
        What the log knows of the files that the steps add.
    present, copied
        The data files at the source and at the destination.
    closed
        Whether an earlier move had everything copied and began to delete the source.
    """

    version: Snapshot
    there: Snapshot | None
    steps: list[Step] = field(repr=False)
    files: Mapping[str, int] = field(repr=False)
    known: Mapping[str, TableFile] = field(repr=False)
    present: Mapping[str, StoredFile] = field(repr=False)
    copied: Mapping[str, StoredFile] = field(repr=False)
    closed: bool

    @property
    def movable(self) -> list[str]:
        """The paths of data files to delete at the source once all is compared."""
        return [path for path in self.files if path in self.present]


class TableSync:
    """The copying or moving of one table.

    Parameters
    ----------
    name
        ``source.table``, for people.
    source, destination
        Where it is, and where it shall be.
    transfer
        Copies between the storages. Where it is exact, everything that is at the destination is
        compared with the source.
    counters
        Are told of every data file.
    delete
        Whether it is moved.
    """

    def __init__(
        self,
        name: str,
        source: Table,
        destination: Table,
        transfer: Transfer,
        counters: Counters,
        *,
        delete: bool,
    ) -> None:
        self.name = name
        self._source = source
        self._destination = destination
        self._transfer = transfer
        self._counters = counters
        self._delete = delete

    # Planning

    def plan(self) -> TablePlan | None:
        """Compare the table's newest version with its copy; None where there is no table.

        Raises
        ------
        TableError
            If the destination has another history, or a file that the version needs is missing.
        """
        versions = self._source.log.versions()
        closed = bool(versions) and self._is_closed(versions[-1])
        version = self._version(versions, closed=closed)
        if version is None:
            return None
        live = {file.path: file for file in version.files()}
        present, copied = _data_files(self._source), _data_files(self._destination)
        for path, file in live.items():
            original = present.get(path)
            if original.size != file.size if original is not None else path not in copied:
                raise TableError(f"{path} is not there as its log says, with {file.size} bytes")
        there = self._destination.snapshot() if self._destination.exists() else None
        base, shown = (-1, -1) if there is None else self._repeated(there, version)
        visible = {file.path for file in there.files()} if there is not None else set()
        commits = self._commits([n for n in versions if base < n <= version.version], base, visible)
        known = live | {file.path: file for commit in commits for file in commit.added}
        wanted = live.keys() | (known.keys() & present.keys())
        if self._delete:
            wanted |= copied.keys() & present.keys()  # of versions that an earlier sync copied
        files = {path: live[path].size if path in live else present[path].size for path in wanted}
        for path, size in files.items():
            if path in copied and copied[path].size != size:
                raise self._different(path)
        return TablePlan(
            version=version,
            there=there,
            steps=_steps(commits, visible, shown, present.keys() | copied.keys()),
            files=dict(sorted(files.items())),
            known=known,
            present=present,
            copied=copied,
            closed=closed,
        )

    def _is_closed(self, newest: int) -> bool:
        """Tell whether an earlier move has begun to delete the source."""
        destination = self._source.log.commit(newest).moved_to
        if destination is None:
            return False
        if not self._delete or destination != self._destination.uri:
            raise TableError(
                f"it is being moved to {destination}: run that sync again with --delete to finish"
            )
        return True

    def _version(self, versions: list[int], *, closed: bool) -> Snapshot | None:
        if not closed:
            return self._source.snapshot()
        try:
            return self._source.snapshot(versions[-1] - 1)
        except (TableError, UnknownTableError):
            return None  # its log is partly deleted; that comes after all data files

    def _repeated(self, there: Snapshot, version: Snapshot) -> tuple[int, int]:
        """Return the version of the source that the copy is at, and the one that it shows."""
        note = self._destination.log.commit(there.version).metadata.get(REPEATS)
        if not note:
            raise self._diverged("its newest commit is no copy")
        if note["table"] != version.table_id or note["shows"] > version.version:
            raise self._diverged("it is the copy of another table")
        return note["version"], note["shows"]

    def _commits(self, versions: list[int], base: int, visible: set[str]) -> list[Commit]:
        """Read what the copy lacks; where the log begins later, the first commit stands for all."""
        commits = self._source.log.commits(versions)
        if not commits or commits[0].version == base + 1:
            return commits
        first = self._source.snapshot(commits[0].version)
        if first is None:
            raise TableError(f"its log begins with version {commits[0].version}, which is damaged")
        files = tuple(first.files())
        whole = replace(
            commits[0],
            added=files,
            removed=frozenset(visible - {file.path for file in files}),
            transactions=first.transactions,
            schema=first.schema(),
        )
        return [whole, *commits[1:]]

    def _diverged(self, reason: str) -> TableError:
        return TableError(
            f"its copy at {self._destination.uri} has another history ({reason}): both were "
            "written to; delete the one that shall not stay and sync again"
        )

    def _different(self, path: str) -> TableError:
        where = self._destination.storage.get_full_path(self._there(path))
        return TableError(
            f"{where} has other content than the original, so one of them is damaged: delete the "
            "copy if it is that one, and sync again"
        )

    # Copying

    def preview(self, plan: TablePlan) -> None:
        """Tell what would be done."""
        for path, size in plan.files.items():
            if path in plan.copied:
                self._counters.skipped(self._here(path))
            else:
                self._counters.copied(self._there(path), size)
        for path in plan.movable if self._delete else ():
            self._counters.deleted(self._here(path))

    def copy(self, plan: TablePlan) -> None:
        """Copy what is missing.

        Raises
        ------
        TableError
            If the destination has a file with other content, or another writer's commit. It then
            shows a whole version all the same.
        StorageError
            If a storage fails; running again carries on.
        """
        there, steps = plan.there, list(plan.steps)
        if there is None:  # an empty table, and no data files without a log
            schema = steps[0].schema or plan.version.schema()
            note = self._note(steps.pop(0), plan) if steps[0].is_bare else self._nothing(plan)
            there = self._destination.ensure(schema, note)
        copied = in_parallel(lambda path: (path, self._copy_data(path, plan)), plan.files)
        for path, is_new in copied:
            if is_new:
                self._counters.copied(self._there(path), plan.files[path])
            else:
                self._counters.skipped(self._here(path))
        for step in steps:
            there = self._repeat(step, there, plan)
        self._destination.sync()
        self._compare(there, plan.version)

    def _here(self, path: str) -> str:
        return self._source.storage.join_path(self._source.path, path)

    def _there(self, path: str) -> str:
        return self._destination.storage.join_path(self._destination.path, path)

    def _copy_data(self, path: str, plan: TablePlan) -> bool:
        """Copy a data file, unless it is there; tell whether it is new."""
        if path not in plan.copied:
            try:
                self._transfer.copy(self._here(path), self._there(path))
            except FileExistsAlreadyError:
                pass
            else:
                return True
        original = plan.present.get(path)
        # Without its original, an earlier run of this move has compared and deleted it.
        if self._transfer.exact and original is not None:
            copy = replace(original, key=self._there(path))
            if not self._transfer.are_equal(original, copy):
                raise self._different(path)
        return False

    def _repeat(self, step: Step, there: Snapshot, plan: TablePlan) -> Snapshot:
        """Make one commit; return the version that it made."""
        note, commit = self._note(step, plan), step.commit
        if step.schema is not None:
            at = self._destination.log.commit(there.version).metadata
            grown = self._destination.ensure(step.schema, note if step.is_bare else at)
            self._repeated(grown, plan.version)
            if step.is_bare and grown.version > there.version:
                return grown
            there = grown
        try:
            self._destination.commit(
                there,
                [plan.known[path] for path in sorted(step.added)],
                {k: at for k, at in commit.transactions.items() if not there.has_transaction(k)},
                {**commit.metadata, **note},
                removes=[file for file in there.files() if file.path in step.removed],
                at_version=True,
            )
        except CommitConflictError as exc:
            raise self._diverged("another program commits to it") from exc
        self._destination.sync(since=there)
        newest = self._destination.snapshot()
        if newest is None or newest.version != there.version + 1:
            raise self._diverged("another program commits to it")
        return newest

    def _note(self, step: Step, plan: TablePlan) -> dict[str, Any]:
        version = {"version": step.commit.version, "shows": step.shows}
        return {REPEATS: {"table": plan.version.table_id, **version}}

    def _nothing(self, plan: TablePlan) -> dict[str, Any]:
        return {REPEATS: {"table": plan.version.table_id, "version": -1, "shows": -1}}

    def _compare(self, there: Snapshot, version: Snapshot) -> None:
        """Compare what the destination shows with the source."""
        if (
            there.files() != version.files()
            or set(there.schema()) != set(version.schema())
            or not version.transactions.keys() <= there.transactions.keys()
        ):
            raise TableError(
                f"its copy at {self._destination.uri} does not show version {version.version}: "
                "its log is damaged; delete it and sync again"
            )

    # Removing

    def remove(self, plan: TablePlan, is_etl_alive: Callable[[], bool]) -> None:
        """Delete the table here, whose copy was compared with it.

        Raises
        ------
        TableError
            If something was committed to it meanwhile, or may be: then it is kept.
        """
        if not plan.closed:
            try:
                close_table(self._source, plan.version, self._destination.uri)
            except CommitConflictError as exc:
                raise TableError(
                    "it got a new commit while it was copied and is kept: sync again to move it"
                ) from exc
        if is_etl_alive():  # it may have read the table's version before the table was closed
            if not plan.closed:
                close_table(self._source, plan.version, "")
            raise TableError("an ETL is at work on its source; it is kept: sync again later")
        self._drop(plan.movable)

    def finish(self) -> None:
        """Delete what is left of a log that an earlier move was deleting when it ended."""
        versions = self._source.log.versions()
        if versions and self._is_closed(versions[-1]):
            self._drop([])

    def _drop(self, paths: list[str]) -> None:
        for key in drop_table(self._source, paths):
            if not key.startswith(self._source.log.folder):
                self._counters.deleted(key)


def _data_files(table: Table) -> dict[str, StoredFile]:
    """Return a table's data files by their path in it."""
    found = table.storage.list_entries(table.path)
    log = f"{table.log.folder}/"
    return {
        file.key.removeprefix(f"{table.path}/"): file
        for file in found
        if not file.key.startswith(log)
    }


def _steps(
    commits: list[Commit], visible: set[str], shown: int, available: AbstractSet[str]
) -> list[Step]:
    """Work out what each commit brings and takes, so that only whole versions are shown.

    Parameters
    ----------
    commits
        What the copy lacks.
    visible, shown
        The files that it shows, and of which version; it may be later than the first commits.
    available
        All data files that are at one end at least.
    """
    live, before = set(visible), frozenset(visible)
    steps: list[Step] = []
    waiting: list[Commit] = []
    for commit in commits:
        waiting.append(commit)
        if commit.version > shown:
            live = (live - commit.removed) | {file.path for file in commit.added}
        if commit.version < shown or not live <= available:
            continue
        now = frozenset(live)
        schemas = [one.schema for one in waiting if one.schema is not None]
        schema = schemas[-1] if schemas else None
        steps.append(Step(waiting[0], commit.version, now - before, before - now, schema))
        steps += [Step(one, commit.version) for one in waiting[1:]]
        before, waiting = now, []
    return steps
