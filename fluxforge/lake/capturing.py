"""How a lake captures: from sockets to segments; and takes what is handed to it."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING, Any

from fluxforge.config import Role
from fluxforge.config.durations import parse_duration
from fluxforge.errors import UsageError
from fluxforge.lake.reading import Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from datetime import timedelta

    from fluxforge.etl.frames import WriteReport
    from fluxforge.ingestion.log_writer import LogWriter
    from fluxforge.ingestion.report import IngestProgress, IngestReport
    from fluxforge.lake.background import Capture
    from fluxforge.segments import RecoveryReport


class Capturing(Reader):
    """The part of :class:`~fluxforge.Lake` that captures."""

    def ingest(
        self,
        source: str | None = None,
        *,
        duration: str | float | timedelta | None = None,
        frames: int | None = None,
        on_progress: Callable[[IngestProgress], object] | None = None,
    ) -> Coroutine[Any, Any, IngestReport]:
        """Capture a source into segments, until a bound is reached or it is cancelled.

        Several sources fail and recover each by itself; the report says what kept one of them.

        Parameters
        ----------
        source
            The exchange; by default all that are configured under ``ingestion.sources``.
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
        running = ingest(
            self.config, source, duration=seconds, frames=frames, on_progress=on_progress
        )
        # Shown by its repr, and by Python's warning where it was never awaited.
        named = "lake.ingest(…), which begins with 'await lake.ingest(…)'"
        running.__qualname__ = named  # type: ignore[attr-defined]
        return running

    def ingest_sync(
        self,
        source: str | None = None,
        *,
        duration: str | float | timedelta | None = None,
        frames: int | None = None,
        on_progress: Callable[[IngestProgress], object] | None = None,
    ) -> IngestReport:
        """Do as :meth:`ingest` does, where no event loop runs (scripts, not notebooks)."""
        import asyncio

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(
                self.ingest(source, duration=duration, frames=frames, on_progress=on_progress)
            )
        raise UsageError("an event loop is running here: write 'await lake.ingest(…)' instead")

    @property
    def captures(self) -> list[Capture]:
        """The captures that this object runs in the background."""
        return [capture for capture in self._captures if not capture.stopped]

    @cached_property
    def _captures(self) -> list[Capture]:
        return []

    def capture(
        self,
        source: str | Sequence[str],
        *,
        duration: str | float | timedelta | None = None,
        frames: int | None = None,
        etl: str | float | timedelta | None = None,
    ) -> Capture:
        """Capture in the background, in a process of its own.

        It returns once frames arrive. The capture ends with ``stop()``, at its bound, or with this
        process, however that ends; what was received is stored in each case.

        Parameters
        ----------
        source
            The exchange, as configured under ``ingestion.sources``, several, or ``"*"`` for all.
        duration, frames
            When to stop; None: no such bound.
        etl
            How often to commit what was captured to the tables (``"30s"``), segments being closed
            as often, and once more at the end; None: never.

        Returns
        -------
        Capture
            ``status()``, ``tail(table)``, ``add(product)``, ``remove(product)`` and ``stop()``.

        Raises
        ------
        UnknownSourceError, ConfigError
            If a source or its settings are wrong.
        ConnectionFailedError
            If the venue cannot be reached, or refuses.
        StorageError
            If segments cannot be written.
        UsageError
            If this object captures one of them already.

        Examples
        --------
        >>> from fluxforge import sandbox
        >>> with sandbox(sources=["coinbase"]) as lake, lake.capture("coinbase") as capture:
        ...     capture.status().running
        True
        """
        from fluxforge.ingestion.orchestrators import IngestionPipeline
        from fluxforge.lake.background import Capture, Job

        names = [source] if isinstance(source, str) else list(source)
        if source == "*":
            IngestionPipeline(self.config)
            names = self.sources
        for name in names:
            IngestionPipeline(self.config, name)  # raises what is wrong with its settings
        going = {name for one in self.captures if one.running for name in one.sources}
        if again := going.intersection(names):
            raise UsageError(f"{min(again)} is being captured by lake.captures: stop() that first")
        seconds, every = (None if one is None else parse_duration(one) for one in (duration, etl))
        own = self.config.ingestion
        longest = min(own.segment_max_seconds, inf if every is None else every)
        wanted = {name: own.sources[name] for name in names}
        ingestion = replace(own, sources=wanted, segment_max_seconds=longest)
        job = Job(replace(self.config, ingestion=ingestion), seconds, frames, every)
        capture = Capture(self, names, job)
        self._captures[:] = [*self.captures, capture]
        capture.wait_until_begun()
        return capture

    def recover(self, source: str | None = None) -> RecoveryReport:
        """Take up what captures left that have died, so that the ETL finds it.

        Captures that live are left alone; on an object store those that renewed their lease.

        Parameters
        ----------
        source
            Only this source; None: all.

        Raises
        ------
        StorageUnavailableError
            If the object store does not answer; running again carries on.
        """
        from fluxforge.segments import RecoveryReport

        self._warn_of_place(Role.INGESTION)
        stores = map(self.segment_store, self.sources_here(source))
        return sum((store.recover() for store in stores), RecoveryReport())

    def writer(self, source: str) -> LogWriter:
        """Return a writer of a venue's frames into segments, with everything as configured.

        Examples
        --------
        >>> import tempfile
        >>> from fluxforge import Lake
        >>> lake = Lake(path=tempfile.mkdtemp())
        >>> with lake.writer("coinbase") as writer:
        ...     writer.write(b'{"channel":"heartbeats"}')
        >>> lake.etl("coinbase").lines_taken
        1
        """
        from fluxforge.ingestion.log_writer import LogWriter
        from fluxforge.sources import get_source

        return LogWriter.from_config(self.config, get_source(source).name)

    def write(
        self, source: str, table: str, frame: Any, identity: str | None = None
    ) -> WriteReport:
        """Add a frame to a table of one's own, once per identity.

        The table then is in :meth:`tables`, :meth:`scan` and SQL as others are. It is divided by
        ``date``, which comes from ``ts_recv``, else from ``ts_event``; times without a zone are
        UTC.

        Parameters
        ----------
        source, table
            What it is called; not the name of a venue.
        frame
            Of Polars, Arrow or pandas, or anything that Arrow can take.
        identity
            What is written once under this name is not written again; None: a digest of the data.

        Raises
        ------
        UsageError
            If the source is a venue's, or the frame has no times.
        TableError
            If the table has a column of another type.

        Examples
        --------
        >>> import polars as pl, tempfile
        >>> from datetime import UTC, datetime
        >>> from fluxforge import Lake
        >>> lake = Lake(path=tempfile.mkdtemp())
        >>> frame = pl.DataFrame({"ts_event": [datetime(2026, 8, 9, tzinfo=UTC)], "price": [1.5]})
        >>> lake.write("mine", "quotes", frame), lake.write("mine", "quotes", frame).written
        (<WriteReport: mine.quotes: 1 rows written>, False)
        >>> lake.sql("SELECT price FROM mine.quotes").fetchall()
        [(1.5,)]
        """
        from fluxforge.etl.frames import write_frame

        return write_frame(*self._place(Role.ETL_OUTPUT), source, table, frame, identity)
