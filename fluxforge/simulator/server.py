"""A local exchange: a real WebSocket server that speaks a venue's real protocol.

It serves a seeded market model, or replays recorded segments.

- From the model, each connection gets its own stream out of one shared market: ``rate`` frames a
  second, or as fast as the client reads.
- In a replay, each connection gets the next recorded connection to its address, byte for byte, once
  its first subscription has arrived; then the socket is closed. ``rate`` is a multiple of the
  recorded pace. A recording that a client did not take to its end is served to the next one, from
  the start. When all were served, further clients are turned away with close code 1001. Recorded
  answers to REST calls are given to REST calls, in turn, and not sent over the socket; what came
  after one is sent once the client has asked for it, or two seconds later.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from http import HTTPStatus
from itertools import count
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from fluxforge.errors import ExchangeError
from fluxforge.signals import on_stop_signal
from fluxforge.simulator.connection import Connection, ConnectionCutError
from fluxforge.simulator.faults import FaultPlan, parse_faults
from fluxforge.simulator.market import SlowConsumerError
from fluxforge.simulator.replay import Recording, index_recordings
from fluxforge.simulator.venue import ExchangeOptions, find_venue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from websockets.http11 import Request, Response

__all__ = ["ExchangeOptions", "LocalExchange", "local_exchange", "run_exchange"]

_CLIENT_MESSAGE_BYTES = 64 * 1024
_POLL_SECONDS = 0.01
_CATCH_UP_SECONDS = 1.0
_GRACE_SECONDS = 1.0
_SETTLE_SECONDS = 1.0
_CALL_SECONDS = 2.0


class LocalExchange:
    """A local exchange, running while its ``async with`` block does; see :func:`local_exchange`."""

    url: str  # where clients connect to, once it runs

    def __init__(self, source: str, options: ExchangeOptions | None = None) -> None:
        self.options = options or ExchangeOptions()
        self._venue = find_venue(source, replay=bool(self.options.replay))(self.options)
        self._faults = FaultPlan(parse_faults(self.options.faults))
        self._done = asyncio.Event()
        self._stopped = asyncio.Event()
        self._failure: ExchangeError | None = None
        self._recordings: deque[Recording] = deque()
        self._left = 0  # recordings that nobody has taken to their end yet
        self._requests = count()
        self._answers: dict[str, deque[str]] = {}  # recorded answers to REST calls
        self._calls = Counter[str]()  # for them
        self._server: Server

    async def finished(self) -> None:
        """Wait until the last recording was served or, of the model, the first client has gone."""
        await self._done.wait()
        if self._failure is not None:
            raise self._failure

    async def stopped(self) -> None:
        """Wait until :meth:`stop` or, with ``once``, until it has finished; raises as that does."""
        await self._stopped.wait()
        if self.options.once and self._done.is_set():
            await self.finished()

    def stop(self) -> None:
        """Let whoever waits for the end go on."""
        self._stopped.set()

    async def __aenter__(self) -> Self:
        options = self.options
        if options.replay:
            found = await asyncio.to_thread(index_recordings, options.replay, self._keep_answer)
            self._recordings.extend(found)
            self._left = len(self._recordings)
        try:
            self._server = await serve(
                self._handle,
                options.host,
                options.port,
                process_request=self._answer,
                compression=None,
                max_size=_CLIENT_MESSAGE_BYTES,
                # A client that is slow to read is slow to answer, too: it is not cut off for that.
                ping_interval=None,
                close_timeout=None,
            )
        except OSError as exc:
            raise ExchangeError(
                f"cannot listen on {options.host} port {options.port}: {exc.strerror or exc}; "
                "choose another host or port; port 0 is a free one"
            ) from exc
        host, port = self._server.sockets[0].getsockname()[:2]
        self.url = f"ws://{f'[{host}]' if ':' in host else host}:{port}{self._venue.path}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        try:
            async with asyncio.timeout(_GRACE_SECONDS):
                await self._server.wait_closed()
        except TimeoutError:
            for socket in list(self._server.all_connections):
                socket.transport.abort()
            await self._server.wait_closed()

    def _answer(self, socket: ServerConnection, request: Request) -> Response | None:
        """Answer a REST call; None lets a WebSocket handshake go on."""
        listed = urlsplit(request.path).path == self._venue.listing
        if not listed and self._faults.refuses(next(self._requests)):
            return socket.respond(HTTPStatus.SERVICE_UNAVAILABLE, "service unavailable\n")
        if "Upgrade" in request.headers:
            return None
        called = urlsplit(request.path)
        query = dict(parse_qsl(called.query))
        if self.options.replay:
            key = self._venue.recorded_key(called.path, query)
            self._calls[key] += 1
            recorded = self._answers.get(key)
            status, text = (200, recorded[0]) if recorded else (503, "nothing recorded")
            if recorded:
                recorded.rotate(-1)
        else:
            status, text = self._venue.answer(called.path, query)
        response = socket.respond(HTTPStatus(status), text)
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "application/json"
        return response

    def _keep_answer(self, frame: bytes) -> None:
        answer = self._venue.recorded_answer(frame)
        if answer is not None:
            self._answers.setdefault(answer[0], deque()).append(answer[1])

    async def _handle(self, socket: ServerConnection) -> None:
        """Serve one client, from its handshake to its end."""
        session = self._venue.open_session(socket.request.path if socket.request else "")
        replay = bool(self.options.replay)
        if not replay:
            session.greet()
        connection = Connection(
            socket, session, self._faults, numbered=not replay, gather=not self.options.pace
        )
        listening = asyncio.create_task(connection.listen())
        try:
            with suppress(ConnectionClosed, ConnectionCutError):
                if not await connection.subscribed_within(self._venue.subscribe_seconds):
                    await connection.close(CloseCode.POLICY_VIOLATION, "no subscription in time")
                elif replay:
                    await self._serve_next_recording(connection)
                else:
                    await self._serve_model(connection)
        finally:
            session.close()
            listening.cancel()
            with suppress(asyncio.CancelledError):
                await listening

    async def _serve_model(self, connection: Connection) -> None:
        """Send what the market does, until the client goes or has the frames it may have."""
        loop = asyncio.get_running_loop()
        interval = 1 / self.options.pace if self.options.pace else 0.0
        due = loop.time()
        try:
            while self.options.frames is None or connection.frames < self.options.frames:
                await connection.before_frame()
                if interval:
                    await connection.wait_until(due)
                frame = connection.session.next_frame()
                if frame is None:
                    await connection.pause(_POLL_SECONDS)
                    continue
                await connection.send(frame)
                due = max(due + interval, loop.time() - _CATCH_UP_SECONDS)
            await connection.close()
        except SlowConsumerError:
            await connection.close(CloseCode.POLICY_VIOLATION, "slow consumer")
        finally:
            self._finish()

    async def _serve_next_recording(self, connection: Connection) -> None:
        fitting = (one for one in self._recordings if connection.session.fits(one.conn))
        recording = next(fitting, None)
        if recording is None:
            await connection.close(CloseCode.GOING_AWAY, "no more recordings")
            return
        self._recordings.remove(recording)
        complete = False
        try:
            if self.options.filter:
                await connection.quiet_for(_SETTLE_SECONDS)
            await self._send_recording(connection, recording)
            complete = await connection.close()
        except ExchangeError as exc:
            self._failure = exc
            self._finish()
            await connection.close(CloseCode.INTERNAL_ERROR, "the recording is unreadable")
        finally:
            self._left -= complete
            if not complete:
                self._recordings.appendleft(recording)
            elif not self._left:
                self._finish()

    async def _send_recording(self, connection: Connection, recording: Recording) -> None:
        """Send the recorded frames, at their own pace or a multiple of it."""
        pace = self.options.pace
        began = asyncio.get_running_loop().time()
        first_ns: int | None = None
        calls = Counter(self._calls)
        for envelope in recording.envelopes():
            if answer := self._venue.recorded_answer(envelope.frame):
                calls[answer[0]] += 1
                await self._wait_for_call(connection, answer[0], calls[answer[0]])
                continue
            await connection.before_frame()
            if self.options.filter and not connection.session.wants(envelope.frame):
                continue
            if pace:
                first_ns = envelope.capture_ns if first_ns is None else first_ns
                await connection.wait_until(began + (envelope.capture_ns - first_ns) / 1e9 / pace)
            await connection.send(envelope.frame)
        await connection.before_frame()

    async def _wait_for_call(self, connection: Connection, key: str, number: int) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + _CALL_SECONDS
        while self._calls[key] < number and loop.time() < end:
            await connection.pause(_POLL_SECONDS)

    def _finish(self) -> None:
        self._done.set()
        if self.options.once:
            self._server.close()
            self.stop()


@contextmanager
def local_exchange(source: str, **options: Any) -> Iterator[LocalExchange]:
    """Run a local exchange beside the caller, in a thread and an event loop of its own.

    It works where an event loop is running already, as in a notebook. When the block ends, the
    exchange has stopped: no thread and no socket is left.

    Parameters
    ----------
    source
        The name of the venue to speak for.
    **options
        The fields of :class:`ExchangeOptions`.

    Raises
    ------
    UnknownSourceError
        If there is no server side of that venue.
    ExchangeError
        If the port is taken, or a recording cannot be replayed.

    Examples
    --------
    >>> with local_exchange("coinbase", seed=7) as exchange:
    ...     exchange.url.startswith("ws://127.0.0.1:")
    True
    """
    exchange = LocalExchange(source, ExchangeOptions(**options))
    started: Future[asyncio.AbstractEventLoop] = Future()

    def work() -> None:
        with asyncio.Runner() as runner:
            started.set_result(runner.get_loop())
            runner.get_loop().run_forever()

    thread = threading.Thread(target=work, name="local exchange", daemon=True)
    thread.start()
    loop = started.result()
    try:
        asyncio.run_coroutine_threadsafe(exchange.__aenter__(), loop).result()
        try:
            yield exchange
        finally:
            asyncio.run_coroutine_threadsafe(exchange.__aexit__(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def run_exchange(source: str, options: ExchangeOptions, on_start: Callable[[str], object]) -> None:
    """Run a local exchange until Ctrl-C or SIGTERM, or with ``once`` until it has finished.

    `on_start` is called with the URL as soon as clients can connect. The rest is as for
    :class:`LocalExchange`.
    """

    async def run() -> None:
        exchange = LocalExchange(source, options)
        with on_stop_signal(exchange.stop):
            async with exchange:
                on_start(exchange.url)
                await exchange.stopped()

    asyncio.run(run())
