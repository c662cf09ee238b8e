"""``Lake``: capture, tables and care; it only delegates."""

from __future__ import annotations

import asyncio
from functools import cached_property
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fluxforge.config import FluxForgeConfig, Role, load_config
from fluxforge.config.durations import parse_duration
from fluxforge.errors import UsageError
from fluxforge.lake.analysis import Analysis
from fluxforge.lake.plots import Plots
from fluxforge.storage.factory import create_layout, create_storage_backend, storage_for

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable
    from datetime import timedelta
    from pathlib import Path

    import polars as pl

    from fluxforge.etl.job import ETLJob
    from fluxforge.etl.optimize import OptimizeReport
    from fluxforge.etl.report import EtlReport
    from fluxforge.ingestion.report import IngestProgress, IngestReport
    from fluxforge.layout import Layout
    from fluxforge.query.catalog import Catalog
    from fluxforge.storage.base import StorageBackend
    from fluxforge.sync import SyncReport
    from fluxforge.verify import VerifyReport

SHORTEST_KEEP_SECONDS = 3600.0
"""Vacuum spares younger files: a running ETL may be about to commit them."""


class Lake(Analysis):
    """A market-data lake: capture, tables and queries over one configuration.

    Parameters
    ----------
    *overlays
        Names of overlays in the configuration folder (``"hybrid"``), or paths of YAML files.
    config_dir, overrides
        As :func:`fluxforge.config.load_config` takes them. By default the configuration is
        ``conf/`` in the working directory or the nearest of its parents that has one.
    path
        A folder of this machine: the whole lake lies there, whatever the configuration says.
    config
        A configuration that is loaded already, in place of overlays and overrides.

    Raises
    ------
    ConfigError
        If a setting is wrong; the message says which and where.

    Examples
    --------
    >>> import tempfile
    >>> lake = Lake(path=tempfile.mkdtemp())
    >>> lake.layout.ready("coinbase")
    'raw/ready/coinbase'
    >>> lake.scan("coinbase", "ticker", symbols=["BTC-USD"]).collect().height
    0
    """

    def __init__(
        self,
        *overlays: str | Path,
        config_dir: str | Path | None = None,
        overrides: Iterable[str] = (),
        path: str | Path | None = None,
        config: FluxForgeConfig | None = None,
    ) -> None:
        loaded = config or load_config(*overlays, config_dir=config_dir, overrides=overrides)
        self.config = loaded if path is None else loaded.in_folder(path)

    # What is where

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

    # Capture

    async def ingest(
        self,
        source: str,
        *,
        duration: str | float | timedelta | None = None,
        frames: int | None = None,
        on_progress: Callable[[IngestProgress], object] | None = None,
    ) -> IngestReport:
        """Capture a source into segments, until a bound is reached or it is cancelled.

        Parameters
        ----------
        source
            The exchange, as configured under ``ingestion.sources``.
        duration
            ``"60s"``, ``"5m"``, seconds or a timedelta; None: no limit.
        frames
            Stop after exactly this many frames.
        on_progress
            Called about once a second.

        Raises
        ------
        UnknownSourceError, ConfigError
            If the source or its settings are wrong.
        ConnectionFailedError
            If the venue cannot be reached, or refuses for good.
        StorageError
            If segments cannot be written. What was flushed is safe in any case.
        """
        from fluxforge.ingestion.orchestrators import ingest

        seconds = None if duration is None else parse_duration(duration)
        return await ingest(
            self.config, source, duration=seconds, frames=frames, on_progress=on_progress
        )

    def ingest_sync(
        self,
        source: str,
        *,
        duration: str | float | timedelta | None = None,
        frames: int | None = None,
        on_progress: Callable[[IngestProgress], object] | None = None,
    ) -> IngestReport:
        """Do as :meth:`ingest` does, where no event loop runs (scripts, not notebooks)."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(
                self.ingest(source, duration=duration, frames=frames, on_progress=on_progress)
            )
        raise UsageError("an event loop is running here: write 'await lake.ingest(…)' instead")

    # Tables

    def etl(
        self, source: str | None = None, *, on_progress: Callable[[int, int], None] | None = None
    ) -> EtlReport:
        """Commit every waiting segment to the tables, exactly once.

        Parameters
        ----------
        source
            Only this source; None: all that are configured.
        on_progress
            Called with the number of segments that are done and of those that were waiting.

        Raises
        ------
        SegmentsFailedError
            If segments could not be processed; they are kept, and all others are done.
        StorageError
            If a storage fails; nothing is lost, and running again carries on.
        """
        from fluxforge.etl.report import EtlReport

        return EtlReport.total(
            [job.process_all_segments() for job in self._jobs(source, on_progress)]
        )

    def watch(
        self,
        source: str | None = None,
        *,
        stop: threading.Event | None = None,
        on_report: Callable[[EtlReport], None] | None = None,
    ) -> EtlReport:
        """Keep committing segments to the tables until `stop` is set or this is interrupted."""
        from fluxforge.etl.watcher import watch_segments

        interval = self.config.etl.watch_interval_seconds
        return watch_segments(self._jobs(source), interval, stop=stop, on_report=on_report)

    def _jobs(
        self, source: str | None, on_progress: Callable[[int, int], None] | None = None
    ) -> list[ETLJob]:
        from fluxforge.etl.job import ETLJob

        raw, processed = self.layout_for(Role.ETL_INPUT), self.layout_for(Role.ETL_OUTPUT)
        return [
            ETLJob(
                storage_input=self.storage_for(Role.ETL_INPUT),
                storage_output=self.storage_for(Role.ETL_OUTPUT),
                input_path=raw.ready(name),
                output_path=processed.tables(name),
                delete_after_processing=self.config.etl.delete_after_processing,
                memory_limit_mb=self.config.etl.memory_limit_mb,
                threads=self.config.etl.threads,
                on_progress=on_progress,
            )
            for name in ([source] if source is not None else self.sources)
        ]

    def optimize(self, source: str | None = None) -> list[OptimizeReport]:
        """Join small files of every table into larger ones; rows and readers stay the same."""
        from fluxforge.etl.optimize import optimize_table

        return [
            optimize_table(
                self.catalog.open(name, table).table,
                f"{name}.{table}",
                memory_limit_mb=self.config.etl.memory_limit_mb,
                threads=self.config.etl.threads,
            )
            for name, table in self._written(source)
        ]

    def vacuum(
        self,
        source: str | None = None,
        *,
        keep: str | float | timedelta = "7d",
        dry_run: bool = False,
    ) -> dict[str, list[str]]:
        """Delete files that no table version of the last `keep` (at least an hour) refers to.

        Returns
        -------
        dict
            Paths of deleted files, or with `dry_run` of those that would be, by ``source.table``.

        Raises
        ------
        UsageError
            If `keep` is shorter than an hour.
        """
        from datetime import timedelta

        seconds = parse_duration(keep)
        if seconds < SHORTEST_KEEP_SECONDS:
            raise UsageError("keep at least 1h: an ETL may be about to commit younger files")
        return {
            f"{name}.{table}": self.catalog.open(name, table).table.vacuum(
                timedelta(seconds=seconds), dry_run=dry_run
            )
            for name, table in self._written(source)
        }

    @cached_property
    def catalog(self) -> Catalog:
        """The tables and their versions, as readers see them."""
        from fluxforge.query.catalog import Catalog

        return Catalog(
            self.storage_for(Role.ETL_OUTPUT), self.layout_for(Role.ETL_OUTPUT), self.sources
        )

    @cached_property
    def plot(self) -> Plots:
        """Charts: ``lake.plot.price("coinbase", "BTC-USD")`` and others."""
        return Plots(self)

    @cached_property
    def panel(self) -> Any:
        """Live panels for notebooks: ``lake.panel.ladder("coinbase", "BTC-USD")`` and others."""
        # By name: panels stand above the lake, and need packages that only notebooks have.
        return import_module("fluxforge.panels.lake").Panels(self)

    # Looking after it

    @property
    def _places(self) -> list[tuple[StorageBackend, Layout]]:
        roles = (Role.INGESTION, Role.ETL_INPUT)
        return [(self.storage_for(role), self.layout_for(role)) for role in roles]

    def status(self) -> pl.DataFrame:
        """Count segments by source and state: ``source, state, files, bytes, oldest, newest``."""
        from fluxforge.verify.status import segment_status

        return segment_status(self._places, self.sources)

    def verify(self) -> VerifyReport:
        """Check that everything lies where it belongs and that the accounts add up."""
        from fluxforge.verify import verify_lake

        return verify_lake(
            self._places,
            (self.storage_for(Role.ETL_OUTPUT), self.layout_for(Role.ETL_OUTPUT)),
            self.sources,
        )

    def sync(
        self,
        other: Lake,
        *,
        delete: bool = False,
        dry_run: bool = False,
        on_progress: Callable[[int, int, int], object] | None = None,
    ) -> SyncReport:
        """Copy this lake's segments and tables to another lake, or move them there.

        Segments that wait, archived ones and quarantine go from one ETL input to the other,
        tables from one ETL output to the other. What is being written or processed stays. What
        is there already is left alone: a sync that was cut short can be run again. Run the ETL on
        one side only: a table that both sides wrote to is refused.

        Parameters
        ----------
        other
            The destination.
        delete
            Delete each segment and table here, once its copy was read back and is the same.
        dry_run
            Only report what would be done.
        on_progress
            Called about twice a second with the number of files done, of all files, and of copied
            bytes.

        Returns
        -------
        SyncReport
            What was copied, skipped and deleted. ``problems`` names what was refused, and why;
            everything else is done all the same.

        Raises
        ------
        UsageError
            If the other lake is this one.
        StorageError
            If a storage fails; nothing is lost, and running again carries on.
        """
        from fluxforge.sync import Place, Route, sync_places

        segments, tables = (
            Route(
                Place(self.storage_for(role), self.layout_for(role)),
                Place(other.storage_for(role), other.layout_for(role)),
            )
            for role in (Role.ETL_INPUT, Role.ETL_OUTPUT)
        )
        return sync_places(
            segments=segments,
            tables=tables,
            delete=delete,
            dry_run=dry_run,
            on_progress=on_progress,
        )

    def __repr__(self) -> str:
        written, read = self.storage_for(Role.INGESTION), self.storage_for(Role.ETL_INPUT)
        tables = self.storage_for(Role.ETL_OUTPUT)
        places = [written] if written is read is tables else [written, tables]
        files = "".join(f", {file}" for file in self.config.files).replace(",", ", from", 1)
        return f"<Lake {' → '.join(place.get_full_path() for place in places)}{files}>"

    def _repr_html_(self) -> str:
        return f"<b>{escape(repr(self))}</b>{self.tables()._repr_html_()}"
