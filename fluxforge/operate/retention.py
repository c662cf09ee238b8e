"""What is kept, and for how long: the ``retention`` of a configuration, carried out."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from fluxforge.config import Role
from fluxforge.config.durations import parse_limit
from fluxforge.errors import ConfigError
from fluxforge.report import Report
from fluxforge.tables.retention import Retired, retire

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fluxforge.lake import Lake


@dataclass(frozen=True, repr=False)
class RetentionReport(Report):
    """What was removed, or with a dry run would be.

    Attributes
    ----------
    tables
        By ``source.table``: whole days of rows, in a commit; vacuum deletes their files later.
    archive
        By source: segments deleted from the archive.
    """

    dry_run: bool
    tables: Mapping[str, Retired] = field(default_factory=dict)
    archive: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def summary(self) -> str:
        """Say what goes, a line for each table."""
        verb = "would go" if self.dry_run else "are gone"
        lines = [
            f"{name}: {len(one.days)} days to {one.days[-1]} {verb}, {one.rows:,} rows in "
            f"{one.files} files ({one.bytes / 1e6:,.1f} MB)"
            for name, one in self.tables.items()
            if one.days
        ]
        lines += [
            f"{name}: {len(keys)} archived segments {verb}" for name, keys in self.archive.items()
        ]
        return "\n".join(lines) or "nothing is older or larger than it may be"


def retain(lake: Lake, *, dry_run: bool = False) -> RetentionReport:
    """Remove what ``retention`` says: days of tables, and archived segments.

    Raises
    ------
    ConfigError
        If a key of ``retention`` is neither ``archive`` nor that of any table, as
        ``coinbase.trades`` or ``*.trades``.
    """
    tables: dict[str, Retired] = {}
    archive: dict[str, tuple[str, ...]] = {}
    for key, value in lake.config.retention.items():
        age, size = parse_limit(value)
        limit = None if age is None else timedelta(seconds=age)
        if key == "archive":
            for source in lake.sources:
                if keys := _archived(lake, source, limit, size, dry_run=dry_run):
                    archive[source] = keys
            continue
        for source in lake.catalog.sources():
            for name in lake.catalog.written(source):
                version = lake.catalog.open(source, name)
                if version.channel is not None and fnmatchcase(f"{source}.{name}", key):
                    tables[f"{source}.{name}"] = retire(
                        version.table, age=limit, size=size, dry_run=dry_run
                    )
        if "." not in key:
            raise ConfigError(f"retention.{key}: write a table as coinbase.trades, or archive")
    return RetentionReport(dry_run, tables, archive)


def _archived(
    lake: Lake, source: str, age: timedelta | None, size: int | None, *, dry_run: bool
) -> tuple[str, ...]:
    storage, layout = lake.storage_for(Role.ETL_INPUT), lake.layout_for(Role.ETL_INPUT)
    files = storage.list_entries(layout.archive(source))
    old, total = [], 0
    for file in sorted(files, key=lambda file: file.modified, reverse=True):
        total += file.size
        if (age is not None and datetime.now(UTC) - file.modified > age) or (
            size is not None and total > size
        ):
            old.append(file.key)
    for key in () if dry_run else old:
        storage.delete(key)
    return tuple(sorted(old))
