"""The process of a background capture.

Commands come through its standard input; when that ends, whoever started it has died, and it stops.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fluxforge.errors import FluxForgeError, reason_of
from fluxforge.ingestion.orchestrators import IngestionPipeline
from fluxforge.ingestion.report import IngestReport
from fluxforge.lake.child import Parent
from fluxforge.lake.lake import Lake
from fluxforge.signals import leave

if TYPE_CHECKING:
    from fluxforge.lake.background import Job


class Worker:
    """Captures, and commits to tables now and then."""

    def __init__(self, parent: Parent) -> None:
        self._parent = parent
        self._job: Job = parent.job
        self._left_alone = False
        self._ended = threading.Event()
        self._pipeline: IngestionPipeline
        self._loop: asyncio.AbstractEventLoop

    def run(self) -> None:
        """Do the job, and say what came of it."""
        etl = threading.Thread(target=self._run_etl)
        etl.start()
        try:
            reports = asyncio.run(self._capture())
            self._ended.set()
            etl.join()
            self._say("report", IngestReport.total(reports))
        except FluxForgeError as exc:
            self._say("error", (type(exc).__name__, str(exc)))
        except BaseException as exc:
            self._say("error", ("FluxForgeError", reason_of(exc)))
            raise
        finally:
            self._ended.set()
            etl.join()

    async def _capture(self) -> tuple[IngestReport, ...]:
        job = self._job
        self._pipeline = pipeline = IngestionPipeline(
            job.config,
            duration=job.duration,
            frames=job.frames,
            on_progress=lambda progress: self._say("progress", progress),
        )
        self._loop = asyncio.get_running_loop()
        self._parent.listen(self._obey, self._leave)
        await pipeline.start()
        await pipeline.wait_for_shutdown()
        return pipeline.reports

    def _obey(self, command: Any) -> None:
        if command == "stop":
            self._stop()
            return
        word, source, product = command
        change = self._pipeline.add if word == "add" else self._pipeline.remove
        try:
            change(source, product)
            self._say("answer", "")
        except Exception as exc:
            self._say("answer", str(exc))

    def _leave(self) -> None:
        self._left_alone = True
        self._stop()

    def _stop(self) -> None:
        with suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(self._pipeline.request_stop)

    def _run_etl(self) -> None:
        """Run the ETL every so often, and once more at the end, while somebody waits for it."""
        seconds = self._job.etl_seconds
        if seconds is None:
            return
        lake = Lake(config=self._job.config)
        ended = False
        while not ended:
            ended = self._ended.wait(seconds)
            if ended and self._left_alone:
                return
            try:
                lake.etl()
                self._say("etl", "")
            except FluxForgeError as exc:
                self._say("etl", str(exc))

    def _say(self, kind: str, content: object) -> None:
        self._parent.say((kind, content))


def main() -> None:
    """Take the job from standard input, and do it."""
    Worker(Parent()).run()
    leave(0)
