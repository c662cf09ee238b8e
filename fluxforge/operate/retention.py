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
from fluxforge.sources import get_source, source_names
from fluxforge.tables import Table
from fluxforge.tables.retention import Retired, retire, retire_quarantine
from fluxforge.transform.schema import LEDGER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fluxforge.lake import Lake
    from fluxforge.layout import State

_STATES: dict[str, State] = {"archive": "archive", "quarantine": "quarantine"}


@dataclass(frozen=True, repr=False)
class RetentionReport(Report):
    """What was removed, or with a dry run would be.

    Attributes
    ----------
    tables
        By ``source.table``: whole days of rows, in a commit; vacuum deletes their files later.
    raw
        Files deleted from the archive and the quarantine of each source.
    """

    dry_run: bool
    tables: Mapping[str, Retired] = field(default_factory=dict)
    raw: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def summary(self) -> str:
        """Say what goes, a line for each table."""
        verb = "would go" if self.dry_run else "are gone"
        lines = [
            f"{name}: {len(one.days)} days to {one.days[-1]} {verb}, {one.rows:,} rows in "
            f"{one.files} files ({one.bytes / 1e6:,.1f} MB)"
            for name, one in self.tables.items()
            if one.days
        ]
        lines += [f"{name}: {len(keys)} files {verb}" for name, keys in self.raw.items()]
        return "\n".join(lines) or "nothing is older or larger than it may be"


def retain(lake: Lake, *, dry_run: bool = False) -> RetentionReport:
    """Remove what ``retention`` says: days of tables, archived segments, lines in quarantine.

    Raises
    ------
    ConfigError
        If a key of ``retention`` is neither ``archive`` nor ``quarantine`` nor that of a table, as
        ``coinbase.trades`` or ``*.trades``.
    """
    check_retention(lake)
    tables: dict[str, Retired] = {}
    raw: dict[str, tuple[str, ...]] = {}
    for key, value in lake.config.retention.items():
        seconds, size = parse_limit(value)
        age = None if seconds is None else timedelta(seconds=seconds)
        if key in _STATES:
            for source in lake.sources:
                if old := _old(lake, key, source, age, size):
                    raw[f"{key} of {source}"] = old
                    if not dry_run:
                        _delete(lake, key, source, old)
            continue
        for source in lake.catalog.sources():
            for name in lake.catalog.written(source):
                version = lake.catalog.open(source, name)
                if version.channel is not None and fnmatchcase(f"{source}.{name}", key):
                    tables[f"{source}.{name}"] = retire(
                        version.table, age=age, size=size, dry_run=dry_run
                    )
    return RetentionReport(dry_run, tables, raw)


def check_retention(lake: Lake) -> None:
    """Raise :class:`ConfigError` where a key of ``retention`` means nothing."""
    tables = [
        f"{name}.{table}" for name in source_names() for table in get_source(name).tables.channels
    ]
    tables += [
        f"{source}.{one}"
        for source in lake.catalog.sources()
        for one in lake.catalog.written(source)
        if lake.catalog.open(source, one).channel is not None
    ]
    for key in lake.config.retention.keys() - _STATES.keys():
        if not any(fnmatchcase(table, key) for table in tables):
            there = ", ".join(_STATES)
            raise ConfigError(f"retention.{key}: write a table as coinbase.trades, or {there}")


def _old(
    lake: Lake, state: str, source: str, age: timedelta | None, size: int | None
) -> tuple[str, ...]:
    storage, layout = lake.storage_for(Role.ETL_INPUT), lake.layout_for(Role.ETL_INPUT)
    files = storage.list_entries(layout.state(_STATES[state], source))
    old, total = [], 0
    for file in sorted(files, key=lambda file: file.modified, reverse=True):
        total += file.size
        aged = age is not None and datetime.now(UTC) - file.modified > age
        if aged or (size is not None and total > size):
            old.append(file.key)
    return tuple(sorted(old))


def _delete(lake: Lake, state: str, source: str, keys: tuple[str, ...]) -> None:
    if state == "quarantine":  # noted first, so that a crash leaves no lines that nothing tells of
        output = lake.storage_for(Role.ETL_OUTPUT)
        ledger = Table(output, lake.layout_for(Role.ETL_OUTPUT).table(source, LEDGER))
        digests = [key.removesuffix(".ndjson").rpartition("-")[2] for key in keys]
        retire_quarantine(ledger, digests)
    for key in keys:
        lake.storage_for(Role.ETL_INPUT).delete(key)
