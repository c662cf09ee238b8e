"""The pipeline: from a configuration to running captures, and to their clean end."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from fluxforge.errors import (
    ConfigError,
    ConnectionFailedError,
    FluxForgeError,
    UnknownSourceError,
    UsageError,
)
from fluxforge.ingestion.buffer import LAST_WRITE_TIMEOUT_SECONDS, WRITE_TIMEOUT_SECONDS
from fluxforge.ingestion.capture import PROGRESS_SECONDS, SourceCapture
from fluxforge.ingestion.report import IngestReport
from fluxforge.retry import RetryPolicy
from fluxforge.signals import on_stop_signal
from fluxforge.sources import get_source

if TYPE_CHECKING:
    from collections.abc import Callable

    from fluxforge.config import FluxForgeConfig
    from fluxforge.ingestion.report import IngestProgress

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_SECONDS = 10.0
"""How long a venue may take to be reached for the first time."""

RESTART = RetryPolicy(first=2.0, cap=300.0)
"""How a source that failed is tried again, while others are being captured."""


class IngestionPipeline:
    """Captures configured exchanges into segments.

    Several exchanges fail and recover each by itself: one that cannot be captured is tried again
    while the others go on, and its report says what kept it.

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
    write_timeout
        Seconds for which the storage may refuse before the capture ends with its error. Nothing
        is dropped meanwhile: the sockets wait. An object store that merely does not answer never
        ends a capture: frames wait in the spool (``ingestion.spool_dir``), however long it takes.
    connect_timeout
        Seconds within which an exchange must be reached for the first time. Once it has been
        reached, lost connections are tried again for ever.
    stop_timeout
        Seconds for which the storage may refuse what is left at the end.

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
        write_timeout: float = WRITE_TIMEOUT_SECONDS,
        connect_timeout: float = CONNECT_TIMEOUT_SECONDS,
        stop_timeout: float = LAST_WRITE_TIMEOUT_SECONDS,
    ) -> None:
        if frames is not None and (type(frames) is not int or frames < 1):
            raise UsageError(f"frames is {frames!r}: it must be a whole number, at least 1")
        if duration is not None and duration <= 0:
            raise UsageError(f"duration is {duration:g} s: it must be more than 0")
        self._duration = duration
        self._on_progress = on_progress
        self._captures = {
            name: SourceCapture(
                config,
                name,
                frames=frames,
                write_timeout=write_timeout,
                connect_timeout=connect_timeout,
                stop_timeout=stop_timeout,
            )
            for name in _source_names(config, source)
        }
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ends_at: float | None = None
        self._stop_wanted = asyncio.Event()
        self._running: list[asyncio.Task[None]] = []
        self._showing: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None

    @property
    def reports(self) -> tuple[IngestReport, ...]:
        """What has been stored so far, one report a source."""
        return tuple(capture.report() for capture in self._captures.values())

    @property
    def progress(self) -> tuple[IngestProgress, ...]:
        """How far the capture is, one a source; from any thread."""
        return tuple(capture.progress() for capture in self._captures.values())

    def add(self, source: str, product: str) -> None:
        """Capture a product more from now on, on a live socket; from any thread.

        No frame of the others is lost by it. What the venue says to it is logged.

        Raises
        ------
        ConfigError
            If it is not written as the venue writes its products, or the venue's list lacks it.
        UsageError
            If the source is not being captured.
        """
        self._call(source, SourceCapture.add, product)

    def remove(self, source: str, product: str) -> None:
        """Capture a product no longer, as :meth:`add`; a UsageError where it is not captured."""
        self._call(source, SourceCapture.remove, product)

    async def start(self) -> None:
        """Recover what crashed captures left, and begin to capture.

        Raises
        ------
        StorageError
            If the storage cannot be written to, or does not answer; nothing has been started.
        """
        self._loop = asyncio.get_running_loop()
        failures = []
        for capture in self._captures.values():
            try:
                await capture.start()
            except FluxForgeError as exc:
                capture.endpoint.error = str(exc)
                failures.append(exc)
            except BaseException:
                await self.stop()
                raise
        if len(failures) == len(self._captures):
            await self.stop()
            raise failures[0]
        self._running = [asyncio.create_task(self._run(one)) for one in self._captures.values()]
        if self._on_progress is not None:
            self._showing = asyncio.create_task(self._show_progress(self._on_progress))
        if self._duration is not None:
            self._ends_at = self._loop.time() + self._duration

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

    def request_stop(self) -> None:
        """Let :meth:`wait_for_shutdown` return; to call on the event loop."""
        self._stop_wanted.set()

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
            If the storage refuses to the end; the message says how many frames it cost. Of
            several sources, each one's report says it.
        """
        self._stop_wanted.set()
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop_all())
        await asyncio.shield(self._stopping)
        return self.reports

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _run(self, capture: SourceCapture) -> None:
        """Capture one source to its end; start again after a failure, while others go on."""
        for delay in RESTART.delays():
            try:
                if not capture.running:
                    await capture.start()
                await capture.wait()
                return
            except FluxForgeError as exc:
                error = exc
            try:
                if len(self._captures) > 1:
                    await capture.stop()
            except FluxForgeError as exc:
                error = exc
            capture.endpoint.error = str(error)
            if not any(other.running for other in self._captures.values() if other is not capture):
                raise error
            logger.error("%s: %s; the others go on", capture.name, error)
            await asyncio.sleep(delay)

    async def _wait(self) -> None:
        """Wait for the first reason to end."""
        stop = asyncio.create_task(self._stop_wanted.wait())
        captures = asyncio.gather(*self._running)
        timeout = None
        if self._ends_at is not None:
            timeout = max(0.0, self._ends_at - asyncio.get_running_loop().time())
        ends: list[asyncio.Future[Any]] = [stop, captures]
        if self._showing is not None:
            ends.append(self._showing)  # it ends only by an error of the caller's
        try:
            done, _ = await asyncio.wait(ends, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            for end in done - {stop} if stop not in done else ():
                end.result()
            for capture in self._captures.values() if not done else ():
                try:
                    capture.endpoint.check_reached()
                except ConnectionFailedError as exc:
                    capture.endpoint.error = str(exc)
                    if len(self._captures) == 1:
                        raise
        finally:
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)

    async def _stop_all(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._showing is not None:
            self._showing.cancel()
        captures = list(self._captures.values())
        ends = await asyncio.gather(*(one.stop() for one in captures), return_exceptions=True)
        for capture, end in zip(captures, ends, strict=True):
            if isinstance(end, BaseException):
                capture.endpoint.error = str(end)
                if len(captures) == 1 or not isinstance(end, FluxForgeError):
                    raise end
        if self._showing is not None and self._showing.cancelled() and self._on_progress:
            for capture in captures:
                self._on_progress(capture.progress())

    def _call(
        self, source: str, change: Callable[[SourceCapture, str, str], None], product: str
    ) -> None:
        capture = self._captures.get(source)
        if capture is None or self._loop is None or not capture.running:
            raise UsageError(f"{source!r} is not being captured")
        market, symbol = capture.source.split(product)
        if change == SourceCapture.add:
            capture.check(product)
            capture.captured.add((market, symbol))
        elif (market, symbol) not in capture.captured:
            raise UsageError(f"{product!r} of {source} is not being captured")
        else:
            capture.captured.remove((market, symbol))
        with suppress(RuntimeError):  # the loop has ended, and the capture with it
            self._loop.call_soon_threadsafe(change, capture, market, symbol)

    async def _show_progress(self, show: Callable[[IngestProgress], object]) -> None:
        while True:
            for progress in self.progress:
                show(progress)
            await asyncio.sleep(PROGRESS_SECONDS)


async def ingest(
    config: FluxForgeConfig,
    source: str | None = None,
    *,
    duration: float | None = None,
    frames: int | None = None,
    on_progress: Callable[[IngestProgress], object] | None = None,
    stop_timeout: float = LAST_WRITE_TIMEOUT_SECONDS,
) -> IngestReport:
    """Capture one source, or all configured ones, until a bound, a signal, or an error.

    Cancelling this stores everything that was received before the cancellation goes on its way;
    see :meth:`IngestionPipeline.wait_for_shutdown`.

    Parameters
    ----------
    config, source, duration, frames, on_progress, stop_timeout
        As :class:`IngestionPipeline` takes them.
    """
    pipeline = IngestionPipeline(
        config, source, duration=duration, frames=frames, on_progress=on_progress,
        stop_timeout=stop_timeout,
    )  # fmt: skip
    await pipeline.start()
    await pipeline.wait_for_shutdown()
    return IngestReport.total(await pipeline.stop())


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
