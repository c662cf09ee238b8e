"""Deleting a table that is elsewhere now, while other programs may be about to write to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluxforge.tables.log import MOVED_TO
from fluxforge.tables.snapshot import commit_properties

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fluxforge.tables.snapshot import Snapshot
    from fluxforge.tables.table import Table


def close_table(table: Table, snapshot: Snapshot, destination: str) -> None:
    """Keep everybody from reading and writing a table, which is at `destination` from now on.

    A writer that has an older version at hand is refused, since the properties have changed. An
    empty destination opens the table again, where nothing was deleted yet. It is a
    CommitConflictError where something was committed since `snapshot`.
    """
    table.retried(
        lambda: snapshot.delta.alter.set_table_properties(
            {MOVED_TO: destination},
            raise_if_not_exists=False,
            commit_properties=commit_properties(retries=0),
        )
    )


def drop_table(table: Table, paths: Iterable[str]) -> Iterator[str]:
    """Delete some data files of a closed table, and its log; yield the keys that are gone.

    The commit that closed it goes last: before, nobody can take the rest for a table, and
    afterwards there is none. Data files that are not named stay.
    """
    log = [file.key for file in table.storage.list_entries(table.log.folder)]
    log.sort(key=lambda key: (key.rpartition("/")[2][:1].isdigit(), key))
    for key in [*(table.storage.join_path(table.path, path) for path in paths), *log]:
        table.storage.delete(key)
        yield key
