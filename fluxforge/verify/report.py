"""What a verification found."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from fluxforge.errors import FluxForgeError

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Check:
    """Something that was looked at.

    Attributes
    ----------
    name
        What.
    looked_at
        How many files, tables or rows.
    """

    name: str
    looked_at: int


@dataclass(frozen=True)
class Finding:
    """Something that is out of place, or worth knowing.

    Attributes
    ----------
    kind
        A word for it, for machines.
    where
        The file, table or folder.
    message
        What is the matter, and what to do.
    """

    kind: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.message}"


@dataclass(frozen=True)
class VerifyReport:
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

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def __add__(self, other: VerifyReport) -> VerifyReport:
        return VerifyReport(
            self.checks + other.checks, self.problems + other.problems, self.notes + other.notes
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON would hold it."""
        return {"ok": self.ok, **asdict(self)}

    @property
    def _verdict(self) -> str:
        return "ok" if self.ok else f"{len(self.problems)} problems"

    @property
    def _looked_at(self) -> str:
        """Add up the checks of a kind: the first word of a name says which it is."""
        counts: Counter[str] = Counter()
        for check in self.checks:
            counts[check.name.partition(" ")[0]] += check.looked_at
        return ", ".join(f"{count:,} {kind}" for kind, count in counts.items())

    def __str__(self) -> str:
        lines = [f"{self._verdict}: looked at {self._looked_at}"]
        lines += [f"  problem  {finding}" for finding in self.problems]
        lines += [f"  note     {finding}" for finding in self.notes]
        return "\n".join(lines)

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
        return (
            f"<table><caption><b>{self._verdict}</b>: looked at {escape(self._looked_at)}</caption>"
            f"{body}</table>"
        )


def guarded(where: str, check: Callable[[], VerifyReport]) -> VerifyReport:
    """Run a check; if it cannot be carried out, that is a problem and no end of the others."""
    try:
        return check()
    except FluxForgeError as exc:
        return VerifyReport(problems=(Finding("check failed", where, str(exc)),))
