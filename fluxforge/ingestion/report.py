"""What an ingestion did, and how far a running one is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fluxforge.html import html_table


@dataclass(frozen=True)
class IngestProgress:
    """A running ingestion at one moment.

    Attributes
    ----------
    source
        The exchange.
    frames, bytes
        Received so far; what is not yet durable is in ``buffered_bytes``.
    buffered_bytes
        Received, but not yet on the storage.
    connections
        Sockets opened so far.
    connected
        Sockets open now.
    gaps, missing
        Holes in the venue's numbering, and frames that would fill them.
    seconds
        Since the start.
    spooled_bytes
        Waiting in the spool for the object store to answer.
    """

    source: str
    frames: int
    bytes: int
    buffered_bytes: int
    connections: int
    connected: int
    gaps: int
    missing: int
    seconds: float
    spooled_bytes: int = 0


@dataclass(frozen=True)
class IngestReport:
    """What an ingestion stored.

    Attributes
    ----------
    source
        The exchange.
    frames, bytes
        Stored in segments; bytes include the envelopes.
    segments
        Put into the ready folder, those from the spool included.
    connections
        Sockets opened.
    gaps, missing
        Holes in the venue's numbering, and frames that would fill them.
    seconds
        From start to stop.
    recovered
        Segments of earlier, crashed collectors that this one closed.
    spooled
        Frames that wait in the spool on this machine, because the object store did not answer
        until the end. They are durable; the next capture on this machine stores them.
    """

    source: str
    frames: int
    bytes: int
    segments: int
    connections: int
    gaps: int
    missing: int
    seconds: float
    recovered: int
    spooled: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the counts for machines.

        Examples
        --------
        >>> IngestReport("coinbase", 3, 180, 1, 1, 0, 0, 2.5, 0).to_dict()
        {'frames': 3, 'bytes': 180, 'segments': 1, 'connections': 1, 'gaps': 0}
        """
        fields = asdict(self)
        return {
            name: fields[name] for name in ("frames", "bytes", "segments", "connections", "gaps")
        }

    def __repr__(self) -> str:
        words = [
            f"{self.frames:,} frames ({self.bytes / 1e6:,.1f} MB) in {self.segments} segments",
            f"{self.connections} connections",
            f"{self.gaps} gaps" + (f" ({self.missing:,} frames missing)" if self.gaps else ""),
            f"{self.seconds:.1f} s",
        ]
        if self.spooled:
            words.append(f"{self.spooled:,} frames wait in the spool")
        if self.recovered:
            words.append(f"{self.recovered} segments recovered")
        return f"<IngestReport {self.source}: {', '.join(words)}>"

    def _repr_html_(self) -> str:
        return html_table(
            f"Ingestion of {self.source}",
            {
                "frames": self.frames,
                "megabytes": round(self.bytes / 1e6, 1),
                "segments": self.segments,
                "connections": self.connections,
                "gaps": self.gaps,
                "frames missing": self.missing,
                "frames in the spool": self.spooled,
                "segments recovered": self.recovered,
                "seconds": round(self.seconds, 2),
            },
        )
