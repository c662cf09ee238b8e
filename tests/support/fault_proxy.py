"""A proxy between a client and an HTTP server that misbehaves on request, and counts.

It listens on 127.0.0.1, forwards each request as it is, and applies a fault to those that match:
an error status, a body cut short on either side, a stall, an answer that is lost after the server
has acted, or a request that reaches the server only after its client has given up.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from types import TracebackType
    from typing import Any

Kind = Literal["status", "cut_request", "cut_response", "drop_response", "stall", "late", "refuse"]

_CHUNK = 1 << 16
_LIMIT = 1 << 20


@dataclass(frozen=True)
class Fault:
    """What happens to a request.

    Attributes
    ----------
    kind
        ``status``: answered with `status` and never forwarded. ``refuse``: the connection is
        closed at once. ``cut_request``: closed after `after` bytes of the request's body went on
        to the server. ``cut_response``: closed after `after` bytes of the answer's body.
        ``drop_response``: forwarded and carried out, but the answer is lost. ``stall``: nothing
        moves for `seconds`, then all goes on. ``late``: the connection is closed at once, and the
        request reaches the server `seconds` later.
    status, after, seconds
        See `kind`.
    """

    kind: Kind
    status: int = 503
    after: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Request:
    """A request as the proxy saw it.

    Attributes
    ----------
    method, path
        Its first line; the path has the query.
    headers
        By lower-case name.
    """

    method: str
    path: str
    headers: dict[str, str] = field(repr=False)


@dataclass
class Rule:
    """A fault, and which requests it strikes.

    Attributes
    ----------
    fault
        What to do.
    matches
        Which requests.
    times
        How many of them at most; None: all.
    share
        The part of them that is struck, from 0 to 1.
    struck
        How many were.
    """

    fault: Fault
    matches: Callable[[Request], bool]
    times: int | None = None
    share: float = 1.0
    struck: int = 0


class FaultProxy:
    """A proxy in a thread of its own; a context manager.

    Parameters
    ----------
    host, port
        The server behind it.
    seed
        For rules that strike a share of the requests.

    Attributes
    ----------
    requests
        Every request that came, in order.
    bytes_sent, bytes_received
        Bytes of bodies that went to the server, and that came from it.
    """

    def __init__(self, host: str, port: int, *, seed: int = 0) -> None:
        self.requests: list[Request] = []
        self.bytes_sent = 0
        self.bytes_received = 0
        self._upstream = (host, port)
        self._rules: list[Rule] = []
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self.port}"

    def inject(
        self,
        fault: Fault,
        *,
        method: str = "",
        path: str = "",
        times: int | None = None,
        share: float = 1.0,
    ) -> Rule:
        """Apply a fault to requests with this method and this text in their path or query."""

        def matches(request: Request) -> bool:
            return (not method or request.method == method) and path in request.path

        rule = Rule(fault, matches, times, share)
        self._rules.append(rule)
        return rule

    def heal(self) -> None:
        """Forget all rules: everything is forwarded."""
        self._rules.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_LIMIT)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _choose(self, request: Request) -> Fault | None:
        for rule in self._rules:
            spent = rule.times is not None and rule.struck >= rule.times
            if spent or not rule.matches(request) or self._random.random() >= rule.share:
                continue
            rule.struck += 1
            return rule.fault
        return None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = _Connection(reader, writer)
        server: _Connection | None = None
        try:
            while head := await client.read_head():
                if server is None:
                    server = _Connection(*await asyncio.open_connection(*self._upstream))
                request = _parse_request(head)
                self.requests.append(request)
                if not await self._exchange(client, server, head, request):
                    return
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return
        finally:
            client.close()
            if server is not None:
                server.close()

    async def _exchange(
        self, client: _Connection, server: _Connection, head: bytes, request: Request
    ) -> bool:
        """Handle one request; False where the connection ends with it."""
        fault = self._choose(request)
        kind = fault.kind if fault else ""
        if fault is None or kind in ("drop_response", "cut_response"):
            return await self._forward(client, server, head, request, fault)
        if kind == "stall":
            await asyncio.sleep(fault.seconds)
            return await self._forward(client, server, head, request, None)
        if kind == "refuse":
            return False
        if kind == "cut_request":
            await server.write(_without_expectation(head))
            async for chunk in _request_body(client, request, fault.after):
                await server.write(chunk)
            return False
        body = b"".join([chunk async for chunk in _request_body(client, request)])
        if kind == "status":
            await client.write(_refusal(fault.status, with_body=request.method != "HEAD"))
            return True
        whole = _without_expectation(head) + body  # "late"
        task = asyncio.get_running_loop().create_task(self._deliver(whole, fault.seconds))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return False

    async def _deliver(self, request: bytes, seconds: float) -> None:
        await asyncio.sleep(seconds)
        server = _Connection(*await asyncio.open_connection(*self._upstream))
        try:
            await server.write(request)
            await server.read_head()
        finally:
            server.close()

    async def _forward(
        self,
        client: _Connection,
        server: _Connection,
        head: bytes,
        request: Request,
        fault: Fault | None,
    ) -> bool:
        await server.write(_without_expectation(head))
        async for chunk in _request_body(client, request):
            self.bytes_sent += len(chunk)
            await server.write(chunk)
        answer = await server.read_head()
        if not answer or (fault is not None and fault.kind == "drop_response"):
            return False
        await client.write(answer)
        status, headers = _parse_response(answer)
        if request.method == "HEAD" or status in (204, 304):
            return True
        limit = fault.after if fault is not None else None
        async for chunk in server.body(headers, limit):
            self.bytes_received += len(chunk)
            await client.write(chunk)
        return fault is None


class _Connection:
    """One side of the proxy, as HTTP/1.1 sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read_head(self) -> bytes:
        """Return a request's or an answer's head, or nothing where the other side is done."""
        try:
            return await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return b""

    async def body(self, headers: dict[str, str], limit: int | None = None) -> AsyncIterator[bytes]:
        """Yield a body as it came, framing included; with a limit, only so many bytes of it."""
        async for chunk in self._whole_body(headers):
            if limit is not None and len(chunk) >= limit:
                yield chunk[:limit]
                return
            limit = limit - len(chunk) if limit is not None else None
            yield chunk

    async def _whole_body(self, headers: dict[str, str]) -> AsyncIterator[bytes]:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            size = -1
            while size != 0:
                line = await self._reader.readuntil(b"\r\n")
                size = int(line.split(b";")[0], 16)
                yield line + await self._reader.readexactly(size + 2)
            return
        rest = int(headers.get("content-length", "0"))
        while rest:
            chunk = await self._reader.read(min(rest, _CHUNK))
            if not chunk:
                raise asyncio.IncompleteReadError(chunk, rest)
            rest -= len(chunk)
            yield chunk

    async def write(self, data: bytes) -> None:
        """Send, as fast as the other side takes it."""
        self._writer.write(data)
        await self._writer.drain()

    def close(self) -> None:
        """Close at once."""
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.close()


async def _request_body(
    client: _Connection, request: Request, limit: int | None = None
) -> AsyncIterator[bytes]:
    """Yield a request's body, having told a client that asks first to go on."""
    if request.headers.get("expect", "").lower() == "100-continue":
        await client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    async for chunk in client.body(request.headers, limit):
        yield chunk


def _without_expectation(head: bytes) -> bytes:
    lines = head.split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.lower().startswith(b"expect:"))


def _parse_request(head: bytes) -> Request:
    first, headers = _parse_head(head)
    method, path, _ = first.split(" ", 2)
    return Request(method, path, headers)


def _parse_response(head: bytes) -> tuple[int, dict[str, str]]:
    first, headers = _parse_head(head)
    return int(first.split(" ", 2)[1]), headers


def _parse_head(head: bytes) -> tuple[str, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    return first, {name.strip().lower(): value.strip() for name, _, value in pairs}


def _refusal(status: int, *, with_body: bool) -> bytes:
    body = (
        b"<?xml version='1.0'?><Error><Code>SlowDown</Code>"
        b"<Message>Please reduce your request rate.</Message></Error>"
    )
    head = f"HTTP/1.1 {status} Fault\r\nContent-Type: application/xml\r\n"
    head += f"Content-Length: {len(body) if with_body else 0}\r\n\r\n"
    return head.encode() + (body if with_body else b"")
