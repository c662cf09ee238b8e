"""What a capture did, and how far a running one is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from fluxforge.report import Report

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, repr=False)
class IngestProgress(Report):
    """A running capture at one moment.

    Attributes
    ----------
    source
        The exchange, or several of them.
    running
        Whether it is being captured now.
    frames, bytes
        Received so far; what is not yet durable is in ``buffered_bytes``.
    buffered_bytes
        Received, but not yet on this disk.
    rate
        Frames a second, over the last second or more.
    lag
        Seconds for which the oldest frame that is not yet durable has been waiting.
    ages
        Seconds since the last frame of each channel.
    gaps, missing
        Holes in what the venue sent, and how many frames or trades would fill them by its numbers;
        1 for a hole of unknown size.
    connections, connected, reconnects
        Sockets opened so far, those open now, and those that took another's place.
    resubscribed
        How often a new snapshot was asked for, after a gap or because a channel was silent.
    segment
        The segment that is being written; empty between two.
    spool
        Bytes on this disk that are not yet on the object store.
    seconds
        Since the start.
    error
        What ended it, or what keeps it from capturing; empty where nothing does.
    sources
        Each source's own, where there are several.
    """

    source: str
    running: bool = False
    frames: int = 0
    bytes: int = 0
    buffered_bytes: int = 0
    rate: float = 0.0
    lag: float = 0.0
    ages: Mapping[str, float] = field(default_factory=dict)
    gaps: int = 0
    missing: int = 0
    connections: int = 0
    connected: int = 0
    reconnects: int = 0
    resubscribed: int = 0
    segment: str = ""
    spool: int = 0
    seconds: float = 0.0
    error: str = ""
    sources: tuple[IngestProgress, ...] = ()

    @classmethod
    def total(cls, each: Sequence[Self]) -> Self:
        """Return that of several sources together; of one, its own."""
        if len(each) == 1:
            return each[0]
        return cls(
            running=any(one.running for one in each),
            lag=max((one.lag for one in each), default=0.0),
            ages={f"{one.source} {name}": age for one in each for name, age in one.ages.items()},
            error="; ".join(dict.fromkeys(one.error for one in each if one.error)),
            **_together(
                each,
                "frames bytes buffered_bytes rate gaps missing connections connected reconnects "
                "resubscribed spool",
            ),
        )

    def summary(self) -> str:
        """Say in one line how it goes."""
        words = [
            "running" if self.running else "ended",
            f"{self.frames:,} frames ({self.bytes / 1e6:,.1f} MB)",
            f"{self.rate:,.0f} a second",
            f"{self.gaps} gaps",
            f"lag {self.lag:.1f} s",
        ]
        if self.spool:
            words.append(f"{self.spool / 1e6:,.1f} MB in the spool")
        if self.error:
            words.append(self.error)
        return f"{self.source}: {', '.join(words)}"


@dataclass(frozen=True, repr=False)
class IngestReport(Report):
    """What a capture stored.

    Attributes
    ----------
    source
        The exchange, or several of them.
    frames, bytes
        Stored in segments; bytes include the envelopes.
    segments
        Put into the ready folder, those from the spool included.
    connections
        Sockets opened.
    gaps, missing
        Holes in what the venue sent, and how many frames or trades would fill them by its numbers;
        1 for a hole of unknown size.
    seconds
        From start to stop.
    recovered
        Segments of earlier, crashed captures that this one closed.
    spooled
        Frames that wait in the spool on this machine, because the object store did not answer
        until the end. They are durable; the next capture on this machine stores them.
    resubscribed
        How often a new snapshot was asked for, after a gap or because a channel was silent.
    error
        What kept the source from being captured at the end; empty where nothing did.
    sources
        The report of each source, where there were several.

    Examples
    --------
    >>> IngestReport("coinbase", 3, 180, 1, 1, 0, 0, 2.5, 0).to_dict()
    {'frames': 3, 'bytes': 180, 'segments': 1, 'connections': 1, 'gaps': 0}
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
    resubscribed: int = 0
    error: str = ""
    sources: tuple[IngestReport, ...] = ()

    @classmethod
    def total(cls, reports: Sequence[Self]) -> Self:
        """Return what several sources stored together; of one, its own report."""
        if len(reports) == 1:
            return reports[0]
        counts = "frames bytes segments connections gaps missing recovered spooled resubscribed"
        error = "; ".join(f"{one.source}: {one.error}" for one in reports if one.error)
        return cls(error=error, **_together(reports, counts))

    def to_dict(self) -> dict[str, Any]:
        """Return the counts for machines; of several sources also each one's, and its error."""
        names = ("frames", "bytes", "segments", "connections", "gaps")
        counts: dict[str, Any] = {name: getattr(self, name) for name in names}
        if self.sources:
            each = {one.source: {**one.to_dict(), "error": one.error} for one in self.sources}
            counts["sources"] = each
        return counts

    def summary(self) -> str:
        """Say in one line what came of it."""
        words = [
            f"{self.frames:,} frames ({self.bytes / 1e6:,.1f} MB) in {self.segments} segments",
            f"{self.connections} connections",
            f"{self.gaps} gaps" + (f" ({self.missing:,} missing)" if self.gaps else ""),
            f"{self.seconds:.1f} s",
        ]
        if self.resubscribed:
            words.append(f"{self.resubscribed} new snapshots asked for")
        if self.spooled:
            words.append(f"{self.spooled:,} frames wait in the spool")
        if self.recovered:
            words.append(f"{self.recovered} segments recovered")
        if self.error:
            words.append(self.error)
        return f"{self.source}: {', '.join(words)}"

    def __repr__(self) -> str:
        return f"<IngestReport {self.summary()}>"

    def html_rows(self) -> dict[str, object]:
        """Return the rows of the notebook's table."""
        return {
            "source": self.source,
            "frames": self.frames,
            "megabytes": round(self.bytes / 1e6, 1),
            "segments": self.segments,
            "connections": self.connections,
            "gaps": self.gaps,
            "missing": self.missing,
            "new snapshots asked for": self.resubscribed,
            "frames in the spool": self.spooled,
            "segments recovered": self.recovered,
            "seconds": round(self.seconds, 2),
            **({"error": self.error} if self.error else {}),
        }


def _together(each: Sequence[IngestProgress | IngestReport], counts: str) -> dict[str, Any]:
    """Return what several sources have in common, and the sums of their counts."""
    return {
        "source": ", ".join(one.source for one in each),
        "seconds": max((one.seconds for one in each), default=0.0),
        "sources": tuple(each),
        **{name: sum(getattr(one, name) for one in each) for name in counts.split()},
    }
