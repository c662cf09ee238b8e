"""The hand-over from the sockets to the writer, bounded in bytes.

When the writer falls behind, :meth:`Intake.put` waits; the socket is not read meanwhile, and TCP
makes the venue wait. Nothing is dropped, and memory stays bounded.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fluxforge.ingestion.log_writer import LogWriter

BUFFER_BYTES = 16_000_000
"""What may wait for the writer; one frame more for each socket."""

FLUSH_BYTES = 4_000_000
"""Flush without waiting for the interval once this much is buffered."""


class Intake:
    """Takes frames from any number of connections on one event loop.

    Parameters
    ----------
    writer
        Buffers the frames.
    limit
        Accept this many frames and no more; None: no limit.
    """

    def __init__(self, writer: LogWriter, limit: int | None = None) -> None:
        self._writer = writer
        self._limit = limit
        self._room = asyncio.Event()
        self.frames = 0
        self.bytes = 0
        self.flush_wanted = asyncio.Event()
        self.full = asyncio.Event()

    async def put(self, frame: bytes, capture_ns: int, conn: str) -> bool:
        """Hand a frame over, waiting while the writer is behind.

        A frame that was received is never lost: when cancelled, this hands it over before it
        gives way, whether there is room or not.

        Returns
        -------
        bool
            False if the limit had been reached: the frame is not wanted.
        """
        try:
            while self._writer.buffered_bytes + len(frame) > BUFFER_BYTES:
                if self.full.is_set() or not self._writer.buffered_bytes:
                    break
                self._room.clear()
                await self._room.wait()
        except asyncio.CancelledError:
            self._take(frame, capture_ns, conn)
            raise
        return self._take(frame, capture_ns, conn)

    def make_room(self) -> None:
        """Tell whoever waits that something has been flushed."""
        self._room.set()

    def _take(self, frame: bytes, capture_ns: int, conn: str) -> bool:
        if self.full.is_set():
            return False
        self._writer.write(frame, capture_ns=capture_ns, conn=conn)
        self.frames += 1
        self.bytes += len(frame)
        if self.frames == self._limit:
            self.full.set()
        if self._writer.buffered_bytes >= FLUSH_BYTES:
            self.flush_wanted.set()
        return True
