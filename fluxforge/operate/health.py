"""Is a lake healthy: limits on its state, from the configuration."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fluxforge.errors import printable
from fluxforge.operate.state import CAPTURE
from fluxforge.report import Report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fluxforge.config import FluxForgeConfig
    from fluxforge.operate.state import LakeState

_DAY = 86_400.0


@dataclass(frozen=True)
class Problem:
    """A limit that is passed: its key under ``health``, what it is about, and in words."""

    limit: str
    subject: str
    message: str


@dataclass(frozen=True, repr=False)
class HealthReport(Report):
    """Whether a lake is within the limits under ``health``."""

    ok: bool
    problems: tuple[Problem, ...]

    def summary(self) -> str:
        """List the problems, or say that there are none."""
        if self.ok:
            return "healthy"
        return "\n".join(f"{one.subject}: {one.message} ({one.limit})" for one in self.problems)


def check_health(config: FluxForgeConfig, state: LakeState) -> HealthReport:
    """Compare the state of a lake with the limits under ``health``."""
    problems = tuple(_problems(config, state))
    return HealthReport(not problems, problems)


def _problems(config: FluxForgeConfig, state: LakeState) -> Iterator[Problem]:
    def over(
        name: str, subject: str, value: float | None, words: str, why: str = ""
    ) -> Iterator[Problem]:
        limit = getattr(config.health, name)
        if limit is not None and value is not None and value > limit:
            yield Problem(f"health.{name}={limit:g}", subject, words.format(value) + why)

    ages, lags = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    for table in state.tables:
        if table.age_seconds is not None:
            ages[table.source].append(table.age_seconds)
        if table.lag_seconds is not None and table.table in ("ticker", "trades", "orderbook"):
            lags[table.source].append(table.lag_seconds)
    for source in sorted(ages):
        newest = min(ages[source])
        if newest < _DAY or source in config.ingestion.sources:
            yield from over("age_seconds", source, newest, "the newest row is {:,.0f} s old")
    for source in sorted(config.ingestion.sources.keys() - ages.keys()):
        captured = state.parts.get(f"{CAPTURE}{source}", {}).get("seconds", math.inf)
        yield from over("age_seconds", source, captured, "no row has come yet")
    for source in sorted(lags):
        # The way from the venue only adds to it: the least says most about the clocks.
        drift = min(lags[source], key=abs)
        words = f"this machine's clock and the venue's differ by {drift:,.1f} s: set the clock"
        yield from over("clock_drift_seconds", source, abs(drift), words)
    for one in state.segments:
        if one.state == "ready":
            oldest = "a segment has waited for the etl for {:,.0f} s"
            yield from over("backlog_seconds", one.source, one.oldest_seconds, oldest)
            yield from over("backlog_mb", one.source, one.bytes / 1e6, "{:,.0f} MB wait for etl")
        elif one.state == "quarantine":
            words = "{:,.0f} files in quarantine: see `fluxforge quarantine list`"
            yield from over("quarantine_files", one.source, one.files, words)
    for source, failing in state.failing.items():
        aside = [one for one in failing if one.aside]
        errors = "; ".join({one.error: f"{one.segment}: {one.error}" for one in aside}.values())
        words = "{:,.0f} segments are set aside: mend this, then `fluxforge etl --retry`: "
        yield from over("set_aside", source, len(aside), words, printable(errors))
    for source, missing in state.missing.items():
        yield from over("gaps", source, missing, "{:,.0f} frames or trades missing")
    for message in state.damaged:
        yield Problem("tables", "tables", message)
    for source, size in state.spool_bytes.items():
        yield from over("spool_mb", source, size / 1e6, "{:,.0f} MB wait for the object store")
    for name, part in state.parts.items():
        words = "frames wait to be written for {:,.0f} s: is the disk, or the spool, full?"
        yield from over("capture_lag_seconds", name, part.get("lag"), words)
        if not part["up"]:
            yield Problem("run", name, f"it is down and was started {part['restarts']} times again")
    least_mb, least_hours = config.health.disk_free_mb, config.health.disk_hours
    if least_mb is not None and state.disk_free_bytes / 1e6 < least_mb:
        free = f"{state.disk_free_bytes / 1e6:,.0f} MB are free"
        yield Problem(f"health.disk_free_mb={least_mb:g}", "disk", free)
    if least_hours is not None and (state.disk_hours or least_hours) < least_hours:
        full = f"at this rate it is full in {state.disk_hours:,.1f} hours"
        yield Problem(f"health.disk_hours={least_hours:g}", "disk", full)
