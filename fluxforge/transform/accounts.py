"""What became of segments' lines, counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fluxforge.errors import SegmentError
from fluxforge.transform.database import fill, identifier, literals

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    import duckdb

    from fluxforge.sources.tables import Channel, SourceTables

_MOST_UNKNOWN = 100


@dataclass(frozen=True)
class Account:
    """What became of a segment's lines: ``read = taken + quarantined``, always."""

    digest: str
    size: int  # bytes
    read: int  # lines
    taken: int
    quarantined: int
    frames: Mapping[str, int] = field(default_factory=dict)  # frames taken, by kind
    rows: Mapping[str, int] = field(default_factory=dict)  # rows made, by channel
    unknown_fields: Mapping[str, int] = field(default_factory=dict)
    """Fields that no table reads, as ``kind.field``, and the frames they were seen in."""
    first_sent: datetime | None = None
    first_recv: datetime | None = None
    last_recv: datetime | None = None

    def check(self, name: str, lines: int) -> None:
        """Raise :class:`SegmentError` where the counts are not those of the file."""
        if self.read != lines or self.read != self.taken + self.quarantined:
            raise SegmentError(
                f"{name}: {lines} lines in the file, but {self.taken} taken and "
                f"{self.quarantined} refused"
            )


def count_lines(
    database: duckdb.DuckDBPyConnection, channels: Iterable[str], file_bits: int
) -> dict[int, dict[str, Any]]:
    """Return what an account says, by segment, from ``classified`` and the channels' rows."""
    columns = ("read", "taken", "quarantined", "first_sent", "first_recv", "last_recv")
    found: dict[int, dict[str, Any]] = {
        file: {**dict(zip(columns, values, strict=True)), "frames": {}, "rows": {}}
        for file, *values in database.execute(
            "SELECT file, count(*), count(*) FILTER (reason IS NULL), count(reason), "
            "min(ts_sent), min(ts_recv), max(ts_recv) FROM classified GROUP BY file"
        ).fetchall()
    }
    for file, kind, count in database.execute(
        "SELECT file, kind, count(*) FROM classified WHERE reason IS NULL GROUP BY ALL ORDER BY ALL"
    ).fetchall():
        found[file]["frames"][kind] = count
    for name in channels:
        table = identifier(f"rows_{name}")
        for file, count in database.execute(
            f"SELECT line_no >> {file_bits}, count(*) FROM {table} GROUP BY 1"
        ).fetchall():
            found[file]["rows"][name] = count
    return found


def count_unknown_fields(
    database: duckdb.DuckDBPyConnection, tables: SourceTables, channels: Iterable[Channel]
) -> Iterator[tuple[int, dict[str, int]]]:
    """Yield how many frames of ``frames`` have a field that no table reads, by segment."""
    for channel in channels:
        container, _, item = channel.places[0].rpartition(".")
        event = container.replace("[*]", "[0]") or "$"
        query = fill(
            "unknown_fields",
            places=literals(["$", event, f"{event}.{item}[0]"]),
            takes=literals(channel.takes),
            known=literals(sorted(tables.known_fields(channel))),
        )
        for file, kind, name, frames in database.execute(query).fetchall():
            yield file, {f"{kind}.{name}": frames}


def most_common(counts: Counter[str]) -> dict[str, int]:
    """Return counts by name, and under ``…`` how many there are of all but the most common."""
    found = dict(sorted(counts.most_common(_MOST_UNKNOWN)))
    rest = counts.total() - sum(found.values())
    return found | ({"…": rest} if rest else {})
