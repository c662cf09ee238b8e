"""Everything that captures one source: recovery, sockets, buffer, writer."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fluxforge.errors import ConfigError, StorageError
from fluxforge.ingestion.connection import CLOSE_SECONDS, Connection
from fluxforge.ingestion.detached import run_detached
from fluxforge.ingestion.flushing import Flusher
from fluxforge.ingestion.intake import Intake
from fluxforge.ingestion.report import IngestProgress, IngestReport
from fluxforge.ingestion.venue import Venue
from fluxforge.segments import RecoveryReport

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from fluxforge.ingestion.log_writer import LogWriter
    from fluxforge.sources.base import Source, Subscription

logger = logging.getLogger(__name__)

RECOVERY_SECONDS = 60.0
"""How often a running collector looks for segments whose collectors have ended."""

PROGRESS_SECONDS = 1.0


@dataclass(frozen=True)
class CollectorSettings:
    """How a collector works; see ``ingestion`` in the configuration.

    Attributes
    ----------
    url
        The venue's address.
    subscriptions
        One for each socket.
    flush_interval_seconds
        As configured.
    frames
        Stop after exactly this many; None: no such bound.
    write_patience_seconds
        How long the storage may refuse.
    connect_patience_seconds
        How long the venue may take to be reached for the first time.
    """

    url: str
    subscriptions: tuple[Subscription, ...]
    flush_interval_seconds: float
    frames: int | None
    write_patience_seconds: float
    connect_patience_seconds: float


class Collector:
    """Captures one source into segments, from :meth:`start` to :meth:`stop`.

    Collectors of one source may run side by side on one lake.

    An object store that stops answering while this runs does not end it: frames wait in the spool,
    and once that is full, the sockets wait. A store that does not answer at the start is an error,
    since nothing has been captured yet; what waits in the spool from before stays there.
    """

    def __init__(
        self,
        source: Source,
        settings: CollectorSettings,
        writer: LogWriter,
        on_progress: Callable[[IngestProgress], object] | None = None,
    ) -> None:
        check_url(source.name, settings.url)
        self.source = source
        self._settings = settings
        self._on_progress = on_progress
        self._writer = writer
        self._intake = Intake(self._writer, settings.frames)
        self._flusher = Flusher(self._writer, self._intake, settings.flush_interval_seconds)
        self._venue = Venue(source, settings.url, settings.connect_patience_seconds)
        self._connections: list[Connection] = []
        self._sockets: list[asyncio.Task[None]] = []
        self._helpers: list[asyncio.Task[None]] = []
        self._flushing: asyncio.Task[None] | None = None
        self._recovered = RecoveryReport()
        self._started = 0.0
        self._ended: float | None = None

    async def start(self) -> None:
        """Recover what crashed collectors left, and begin to capture.

        Raises
        ------
        StorageError
            If the storage, or the disk of the spool, cannot be written to.
        """
        self._recovered = await run_detached(self._writer.prepare)
        self._started = asyncio.get_running_loop().time()
        self._venue.begin()
        self._flushing = self._spawn(self._flusher.run(self._settings.write_patience_seconds))
        self._helpers = [self._spawn(self._recover_now_and_then())]
        if self._on_progress is not None:
            self._helpers.append(self._spawn(self._show_progress(self._on_progress)))
        self._connections = [
            Connection(self._venue, subscription, self._intake)
            for subscription in self._settings.subscriptions
        ]
        self._sockets = [connection.start() for connection in self._connections]

    async def wait(self) -> None:
        """Return when the last wanted frame has been received.

        Raises
        ------
        FluxForgeError
            If the capture cannot go on.
        """
        full = self._spawn(self._intake.full.wait())
        running = [*self._sockets, *self._helpers]
        if self._flushing is not None:
            running.append(self._flushing)
        try:
            done, _ = await asyncio.wait([full, *running], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            full.cancel()

    def check_reached(self) -> None:
        """Raise :class:`ConnectionFailedError` if the venue has not been reached even once."""
        self._venue.check_reached()

    async def stop(self) -> IngestReport:
        """Close the sockets, write everything that was received, and close the segment.

        Where an object store does not answer, what it has not taken stays in the spool, and the
        report says how much that is.

        Raises
        ------
        StorageError
            If the storage refuses to the end; the message says how many frames it cost.
        """
        for connection in self._connections:
            connection.leave()
        if self._sockets:
            # The writer goes on meanwhile: what the sockets still hand over may need its room.
            await asyncio.wait(self._sockets, timeout=CLOSE_SECONDS + 1)
        helpers = [task for task in (self._flushing, *self._helpers) if task is not None]
        for task in (*self._sockets, *helpers):
            task.cancel()
        await asyncio.gather(*self._sockets, *helpers, return_exceptions=True)
        if self._flushing is None:
            return self.report()  # it never began
        try:
            await self._flusher.finish()
        finally:
            self._ended = asyncio.get_running_loop().time()
        if self._on_progress is not None and self._sockets:
            self._on_progress(self.progress())
        return self.report()

    def progress(self) -> IngestProgress:
        """Return how far the capture is."""
        tally = self._venue.tally
        return IngestProgress(
            source=self.source.name,
            frames=self._intake.frames,
            bytes=self._intake.bytes,
            buffered_bytes=self._writer.buffered_bytes,
            connections=tally.connections,
            connected=tally.connected,
            gaps=tally.gaps,
            missing=tally.missing,
            seconds=self._seconds(),
            spooled_bytes=self._writer.spooled_bytes,
        )

    def report(self) -> IngestReport:
        """Return what has been stored."""
        tally = self._venue.tally
        return IngestReport(
            source=self.source.name,
            frames=self._writer.flushed_frames,
            bytes=self._writer.flushed_bytes,
            segments=self._writer.segments,
            connections=tally.connections,
            gaps=tally.gaps,
            missing=tally.missing,
            seconds=self._seconds(),
            recovered=len(self._recovered.segments),
            spooled=self._writer.spooled_frames,
        )

    def _seconds(self) -> float:
        if not self._started:
            return 0.0
        return (self._ended or asyncio.get_running_loop().time()) - self._started

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return asyncio.create_task(work, name=f"{self.source.name} collector")

    async def _recover_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(RECOVERY_SECONDS)
            try:
                self._recovered += await run_detached(self._writer.recover)
            except StorageError as exc:
                logger.warning("%s: recovery has to wait: %s", self.source.name, exc)

    async def _show_progress(self, show: Callable[[IngestProgress], object]) -> None:
        while True:
            show(self.progress())
            await asyncio.sleep(PROGRESS_SECONDS)


def check_url(source: str, url: str) -> None:
    """Refuse an address that cannot be a WebSocket's.

    Raises
    ------
    ConfigError
        With the key to change.

    Examples
    --------
    >>> check_url("coinbase", "https://example.com")
    Traceback (most recent call last):
    ...
    fluxforge.errors.ConfigError: ingestion.sources.coinbase.url: 'https://example.com' is not a
    WebSocket address: it begins with ws:// or wss://
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0
    except ValueError as exc:
        raise ConfigError(f"ingestion.sources.{source}.url: {url!r}: {exc}") from exc
    if not usable:
        raise ConfigError(
            f"ingestion.sources.{source}.url: {url!r} is not a WebSocket address: "
            "it begins with ws:// or wss://"
        )
