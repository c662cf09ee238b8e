"""A real WebSocket client, and recordings made for the tests."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from fluxforge.segments import Envelope

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path


@dataclass
class Heard:
    """What a client received, and how it ended: None if the client left by itself."""

    frames: list[str | bytes] = field(default_factory=list)
    code: int | None = None
    reason: str | None = None

    @property
    def messages(self) -> list[dict[str, object]]:
        """The frames that are JSON, parsed."""
        return [json.loads(frame) for frame in self.frames]


def subscribe_message(channel: str, *products: str, kind: str = "subscribe") -> str:
    message = {"type": kind, "channel": channel}
    if products:
        message["product_ids"] = list(products)
    return json.dumps(message)


@pytest.fixture(scope="session")
def subscribe() -> Callable[..., str]:
    """Write a client's message: a channel and its products."""
    return subscribe_message


@pytest.fixture(scope="session")
def client() -> Callable[..., Awaitable[Heard]]:
    """Connect, subscribe, and receive until so many frames came or the server closed."""

    async def run(url: str, messages: Sequence[str], frames: int | None = None) -> Heard:
        heard = Heard()
        async with connect(url, compression=None, max_size=None, close_timeout=0.2) as socket:
            for message in messages:
                await socket.send(message)
            try:
                while frames is None or len(heard.frames) < frames:
                    heard.frames.append(await socket.recv())
            except ConnectionClosed:
                heard.code, heard.reason = socket.close_code, socket.close_reason
        return heard

    return run


@pytest.fixture
def write_segment(tmp_path: Path) -> Callable[..., Path]:
    """Write a segment from (connection, frame) pairs, a millisecond apart."""

    def write(name: str, *frames: tuple[str, bytes]) -> Path:
        path = tmp_path / name
        start = 1_786_309_548_000_000_000
        lines = [
            Envelope(start + index * 1_000_000, conn, frame).line()
            for index, (conn, frame) in enumerate(frames)
        ]
        path.write_bytes(b"".join(lines))
        return path

    return write


@pytest.fixture(scope="session")
def shape() -> Callable[[object], object]:
    """Reduce JSON to its keys and the types of their values, whatever their order."""

    def reduce(value: object) -> object:
        if isinstance(value, dict):
            return tuple(sorted((key, reduce(inner)) for key, inner in value.items()))
        if isinstance(value, list):
            return ("list", *sorted({repr(reduce(inner)) for inner in value}))
        return "number" if isinstance(value, int | float) else type(value).__name__

    return reduce
