"""The pipeline: from a configuration to running collectors, and to their clean end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

from fluxforge.config import Role
from fluxforge.errors import ConfigError, UnknownSourceError, UsageError
from fluxforge.ingestion.collector import Collector, CollectorSettings
from fluxforge.ingestion.flushing import WRITE_PATIENCE_SECONDS
from fluxforge.ingestion.log_writer import LogWriter
from fluxforge.signals import on_stop_signal
from fluxforge.sources import get_source
from fluxforge.storage.factory import create_storage_backend

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from fluxforge.config import FluxForgeConfig
    from fluxforge.ingestion.report import IngestProgress, IngestReport

CONNECT_PATIENCE_SECONDS = 10.0
"""How long a venue may take to be reached for the first time."""


class IngestionPipeline:
    """Captures configured exchanges into segments.

    Parameters
    ----------
    config
        What :func:`fluxforge.config.load_config` returns.
    source
        The exchange; by default every one under ``ingestion.sources``.
    duration
        Stop after so many seconds.
    frames
        Stop when exactly so many frames of each source have been received; they are stored, and
        no other.
    on_progress
        Called about once a second with an :class:`IngestProgress` of each source.
    write_patience_seconds
        How long the storage may refuse before the capture ends with its error. Nothing is
        dropped meanwhile: the sockets wait. An object store that merely does not answer never
        ends a capture: frames wait in the spool (``ingestion.spool_dir``), however long it takes.
    connect_patience_seconds
        How long an exchange may take to be reached for the first time. Once it has been reached,
        lost connections are tried again for ever.

    Raises
    ------
    UnknownSourceError
        If the source is not installed or not configured.
    ConfigError
        If its settings cannot work.

    Examples
    --------
    Capture until Ctrl-C, a signal to terminate, or ``await pipeline.stop()`` elsewhere::

        pipeline = IngestionPipeline(load_config())
        await pipeline.start()
        await pipeline.wait_for_shutdown()
        await pipeline.stop()
    """

    def __init__(
        self,
        config: FluxForgeConfig,
        source: str | None = None,
        *,
        duration: float | None = None,
        frames: int | None = None,
        on_progress: Callable[[IngestProgress], object] | None = None,
        write_patience_seconds: float = WRITE_PATIENCE_SECONDS,
        connect_patience_seconds: float = CONNECT_PATIENCE_SECONDS,
    ) -> None:
        if frames is not None and (type(frames) is not int or frames < 1):
            raise UsageError(f"frames is {frames!r}: it must be a whole number, at least 1")
        if duration is not None and duration <= 0:
            raise UsageError(f"duration is {duration:g} s: it must be more than 0")
        self._duration = duration
        self._collectors = [
            _create_collector(
                config,
                name,
                frames=frames,
                on_progress=on_progress,
                write_patience_seconds=write_patience_seconds,
                connect_patience_seconds=connect_patience_seconds,
            )
            for name in _source_names(config, source)
        ]
        self._ends_at: float | None = None
        self._stop_wanted = asyncio.Event()
        self._stopping: asyncio.Task[tuple[IngestReport, ...]] | None = None

    @property
    def reports(self) -> tuple[IngestReport, ...]:
        """What has been stored so far, one report a source."""
        return tuple(collector.report() for collector in self._collectors)

    async def start(self) -> None:
        """Recover what crashed collectors left, and begin to capture.

        Raises
        ------
        StorageError
            If the storage cannot be written to, or does not answer; nothing has been started.
        """
        try:
            for collector in self._collectors:
                await collector.start()
        except BaseException:
            await self.stop()
            raise
        if self._duration is not None:
            self._ends_at = asyncio.get_running_loop().time() + self._duration

    async def wait_for_shutdown(self) -> None:
        """Return when the capture has ended and everything received is stored.

        It ends after `duration` or `frames`, with SIGINT (Ctrl-C), SIGTERM or (Windows)
        Ctrl-Break, with :meth:`stop` elsewhere, or with an error. In a notebook, interrupting the
        kernel is Ctrl-C. A second Ctrl-C does not wait: what was not yet flushed is lost, and the
        next start recovers the rest.

        Cancelling this ends the capture too, as cleanly: frames that the sockets have received
        are stored before the cancellation goes on its way. Only frames that the venue had not
        delivered yet are not.

        Raises
        ------
        ConnectionFailedError
            If a venue cannot be reached even once, or refuses for good.
        StorageError
            If the storage refuses for longer than it may. What had been flushed is safe.
        """
        try:
            with on_stop_signal(self._stop_wanted.set):
                await self._wait()
        finally:
            await self.stop()

    async def stop(self) -> tuple[IngestReport, ...]:
        """Close the sockets, write everything that was received, and close the segments.

        Stopping twice is allowed; the second call waits for the first. Cancelling this does not
        stop the stopping.

        Returns
        -------
        tuple of IngestReport
            One a source. Where an object store did not answer, ``spooled`` says how many frames
            wait on this disk for the next capture on this machine, which stores them.

        Raises
        ------
        StorageError
            If the storage refuses to the end; the message says how many frames it cost.
        """
        self._stop_wanted.set()
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop_collectors())
        return await asyncio.shield(self._stopping)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def _wait(self) -> None:
        """Wait for the first reason to end."""
        stop = asyncio.create_task(self._stop_wanted.wait())
        captures = asyncio.gather(*(collector.wait() for collector in self._collectors))
        ends: list[asyncio.Future[Any]] = [stop, captures]
        timeout = None
        if self._ends_at is not None:
            timeout = max(0.0, self._ends_at - asyncio.get_running_loop().time())
        try:
            done, _ = await asyncio.wait(ends, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if captures in done and stop not in done:
                captures.result()
            if not done:
                for collector in self._collectors:
                    collector.check_reached()
        finally:
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)

    async def _stop_collectors(self) -> tuple[IngestReport, ...]:
        ends = await asyncio.gather(
            *(collector.stop() for collector in self._collectors), return_exceptions=True
        )
        for end in ends:
            if isinstance(end, BaseException):
                raise end
        return self.reports


async def ingest(
    config: FluxForgeConfig,
    source: str,
    *,
    duration: float | None = None,
    frames: int | None = None,
    on_progress: Callable[[IngestProgress], object] | None = None,
) -> IngestReport:
    """Capture one source until its bound, a signal, or an error.

    Cancelling this stores everything that was received before the cancellation goes on its way;
    see :meth:`IngestionPipeline.wait_for_shutdown`.

    Parameters
    ----------
    config, source, duration, frames, on_progress
        As :class:`IngestionPipeline` takes them.
    """
    pipeline = IngestionPipeline(
        config, source, duration=duration, frames=frames, on_progress=on_progress
    )
    await pipeline.start()
    await pipeline.wait_for_shutdown()
    [report] = await pipeline.stop()
    return report


def _source_names(config: FluxForgeConfig, source: str | None) -> list[str]:
    configured = list(config.ingestion.sources)
    if source is None:
        if not configured:
            raise ConfigError("ingestion.sources is empty: name what to capture")
        return configured
    get_source(source)  # where it is not installed either, that is the better message
    if source not in configured:
        raise UnknownSourceError(
            f"{source!r} is not configured: add ingestion.sources.{source}, "
            f"or choose from {', '.join(configured) or 'none'}"
        )
    return [source]


def _create_collector(
    config: FluxForgeConfig,
    name: str,
    *,
    frames: int | None,
    on_progress: Callable[[IngestProgress], object] | None,
    write_patience_seconds: float,
    connect_patience_seconds: float,
) -> Collector:
    source, wanted = get_source(name), config.ingestion.sources[name]
    settings = CollectorSettings(
        url=wanted.url,
        subscriptions=tuple(source.plan(wanted.products, wanted.channels)),
        flush_interval_seconds=config.ingestion.flush_interval_seconds,
        frames=frames,
        write_patience_seconds=write_patience_seconds,
        connect_patience_seconds=connect_patience_seconds,
    )
    storage, ingestion = create_storage_backend(config, role=Role.INGESTION), config.ingestion
    writer = LogWriter(
        storage=storage,
        active_path=storage.layout.active(name),
        ready_path=storage.layout.ready(name),
        source_name=name,
        segment_max_mb=ingestion.segment_max_mb,
        segment_max_seconds=ingestion.segment_max_seconds,
        spool_dir=ingestion.spool_dir,
        spool_max_mb=ingestion.spool_max_mb,
        mirror_interval_seconds=ingestion.mirror_interval_seconds,
    )
    return Collector(source, settings, writer, on_progress)
