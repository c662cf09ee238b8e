"""The past of a venue over REST, as segments: what a capture missed, or what was before it."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from fluxforge.report import Report
from fluxforge.segments import new_connection_id
from fluxforge.sources.rest import Past, minutes_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from fluxforge.ingestion.log_writer import LogWriter
    from fluxforge.ingestion.rest import RestClient
    from fluxforge.sources import Source

logger = logging.getLogger(__name__)

_TRADES_AT_ONCE = timedelta(hours=1)
_CANDLES_AT_ONCE = 300
_SETTLED = timedelta(minutes=1)
"""How old a part of the past must be to be fetched once and for all."""


@dataclass(frozen=True, repr=False)
class BackfillReport(Report):
    """What a backfill fetched.

    Attributes
    ----------
    source
        The exchange.
    parts, already
        Parts of the past that were fetched, and that had been before.
    incomplete
        Parts of which the venue gives nothing, or only the end, any more.
    frames, bytes
        Answers stored in segments; the ETL makes rows of them.
    segments
        Segments that wait for the ETL.
    seconds
        From start to end.
    """

    source: str
    parts: int
    already: int
    incomplete: int
    frames: int
    bytes: int
    segments: int
    seconds: float

    @classmethod
    def total(cls, reports: Sequence[BackfillReport]) -> BackfillReport:
        """Add up the reports of several sources."""
        counts = (field.name for field in fields(cls) if field.name != "source")
        names = ", ".join(report.source for report in reports)
        return cls(names, **{name: sum(getattr(one, name) for one in reports) for name in counts})

    def summary(self) -> str:
        """Say in one line what was fetched."""
        old = f"; the venue no longer gives all of {self.incomplete}" if self.incomplete else ""
        return (
            f"{self.source}: {self.frames:,} answers ({self.bytes / 1e6:,.1f} MB) for {self.parts} "
            f"parts of the past, {self.already} were there{old}; {self.segments} segments wait for "
            f"the ETL; {self.seconds:.1f} s"
        )


def parts_of(
    table: str, market: str, symbol: str, start: datetime, end: datetime, interval: str
) -> Iterator[Past]:
    """Divide the past into parts that are fetched whole, the same for every call."""
    size = _TRADES_AT_ONCE
    if table == "candles":
        size = timedelta(minutes=minutes_of(interval)) * _CANDLES_AT_ONCE
    first = datetime.fromtimestamp(
        start.timestamp() // size.total_seconds() * size.total_seconds(), UTC
    )
    while first < end:
        yield Past(table, symbol, market, max(first, start), min(first + size, end), interval)
        first += size


def run_backfill(
    source: Source, client: RestClient, wanted: Iterable[Past], writer: LogWriter, state: Path
) -> BackfillReport:
    """Fetch parts of the past into segments; those that were fetched before are left out.

    A part is done when its answers are durable and hold all of it. A run that was cut short is
    taken up by the next. The newest come first: before one that the venue does not give whole
    there is nothing more to ask for.
    """
    began, now = time.monotonic(), datetime.now(UTC)
    state.parent.mkdir(parents=True, exist_ok=True)
    done = set(state.read_text(encoding="utf-8").splitlines()) if state.exists() else set()
    conn = new_connection_id()
    parts = already = incomplete = frames = size = 0
    exhausted: set[tuple[str, ...]] = set()
    with writer, state.open("a", encoding="utf-8") as log:
        for part in sorted(wanted, key=lambda part: part.start, reverse=True):
            of = (part.table, part.market, part.symbol, part.interval)
            name = " ".join(str(value) for value in vars(part).values())
            if name in done:
                already += 1
                continue
            if of in exhausted:
                incomplete += 1
                continue
            head = {"history": part.table, "symbol": part.symbol, "interval": part.interval}
            if part.table != "candles":
                del head["interval"]
            opening = json.dumps(head, separators=(",", ":")).encode()[:-1] + b',"response":'
            answers: list[bytes] = []
            whole = client.run(source.past(part), answers.append)
            for answer in answers:
                frame = opening + b" ".join(answer.split(b"\n")) + b"}"
                writer.write(frame, capture_ns=time.time_ns(), conn=f"rest-{part.market}-{conn}")
                frames, size = frames + 1, size + len(frame)
            writer.flush()
            parts += 1
            incomplete += not whole
            if not whole:
                exhausted.add(of)
                what = f"{part.symbol} {part.table} from {part.start:%Y-%m-%d %H:%M:%S} and before"
                logger.warning("%s: the venue does not give all %s any more", source.name, what)
            elif part.end <= now - _SETTLED:
                log.write(f"{name}\n")
                log.flush()
    seconds = time.monotonic() - began
    return BackfillReport(
        source.name, parts, already, incomplete, frames, size, writer.segments, seconds
    )


def state_name(source: str, ready: str) -> str:
    """Name the file that remembers what was fetched for one source of one lake."""
    return f"backfill-{source}-{hashlib.sha256(ready.encode()).hexdigest()[:12]}.txt"
