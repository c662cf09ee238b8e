"""Recorded traffic over real sockets: what is stored is what was sent, byte for byte."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fluxforge.ingestion.orchestrators import ingest
from fluxforge.segments import read_segment
from fluxforge.simulator import local_exchange

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("name", "frames", "connections"), [("five-channels", 1_030, 1), ("reconnect", 1_839, 2)]
)
async def test_a_recording_comes_back_byte_for_byte(
    captures: Path, lake: Any, name: str, frames: int, connections: int
) -> None:
    recording = captures / "coinbase" / f"{name}.ndjson.zst"
    with local_exchange("coinbase", replay=(recording,), once=True, rate=0) as exchange:
        report = await ingest(lake.config(exchange.url), "coinbase", frames=frames)
    assert (report.frames, report.connections, report.gaps) == (frames, connections, 0)
    sent, stored = list(read_segment(recording)), lake.envelopes()
    assert [envelope.frame for envelope in stored] == [envelope.frame for envelope in sent]

    def lengths(conns: list[str]) -> list[int]:
        return [conns.count(conn) for conn in dict.fromkeys(conns)]

    assert lengths([e.conn for e in stored]) == lengths([e.conn for e in sent])
