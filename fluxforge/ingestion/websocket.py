"""The WebSocket: all that is known of the client library, and of URLs."""

from __future__ import annotations

import ipaddress
import ssl
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    ConnectionClosedOK,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
    ProxyError,
)
from websockets.frames import Opcode

from fluxforge.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

MAX_FRAME_BYTES = 64 << 20
"""The largest frame that is accepted; a full book of one product takes 5 MB."""

OPEN_SECONDS = 10.0
CLOSE_SECONDS = 2.0  # and all that stops takes less than a service manager grants
PING_SECONDS = 20.0

_SLICE_BYTES = 16 << 10  # of which compression can make a thousand times as much
_CONTROL = int(Opcode.CLOSE)  # and all above it
_RETRY_STATUS = {408, 425, 429}

Verdict = Literal["again", "later", "never"]


class FrameSocket(ClientConnection):
    """A connection that hands frames over as they are read: no queue, no task is woken for one.

    What a read from the network holds comes as one list. While there is no room, nothing is read.
    """

    paused_reading = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._frames: list[tuple[int, bytes]] = []
        self._fragments = bytearray()
        self._unread = b""
        self._take: Callable[[list[tuple[int, bytes]]], bool] | None = None

    def deliver_to(self, take: Callable[[list[tuple[int, bytes]]], bool]) -> None:
        """Give what came so far, and all that comes, to `take`; it returns if there is room."""
        self._take = take
        self._hand_over()

    def resume(self) -> None:
        """Read on: there is room again."""
        self.paused_reading = False
        self._feed()
        if not self.paused_reading:
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:  # noqa: D102
        self._unread += data
        self._feed()

    def eof_received(self) -> None:  # noqa: D102
        self._feed(whole=True)
        super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        self._feed(whole=True)
        super().connection_lost(exc)

    def process_event(self, event: Any) -> None:  # noqa: D102
        if self.response is None or event.opcode >= _CONTROL:
            super().process_event(event)
        elif event.fin and not self._fragments:
            self._frames.append((time.time_ns(), bytes(event.data)))
        else:
            self._fragments += event.data
            if event.fin:
                self._frames.append((time.time_ns(), bytes(self._fragments)))
                self._fragments.clear()

    def _feed(self, *, whole: bool = False) -> None:
        """Read frames, in slices, so that what they inflate to is bounded too."""
        data, self._unread = self._unread, b""
        for start in range(0, len(data), _SLICE_BYTES):
            if self.paused_reading and not whole:
                self._unread = data[start:]
                return
            super().data_received(data[start : start + _SLICE_BYTES])
            self._hand_over()

    def _hand_over(self) -> None:
        if self._frames and self._take is not None:
            frames, self._frames = self._frames, []
            if not self._take(frames) and not self.paused_reading:
                self.paused_reading = True
                self.transport.pause_reading()


@asynccontextmanager
async def open_socket(url: str) -> AsyncIterator[FrameSocket]:
    """Connect, directly or by the proxy of the environment, for the length of the block."""
    async with connect(
        url,
        create_connection=FrameSocket,
        max_size=MAX_FRAME_BYTES,
        open_timeout=OPEN_SECONDS,
        close_timeout=CLOSE_SECONDS,
        ping_interval=PING_SECONDS,
        ping_timeout=None,  # a pong waits behind frames when the disk is slow
        proxy=None if is_loopback(url) else True,
    ) as socket:
        yield cast("FrameSocket", socket)


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


def check_url(source: str, url: str) -> None:
    """Refuse an address that cannot be a WebSocket's.

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


def is_loopback(url: str) -> bool:
    """Tell whether a URL is this machine, which no proxy can reach."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def reason(error: BaseException) -> str:
    """Say in one line why a connection failed."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
