"""Tables: a copy shows one whole version after another, whenever it is looked at.

Data files are copied first, since nobody sees them before the log does. Then follow the commits,
in order, each refused if another writer was faster; then what only makes reading quick. A copy
that is cut short shows an earlier version, and the next sync carries on.
"""

from __future__ import annotations

import json
import logging
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fluxforge.errors import FileExistsAlreadyError, FileMissingError, TableError
from fluxforge.layout import join_key
from fluxforge.storage.local import LocalStorage
from fluxforge.sync.delta_log import LAST_CHECKPOINT, LOG, commit_name
from fluxforge.sync.parallel import in_parallel
from fluxforge.sync.table_plan import different, diverged
from fluxforge.tables import Table

if TYPE_CHECKING:
    from fluxforge.storage.base import StoredFile
    from fluxforge.sync.report import Tally
    from fluxforge.sync.table_plan import TablePlan
    from fluxforge.sync.transfer import Transfer

logger = logging.getLogger(__name__)


class TableCopy:
    """The copying of one table.

    Parameters
    ----------
    plan
        What the destination lacks.
    transfer
        Copies between the storages. Where it is exact, everything that is at the destination is
        compared with the source.
    tally
        Is told of every file.
    """

    def __init__(self, plan: TablePlan, transfer: Transfer, tally: Tally) -> None:
        self._plan = plan
        self._transfer = transfer
        self._tally = tally
        self._source = plan.source
        self._destination = plan.destination

    def preview(self) -> None:
        """Tell what would be copied."""
        plan = self._plan
        for path, size in plan.files.items():
            self._preview(self._here(path), self._there(path), size, there=path in plan.copied)
        for version, file in plan.log.commits.items():
            there = version not in plan.commits
            self._preview(file.key, self._in_log(file.name), file.size, there=there)
        for file in plan.checkpoints:
            there = file.name in plan.copied_checkpoints
            self._preview(file.key, self._in_log(file.name), file.size, there=there)

    def _preview(self, key: str, target: str, size: int, *, there: bool) -> None:
        if there:
            self._tally.skipped(key)
        else:
            self._tally.copied(target, size)

    def run(self) -> None:
        """Copy what is missing.

        Raises
        ------
        TableError
            If the destination has a file with other content, or another writer's commit. It then
            shows a whole version all the same.
        StorageError
            If a storage fails; running again carries on.
        """
        plan = self._plan
        for path, size, is_new in in_parallel(self._copy_data, plan.files.items()):
            if is_new:
                self._tally.copied(self._there(path), size)
            else:
                self._tally.skipped(self._here(path))
        jumped = self._jump() if plan.shows_torn_versions() else []
        for version, file in plan.log.commits.items():
            if version in plan.commits:
                self._copy_commit(version, jumped)
            else:
                self._compare(file, self._in_log(file.name))
                self._tally.skipped(file.key)
        for file in plan.checkpoints:
            self._copy_checkpoint(file)
        self._copy_last_checkpoint()
        self._check()

    def _here(self, path: str) -> str:
        return join_key(self._source.path, path)

    def _there(self, path: str) -> str:
        return join_key(self._destination.path, path)

    def _in_log(self, name: str) -> str:
        return join_key(self._destination.path, LOG, name)

    # Data files

    def _copy_data(self, item: tuple[str, int]) -> tuple[str, int, bool]:
        """Copy a data file, unless it is there; return whether it is new."""
        path, size = item
        original = self._plan.present.get(path)
        is_new = path not in self._plan.copied and self._write(self._here(path), self._there(path))
        if not is_new and original is not None:
            # Without its original, an earlier run of this move has compared and deleted it.
            self._compare(original, self._there(path))
        return path, size, is_new

    def _write(self, key: str, target: str) -> bool:
        """Copy a file; False if there is one already."""
        try:
            intact = self._transfer.copy(key, target)
        except FileExistsAlreadyError:
            return False
        if not intact:
            self._destination.storage.delete(target)
            raise TableError(f"{target} was read back with other content than was written")
        return True

    def _compare(self, original: StoredFile, target: str) -> None:
        """Compare a file with one that was at the destination before, where that is asked for."""
        copy = replace(original, key=target)
        if self._transfer.exact and not self._transfer.are_equal(original, copy):
            raise different(copy, self._destination)

    # The log

    def _jump(self) -> list[str]:
        """Make the destination show the plan's version at once, by a checkpoint of it.

        Used where the versions in between cannot be read: their data files were vacuumed, or
        their commits cleaned away. Returns the keys of the checkpoint's files.
        """
        own = self._plan.log.checkpoints.get(self._plan.version, ())
        for file in own:
            self._write(file.key, self._in_log(file.name))
        return [self._in_log(file.name) for file in own] or [self._make_checkpoint()]

    def _make_checkpoint(self) -> str:
        """Write a checkpoint of the plan's version, which the source has none of."""
        with tempfile.TemporaryDirectory(prefix="fluxforge-sync-") as work:
            stage = LocalStorage(work)
            table = Table(stage, "table")
            for file in self._needed_to_open():
                path = self._source.storage.fetch(file.key, Path(work) / "fetched")
                stage.write_file(path, join_key(table.path, LOG, file.name))
            table.write_checkpoint()
            name = f"{self._plan.version:020}.checkpoint.parquet"
            key = self._in_log(name)
            made = stage.fetch(join_key(table.path, LOG, name), Path(work))
            try:
                self._destination.storage.write_file(made, key, exclusive=True)
            except FileExistsAlreadyError:
                logger.info("%s is there from a sync that was cut short", key)
        return key

    def _needed_to_open(self) -> list[StoredFile]:
        """Return the newest checkpoint's files and the commits that follow it."""
        log = self._plan.log
        base = max(log.checkpoints, default=-1)
        later = [file for version, file in log.commits.items() if version > base]
        return [*log.checkpoints.get(base, ()), *later]

    def _copy_commit(self, version: int, jumped: list[str]) -> None:
        path = join_key(LOG, commit_name(version))
        data = self._source.storage.read_bytes(self._here(path))
        try:
            self._destination.storage.write_bytes(self._there(path), data, exclusive=True)
        except FileExistsAlreadyError:
            if self._destination.storage.read_bytes(self._there(path)) != data:
                for key in jumped:  # it would hide the other writer's commits
                    self._destination.storage.delete(key)
                reason = f"version {version} is another one"
                raise diverged(self._destination.uri, reason) from None
        self._tally.copied(self._there(path), len(data))

    def _copy_checkpoint(self, file: StoredFile) -> None:
        target = self._in_log(file.name)
        if file.name not in self._plan.copied_checkpoints and self._write(file.key, target):
            self._tally.copied(target, file.size)
        else:
            self._compare(file, target)
            self._tally.skipped(file.key)

    def _copy_last_checkpoint(self) -> None:
        """Copy the file that tells readers which checkpoint to begin with, if it is there."""
        path = join_key(LOG, LAST_CHECKPOINT)
        data = _read(self._source, path)
        try:
            version = int(json.loads(data)["version"])
        except (ValueError, KeyError, TypeError):
            return  # readers do without
        known = version in self._plan.log.checkpoints
        if known and _read(self._destination, path) != data:
            self._destination.storage.write_bytes(self._there(path), data)

    # Checks

    def _check(self) -> None:
        """Compare what the destination shows with the plan."""
        shown = self._destination.snapshot(self._plan.version)
        if shown is None or {file.path for file in shown.files()} != self._plan.live:
            raise TableError(
                f"its copy at {self._destination.uri} does not show version {self._plan.version}"
            )


def _read(table: Table, path: str) -> bytes:
    """Return a file of a table; nothing where there is none."""
    try:
        return table.storage.read_bytes(join_key(table.path, path))
    except FileMissingError:
        return b""
