"""One connection of the local exchange: frames, pauses, and the faults that were asked for."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.protocol import State

from fluxforge.segments.envelope import is_text
from fluxforge.simulator.faults import BINARY_FRAME, NONJSON_FRAME

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

    from fluxforge.simulator.faults import Fault, FaultPlan
    from fluxforge.simulator.venue import Session

_GATHERED_FRAMES = 16
_GATHERED_BYTES = 64 * 1024
_SHORTEST_PAUSE = 0.001


class ConnectionCutError(Exception):
    """The socket has gone, or a fault has cut it."""


class Connection:
    """What goes over one socket, as the exchange sees it.

    `numbered` says whether the extra frames of faults take the connection's next number, `gather`
    whether frames may wait for a few others, to be written together.
    """

    def __init__(
        self,
        socket: ServerConnection,
        session: Session,
        faults: FaultPlan,
        *,
        numbered: bool,
        gather: bool,
    ) -> None:
        self.session = session
        self.frames = 0
        self._socket = socket
        self._faults = faults
        self._numbered = numbered
        self._most_gathered = _GATHERED_FRAMES if gather else 1
        self._gathered: list[bytes] = []
        self._skipped = 0
        self._unpaced = 0
        self._heard = asyncio.Event()
        self._gone = False

    async def listen(self) -> None:
        """Hand the client's messages to the venue until the socket closes."""
        try:
            with suppress(ConnectionClosed):
                async for message in self._socket:
                    self.session.receive(message)
                    self._heard.set()
        finally:
            self._gone = True
            self._heard.set()

    async def subscribed_within(self, seconds: float) -> bool:
        """Wait for the first subscription, and meanwhile pass on what the venue says."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not (self.session.subscribed or self._gone):
                    answer = self.session.next_frame()
                    if answer is not None:
                        await self._socket.send(answer)
                        continue
                    self._heard.clear()
                    await self._heard.wait()
        return self.session.subscribed

    async def quiet_for(self, seconds: float) -> None:
        """Wait until the client has said nothing for a while."""
        with suppress(TimeoutError):
            while not self._gone:
                self._heard.clear()
                async with asyncio.timeout(seconds):
                    await self._heard.wait()

    async def pause(self, seconds: float) -> None:
        """Wait, but not longer than the socket lives."""
        await self.flush()
        try:
            async with asyncio.timeout(seconds):
                await self._socket.wait_closed()
        except TimeoutError:
            return
        raise ConnectionCutError

    async def wait_until(self, moment: float) -> None:
        """Keep the pace: wait for a time of the loop's clock, unless a burst is on."""
        left = moment - asyncio.get_running_loop().time()
        if left > _SHORTEST_PAUSE and not self._unpaced:
            await self.pause(left)

    async def before_frame(self) -> None:
        """Let happen what was asked to happen before the next frame."""
        for fault in self._faults.take(self.frames):
            await self.flush()
            await self._apply(fault)

    async def _apply(self, fault: Fault) -> None:
        match fault.kind:
            case "drop":
                # What was sent still arrives; then the stream ends without a closing handshake.
                self._socket.transport.close()
                await self._socket.wait_closed()
                raise ConnectionCutError
            case "silence":
                await self.pause(fault.amount)
            case "skip":
                self._skipped += int(fault.amount)
            case "burst":
                self._unpaced += int(fault.amount)
            case "nonjson":
                await self._socket.send(NONJSON_FRAME)
            case "binary":
                await self._socket.send(BINARY_FRAME)
            case kind:
                extra = self.session.extra_frame(kind, fault.amount, numbered=self._numbered)
                await self._socket.send(extra)

    async def send(self, frame: str | bytes) -> None:
        """Send a frame, or keep it for the next :meth:`flush`."""
        self.frames += 1
        self._unpaced -= self._unpaced > 0
        if self._skipped:
            self._skipped -= 1
            return
        self._gathered.append(frame.encode() if isinstance(frame, str) else frame)
        if len(self._gathered) >= self._most_gathered or len(frame) > _GATHERED_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Send what was kept back; returns when the client has made room for more."""
        if not self._gathered:
            return
        *others, last = self._gathered
        self._gathered = []
        protocol = self._socket.protocol
        if others and protocol.state is State.OPEN:
            # One write for many frames: at full speed the system calls would cost the most.
            for frame in others:
                (protocol.send_text if is_text(frame) else protocol.send_binary)(frame)
            self._socket.transport.write(b"".join(protocol.data_to_send()))
        await self._socket.send(last, text=is_text(last))
        # Sending does not wait while the client keeps up; others want their turn.
        await asyncio.sleep(0)

    async def close(self, code: CloseCode = CloseCode.NORMAL_CLOSURE, reason: str = "") -> bool:
        """Close after everything that was sent; tell whether the client has confirmed it all."""
        await self.flush()
        await self._socket.close(code, reason)
        return self._socket.close_code in (CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY)
