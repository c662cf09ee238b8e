"""A fast venue and a slow disk: nothing is dropped, and memory stays bounded."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from fluxforge.segments import read_segment

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from websockets.asyncio.server import ServerConnection

    Serve = Callable[..., Awaitable[str]]
    MakeFrame = Callable[..., str]

pytestmark = pytest.mark.long

FACTOR = float(os.environ.get("FLUXFORGE_LONG", "1"))

COLLECTOR = textwrap.dedent("""
    import asyncio, json, sys, time
    from fluxforge.config import load_config
    from fluxforge.ingestion import pipeline
    from fluxforge.ingestion.orchestrators import ingest
    from fluxforge.segments.files import SegmentFile

    root, url, frames, bytes_per_second = sys.argv[1:]
    real_append = SegmentFile.append

    def slow_append(file, *parts):
        time.sleep(sum(map(len, parts)) / float(bytes_per_second))
        real_append(file, *parts)

    SegmentFile.append = slow_append
    pipeline.PROGRESS_SECONDS = 0.02
    most = 0

    def watch(progress):
        global most
        most = max(most, progress.buffered_bytes)

    config = load_config(overrides=[
        f"storage.base_dir={root}", f"ingestion.sources.coinbase.url={url}",
        "ingestion.segment_max_mb=20",
    ])
    report = asyncio.run(ingest(config, "coinbase", frames=int(frames), on_progress=watch))
    print(json.dumps({**report.to_dict(), "most_buffered": most}))
""")


async def collect(
    lake: Any, url: str, frames: int, bytes_per_second: float
) -> tuple[dict[str, int], float]:
    """Run a collector in a process of its own; return its report and its peak in megabytes."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        COLLECTOR,
        str(lake.root),
        url,
        str(frames),
        str(bytes_per_second),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    watched, peak = psutil.Process(process.pid), 0.0
    output = asyncio.create_task(process.communicate())
    while not output.done():
        try:
            peak = max(peak, watched.memory_info().rss / 1e6)
        except psutil.NoSuchProcess:
            break
        await asyncio.sleep(0.02)
    text, _ = await output
    assert process.returncode == 0
    return json.loads(text), peak


async def test_a_fast_stream_over_a_slow_disk(
    venue: Serve, lake: Any, make_frame: MakeFrame
) -> None:
    count = int(15_000 * FACTOR)  # FLUXFORGE_LONG=34: half a million

    def frame_of(number: int) -> str:
        return make_frame(number, price="65086.18", pad="x" * 960)

    async def serve(socket: ServerConnection) -> None:
        for number in range(count + 500):
            await socket.send(frame_of(number))

    report, peak = await collect(lake, await venue(serve, ping_interval=None), count, 0.75e6)
    assert (report["frames"], report["connections"], report["gaps"]) == (count, 1, 0)
    assert report["most_buffered"] > 8_000_000  # the disk was the slower one
    assert report["most_buffered"] < 17_000_000
    assert peak < 150
    number = 0
    for path in lake.segments():
        for envelope in read_segment(path):
            assert envelope.frame == frame_of(number).encode()
            number += 1
    assert number == count


async def test_huge_frames_over_a_slow_disk(venue: Serve, lake: Any, make_frame: MakeFrame) -> None:
    count = int(20 * FACTOR)
    pad = "x" * 5_000_000

    async def serve(socket: ServerConnection) -> None:
        for number in range(count + 5):
            await socket.send(make_frame(number, pad=pad))

    report, peak = await collect(lake, await venue(serve, ping_interval=None), count, 30e6)
    assert (report["frames"], report["gaps"]) == (count, 0)
    assert report["most_buffered"] < 22_000_000
    assert peak < 250
    assert lake.frames() == [make_frame(number, pad=pad).encode() for number in range(count)]


async def test_frames_that_inflate_a_thousandfold_are_held_one_at_a_time(
    venue: Serve, lake: Any, make_frame: MakeFrame
) -> None:
    """Six of 30 MB take 180 KB on the wire: all are there before the disk has taken one."""
    count, pad = 6, "x" * 30_000_000

    async def serve(socket: ServerConnection) -> None:
        for number in range(count):
            await socket.send(make_frame(number, pad=pad))
        await socket.wait_closed()

    url = await venue(serve, ping_interval=None, compression="deflate")
    report, peak = await collect(lake, url, count, 100e6)
    assert (report["frames"], report["gaps"], report["connections"]) == (count, 0, 1)
    assert report["most_buffered"] < 2 * 31_000_000
    assert peak < 300
    assert all(len(frame) > 30_000_000 for frame in lake.frames())
