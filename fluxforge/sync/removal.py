"""Deleting a table whose copy is whole, while other programs may be about to write to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluxforge.errors import FileExistsAlreadyError, TableError
from fluxforge.layout import SegmentName, join_key
from fluxforge.sync.delta_log import LOG, TableLog, closing_commit, commit_name, moved_to

if TYPE_CHECKING:
    from fluxforge.sync.places import Place
    from fluxforge.sync.report import Tally
    from fluxforge.tables import Table


def close_table(table: Table, version: int, destination: Table) -> None:
    """Keep everybody from reading and writing the table from now on.

    Raises
    ------
    TableError
        If the table has a version after this one.
    """
    key = _closing_key(table, version)
    try:
        table.storage.write_bytes(key, closing_commit(destination.uri), exclusive=True)
    except FileExistsAlreadyError:
        raise TableError(
            "it got a new commit while it was copied and is kept: sync again to move it"
        ) from None


def reopen_table(table: Table, version: int) -> None:
    """Undo :func:`close_table`, where nothing was deleted yet."""
    table.storage.delete(_closing_key(table, version))


def _closing_key(table: Table, version: int) -> str:
    return join_key(table.path, LOG, commit_name(version + 1))


def has_living_etl(segments: Place, source: str) -> bool:
    """Tell whether an ETL is at work on a segment of the source.

    It may have read the table's version before the table was closed.
    """
    folder = segments.layout.processing(source)
    for file in segments.storage.list_entries(folder, recursive=False):
        if SegmentName.parse(file.name) is None:
            continue
        claim = segments.storage.acquire_lease(file.key)
        if claim is None:
            return True
        claim.release()
    return False


def delete_table(table: Table, paths: list[str], tally: Tally) -> None:
    """Delete data files of a closed table, and then its log.

    The commit that closed it goes last: before, nobody can take the rest for a table, and
    afterwards there is none. Data files that are not named are kept.
    """
    *files, closing = doomed_files(table, paths)
    for key in files:
        table.storage.delete(key)
        tally.deleted(key)
    table.storage.delete(closing)


def finish_deletion(table: Table, tally: Tally) -> None:
    """Delete what is left of a log that :func:`delete_table` was deleting when it ended."""
    log = TableLog.of(table.storage.list_entries(join_key(table.path, LOG)))
    newest = log.commits.get(log.newest)
    if newest is not None and moved_to(table.storage.read_bytes(newest.key)) is not None:
        delete_table(table, [], tally)


def doomed_files(table: Table, paths: list[str]) -> list[str]:
    """Return what :func:`delete_table` deletes, in that order."""
    log = table.storage.list_entries(join_key(table.path, LOG))
    numbered = sorted(file.key for file in log if file.name[:1].isdigit())
    others = sorted(file.key for file in log if not file.name[:1].isdigit())
    return [*(join_key(table.path, path) for path in paths), *others, *numbered]
