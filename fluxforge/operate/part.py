"""One process of a run: a capture, the ETL or the maintenance.

It says how far it is with totals since its start; its log goes to standard error.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fluxforge.errors import FluxForgeError
from fluxforge.ingestion.orchestrators import ingest
from fluxforge.lake import Lake
from fluxforge.lake.child import Parent
from fluxforge.logs import set_up_logs
from fluxforge.operate.retention import retain
from fluxforge.operate.state import CAPTURE
from fluxforge.retry import RETRIES
from fluxforge.signals import interrupting, leave

if TYPE_CHECKING:
    from fluxforge.config import FluxForgeConfig
    from fluxforge.etl.report import EtlReport

logger = logging.getLogger("fluxforge.run")

ETL, MAINTENANCE = "etl", "maintenance"
LAST_WRITE_SECONDS = 0.5
"""For which a capture that stops tries a full disk; then it says how many frames that costs. A slow
object store has six times as long, which the supervisor grants."""


@dataclass(frozen=True)
class Task:
    """What one process shall do: ``etl``, ``maintenance`` or ``capture.<source>``."""

    name: str
    config: FluxForgeConfig
    log_as_json: bool


class Part:
    """The work of this process."""

    def __init__(self, parent: Parent) -> None:
        self._task: Task = parent.job
        self._lake = Lake(config=self._task.config)
        self._parent = parent
        as_json, name = self._task.log_as_json, self._task.name
        self._logs = set_up_logs(logging.INFO, as_json=as_json, part=name)
        self._stop = threading.Event()
        self._totals: Counter[str] = Counter()

    def run(self) -> None:
        """Do the task until standard input ends."""
        self._parent.listen(lambda _: None, self._leave)
        name = self._task.name
        logger.info("%s is at work as process %d", name, os.getpid())
        self._say({})
        if name == ETL:
            self._lake.watch(stop=self._stop, on_report=self._committed)
        elif name == MAINTENANCE:
            self._maintain()
        else:
            source = name.removeprefix(CAPTURE)
            capture = ingest(
                self._task.config, source, stop_timeout=LAST_WRITE_SECONDS,
                on_progress=lambda progress: self._say(vars(progress)),
            )  # fmt: skip
            asyncio.run(capture)

    def _leave(self) -> None:
        if self._stop.is_set():
            return
        self._stop.set()
        if self._task.name != ETL:  # which ends after the segment in work
            os.kill(os.getpid(), signal.SIGTERM)

    def _say(self, now: dict[str, Any]) -> None:
        self._parent.say({**now, **self._logs.counts, "retries": RETRIES["made"]})

    def _committed(self, report: EtlReport) -> None:
        counts = {
            name: getattr(report, name)
            for name in ("segments", "lines_read", "lines_taken", "lines_quarantined", "seconds")
        }
        self._totals.update({**counts, **{f"rows.{k}": n for k, n in report.rows.items()}})
        self._say(dict(self._totals))

    def _maintain(self) -> None:
        """Look after the tables again and again; what fails is tried again the next time."""
        while not self._stop.wait(self._task.config.run.maintenance_interval_seconds):
            for work in (self._optimize, self._retain, self._vacuum, self._verify):
                if self._stop.is_set():
                    return
                started = time.monotonic()
                try:
                    work()
                except FluxForgeError as exc:
                    logger.error("%s: trying again in the next round", exc)
                self._totals["seconds"] += round(time.monotonic() - started, 3)  # type: ignore[assignment]
                self._say(dict(self._totals))

    def _optimize(self) -> None:
        for report in self._lake.optimize():
            self._totals["files_joined"] += max(0, report.files_before - report.files_after)

    def _retain(self) -> None:
        report = retain(self._lake)
        self._totals["rows_retired"] += sum(one.rows for one in report.tables.values())
        if report.raw or any(one.days for one in report.tables.values()):
            logger.info("retention: %s", report)

    def _vacuum(self) -> None:
        removed = self._lake.vacuum(keep=self._task.config.run.keep_versions)
        self._totals["files_deleted"] += sum(map(len, removed.values()))

    def _verify(self) -> None:
        report = self._lake.verify()
        self._totals["verified"] += 1
        self._totals["problems"] = len(report.problems)
        for problem in report.problems:
            logger.error("verify: %s", problem)


def main() -> None:
    """Do the task that standard input brings."""
    part = Part(Parent())
    try:
        with interrupting():
            part.run()
    except FluxForgeError as exc:
        logger.error("%s", exc)
        leave(exc.exit_code)
    except KeyboardInterrupt:
        logger.info("stopped")
    leave(0)
