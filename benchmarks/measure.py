"""Measuring: a line of the table, and how it is taken."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes
    ----------
    name, target
        What is measured, and what it should reach.
    values
        What was measured in each run.
    unit
        ``"x"`` for a ratio, else of the values.
    limit
        The most that a value may be; with `at_least`, the least.
    note
        The times behind a ratio, or what the peer is.
    """

    name: str
    target: str
    values: tuple[float, ...]
    unit: str
    limit: float
    note: str = ""
    at_least: bool = False

    @property
    def ok(self) -> bool:
        """Whether the median reaches the target."""
        middle = statistics.median(self.values)
        return middle >= self.limit if self.at_least else middle <= self.limit

    def __str__(self) -> str:
        middle, low, high = statistics.median(self.values), min(self.values), max(self.values)
        shown = f"{middle:.3g} {self.unit} ({low:.3g} to {high:.3g})"
        mark = "met" if self.ok else "missed"
        return f"| {self.name} | {self.target} | {shown} | {mark} | {self.note} |"


def seconds(work: Callable[[], object]) -> float:
    """Return how long some work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def compare(
    name: str,
    target: str,
    ours: Callable[[], object],
    peer: Callable[[], object],
    limit: float,
    *,
    runs: int,
    rounds: int,
    allowance: float = 0.0,
) -> Iterator[Line]:
    """Yield the ratio of two pieces of work, which take turns.

    Parameters
    ----------
    runs, rounds
        Each run is the medians of so many rounds.
    allowance
        Seconds that are taken off ours.
    """
    ratios, times = [], []
    for _ in range(runs):
        pairs = [(seconds(ours), seconds(peer)) for _ in range(rounds)]
        mine, other = (statistics.median(one) for one in zip(*pairs, strict=True))
        ratios.append(max(0.0, mine - allowance) / other)
        times.append((mine, other))
    mine, other = (1000 * statistics.median(one) for one in zip(*times, strict=True))
    yield Line(name, target, tuple(ratios), "x", limit, f"{mine:.1f} ms, peer {other:.1f} ms")


def repeat(
    name: str,
    target: str,
    work: Callable[[], float],
    limit: float,
    unit: str,
    *,
    runs: int,
    note: str = "",
) -> Iterator[Line]:
    """Yield what some work returns, of each run."""
    yield Line(name, target, tuple(work() for _ in range(runs)), unit, limit, note)
