"""One exchange, as all sockets of a collector share it."""

from __future__ import annotations

import asyncio
import ipaddress
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fluxforge.errors import ConnectionFailedError, redacted_url
from fluxforge.ingestion.backoff import Pacer

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

    from fluxforge.sources.base import Source

HTTP_SECONDS = 10.0
"""How long a REST call may take."""


@dataclass
class Tally:
    """What the connections of one source have seen together."""

    connections: int = 0
    connected: int = 0
    gaps: int = 0
    missing: int = 0


class Venue:
    """One exchange, as all connections of a collector share it.

    Parameters
    ----------
    source
        The exchange.
    url
        Its address, ``ws://`` or ``wss://``.
    patience
        Seconds in which it must be reached for the first time. Afterwards there is no such
        bound: a collector returns to a venue that comes back after any time.
    """

    def __init__(self, source: Source, url: str, patience: float) -> None:
        self.source = source
        self.url = url
        self.tally = Tally()
        self.reached = False
        self._patience = patience
        self._last_error: Exception = TimeoutError("no answer yet")
        self._give_up_at = 0.0
        self._admission = Pacer()
        self._messages = Pacer()

    def begin(self) -> None:
        """Start the time in which the venue must be reached for the first time."""
        self._give_up_at = asyncio.get_running_loop().time() + self._patience

    async def admit(self, messages: int) -> None:
        """Wait until the venue's limits allow a connection that will send so many messages."""
        limits = self.source.limits
        own = max(1 / limits.connections_per_second, messages / limits.messages_per_second)
        await self._admission.turn(own)

    async def send(self, socket: ClientConnection, message: str) -> None:
        """Send a message as soon as the venue's limits allow it."""
        await self._messages.turn(1 / self.source.limits.messages_per_second)
        await socket.send(message)

    def opened(self) -> None:
        """Note that a connection is open."""
        self.reached = True
        self.tally.connections += 1
        self.tally.connected += 1

    def closed(self) -> None:
        """Note that an open connection has ended."""
        self.tally.connected -= 1

    def missed(self, frames: int) -> None:
        """Note a gap in a connection's numbering."""
        self.tally.gaps += 1
        self.tally.missing += frames

    def check_hope(self, error: Exception, delay: float) -> None:
        """Give up on a venue that has never been reached.

        Raises
        ------
        ConnectionFailedError
            If the next attempt, `delay` seconds from now, would come too late.
        """
        self._last_error = error
        if not self.reached and asyncio.get_running_loop().time() + delay > self._give_up_at:
            raise self.failure(error) from error

    def check_reached(self) -> None:
        """Refuse to call it a success when the venue has never been reached.

        Raises
        ------
        ConnectionFailedError
            If no connection has been opened since the start.
        """
        if not self.reached:
            raise self.failure(self._last_error) from self._last_error

    def failure(self, error: Exception) -> ConnectionFailedError:
        """Return the error that ends the ingestion, with what to change."""
        return ConnectionFailedError(
            f"cannot connect to {redacted_url(self.url)}: {reason(error)}. Check the network, "
            f"and that ingestion.sources.{self.source.name}.url is right and something answers "
            "there"
        )


def reason(error: BaseException) -> str:
    """Say in one line why a connection failed."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def is_loopback(url: str) -> bool:
    """Tell whether a URL is this machine, which no proxy can reach."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def http_get(url: str) -> bytes:
    """Return what a REST call answers.

    Raises
    ------
    OSError
        If there is no answer, or a refusal.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ConnectionFailedError(f"{url} is not a web address")
    with urllib.request.urlopen(url, timeout=HTTP_SECONDS) as answer:  # noqa: S310 -- checked
        content: bytes = answer.read()
        return content
