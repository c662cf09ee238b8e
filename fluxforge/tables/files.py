"""The files of a table, as its log describes them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Mapping

PARTITION = "date"
"""Every table is divided by this column: the UTC date of capture."""

_CHECKSUM = re.compile(r"part-.*-([0-9a-f]{16})\.parquet")


def checksum_in_name(path: str) -> str | None:
    """Return the first 16 digits of the SHA-256 of a data file's content, which its name ends in.

    >>> checksum_in_name("date=2026-08-09/part-5e1f2a90c4d7-9f86d081884c7d65.parquet")
    '9f86d081884c7d65'
    >>> checksum_in_name("date=2026-08-09/part-9f86d081884c-5e1f2a90.parquet") is None
    True
    """
    match = _CHECKSUM.fullmatch(path.rsplit("/", 1)[-1])
    return match[1] if match else None


@dataclass(frozen=True)
class TableFile:
    """A Parquet file of a table, or one that is written to become part of it."""

    path: str  # relative to the table
    size: int  # bytes
    rows: int
    date: date  # its partition
    least: Mapping[str, Any] = field(repr=False)  # bounds of each column, where they are known
    greatest: Mapping[str, Any] = field(repr=False)
    nulls: Mapping[str, int] = field(repr=False)
    """Number of nulls of each column that is in the file; others were added to the table later."""

    @classmethod
    def from_snapshot(cls, row: Mapping[str, Any]) -> TableFile:
        """Read a row of deltalake's table of files."""
        least, greatest, nulls = (
            {name: value for name, value in (row.get(kind) or {}).items() if value is not None}
            for kind in ("min", "max", "null_count")
        )
        day = row["partition"][PARTITION]
        rows, size = row["num_records"], row["size_bytes"]
        return cls(row["path"], size, rows, day, least, greatest, nulls)

    @classmethod
    def from_commit(cls, action: Mapping[str, Any]) -> TableFile:
        """Read what a commit says; times in bounds stay text."""
        stats = json.loads(action["stats"])
        return cls(
            path=unquote(action["path"]),
            size=action["size"],
            rows=stats["numRecords"],
            date=date.fromisoformat(action["partitionValues"][PARTITION]),
            least=stats.get("minValues", {}),
            greatest=stats.get("maxValues", {}),
            nulls=stats.get("nullCount", {}),
        )

    def stats(self) -> str:
        """Return rows, bounds and nulls as a commit states them."""
        stats = {
            "numRecords": self.rows,
            "minValues": {name: _delta_value(value) for name, value in self.least.items()},
            "maxValues": {name: _delta_value(value) for name, value in self.greatest.items()},
            "nullCount": dict(self.nulls),
        }
        # Unescaped: the log's reader takes every escaped surrogate pair for U+10000.
        return json.dumps(stats, ensure_ascii=False)

    @property
    def columns(self) -> frozenset[str]:
        """The columns that are in the file."""
        return frozenset(self.nulls)

    def may_hold(self, column: str, low: Any = None, high: Any = None) -> bool:
        """Tell whether a row with ``low <= column <= high`` can be in the file."""
        least, greatest = self.least.get(column), self.greatest.get(column)
        if column == PARTITION:
            least = greatest = self.date
        if low is not None and greatest is not None and greatest < low:
            return False
        return not (high is not None and least is not None and least > high)


def _delta_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else value
