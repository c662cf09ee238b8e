"""What an ETL run did."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from fluxforge.errors import SegmentError, printable
from fluxforge.report import html_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fluxforge.transform.accounts import Account

_MOST_NAMES = 10


@dataclass(frozen=True)
class SegmentReport:
    """What became of one segment.

    Attributes
    ----------
    segment
        Its name.
    lines_read, lines_taken, lines_quarantined
        ``lines_read = lines_taken + lines_quarantined``.
    rows
        Rows made, by channel.
    unknown_fields
        Fields that no table reads, as ``kind.field``, and the frames they were seen in.
    committed
        False if an earlier run had committed it: then it was not even read again.
    """

    segment: str
    lines_read: int = 0
    lines_taken: int = 0
    lines_quarantined: int = 0
    rows: Mapping[str, int] = field(default_factory=dict)
    unknown_fields: Mapping[str, int] = field(default_factory=dict)
    committed: bool = True

    @classmethod
    def of(cls, segment: str, account: Account) -> SegmentReport:
        """Report what became of a segment that is in the tables now."""
        counts = account.read, account.taken, account.quarantined
        return cls(segment, *counts, account.rows, account.unknown_fields)


@dataclass(frozen=True)
class EtlReport:
    """What became of all segments of a run.

    Attributes
    ----------
    segments
        Segments that are now in the tables by this run.
    repeated
        Segments that an earlier run had committed; they were only cleaned up.
    lines_read, lines_taken, lines_quarantined
        Lines of the committed segments.
    rows
        Rows added, by channel.
    unknown_fields
        Fields that no table reads, as ``kind.field``, and the frames they were seen in.
    seconds
        How long it took.
    waiting
        What is in no table all the same, as that of captures that ended; empty where nothing is.
    set_aside
        Segments that are not tried again until :meth:`fluxforge.Lake.etl` is told to ``retry``.
    """

    source: str
    segments: int = 0
    repeated: int = 0
    lines_read: int = 0
    lines_taken: int = 0
    lines_quarantined: int = 0
    rows: Mapping[str, int] = field(default_factory=dict)
    unknown_fields: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    waiting: str = ""
    set_aside: int = 0

    @classmethod
    def of(
        cls, source: str, reports: Iterable[SegmentReport], seconds: float, set_aside: int = 0
    ) -> EtlReport:
        """Add up the reports of a run's segments."""
        every = list(reports)
        done = [one for one in every if one.committed]
        each = [
            cls(source, 1, 0, one.lines_read, one.lines_taken, one.lines_quarantined, one.rows,
                one.unknown_fields)
            for one in done
        ]  # fmt: skip
        repeated = len(every) - len(done)
        return replace(
            cls.total(each),
            source=source,
            repeated=repeated,
            seconds=seconds,
            set_aside=set_aside,
        )

    @classmethod
    def total(cls, reports: Iterable[EtlReport]) -> EtlReport:
        """Add up the reports of several runs or sources."""
        every = list(reports)
        rows, unknown = Counter[str](), Counter[str]()
        for report in every:
            rows.update(report.rows)
            unknown.update(report.unknown_fields)
        counts = "segments repeated lines_read lines_taken lines_quarantined seconds set_aside"
        return cls(
            source=", ".join(sorted({report.source for report in every})),
            rows=dict(sorted(rows.items())),
            unknown_fields=dict(sorted(unknown.items())),
            **{name: sum(getattr(one, name) for one in every) for name in counts.split()},
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the counts for machines.

        Examples
        --------
        >>> EtlReport("coinbase", 1, 0, 3, 2, 1, {"ticker": 2}, {}, 0.4).to_dict()
        {'segments': 1, 'lines_read': 3, 'lines_taken': 2, 'lines_quarantined': 1,
         'rows': {'ticker': 2}}
        """
        fields = asdict(self)
        names = ("segments", "lines_read", "lines_taken", "lines_quarantined", "rows")
        return {name: fields[name] for name in names}

    def __repr__(self) -> str:
        lines = f"{self.lines_read:,} lines read, {self.lines_taken:,} taken"
        words = [
            f"{self.segments:,} segments",
            f"{lines}, {self.lines_quarantined:,} quarantined",
            ", ".join(f"{count:,} {name}" for name, count in self.rows.items()) or "no rows",
            f"{self.seconds:.1f} s",
        ]
        if self.repeated:
            words.append(f"{self.repeated:,} segments were committed before")
        if self.unknown_fields:
            names = [printable(name, 60) for name in islice(self.unknown_fields, _MOST_NAMES)]
            more = ", …" if len(self.unknown_fields) > _MOST_NAMES else ""
            words.append(f"unknown fields: {', '.join(names)}{more}")
        if self.set_aside:
            words.append(f"{self.set_aside:,} segments are set aside: lake.etl(retry=True)")
        if self.waiting:
            words.append(self.waiting)
        return f"<EtlReport {self.source}: {'; '.join(words)}>"

    def _repr_html_(self) -> str:
        return html_table(
            f"ETL of {self.source}",
            {
                "segments": self.segments,
                "lines read": self.lines_read,
                "lines taken": self.lines_taken,
                "lines quarantined": self.lines_quarantined,
                **{f"rows in {name}": count for name, count in self.rows.items()},
                **{f"unknown field {name}": n for name, n in self.unknown_fields.items()},
                "seconds": round(self.seconds, 2),
                **({"waiting": self.waiting} if self.waiting else {}),
            },
        )


class SegmentsFailedError(SegmentError):
    """Some segments could not be processed; they stay where they are, for the next run.

    Attributes
    ----------
    failures
        Why, by segment.
    report
        What the run did with all others.
    """

    def __init__(self, failures: Mapping[str, Exception], report: EtlReport) -> None:
        name, first = next(iter(failures.items()))
        others = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        super().__init__(f"{name}{others} could not be processed and was kept: {first}")
        self.failures = failures
        self.report = report
