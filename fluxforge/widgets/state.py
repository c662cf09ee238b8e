"""The state behind a progress bar: plain values, whatever shows them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from fluxforge.ingestion.report import IngestProgress


@dataclass(frozen=True)
class Progress:
    """The progress of a piece of work.

    Attributes
    ----------
    label
        What is being done.
    share
        How much of it is done, from 0 to 1; None where nobody knows how much there will be.
    note
        What has been done so far, in words.
    stage
        Whether it is still running, and how it ended.

    Examples
    --------
    >>> Progress("etl", share=0.5).ended(well=True)
    Progress(label='etl', share=1.0, note='', stage='done')
    """

    label: str
    share: float | None = 0.0
    note: str = ""
    stage: Literal["running", "done", "failed"] = "running"

    def ended(self, *, well: bool) -> Progress:
        """Return the state after the end; failed work keeps its share."""
        if well:
            return replace(self, share=1.0, stage="done")
        return replace(self, stage="failed")


def ingest_state(
    label: str, progress: IngestProgress, *, frames: int | None, seconds: float | None
) -> Progress:
    """Describe a running capture that ends after `frames` or `seconds`, where they are given."""
    shares = []
    if frames:
        shares.append(progress.frames / frames)
    if seconds:
        shares.append(progress.seconds / seconds)
    note = f"{progress.frames:,} frames, {progress.bytes / 1e6:,.1f} MB, {progress.seconds:,.0f} s"
    if progress.gaps:
        note += f", {progress.gaps:,} gaps ({progress.missing:,} frames missing)"
    return Progress(label, min(1.0, max(shares)) if shares else None, note)


def etl_state(label: str, done: int, total: int) -> Progress:
    """Describe an ETL run by its segments."""
    return Progress(label, done / total if total else 1.0, f"{done:,} of {total:,} segments")
