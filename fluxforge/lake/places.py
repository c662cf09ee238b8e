"""The places of a lake: its configuration, storages, paths and tables."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from fluxforge.config import FluxForgeConfig, Role, load_config
from fluxforge.errors import FluxForgeError, UsageError
from fluxforge.lake.waiting import warn, what_waits
from fluxforge.layout import STATES
from fluxforge.storage.factory import create_layout, create_storage_backend, storage_for

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from fluxforge.layout import Layout
    from fluxforge.query.cache import FileCache
    from fluxforge.query.catalog import Catalog
    from fluxforge.query.live import LiveCatalog
    from fluxforge.segments import SegmentStore
    from fluxforge.segments.reading import SegmentReader
    from fluxforge.storage.base import StorageBackend


class Places:
    """The part of :class:`~fluxforge.Lake` that knows what is where."""

    def __init__(
        self,
        *overlays: str | Path,
        config_dir: str | Path | None = None,
        overrides: Iterable[str] = (),
        path: str | Path | None = None,
        config: FluxForgeConfig | None = None,
    ) -> None:
        if config is not None and (overlays or config_dir is not None or tuple(overrides)):
            raise UsageError("give a configuration, or what to load one from: not both")
        loaded = config or load_config(*overlays, config_dir=config_dir, overrides=overrides)
        self.config = loaded if path is None else loaded.in_folder(path)

    @cached_property
    def storage(self) -> StorageBackend:
        """The storage of the top-level ``storage`` settings."""
        return create_storage_backend(self.config)

    @cached_property
    def layout(self) -> Layout:
        """The paths of the top-level ``storage`` settings."""
        return create_layout(self.config)

    def storage_for(self, role: Role | str) -> StorageBackend:
        """Return the storage of ``"ingestion"``, ``"etl_input"`` or ``"etl_output"``."""
        return self._storages[Role(role)]

    def layout_for(self, role: Role | str) -> Layout:
        """Return the paths of ``"ingestion"``, ``"etl_input"`` or ``"etl_output"``."""
        return create_layout(self.config, Role(role))

    @cached_property
    def _storages(self) -> dict[Role, StorageBackend]:
        """One storage a role; roles with the settings of the top level share its storage."""
        return {role: storage_for(self.storage, role) for role in Role}

    @property
    def sources(self) -> list[str]:
        """The names of the configured sources."""
        return sorted(self.config.ingestion.sources)

    def sources_here(self, source: str | None = None) -> list[str]:
        """Return the configured sources and others of which segments lie here; or the named one."""
        from fluxforge.sources import get_source, source_names

        if source is not None:
            return [get_source(source).name]
        found = set[str]()
        for storage, layout in {self._place(Role.INGESTION), self._place(Role.ETL_INPUT)}:
            for state in STATES:
                found.update(storage.list_folders(layout.state(state, "")))
        return sorted({*self.sources, *found.intersection(source_names())})

    def _place(self, role: Role) -> tuple[StorageBackend, Layout]:
        return self.storage_for(role), self.layout_for(role)

    @cached_property
    def catalog(self) -> Catalog:
        """The tables and their versions, as readers see them."""
        from fluxforge.query.catalog import Catalog

        return Catalog(*self._place(Role.ETL_OUTPUT), self.sources, self._cache)

    @cached_property
    def live_catalog(self) -> LiveCatalog:
        """The same with the rows of segments that are not in tables yet."""
        from fluxforge.query.live import LiveCatalog

        place = self._place(Role.ETL_OUTPUT)
        return LiveCatalog(*place, self.sources, self.readers, self._cache)

    @cached_property
    def _cache(self) -> FileCache | None:
        from fluxforge.query.cache import FileCache

        return FileCache.configured(self.config.query)

    def readers(self, source: str) -> list[SegmentReader]:
        """Return what finds a source's segments: where they are captured, where the ETL reads."""
        from fluxforge.segments.reading import SegmentReader

        readers = {}
        for role in (Role.INGESTION, Role.ETL_INPUT):
            storage, layout = self._place(role)
            place = storage.server, storage.get_full_path(layout.ready(source))
            readers[place] = SegmentReader(self.segment_store(source, role))
        return list(readers.values())

    def segment_store(self, source: str, role: Role = Role.INGESTION) -> SegmentStore:
        """Return where a source's segments are captured, or where the ETL takes them."""
        from fluxforge.segments import SegmentStore

        return SegmentStore(*self._place(role), source, spool_dir=self.config.ingestion.spool_dir)

    def __repr__(self) -> str:
        written, read = self.storage_for(Role.INGESTION), self.storage_for(Role.ETL_INPUT)
        tables = self.storage_for(Role.ETL_OUTPUT)
        places = [written] if written is read is tables else [written, tables]
        files = "".join(f", {file}" for file in self.config.files).replace(",", ", from", 1)
        shown = f"{' → '.join(place.get_full_path() for place in places)}{files}"
        try:
            waits = what_waits(self.readers, self.sources_here(), live=True, here_only=True)
        except FluxForgeError:
            waits = ""
        return f"<Lake {shown}{waits and '; '}{waits}>"

    def _check_place(self, role: Role) -> None:
        """Raise where no lake is: an answer would only look as if there were nothing to do."""
        if missing := self._missing_place(role):
            raise UsageError(missing)

    def _warn_of_place(self, role: Role) -> None:
        if missing := self._missing_place(role):
            warn(missing)

    def _missing_place(self, role: Role) -> str:
        storage = self.storage_for(role)
        if not storage.is_local or self.layout_for(role).is_used(storage.list_folders()):
            return ""
        return (
            f"there is no lake in {storage.get_full_path()}: look at the working directory "
            "and storage.base_dir (the first `fluxforge ingest` makes a lake)"
        )

    def _written(self, source: str | None) -> list[tuple[str, str]]:
        from fluxforge.sources import get_source

        catalog = self.catalog
        if source is not None and not catalog.names(source):
            get_source(source)  # raises where there is no such source either
        names = catalog.sources() if source is None else [source]
        return [(name, table) for name in names for table in catalog.written(name)]
