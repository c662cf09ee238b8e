"""Capture: the processor time of a frame, against a loop that receives and throws away."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

from benchmarks.data import SYMBOLS
from benchmarks.measure import Line
from fluxforge.simulator import local_exchange

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHANNELS = ("ticker", "level2", "market_trades", "candles")


def capture(url: str, frames: int) -> float:
    """Return the processor time of a capture of so many frames."""
    from fluxforge import Lake

    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(path=folder, overrides=[f"ingestion.sources.coinbase.url={url}"])
        started = time.process_time()
        lake.ingest_sync("coinbase", frames=frames)
        return time.process_time() - started


def bare_loop(url: str, frames: int) -> float:
    """Return the processor time of receiving so many frames."""
    from websockets.asyncio.client import connect

    async def receive() -> float:
        async with connect(url, max_size=None, compression=None) as socket:
            for channel in ("heartbeats", *_CHANNELS):
                message = {"type": "subscribe", "channel": channel, "product_ids": SYMBOLS[:2]}
                await socket.send(json.dumps(message))
            started = time.process_time()
            for _ in range(frames):
                await socket.recv(decode=False)
            return time.process_time() - started

    return asyncio.run(receive())


def lines(frames: int, runs: int) -> Iterator[Line]:
    """Yield the ratio; each capture has a process of its own, and so has the exchange's client."""
    ratios, times = [], []
    with local_exchange("coinbase", seed=9, rate=0) as exchange:
        for _ in range(runs):
            pair = []
            for what in ("capture", "bare_loop"):
                program = f"from benchmarks.capture import {what} as run; "
                program += f"print(run({exchange.url!r}, {frames}))"
                words = [sys.executable, "-c", program]
                done = subprocess.run(words, capture_output=True, text=True, check=True)
                pair.append(float(done.stdout.split()[-1]))
            ratios.append(pair[0] / pair[1])
            times.append(pair)
    mine, bare = (min(one) / frames * 1e6 for one in zip(*times, strict=True))
    note = f"{mine:.1f} us of processor time a frame, the loop {bare:.1f}"
    yield Line("capture, a frame", "1.3 x a bare loop", tuple(ratios), "x", 1.3, note)
