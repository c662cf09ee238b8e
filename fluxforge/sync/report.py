"""What a sync did, while it runs and afterwards."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fluxforge.report import Report

if TYPE_CHECKING:
    from collections.abc import Callable

_SECONDS_BETWEEN_CALLS = 0.5


@dataclass(frozen=True, repr=False)
class SyncReport(Report):
    """What a sync copied, left alone and deleted.

    Attributes
    ----------
    copied
        Keys at the destination of the segments and data files that are there by this run.
    skipped
        Keys at the source of those whose copies were there before, and of segments that an ETL or
        another sync had claimed.
    deleted
        Keys at the source of those that are gone by this run.
    bytes
        The size of all copied files together.
    problems
        What was not copied, or not deleted, and why: one line each.
    dry_run
        True: nothing was done; the report says what would be.

    Examples
    --------
    >>> SyncReport(copied=("raw/ready/coinbase/segment_20251203T14_00001.ndjson",), bytes=1200)
    <SyncReport: 1 file copied (0.0 MB), 0 skipped, 0 deleted, 0 problems>
    """

    copied: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    bytes: int = 0
    problems: tuple[str, ...] = ()
    dry_run: bool = False

    @property
    def ok(self) -> bool:
        """Whether there were no problems."""
        return not self.problems

    def summary(self) -> str:
        """Say in one line what came of it."""
        files = "file" if len(self.copied) == 1 else "files"
        problems = "problem" if len(self.problems) == 1 else "problems"
        future = "to be " if self.dry_run else ""
        return (
            f"{len(self.copied):,} {files} {future}copied ({self.bytes / 1e6:,.1f} MB), "
            f"{len(self.skipped):,} skipped, {len(self.deleted):,} {future}deleted, "
            f"{len(self.problems):,} {problems}"
        )

    def __str__(self) -> str:
        lines = [self.summary()]
        if self.dry_run:
            lines += [f"would copy {key}" for key in self.copied]
            lines += [f"would delete {key}" for key in self.deleted]
        return "\n".join([*lines, *(f"problem: {problem}" for problem in self.problems)])

    def html_rows(self) -> dict[str, object]:
        """Return the rows of the notebook's table."""
        named = {f"problem {number}": text for number, text in enumerate(self.problems, 1)}
        return super().html_rows() | named


@dataclass
class Counters:
    """Counts what a sync does, and tells from time to time how far it is."""

    on_progress: Callable[[int, int, int], object] | None = None
    copied: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    bytes: int = 0
    _settled: int = 0
    _total: int = 0
    _called: float = float("-inf")

    def expect(self, files: int) -> None:
        """Note that so many more files are to be settled."""
        self._total += files
        self._tell()

    def copy(self, key: str, size: int) -> None:
        """Note a file that is at the destination now."""
        self.copied.append(key)
        self.bytes += size
        self.settle()

    def skip(self, key: str) -> None:
        """Note a file that needed no copying."""
        self.skipped.append(key)
        self.settle()

    def settle(self) -> None:
        """Note a file that needs nothing more."""
        self._settled += 1
        self._tell()

    def report(self, *, dry_run: bool) -> SyncReport:
        """Return what was noted."""
        self._tell(now=True)
        copied, skipped, deleted = tuple(self.copied), tuple(self.skipped), tuple(self.deleted)
        return SyncReport(copied, skipped, deleted, self.bytes, tuple(self.problems), dry_run)

    def _tell(self, *, now: bool = False) -> None:
        if self.on_progress is None:
            return
        if now or time.monotonic() - self._called >= _SECONDS_BETWEEN_CALLS:
            self._called = time.monotonic()
            self.on_progress(self._settled, self._total, self.bytes)
