"""Which tables a lake has, and what is in the version of each that a query reads."""

from __future__ import annotations

import bisect
import difflib
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fluxforge.errors import FluxForgeError, UnknownTableError
from fluxforge.sources import get_source, is_source
from fluxforge.tables import PARTITION, Table, table_names
from fluxforge.tables.log import arrow_schema
from fluxforge.transform.schema import table_columns, table_schemas

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import polars as pl
    import pyarrow as pa

    from fluxforge.layout import Layout
    from fluxforge.query.cache import FileCache
    from fluxforge.sources.tables import Channel
    from fluxforge.storage.base import StorageBackend, StoredFile
    from fluxforge.tables import TableFile
    from fluxforge.tables.log import Commit

NEVER_WRITTEN = -1
"""The version of a table that is declared and was never written: it reads as empty."""


@dataclass(frozen=True, eq=False)
class TableVersion:
    """One version of one table, as a reader sees it.

    `version` may be :data:`NEVER_WRITTEN`; `files` are oldest capture first; `types` its columns
    as the log states them; `channel`, with the key, is None for tables that no venue's SQL makes;
    `live` has rows of segments that are not in it yet; `frames` are readers' scans, by the paths of
    their files, which later versions share.
    """

    source: str
    name: str
    version: int
    files: tuple[TableFile, ...] = field(repr=False)
    types: str | None = field(repr=False)
    channel: Channel | None = field(repr=False)
    table: Table = field(repr=False)
    cache: FileCache | None = field(repr=False)
    table_id: str = field(repr=False)
    _entry: StoredFile | None = field(repr=False)
    live: pl.DataFrame | None = field(default=None, repr=False)
    frames: dict[tuple[str, ...], pl.LazyFrame] = field(default_factory=dict, repr=False)

    def locate(self, files: Iterable[TableFile]) -> list[str]:
        """Return the full paths or URLs of files."""
        storage = self.table.storage
        return [storage.get_full_path(f"{self.table.path}/{file.path}") for file in files]

    @cached_property
    def columns(self) -> list[str]:
        """The names of its columns, those included that it was given since it was last written."""
        present = _kinds(self.types)
        return [
            *present,
            *(name for name in _declared(self.source).get(self.name, ()) if name not in present),
        ]

    @cached_property
    def schema(self) -> pa.Schema:
        """Its columns as Arrow types."""
        import pyarrow as pa

        declared = (
            table_schemas(self.source)[self.name] if self.name in _declared(self.source) else ()
        )
        present = () if self.types is None else arrow_schema(self.types)
        known = {field.name: field for field in (*declared, *present)}
        return pa.schema([known[name] for name in self.columns])

    @cached_property
    def polars_schema(self) -> pl.Schema:
        """The columns as Polars types."""
        import polars as pl

        return pl.Schema(self.schema)

    @cached_property
    def transactions(self) -> Mapping[str, int | None]:
        """The identities of all that is committed up to this version."""
        if self.version == NEVER_WRITTEN:
            return {}
        return self.table.log.transactions(self.table_id, self.version)

    @cached_property
    def has_repeats(self) -> bool:
        """Whether some row of the table may repeat the key of another one."""
        files = (file.greatest.get("is_repeat", True) for file in self.files)
        return self.live is not None or any(files)

    def grown(self) -> TableVersion | None:
        """Return the newest version, from the log's entries after this one.

        Itself, if there are none; None if the table has to be opened anew: it was made again, or
        has other columns.
        """
        listed = self.table.log.listed(self.version)
        if listed.get(self.version) != self._entry:
            return None
        new = sorted(number for number in listed if number > self.version)
        if not new:
            return self
        commits = self.table.log.commits(new)
        if self.version == NEVER_WRITTEN or any(commit.columns for commit in commits):
            return None
        kinds = _kinds(self.types)
        files = {file.path: file for file in self.files}
        for commit in commits:
            _apply(commit, files, kinds)
        newer = replace(
            self, version=new[-1], files=_in_order(files.values()), _entry=listed[new[-1]]
        )
        return newer.grown()  # what was listed may not have been all


class Catalog:
    """The tables below one storage's ``processed`` folder, and those of `configured` sources.

    A version never changes, so that what was opened is kept, and brought up to date by what was
    committed since.
    """

    def __init__(
        self,
        storage: StorageBackend,
        layout: Layout,
        configured: Iterable[str],
        cache: FileCache | None = None,
    ) -> None:
        self.storage = storage
        self.layout = layout
        self._cache = None if storage.is_local else cache
        self._configured = sorted(filter(is_source, set(configured)))
        self._newest: dict[tuple[str, str], TableVersion] = {}

    def sources(self) -> list[str]:
        """Return the sources that are configured or have a folder, sorted."""
        return sorted({*self._configured, *self.storage.list_folders(self.layout.processed)})

    def names(self, source: str) -> list[str]:
        """Return the tables of a source: those its SQL declares, and any others on disk."""
        return sorted({*_declared(source), *self.written(source)})

    def written(self, source: str) -> list[str]:
        """Return the tables of a source that exist, sorted."""
        return table_names(self.storage, self.layout.tables(source))

    def open(
        self, source: str, name: str, version: int | None = None, as_of: datetime | None = None
    ) -> TableVersion:
        """Return one version of a table, by default the newest.

        Raises
        ------
        UnknownSourceError
            If there is no such source.
        UnknownTableError
            If the source has no such table, or the table no such version.
        """
        if version == NEVER_WRITTEN:
            raise UnknownTableError(f"{source}.{name} has no version {version}: the first is 0")
        if as_of is not None:
            version = self._version_at(source, name, as_of)
        if version is not None:
            return self._opened(source, name, version)
        held = self._newest.get((source, name))
        newest = (held and held.grown()) or self._opened(source, name, None)
        self._newest[source, name] = newest
        return newest

    def _opened(self, source: str, name: str, version: int | None) -> TableVersion:
        declared = _declared(source)
        table = Table(self.storage, self.layout.table(source, name))
        found = _replayed(table) if version is None else None
        if found is None and name not in declared and not table.exists():
            raise self._unknown(source, name)
        found = found or _read_log(table, version)
        number, files, types, table_id, entry = found or (NEVER_WRITTEN, (), None, "", None)
        return TableVersion(
            source=source,
            name=name,
            version=number,
            files=_in_order(files),
            types=types,
            channel=get_source(source).tables.channels.get(name) if declared else None,
            table=table,
            cache=self._cache,
            table_id=table_id,
            _entry=entry,
        )

    def _version_at(self, source: str, name: str, at: datetime) -> int:
        """Return the version that was the newest at a time."""
        log = self.open(source, name).table.log
        versions = log.versions()
        count = bisect.bisect_right(versions, at, key=lambda version: log.commit(version).at)
        if count:
            return versions[count - 1]
        if versions and versions[0] > 0:
            first = f"{log.commit(versions[0]).at:%Y-%m-%dT%H:%M:%S}"
            raise UnknownTableError(f"{source}.{name}: its log goes back to {first} only")
        return NEVER_WRITTEN

    def _unknown(self, source: str, name: str) -> Exception:
        names = (
            self.names(source) or get_source(source).tables.channels
        )  # or there is no such source
        near = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names)}"
        return UnknownTableError(f"{source} has no table {name!r}: {hint}")


_Found = tuple[int, "Iterable[TableFile]", str | None, str, "StoredFile | None"]
"""Number, files, columns and identity of a version, and the entry of its commit."""


def _replayed(table: Table) -> _Found | None:
    """Return the newest version from a log that is still short: each file is read once."""
    listed = table.log.whole()
    files: dict[str, TableFile] = {}
    try:
        commits = table.log.commits(sorted(listed))
        stated = [commit for commit in commits if commit.columns is not None]
        if not stated or any(commit.moved_to or commit.reader > 1 for commit in commits):
            return None
        types, number = stated[-1].columns, len(commits) - 1
        for commit in commits:
            _apply(commit, files, _kinds(types))
    except (FluxForgeError, OSError, AttributeError, LookupError, TypeError, ValueError):
        return None  # deltalake reads what others wrote, or tells what is wrong
    return number, files.values(), types, stated[-1].table_id, listed[number]


def _read_log(table: Table, version: int | None) -> _Found | None:
    snapshot = None if version == NEVER_WRITTEN else table.snapshot(version)
    if snapshot is None:
        return None
    number = snapshot.version
    entry = table.log.listed(number).get(number) if version is None else None
    return number, snapshot.files(), snapshot.columns(), snapshot.table_id, entry


def _declared(source: str) -> Mapping[str, Iterable[str]]:
    """Return the columns that a venue's SQL declares; a source of the user's own has none."""
    return table_columns(source) if is_source(source) else {}


def _kinds(types: str | None) -> dict[str, Any]:
    """Return the columns that a log states: names and Delta's names of types."""
    return (
        {} if types is None else {one["name"]: one["type"] for one in json.loads(types)["fields"]}
    )


def _in_order(files: Iterable[TableFile]) -> tuple[TableFile, ...]:
    return tuple(sorted(files, key=lambda file: (file.date, file.path)))


def _apply(commit: Commit, files: dict[str, TableFile], kinds: Mapping[str, Any]) -> None:
    """Add what a commit added to the files before it, and take out what it removed."""
    files |= {file.path: _typed(file, kinds) for file in commit.added}
    for path in commit.removed:
        files.pop(path, None)


def _typed(file: TableFile, kinds: Mapping[str, Any]) -> TableFile:
    """Read the times in the bounds of a file that a commit describes."""

    def read(name: str, value: Any) -> Any:
        if kinds[name] in ("timestamp", "timestamp_ntz"):
            at = datetime.fromisoformat(value)
            return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
        return date.fromisoformat(value) if kinds[name] == "date" else value

    least, greatest = (
        {name: read(name, value) for name, value in bounds.items() if name != PARTITION}
        for bounds in (file.least, file.greatest)
    )
    return replace(file, least=least, greatest=greatest)
