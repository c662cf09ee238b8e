"""What was captured and is in no table yet, and how an answer that leaves it out says so."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING

from fluxforge.errors import EmptyAnswerWarning

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

    With `live` the answer has their rows anyway; `here_only` asks no object store.
    """
    from fluxforge.segments.reading import Backlog

    total = Backlog()
    for source in sources:
        for reader in readers(source):
            total += reader.backlog(here_only=here_only)
    parts = [
        (total.ended, "of a capture that ended waits", "of a capture that ended wait",
         "lake.recover()"),
        (total.ready, "waits", "wait", "lake.etl()" + ("" if live else ", or live=True")),
        ((0, 0) if live else total.growing, "is being written", "are being written",
         "live=True shows them"),
    ]  # fmt: skip
    return "; ".join(
        f"{_segments(*found)} {one if found[0] == 1 else many}: {then}"
        for found, one, many, then in parts
        if found[0]
    )


def _segments(count: int, size: int) -> str:
    return f"{count} segment{'s' * (count != 1)} ({size / 1e6:,.1f} MB)"


def warn(message: str) -> None:
    """Warn at the line of the caller that is not in this package."""
    package, level = __file__.rpartition("lake")[0], 1
    frame = sys._getframe()  # noqa: SLF001 -- skip_file_prefixes comes with Python 3.12
    while (caller := frame.f_back) and frame.f_code.co_filename.startswith(package):
        frame, level = caller, level + 1
    warnings.warn(message, EmptyAnswerWarning, stacklevel=level)
