"""Servers that behave as venues do on a bad day, and lakes to capture them into."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.server import serve

from fluxforge.config import load_config
from fluxforge.segments import read_segment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from websockets.asyncio.server import ServerConnection

    from fluxforge.segments import Envelope

    Handler = Callable[[ServerConnection], Awaitable[None]]


@dataclass(frozen=True)
class Lake:
    """A local lake in a folder of its own."""

    root: Path

    def config(self, url: str, *overrides: str) -> Any:
        return load_config(
            overrides=[
                f"storage.base_dir={self.root}",
                f"ingestion.sources.coinbase.url={url}",
                "ingestion.sources.coinbase.products=[BTC-USD]",
                "ingestion.sources.coinbase.channels=[ticker]",
                "ingestion.flush_interval_seconds=0.05",
                *overrides,
            ]
        )

    def segments(self, state: str = "ready") -> list[Path]:
        found = self.root.glob(f"raw/{state}/coinbase/segment_*.ndjson")
        return sorted(found, key=lambda path: path.stat().st_mtime_ns)  # names tell the hour

    def envelopes(self, state: str = "ready") -> list[Envelope]:
        return [envelope for path in self.segments(state) for envelope in read_segment(path)]

    def frames(self, state: str = "ready") -> list[bytes]:
        return [envelope.frame for envelope in self.envelopes(state)]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture
async def venue() -> AsyncIterator[Callable[..., Awaitable[str]]]:
    """Serve sockets with a handler, until the test ends; returns the URL."""
    async with AsyncExitStack() as stack:

        async def start(handler: Handler, **options: Any) -> str:
            options = {"compression": None, "close_timeout": 1, **options}
            server = await stack.enter_async_context(serve(handler, "127.0.0.1", 0, **options))
            host, port = server.sockets[0].getsockname()[:2]
            return f"ws://{host}:{port}"

        yield start


def numbered(sequence: int, **fields: Any) -> str:
    """Return a ticker frame as Coinbase writes it."""
    head = {"channel": "ticker", "timestamp": "2026-08-09T21:05:48.1Z", "sequence_num": sequence}
    return json.dumps({**head, "events": [fields]}, separators=(",", ":"))


@pytest.fixture
def make_frame() -> Callable[..., str]:
    return numbered
