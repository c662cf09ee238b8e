"""One socket to a venue, kept open for as long as it is wanted."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from typing import TYPE_CHECKING, Any, Literal

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    ConnectionClosedOK,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
    ProxyError,
    WebSocketException,
)

from fluxforge.errors import ConnectionFailedError, redacted_url
from fluxforge.ingestion.backoff import Backoff
from fluxforge.ingestion.venue import http_get, is_loopback, reason
from fluxforge.retry import RetryPolicy
from fluxforge.segments import new_connection_id
from fluxforge.sources.session import Fetch, Lost, Refused, Send, Silent

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from fluxforge.ingestion.intake import Intake
    from fluxforge.ingestion.venue import Venue
    from fluxforge.sources.base import Subscription
    from fluxforge.sources.session import Session

logger = logging.getLogger(__name__)

MAX_FRAME_BYTES = 64 << 20
"""The largest frame that is accepted; a full book of one product takes 5 MB."""

OPEN_SECONDS = 10.0
CLOSE_SECONDS = 5.0
HEALTHY_SECONDS = 5.0
"""A connection that delivered frames for this long resets the backoff."""

PING_SECONDS = 20.0
QUEUED_FRAMES = 8

_RETRY_STATUS = {408, 425, 429}

Verdict = Literal["again", "later", "never"]


def classify(error: Exception, *, reached: bool) -> Verdict:
    """Decide what the end of a connection, or of an attempt, means.

    Parameters
    ----------
    error
        What ended it.
    reached
        Whether this venue has been reached since the start. A venue that worked before and now
        answers with a refusal is in trouble, and not misconfigured.

    Returns
    -------
    Verdict
        ``"again"`` after a normal close: connect at once. ``"later"``: connect after a delay.
        ``"never"``: trying again will not change it.

    Examples
    --------
    >>> classify(ConnectionRefusedError(), reached=False)
    'later'
    >>> classify(ValueError("a mistake in the code"), reached=True)
    'never'
    """
    if isinstance(error, ConnectionClosedOK):
        return "again"
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        return "later" if reached or status in _RETRY_STATUS or status >= 500 else "never"
    if isinstance(error, InvalidMessage | ProxyError):
        return "later"  # cut short, or garbled on the way
    if isinstance(error, InvalidHandshake | ssl.SSLCertVerificationError):
        return "later" if reached else "never"
    if isinstance(error, OSError | TimeoutError | ConnectionClosed):
        return "later"
    return "never"


class Connection:
    """Keeps one subscription alive over as many sockets, one after another, as it takes.

    Every frame that arrives goes to the intake, whatever it is; each socket has an identity of
    its own. Only :meth:`run` is a coroutine: it ends after :meth:`leave`, once enough has
    been received, or with an error that trying again would not change.

    Cancelling :meth:`run` loses no frame that it has received. Frames that are still on their way
    are lost, as with any end of a connection.
    """

    def __init__(self, venue: Venue, subscription: Subscription, intake: Intake) -> None:
        self._venue = venue
        self._subscription = subscription
        self._intake = intake
        self._backoff = Backoff()
        self._socket: ClientConnection | None = None
        self._leaving = False
        self._task: asyncio.Task[None] | None = None
        self._farewell: asyncio.Task[None] | None = None
        self._frames = 0
        self._opened_at = 0.0
        self._replies: set[asyncio.Task[None]] = set()

    def start(self) -> asyncio.Task[None]:
        """Run in a task of its own, and return that."""
        self._task = asyncio.create_task(self.run(), name=f"{self._venue.source.name} connection")
        return self._task

    def leave(self) -> None:
        """Close the socket cleanly; what arrives until the venue confirms it is still taken."""
        self._leaving = True
        if self._socket is not None:
            self._farewell = asyncio.create_task(self._socket.close())
        elif self._task is not None:
            self._task.cancel()

    async def run(self) -> None:
        """Connect, receive, and connect again, until :meth:`leave` or enough has been received.

        Raises
        ------
        ConnectionFailedError
            If the venue cannot be reached even once, or refuses for good.
        """
        while not self._ended:
            self._frames = 0
            try:
                await self._session()
            except (OSError, TimeoutError, WebSocketException) as error:
                await self._wait_to_return(error)

    @property
    def _ended(self) -> bool:
        return self._leaving or self._intake.full.is_set()

    async def _wait_to_return(self, error: Exception) -> None:
        if self._ended:
            return
        lived = asyncio.get_running_loop().time() - self._opened_at
        if self._frames and lived >= HEALTHY_SECONDS:
            self._backoff.reset()
        name = self._venue.source.name
        verdict = classify(error, reached=self._venue.reached)
        if verdict == "never":
            raise self._venue.failure(error) from error
        if verdict == "again" and self._frames:
            logger.info("%s closed the connection; connecting again", name)
            return
        delay = self._backoff.next_delay()
        self._venue.check_hope(error, delay)
        logger.warning("%s: %s; connecting again in %.1f s", name, reason(error), delay)
        await asyncio.sleep(delay)

    async def _session(self) -> None:
        """Live through one socket, from its opening to the error that ends it."""
        source = self._venue.source
        session = source.session(self._subscription)
        messages = session.opening()
        await self._venue.admit(len(messages))
        async with connect(
            source.address(self._venue.url, self._subscription),
            max_size=MAX_FRAME_BYTES,
            max_queue=QUEUED_FRAMES,
            open_timeout=OPEN_SECONDS,
            close_timeout=CLOSE_SECONDS,
            ping_interval=PING_SECONDS,
            ping_timeout=None,  # a pong waits behind frames when the disk is slow; see _receive
            proxy=None if is_loopback(self._venue.url) else True,
        ) as socket:
            self._socket = socket
            self._opened_at = asyncio.get_running_loop().time()
            self._venue.opened()
            self._replies = {asyncio.create_task(self._say(socket, messages))}
            if source.limits.ping_seconds is not None:
                self._replies.add(asyncio.create_task(self._keep_pinging(socket, session)))
            try:
                await self._receive(socket, session)
            finally:
                self._socket = None
                self._venue.closed()
                for reply in self._replies:
                    reply.cancel()
                ends = await asyncio.gather(*self._replies, return_exceptions=True)
                for failure in ends:
                    if isinstance(failure, Exception):
                        raise failure

    async def _say(self, socket: ClientConnection, messages: Iterable[str]) -> None:
        try:
            for message in messages:
                await self._venue.send(socket, message)
        except ConnectionClosed:
            return  # the receiver hears of it too
        except Exception:
            socket.transport.abort()  # a socket that is not subscribed would only stay silent
            raise

    async def _keep_pinging(self, socket: ClientConnection, session: Session) -> None:
        while (message := session.ping()) is not None:
            await asyncio.sleep(self._venue.source.limits.ping_seconds or 0)
            await self._say(socket, [message])

    async def _fetch(self, session: Session, request: Fetch, conn: str) -> None:
        """Get what the venue gives over REST only; its answer is a frame of this connection."""
        policy = RetryPolicy(first=1.0, cap=30.0)
        url = f"{self._venue.source.rest_address(self._venue.url)}{request.path}"
        for delay in policy.delays():
            try:
                answer = await asyncio.to_thread(http_get, url)
                break
            except OSError as error:
                logger.warning(
                    "%s: %s: %s", self._venue.source.name, redacted_url(url), reason(error)
                )
                await asyncio.sleep(delay)
        frame = session.fetched(request, answer)
        if await self._intake.put(frame, time.time_ns(), conn) and self._socket is not None:
            self._examine(frame, session, self._socket, conn)

    async def _receive(self, socket: ClientConnection, session: Session) -> None:
        source, limits = self._venue.source, self._venue.source.limits
        market = self._subscription.market
        conn = new_connection_id() if market == "spot" else f"{market}-{new_connection_id()}"
        logger.info("%s: connected to %s as %s", source.name, redacted_url(self._venue.url), conn)
        while True:
            try:
                async with asyncio.timeout(limits.silence_seconds):
                    frame = await socket.recv(decode=False)
            except TimeoutError:
                socket.transport.abort()  # nobody is there to shake hands with
                raise TimeoutError(f"not a single frame in {limits.silence_seconds:g} s") from None
            self._frames += 1
            if await self._intake.put(frame, time.time_ns(), conn):
                self._examine(frame, session, socket, conn)

    def _examine(self, frame: bytes, session: Session, socket: ClientConnection, conn: str) -> None:
        """Do what a frame asks for: count what is missing, answer, fetch, or give up."""
        name = self._venue.source.name
        for event in session.read(frame):
            match event:
                case Lost():
                    self._venue.missed(event.frames)
                    logger.warning("%s: %s", name, event)
                case Refused(fatal=True):
                    raise ConnectionFailedError(
                        f"{name} refuses: {event.message}. Check the products, the channels "
                        f"and, where they are needed, the keys of ingestion.sources.{name}"
                    )
                case Refused():
                    about = f" {event.symbol}" if event.symbol else ""
                    logger.warning("%s refuses%s: %s", name, about, event.message)
                case Silent():
                    logger.warning("%s: %s", name, event)
                case Send():
                    self._reply(self._say(socket, event.messages))
                case Fetch():
                    self._reply(self._fetch(session, event, conn))

    def _reply(self, work: Coroutine[Any, Any, None]) -> None:
        """Answer beside the receiving of frames, which never waits for it."""
        done = {task for task in self._replies if task.done() and not task.exception()}
        self._replies = (self._replies - done) | {asyncio.create_task(work)}
