"""The ETL of several sources: once, or again and again until it is told to stop."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from fluxforge.errors import FluxForgeError
from fluxforge.etl.report import EtlReport, SegmentsFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fluxforge.etl.job import ETLJob

logger = logging.getLogger(__name__)


def process_sources(jobs: Sequence[ETLJob]) -> EtlReport:
    """Run each job once; what fails in one source does not keep the others waiting."""
    reports: list[EtlReport] = []
    failures: dict[str, Exception] = {}
    errors: list[FluxForgeError] = []
    for job in jobs:
        try:
            reports.append(job.process_all_segments())
        except SegmentsFailedError as exc:
            reports.append(exc.report)
            failures |= exc.failures
        except FluxForgeError as exc:
            if errors:  # the first is raised
                logger.error("%s: %s", job.source, exc)
            errors.append(exc)
    total = EtlReport.total(reports)
    if errors:
        raise errors[0]
    if failures:
        raise SegmentsFailedError(failures, total) from next(iter(failures.values()))
    return total


def watch_segments(
    jobs: Sequence[ETLJob],
    interval_seconds: float,
    *,
    stop: threading.Event | None = None,
    on_report: Callable[[EtlReport], None] | None = None,
) -> EtlReport:
    """Run jobs again and again, until `stop` is set or the process is interrupted.

    A segment that fails, or a storage that does not answer, is tried again in the next round.

    Parameters
    ----------
    jobs
        One for each source.
    interval_seconds
        The pause between rounds.
    stop
        Set it, from another thread, to end after the segment in work.
    on_report
        Called after each round that did something.

    Returns
    -------
    EtlReport
        The sum of all rounds.
    """
    stop = stop or threading.Event()
    total: list[EtlReport] = []
    try:
        while not stop.is_set():
            for job in jobs:
                report = None if stop.is_set() else _round(job, stop)
                if report is not None and (report.segments or report.repeated):
                    total = [EtlReport.total([*total, report])]
                    if on_report is not None:
                        on_report(report)
            stop.wait(interval_seconds)
    except KeyboardInterrupt:
        logger.info("interrupted: what is not committed stays for the next run")
    return EtlReport.total(total)


def _round(job: ETLJob, stop: threading.Event) -> EtlReport | None:
    try:
        return job.process_all_segments(stop=stop, back_off=True)
    except SegmentsFailedError as exc:
        logger.error("%s", exc)
        return exc.report
    except FluxForgeError as exc:
        logger.error("%s: %s: trying again", job.source, exc)
        return None
