"""Which tables a lake has, and what is in the version of each that a query reads."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from fluxforge.errors import UnknownTableError
from fluxforge.sources import get_source, source_names
from fluxforge.tables import Table, table_names
from fluxforge.transform.schema import table_schemas

if TYPE_CHECKING:
    from collections.abc import Iterable

    import polars as pl
    import pyarrow as pa

    from fluxforge.layout import Layout
    from fluxforge.sources.base import Channel
    from fluxforge.storage.base import StorageBackend
    from fluxforge.tables import Snapshot, TableFile


@dataclass(frozen=True)
class TableVersion:
    """One version of one table, as a reader sees it.

    Attributes
    ----------
    source, name
        Which table.
    schema
        Its columns, the partition last.
    channel
        What its key is; None for the bookkeeping tables.
    table
        Where it lies.
    snapshot
        None for a table that has never been written: it reads as empty.
    live
        Rows of segments that are not in it yet, with its columns.
    """

    source: str
    name: str
    schema: pa.Schema
    channel: Channel | None
    table: Table = field(repr=False)
    snapshot: Snapshot | None = field(repr=False)
    live: pl.DataFrame | None = field(default=None, repr=False, compare=False)

    def files(self) -> list[TableFile]:
        """Return the files of this version."""
        return self._files

    @cached_property
    def _files(self) -> list[TableFile]:
        return [] if self.snapshot is None else self.snapshot.files()

    def locate(self, files: Iterable[TableFile]) -> list[str]:
        """Return the full paths or URLs of files."""
        storage = self.table.storage
        return [storage.get_full_path(f"{self.table.path}/{file.path}") for file in files]


class Catalog:
    """The tables below one storage's ``processed`` folder.

    What was opened is kept for as long as nothing is committed to it, which one look at its log
    tells: a version never changes.

    Parameters
    ----------
    storage, layout
        Where the tables lie.
    configured
        Names of sources that exist for the reader even where nothing is captured yet.
    """

    def __init__(self, storage: StorageBackend, layout: Layout, configured: Iterable[str]) -> None:
        self.storage = storage
        self.layout = layout
        self._configured = sorted(set(configured) & set(source_names()))
        self._newest: dict[tuple[str, str], TableVersion] = {}

    def sources(self) -> list[str]:
        """Return the sources that are configured or have a folder, sorted."""
        found = set(self.storage.list_folders(self.layout.processed)) & set(source_names())
        return sorted({*self._configured, *found})

    def names(self, source: str) -> list[str]:
        """Return the tables of a source: those its SQL declares, and any others on disk."""
        on_disk = table_names(self.storage, self.layout.tables(source))
        return sorted({*table_schemas(source), *on_disk})

    def written(self, source: str) -> list[str]:
        """Return the tables of a source that exist, sorted."""
        return table_names(self.storage, self.layout.tables(source))

    def open(self, source: str, name: str, version: int | None = None) -> TableVersion:
        """Return one version of a table, by default the newest.

        Raises
        ------
        UnknownSourceError
            If there is no such source.
        UnknownTableError
            If the source has no such table, or the table no such version.
        """
        held = self._newest.get((source, name)) if version is None else None
        if held and held.table.is_newest(held.snapshot):
            return held
        declared = table_schemas(source)
        table = Table(self.storage, self.layout.table(source, name))
        if name not in declared and table.snapshot() is None:
            names = self.names(source)
            near = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names)}"
            raise UnknownTableError(f"{source} has no table {name!r}: {hint}")
        snapshot = table.snapshot(version)
        opened = TableVersion(
            source=source,
            name=name,
            schema=_with_declared(snapshot, declared.get(name)),
            channel=get_source(source).tables.channels.get(name),
            table=table,
            snapshot=snapshot,
        )
        if version is None:
            self._newest[source, name] = opened
        return opened


def _with_declared(snapshot: Snapshot | None, declared: pa.Schema | None) -> pa.Schema:
    """Return a table's columns, and those that it was given since it was last written to."""
    import pyarrow as pa

    if snapshot is None or declared is None:
        return declared if snapshot is None else snapshot.schema()
    present = snapshot.schema()
    return pa.schema([*present, *(field for field in declared if field.name not in present.names)])
