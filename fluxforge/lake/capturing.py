"""How a lake captures: from sockets to segments."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fluxforge.config.durations import parse_duration
from fluxforge.errors import UsageError
from fluxforge.lake.places import Places

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from fluxforge.ingestion.report import IngestProgress, IngestReport


class Capturing(Places):
    """The part of :class:`~fluxforge.Lake` that captures."""

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
