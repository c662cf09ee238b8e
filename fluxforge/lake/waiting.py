"""What was captured and is in no table yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fluxforge.segments.reading import SegmentReader


def what_waits(
    readers: Callable[[str], Iterable[SegmentReader]],
    sources: Iterable[str],
    *,
    live: bool = False,
    here_only: bool = False,
) -> str:
    """Say which segments are in no table yet, and what takes them up; empty if none are.

    Parameters
    ----------
    live
        Whether the answer has their rows anyway.
    here_only
        Ask no object store.
    """
    from fluxforge.segments.reading import Backlog

    total = Backlog()
    for source in sources:
        for reader in readers(source):
            total += reader.backlog(here_only=here_only)
    parts = []
    if total.ended[0]:
        many = f"{_segments(*total.ended)} of a capture that ended"
        parts.append(f"{many} wait{'s' * (total.ended[0] == 1)}: lake.recover()")
    if total.ready[0]:
        parts.append(
            f"{_segments(*total.ready)} wait{'s' * (total.ready[0] == 1)}: lake.etl()"
            + ("" if live else ", or live=True")
        )
    if total.growing[0] and not live:
        verb = "is" if total.growing[0] == 1 else "are"
        parts.append(f"{_segments(*total.growing)} {verb} being written: live=True shows them")
    return "; ".join(parts)


def _segments(count: int, size: int) -> str:
    return f"{count} segment{'s' * (count != 1)} ({size / 1e6:,.1f} MB)"
