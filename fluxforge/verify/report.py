"""What a verification found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any, Literal, Self, get_args

from fluxforge.errors import FluxForgeError
from fluxforge.report import Report

Problem = Literal[
    "no_lake", "check_failed", "unknown_folder", "unknown_source", "misplaced_file", "odd_file",
    "abandoned_segment", "unfinished_segment", "set_aside_segment", "missing_quarantine",
    "damaged_quarantine", "damaged_archive", "missing_log", "missing_file", "damaged_file",
    "wrong_partition", "wrong_column", "missing_ledger", "missing_ledger_row", "missing_commit",
    "wrong_row_count", "wrong_account", "repeated_segment", "stored_twice",
]  # fmt: skip
Note = Literal[
    "waiting", "spooled", "quarantine", "leftover", "unknown_table", "gap", "repeated_number",
]  # fmt: skip
Kind = Problem | Note
"""The identifiers of what may be found. They stay; new ones may come."""


@dataclass(frozen=True)
class Check:
    """Something that was looked at."""

    name: str  # files, tables, segments or runs
    where: str  # the folder or table
    looked_at: int  # how many


@dataclass(frozen=True)
class Finding:
    """Something that is out of place, or worth knowing.

    Attributes
    ----------
    kind
        Its identifier, for machines: one of :data:`Kind`.
    where
        The file, table or folder.
    message
        What is the matter, and what to do.
    """

    kind: Kind
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.message}"


@dataclass(frozen=True, repr=False)
class VerifyReport(Report):
    """What was checked, what is wrong, and what is worth knowing.

    Attributes
    ----------
    checks
        What was looked at.
    problems
        What is wrong; without any, the lake is ``ok``.
    notes
        What is no problem: segments that wait, lines in quarantine, gaps in a feed.
    """

    checks: tuple[Check, ...] = ()
    problems: tuple[Finding, ...] = ()
    notes: tuple[Finding, ...] = ()

    @classmethod
    def of(cls, found: Found) -> Self:
        """Run checks, and sort what they find."""
        every, of_notes = list(found), get_args(Note)
        findings = [one for one in every if isinstance(one, Finding)]
        return cls(
            tuple(one for one in every if isinstance(one, Check)),
            tuple(one for one in findings if one.kind not in of_notes),
            tuple(one for one in findings if one.kind in of_notes),
        )

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON would hold it."""
        return {"ok": self.ok, **super().to_dict()}

    def summary(self) -> str:
        """Say in one line what came of it."""
        counts: Counter[str] = Counter()
        for check in self.checks:
            counts[check.name] += check.looked_at
        looked_at = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        verdict = "ok" if self.ok else f"{len(self.problems)} problems"
        return f"{verdict}: looked at {looked_at or 'nothing'}"

    def __str__(self) -> str:
        lines = [self.summary()]
        lines += [f"  problem  {finding}" for finding in self.problems]
        return "\n".join([*lines, *(f"  note     {finding}" for finding in self.notes)])

    def __repr__(self) -> str:
        return f"<VerifyReport {self}>"

    def _repr_html_(self) -> str:
        rows = [("problem", finding) for finding in self.problems]
        rows += [("note", finding) for finding in self.notes]
        body = "".join(
            f"<tr><th>{word}</th><td>{escape(finding.kind)}</td><td>{escape(finding.where)}</td>"
            f"<td>{escape(finding.message)}</td></tr>"
            for word, finding in rows
        )
        return f"<table><caption>{escape(self.summary())}</caption>{body}</table>"


Found = Iterator[Check | Finding]
"""What a check yields, while it looks."""


def guarded(where: str, found: Found) -> Found:
    """Run a check; if it cannot be carried out, that is a problem and no end of the others."""
    try:
        yield from found
    except FluxForgeError as exc:
        yield Finding("check_failed", where, str(exc))
