"""The capture of one source: its sockets, its buffer, its writer, and recovery beside them."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from fluxforge.errors import FluxForgeError, StorageError
from fluxforge.ingestion.buffer import FrameBuffer
from fluxforge.ingestion.connection import Connection, Endpoint
from fluxforge.ingestion.log_writer import LogWriter
from fluxforge.ingestion.report import IngestProgress, IngestReport
from fluxforge.ingestion.rest import check_products, known_instruments
from fluxforge.ingestion.websocket import CLOSE_SECONDS
from fluxforge.segments import RecoveryReport
from fluxforge.sources import get_source
from fluxforge.sources.base import Subscription

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from fluxforge.config import FluxForgeConfig
    from fluxforge.sources.rest import Instrument

logger = logging.getLogger(__name__)
T = TypeVar("T")

RECOVERY_SECONDS = 60.0
"""How often a running capture looks for segments whose writers have ended."""

PROGRESS_SECONDS = 1.0
LIST_SECONDS = 3.0
"""How long the venue's list of instruments is waited for; without it, all products may be there."""


class SourceCapture:
    """Captures one source into segments, as often as :meth:`start` and :meth:`stop` are called.

    Captures of one source may run side by side on one lake. An object store that stops answering
    while this runs does not end it; one that does not answer at the start is an error, since
    nothing has been captured yet.
    """

    def __init__(
        self,
        config: FluxForgeConfig,
        name: str,
        *,
        frames: int | None,
        write_timeout: float,
        connect_timeout: float,
        stop_timeout: float,
    ) -> None:
        settings = config.ingestion.sources[name]
        self.name = name
        self.source = get_source(name)
        self.endpoint = Endpoint(self.source, settings)
        self._products, self._spool_dir = settings.products, config.ingestion.spool_dir
        self._listed: list[Instrument] = []
        self._subscriptions = self.source.plan(settings.products, settings.channels)
        self._channels = self._subscriptions[0].channels
        self.captured = {(one.market, name) for one in self._subscriptions for name in one.products}
        self._writer = LogWriter.from_config(config, name)
        self._buffer = FrameBuffer(self._writer, config.ingestion.flush_interval_seconds, frames)
        self._timeouts = (write_timeout, connect_timeout)
        self._stop_timeout = stop_timeout
        self._connections: list[Connection] = []
        self._sockets: set[asyncio.Task[None]] = set()
        self._helpers: set[asyncio.Task[None]] = set()
        self._failed = asyncio.Event()
        self._failure: BaseException | None = None
        self._recovered = RecoveryReport()
        self._started = self._ended = self._sampled_at = 0.0
        self._sampled, self._rate = 0, 0.0
        self.running = False

    async def start(self) -> None:
        """Recover what crashed captures left, and begin to capture."""
        await self._check_products()
        self._recovered += await _in_thread(self._writer.prepare)
        self._started = self._started or time.monotonic()
        self._failed.clear()
        self._failure = None
        self.running = True
        self.endpoint.begin(self._timeouts[1])
        self._helpers = {
            self._spawn(self._buffer.keep_flushing(self._timeouts[0])),
            self._spawn(self._recover_now_and_then()),
        }
        for subscription in self._subscriptions:
            self._open(subscription)

    async def _check_products(self) -> None:
        address = self.endpoint.rest_url
        if not self.source.is_own(self.endpoint.url, address):
            return  # another's server may have what the venue has not
        known = partial(known_instruments, self.source, address, self._spool_dir)
        try:
            instruments = await asyncio.wait_for(_in_thread(known), LIST_SECONDS)
        except (FluxForgeError, TimeoutError) as exc:
            logger.debug("%s: no list of instruments: %s", self.name, exc)
        else:
            check_products(self.source, self._products, instruments)
            self._listed = instruments

    async def wait(self) -> None:
        """Return when the last wanted frame has been received; raise what ends the capture."""
        ends = [
            asyncio.create_task(event.wait()) for event in (self._buffer.complete, self._failed)
        ]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
        if self._failure is not None:
            raise self._failure

    async def stop(self) -> None:
        """Close the sockets, write everything that was received, and close the segment."""
        if not self.running:
            return
        self._subscriptions = [connection.subscription for connection in self._connections]
        for connection in self._connections:
            connection.leave()
        if self._sockets:
            # The writer goes on meanwhile: what the sockets still hand over may need its room.
            await asyncio.wait(self._sockets, timeout=CLOSE_SECONDS + 0.5)
        tasks = [*self._sockets, *self._helpers]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._connections = []
        try:
            await self._buffer.finish(self._stop_timeout)
        finally:
            self.running = False
            self._ended = time.monotonic()

    def check(self, product: str) -> None:
        """Refuse a product that the venue's list lacks, where that is known."""
        if self._listed:
            check_products(self.source, [product], self._listed)

    def add(self, market: str, symbol: str) -> None:
        """Capture one product more: on a socket that has room, else on one of its own."""
        mine = [one for one in self._connections if one.subscription.market == market]
        if any(symbol in one.subscription.products for one in mine):
            return
        for connection in mine:
            if self.source.room(connection.subscription) > 0:
                connection.subscribe((symbol,))
                return
        self._open(Subscription((symbol,), self._channels, market))

    def remove(self, market: str, symbol: str) -> None:
        """Capture a product no longer; the last one of a socket ends that."""
        for connection in list(self._connections):
            held = connection.subscription
            if held.market != market or symbol not in held.products:
                continue
            if held.products == (symbol,):
                self._connections.remove(connection)
                connection.leave()
            else:
                connection.unsubscribe((symbol,))

    def progress(self) -> IngestProgress:
        """Return how far the capture is."""
        endpoint, writer, now = self.endpoint, self._writer, time.monotonic()
        frames = self._buffer.frames
        if (elapsed := now - (self._sampled_at or self._started)) >= PROGRESS_SECONDS:
            self._rate = (frames - self._sampled) / elapsed if self._started else 0.0
            self._sampled_at, self._sampled = now, frames
        ages: dict[str, float] = {}
        for connection in list(self._connections):
            for channel, age in connection.ages().items():
                ages[channel] = min(age, ages.get(channel, age))
        return IngestProgress(
            source=self.name,
            frames=frames,
            bytes=self._buffer.bytes,
            buffered_bytes=writer.buffered_bytes,
            connections=endpoint.connections,
            connected=endpoint.connected,
            gaps=endpoint.gaps,
            missing=endpoint.missing,
            seconds=self._seconds(),
            spool=writer.spooled_bytes,
            running=self.running,
            reconnects=endpoint.reconnects,
            resubscribed=endpoint.resubscribed,
            rate=self._rate if self.running else 0.0,
            lag=writer.lag_seconds,
            ages=ages,
            segment=writer.segment,
            error=endpoint.error,
        )

    def report(self) -> IngestReport:
        """Return what has been stored."""
        endpoint, writer = self.endpoint, self._writer
        return IngestReport(
            source=self.name,
            frames=writer.flushed_frames,
            bytes=writer.flushed_bytes,
            segments=writer.segments,
            connections=endpoint.connections,
            gaps=endpoint.gaps,
            missing=endpoint.missing,
            seconds=self._seconds(),
            recovered=len(self._recovered.segments),
            spooled=writer.spooled_frames,
            resubscribed=endpoint.resubscribed,
            error=endpoint.error,
        )

    def _seconds(self) -> float:
        if not self._started:
            return 0.0
        return (time.monotonic() if self.running else self._ended) - self._started

    def _open(self, subscription: Subscription) -> None:
        connection = Connection(self.endpoint, subscription, self._buffer)
        self._connections.append(connection)
        task = self._spawn(connection.run())
        self._sockets.add(task)
        task.add_done_callback(self._sockets.discard)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) and not self._failure:
                self._failure = error
                self._failed.set()

        task = asyncio.create_task(work, name=f"{self.name} capture")
        task.add_done_callback(ended)
        return task

    async def _recover_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(RECOVERY_SECONDS)
            try:
                self._recovered += await _in_thread(self._writer.recover)
            except StorageError as exc:
                logger.warning("%s: recovery has to wait: %s", self.name, exc)


async def _in_thread(work: Callable[[], T]) -> T:
    """Run blocking work in a thread of its own, and return its result.

    Unlike :func:`asyncio.to_thread`, which has the end of the program wait for the work: cancelled,
    this leaves it to itself, and it dies with the process. A store that does not answer can keep
    one call for minutes.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def deliver(value: T | None, error: BaseException | None) -> None:
        if done.done():
            return  # nobody waits any more
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(value)  # type: ignore[arg-type]

    def run() -> None:
        value, error = None, None
        try:
            value = work()
        except BaseException as exc:  # it belongs to whoever waits
            error = exc
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(deliver, value, error)

    threading.Thread(target=run, name="fluxforge-recovery", daemon=True).start()
    return await done
