"""One socket to a venue, kept open for as long as it is wanted."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError

from websockets.exceptions import ConnectionClosed, WebSocketException

from fluxforge.errors import ConnectionFailedError, redacted_url
from fluxforge.ingestion.rest import BUSY_CODES, http_get
from fluxforge.ingestion.websocket import (
    FrameSocket,
    check_url,
    classify,
    open_socket,
    reason,
)
from fluxforge.retry import RateLimiter, RetryPolicy
from fluxforge.segments import new_connection_id
from fluxforge.sources.session import Fetch, Lost, Refused, Send, Silent

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from fluxforge.config.schema import SourceConfig
    from fluxforge.ingestion.buffer import FrameBuffer
    from fluxforge.sources.base import Source, Subscription
    from fluxforge.sources.session import Event, Session

logger = logging.getLogger(__name__)

HEALTHY_SECONDS = 5.0
"""A connection that delivered frames for this long starts the delays between attempts over."""

WATCH_SECONDS = 1.0
"""How often to look whether a socket, or a channel of it, has fallen silent."""

RECONNECT = RetryPolicy(first=0.5, cap=30.0)


class Endpoint:
    """A venue's address, its allowances and what happened, shared by a source's connections.

    Attributes
    ----------
    connections, reconnects, connected
        Sockets opened so far, those of them that took another's place, and those open now.
    gaps, missing
        Holes in what the venue sent, and how many frames or trades would fill them by its numbers;
        1 for a hole of unknown size.
    resubscribed
        How often a new snapshot was asked for, after a gap or a silence.
    error
        What keeps the source from being captured; empty while it is.
    """

    def __init__(self, source: Source, settings: SourceConfig) -> None:
        self.source = source
        self.url = settings.url or source.url
        check_url(source.name, self.url)
        self.rest_url = source.rest_address(self.url, settings.rest_url)
        self.connections = self.reconnects = self.connected = 0
        self.gaps = self.missing = self.resubscribed = 0
        self.error = ""
        self._last_error: Exception = TimeoutError("no answer yet")
        self._give_up_at = 0.0
        limits = source.limits
        self._connecting = RateLimiter(limits.connections_per_second)
        self._sending = RateLimiter(limits.messages_per_second)
        self._fetching = RateLimiter(limits.snapshots_per_second, at_once=limits.snapshots_at_once)

    @property
    def reached(self) -> bool:
        """Whether a connection has been open."""
        return self.connections > 0

    def begin(self, timeout: float) -> None:
        """Start the `timeout` seconds in which the venue must be reached for the first time."""
        self._give_up_at = time.monotonic() + timeout

    async def admit(self, messages: int) -> None:
        """Wait until the venue's limits allow a connection that will send so many messages."""
        limits = self.source.limits
        share = messages * limits.connections_per_second / limits.messages_per_second
        await self._connecting.acquire(max(1.0, share))

    async def send(self, socket: FrameSocket, message: str) -> None:
        """Send a message as soon as the venue's limits allow it."""
        await self._sending.acquire()
        await socket.send(message)

    async def fetch(self, url: str) -> bytes:
        """Get a snapshot as soon as the venue's limits allow it."""
        await self._fetching.acquire()
        return await asyncio.to_thread(http_get, url)

    def check_deadline(self, error: Exception, delay: float) -> None:
        """Give up on a venue never reached, if an attempt in `delay` seconds would be too late."""
        self._last_error = error  # for the end, where there is no time for another attempt
        if not self.reached and time.monotonic() + delay > self._give_up_at:
            raise self.failure(error) from error

    def check_reached(self) -> None:
        """Raise :class:`ConnectionFailedError` if no connection has ever been open."""
        if not self.reached:
            raise self.failure(self._last_error) from self._last_error

    def failure(self, error: Exception) -> ConnectionFailedError:
        """Return the error that ends the capture, with what to change."""
        self._last_error = error
        return ConnectionFailedError(
            f"cannot connect to {redacted_url(self.url)}: {reason(error)}. Check the network, "
            f"and that ingestion.sources.{self.source.name}.url is right and something answers "
            "there"
        )


class Connection:
    """Keeps one subscription alive over as many sockets, one after another, as it takes.

    Every frame that arrives goes to the buffer, whatever it is; each socket has an identity of
    its own. :meth:`run` ends after :meth:`leave`, once enough has been received, or with an error
    that trying again would not change.

    Cancelling :meth:`run` loses no frame that it has received. Frames that are still on their way
    are lost, as with any end of a connection.
    """

    def __init__(self, endpoint: Endpoint, subscription: Subscription, buffer: FrameBuffer) -> None:
        self.subscription = subscription
        self._endpoint = endpoint
        name, market = endpoint.source.name, subscription.market
        self._name = name if market == "spot" else f"{name} {market}"
        self._buffer = buffer
        self._delays = RECONNECT.delays()
        self._socket: FrameSocket | None = None
        self._session: Session | None = None
        self._conn = ""
        self._frames = 0  # of this socket
        self._sockets = 0
        self._opened_at = 0.0
        self._failure: Exception | None = None
        self._leaving = False
        self._task: asyncio.Task[None] | None = None
        self._helpers: set[asyncio.Task[None]] = set()

    def leave(self) -> None:
        """Close the socket cleanly; what arrives until the venue confirms it is still taken."""
        self._leaving = True
        if self._socket is not None:
            self._start(self._socket.close())
        elif self._task is not None:
            self._task.cancel()

    def subscribe(self, symbols: tuple[str, ...]) -> None:
        """Add products, on the open socket too."""
        own = self.subscription.products
        added = tuple(symbol for symbol in symbols if symbol not in own)
        self.subscription = replace(self.subscription, products=own + added)
        if self._session is not None:
            self._send(self._session.subscribe(added))

    def unsubscribe(self, symbols: tuple[str, ...]) -> None:
        """Take products off, on the open socket too."""
        kept = tuple(name for name in self.subscription.products if name not in symbols)
        self.subscription = replace(self.subscription, products=kept)
        if self._session is not None:
            self._send(self._session.unsubscribe(symbols))

    def ages(self) -> dict[str, float]:
        """Return the seconds since each channel's last frame, to about a second."""
        return {} if self._session is None else self._session.ages()

    async def run(self) -> None:
        """Connect, receive, and connect again, until :meth:`leave` or enough has been received."""
        self._task = asyncio.current_task()
        while not self._ended:
            self._frames = 0
            try:
                await self._converse()
            except (OSError, TimeoutError, WebSocketException) as error:
                await self._wait_to_return(error)

    @property
    def _ended(self) -> bool:
        return self._leaving or self._buffer.complete.is_set()

    async def _wait_to_return(self, error: Exception) -> None:
        if self._ended:
            return
        if self._frames and time.monotonic() - self._opened_at >= HEALTHY_SECONDS:
            self._delays = RECONNECT.delays()
        verdict = classify(error, reached=self._endpoint.reached)
        if verdict == "never":
            raise self._endpoint.failure(error) from error
        if verdict == "again" and self._frames:
            logger.info("%s closed the connection; connecting again", self._name)
            return
        delay = next(self._delays)
        self._endpoint.check_deadline(error, delay)
        why = reason(error)
        logger.warning("%s: %s; connecting again in %.1f s", self._name, why, delay)
        await asyncio.sleep(delay)

    async def _converse(self) -> None:
        """Live through one socket, from its opening to the error that ends it."""
        endpoint, source = self._endpoint, self._endpoint.source
        session = source.session(self.subscription)
        messages = session.opening()
        await endpoint.admit(len(messages))
        async with open_socket(source.address(endpoint.url, self.subscription)) as socket:
            self._socket, self._session, self._failure = socket, session, None
            self._opened_at = time.monotonic()
            self._note_opening()
            try:
                self._send(messages)
                self._start(self._watch(socket, session))
                self._start(self._keep_pinging(session))
                socket.deliver_to(self._receive)
                await socket.recv()  # returns nothing: it raises how the connection ended
            except ConnectionClosed:
                if self._failure is None:
                    raise
            finally:
                self._socket = self._session = None
                endpoint.connected -= 1
                helpers, self._helpers = self._helpers, set()
                for helper in helpers:
                    helper.cancel()
                await asyncio.gather(*helpers, return_exceptions=True)
            if self._failure is not None:
                raise self._failure

    def _note_opening(self) -> None:
        endpoint, market = self._endpoint, self.subscription.market
        endpoint.connections += 1
        endpoint.connected += 1
        endpoint.reconnects += self._sockets > 0
        endpoint.error = ""
        self._sockets += 1
        number = new_connection_id()
        self._conn = number if market == "spot" else f"{market}-{number}"
        url = redacted_url(endpoint.url)
        logger.info("%s: connected to %s as %s", self._name, url, self._conn)

    def _receive(self, frames: list[tuple[int, bytes]]) -> bool:
        """Store frames, then look what they ask for; return whether there is room for more."""
        self._frames += len(frames)
        wanted = self._buffer.add(frames, self._conn)
        session = self._session
        try:
            if session is not None:
                for _, frame in frames[:wanted]:
                    if events := session.read(frame):
                        self._obey(events)
        except Exception as error:
            self._fail(error)
        if self._buffer.has_room:
            return True
        if self._socket is not None:
            self._buffer.when_room(self._socket.resume)
        return self._socket is None

    def _obey(self, events: Iterable[Event]) -> None:
        """Do what a frame or a silence asks for: count, answer, fetch, or give up."""
        endpoint, harm = self._endpoint, False
        for event in events:
            match event:
                case Lost() | Silent():
                    harm = True
                    if isinstance(event, Lost):
                        endpoint.gaps += 1
                        endpoint.missing += event.frames
                    logger.warning("%s: %s", self._name, event)
                case Refused(fatal=True):
                    where = f"ingestion.sources.{endpoint.source.name}"
                    raise ConnectionFailedError(
                        f"{self._name} refuses: {event.message}. Check the products, the channels "
                        f"and, where they are needed, the keys of {where}"
                    )
                case Refused():
                    about = f" {event.symbol}" if event.symbol else ""
                    logger.warning("%s refuses%s: %s", self._name, about, event.message)
                case Send() | Fetch():
                    if harm:
                        endpoint.resubscribed += 1
                        logger.warning("%s: asking for a new snapshot", self._name)
                        harm = False
                    if isinstance(event, Send):
                        self._send(event.messages)
                    elif self._session is not None:
                        self._start(self._fetch(self._session, event))

    def _send(self, messages: Iterable[str]) -> None:
        self._start(self._say(messages))

    async def _say(self, messages: Iterable[str]) -> None:
        for message in messages:
            if self._socket is None:
                return
            try:
                await self._endpoint.send(self._socket, message)
            except ConnectionClosed:
                return  # the receiver hears of it too

    async def _keep_pinging(self, session: Session) -> None:
        seconds = self._endpoint.source.limits.ping_seconds
        while seconds is not None and (message := session.ping()) is not None:
            await asyncio.sleep(seconds)
            await self._say([message])

    async def _watch(self, socket: FrameSocket, session: Session) -> None:
        """Notice a silence: of the socket, which ends it, or of a channel of it.

        What counts is the time in which the socket was read: a venue that has to wait for the
        disk is not silent, nor is one that a sleeping computer did not hear.
        """
        limit = self._endpoint.source.limits.silence_seconds
        tick = min(WATCH_SECONDS, limit / 4)
        listened, heard_at, frames, before = 0.0, 0.0, self._frames, time.monotonic()
        while True:
            await asyncio.sleep(tick)
            now = time.monotonic()
            if not socket.paused_reading:
                listened += min(now - before, 2 * tick)
            before = now
            if frames != self._frames:
                frames, heard_at = self._frames, listened
            if listened - heard_at >= limit:
                self._fail(TimeoutError(f"not a single frame in {limit:g} s"))
                return
            self._obey(session.overdue(listened))

    async def _fetch(self, session: Session, request: Fetch) -> None:
        """Get what the venue gives over REST only; its answer is a frame of this connection."""
        url = f"{self._endpoint.rest_url}{request.path}"
        for delay in RetryPolicy(first=1.0, cap=30.0).delays():
            try:
                answer = await self._endpoint.fetch(url)
                break
            except HTTPError as error:
                if error.code not in BUSY_CODES and error.code < 500:
                    answer = error.read()  # a refusal is an answer too
                    break
                logger.warning("%s: %s: %s", self._name, redacted_url(url), reason(error))
                await asyncio.sleep(delay)
            except OSError as error:
                logger.warning("%s: %s: %s", self._name, redacted_url(url), reason(error))
                await asyncio.sleep(delay)
        if self._session is session:
            self._receive([(time.time_ns(), request.frame(answer))])

    def _fail(self, error: Exception) -> None:
        """End this socket with an error: nobody may be there to shake hands with."""
        if self._failure is None:
            self._failure = error
        if self._socket is not None:
            self._socket.transport.abort()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Work beside the receiving of frames, which never waits for it."""

        def ended(task: asyncio.Task[None]) -> None:
            self._helpers.discard(task)
            error = None if task.cancelled() else task.exception()
            if isinstance(error, Exception):
                self._fail(error)

        task = asyncio.create_task(work, name=f"{self._name} connection")
        self._helpers.add(task)
        task.add_done_callback(ended)
