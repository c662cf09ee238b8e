"""A lake at one moment: what waits, how old the newest rows are, how much room is left."""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from fluxforge.config import Role
from fluxforge.errors import FluxForgeError, TableError
from fluxforge.report import Report, to_json
from fluxforge.segments.files import size_of
from fluxforge.segments.spool import default_spool_dir, spool_name
from fluxforge.segments.tries import TriesJournal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fluxforge.lake import Lake
    from fluxforge.segments.tries import Tries

CAPTURE = "capture."
"""What the name of a capture's process begins with; its source follows."""

_counted: WeakKeyDictionary[Lake, dict[str, tuple[int, int]]] = WeakKeyDictionary()
"""By source: a version of ``sequences``, and what is missing in it."""

_ALIVE_SECONDS = 120.0
"""What a run that wrote nothing for so long says is no longer true."""


@dataclass(frozen=True)
class TableState:
    """One table, from its log alone.

    Attributes
    ----------
    age_seconds
        Since the newest row was captured.
    lag_seconds
        How much later than the venue's time this machine's clock stamped the newest rows: the way
        here, and the difference of the clocks.
    """

    source: str
    table: str
    rows: int
    files: int
    bytes: int
    age_seconds: float | None
    lag_seconds: float | None


@dataclass(frozen=True)
class SegmentsState:
    """The segments of a source in one state; `oldest_seconds` since the first was closed."""

    source: str
    state: str
    files: int
    bytes: int
    oldest_seconds: float | None


@dataclass(frozen=True, repr=False)
class LakeState(Report):
    """A lake at one moment.

    Attributes
    ----------
    failing
        By source: segments that the ETL could not process; those without ``not_before`` are set
        aside, and tried again by ``fluxforge etl --retry`` alone.
    missing
        By source: frames or trades that the venue numbered and nobody received, as tables tell.
    spool_bytes
        By source: what waits on this disk for the object store.
    disk_free_bytes
        On the disk that captures are written to.
    disk_hours
        Until that disk is full, at the rate of the last hours; None: unknown, or never.
    parts
        What the processes of a ``fluxforge run`` on this machine say; empty where none runs.
    damaged
        What is wrong with tables that cannot be opened; nothing else is said of them.
    """

    at: datetime
    segments: tuple[SegmentsState, ...]
    tables: tuple[TableState, ...]
    failing: Mapping[str, tuple[Tries, ...]]
    missing: Mapping[str, int]
    spool_bytes: Mapping[str, int]
    disk_free_bytes: int
    disk_hours: float | None = None
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    damaged: tuple[str, ...] = ()

    def summary(self) -> str:
        """Say what waits and what is old, one line for each source."""
        lines = []
        for source in sorted({one.source for one in self.segments}):
            files = {one.state: one.files for one in self.segments if one.source == source}
            ages = [
                one.age_seconds
                for one in self.tables
                if one.source == source and one.age_seconds is not None
            ]
            newest = f"newest row {timedelta(seconds=round(min(ages)))} old" if ages else "no rows"
            files["set aside"] = sum(one.aside for one in self.failing.get(source, ()))
            states = ", ".join(f"{count} {state}" for state, count in files.items() if count)
            lines.append(f"{source}: {states or 'no segments'}; {newest}")
        hours = f", full in {self.disk_hours:,.0f} h" if self.disk_hours is not None else ""
        lines += [f"damaged: {message}" for message in self.damaged]
        lines.append(f"disk: {self.disk_free_bytes / 1e9:,.1f} GB free{hours}")
        lines += [
            f"{name}: {'up' if part['up'] else 'down'}, {part['restarts']} restarts"
            for name, part in self.parts.items()
        ]
        return "\n".join(lines)


def lake_state(lake: Lake) -> LakeState:
    """Look at a lake, and at what a ``fluxforge run`` of it on this machine says.

    Raises
    ------
    StorageError
        If a storage does not answer.
    """
    now = datetime.now(UTC)
    names = lake.sources_here()
    stores = {source: lake.segment_store(source) for source in names}
    folder = next((store.folder for store in stores.values()), Path())
    free = shutil.disk_usage(next(p for p in (folder, *folder.parents) if p.exists())).free
    published = _published(lake)
    segments = [
        SegmentsState(
            row["source"], row["state"], row["files"], row["bytes"],
            None if row["oldest"] is None else (now - row["oldest"]).total_seconds(),
        )
        for row in lake.status().to_dicts()
    ]  # fmt: skip
    where = lake.storage_for(Role.ETL_INPUT), lake.layout_for(Role.ETL_INPUT)
    damaged: dict[str, None] = {}  # each message once
    return LakeState(
        at=now,
        segments=tuple(segments),
        tables=tuple(_tables(lake, damaged)),
        failing={one: tuple(TriesJournal(*where, one).read().values()) for one in names},
        missing={source: _missing(lake, source, damaged) for source in names},
        spool_bytes={
            source: 0 if lake.storage_for(Role.INGESTION).is_local else size_of(store.folder)
            for source, store in stores.items()
        },
        disk_free_bytes=free,
        disk_hours=_hours_left(published.get("disk", []), free),
        parts=published.get("parts", {}),
        damaged=tuple(damaged),
    )


def _tables(lake: Lake, damaged: dict[str, None]) -> list[TableState]:
    found = []
    for source in lake.catalog.sources():
        for name in lake.catalog.written(source):
            try:
                version = lake.catalog.open(source, name)
            except TableError as exc:
                damaged[str(exc)] = None
                continue
            if version.channel is None:
                continue  # bookkeeping
            files = version.files
            stamped = [file for file in files if file.greatest.get("ts_recv")]
            newest = max(stamped, key=lambda file: file.greatest["ts_recv"], default=None)
            age = lag = None
            if newest is not None:
                received, sent = newest.greatest["ts_recv"], newest.greatest.get("ts_event")
                age = max(0.0, (datetime.now(UTC) - received.astimezone(UTC)).total_seconds())
                lag = (received - sent).total_seconds() if sent else None
            rows, size = sum(file.rows for file in files), sum(file.size for file in files)
            found.append(TableState(source, name, rows, len(files), size, age, lag))
    return found


def _missing(lake: Lake, source: str, damaged: dict[str, None]) -> int:
    counted = _counted.setdefault(lake, {})
    try:
        number = lake.catalog.open(source, "sequences").version
        if counted.get(source, (None, 0))[0] != number:
            counted[source] = number, int(lake.gaps(source)["missing"].sum() or 0)
    except TableError as exc:
        damaged[str(exc)] = None
        return 0
    return counted[source][1]


# What a run says of itself


def state_file(lake: Lake) -> Path:
    """Return where a ``fluxforge run`` of this lake on this machine says how it is."""
    storage, layout = lake.storage_for(Role.INGESTION), lake.layout_for(Role.INGESTION)
    name = spool_name(storage.get_full_path(layout.ready("run")), storage.server)
    return default_spool_dir().parent / "run" / f"{name}.json"


def publish(lake: Lake, parts: Mapping[str, Any] | None, disk: list[tuple[float, int]]) -> None:
    """Write how a run is, whole or not at all; None: it has ended. Without a home, do nothing."""
    with suppress(FluxForgeError, OSError):
        path = state_file(lake)
        if parts is None:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(to_json({"at": time.time(), "parts": parts, "disk": disk}), "utf-8")
        temporary.replace(path)


def _published(lake: Lake) -> dict[str, Any]:
    try:
        said: dict[str, Any] = json.loads(state_file(lake).read_text("utf-8"))
    except (FluxForgeError, OSError, ValueError):
        return {}
    return said if time.time() - said["at"] < _ALIVE_SECONDS else {}


def _hours_left(samples: list[tuple[float, int]], free: int) -> float | None:
    """Return when a disk is full that lost room over ten minutes or more."""
    if not samples or time.time() - samples[0][0] < 600:
        return None
    rate = (samples[0][1] - free) / (time.time() - samples[0][0])
    return free / rate / 3600 if rate > 0 else None
