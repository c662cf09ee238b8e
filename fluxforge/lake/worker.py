"""The process of a background capture: ``python -m fluxforge.lake.worker``, and no other way.

Its job comes through standard input, secrets included, then commands; when that ends, whoever
started it has died, and it stops. What it has to tell goes to standard output.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

from fluxforge.errors import FluxForgeError, reason_of
from fluxforge.ingestion.orchestrators import IngestionPipeline
from fluxforge.ingestion.report import IngestReport
from fluxforge.lake.lake import Lake

if TYPE_CHECKING:
    from fluxforge.lake.background import Job

_PARENT_SECONDS = 1.0


class Worker:
    """Captures, and commits to tables now and then."""

    def __init__(self, job: Job, source: BinaryIO, out: BinaryIO) -> None:
        self._job = job
        self._source = source
        self._out = out
        self._out_lock = threading.Lock()
        self._left_alone = False
        self._ended = threading.Event()
        self._pipeline: IngestionPipeline

    def run(self) -> None:
        """Do the job, and say what came of it."""
        etl = threading.Thread(target=self._run_etl)
        try:
            etl.start()
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

    async def _capture(self) -> tuple[IngestReport, ...]:
        job = self._job
        self._pipeline = pipeline = IngestionPipeline(
            job.config,
            duration=job.duration,
            frames=job.frames,
            on_progress=lambda progress: self._say("progress", progress),
        )
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._listen, args=(loop,), daemon=True).start()
        watching = asyncio.create_task(self._watch_parent())
        await pipeline.start()
        await pipeline.wait_for_shutdown()
        watching.cancel()
        return pipeline.reports

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Carry out commands, until there is nobody to give any."""
        while True:
            try:
                command = pickle.load(self._source)  # noqa: S301 -- from its own parent
            except (EOFError, OSError, pickle.UnpicklingError):
                self._left_alone = True
                command = "stop"
            if command == "stop":
                asyncio.run_coroutine_threadsafe(self._pipeline.stop(), loop)
                return
            word, source, product = command
            change = self._pipeline.add if word == "add" else self._pipeline.remove
            try:
                change(source, product)
                self._say("answer", "")
            except FluxForgeError as exc:
                self._say("answer", str(exc))

    async def _watch_parent(self) -> None:
        """Stop when the parent has died, though another of its children holds our input open."""
        parent = os.getppid()
        while os.getppid() == parent:
            await asyncio.sleep(_PARENT_SECONDS)
        self._left_alone = True
        await self._pipeline.stop()

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
        with self._out_lock:
            try:
                pickle.dump((kind, content), self._out)
                self._out.flush()
            except OSError:
                self._left_alone = True


def main() -> None:
    """Take the job from standard input, and do it."""
    # Whatever prints must not come between the messages.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    source = os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    job: Job = pickle.load(source)  # noqa: S301 -- from its own parent
    if job.etl_seconds is not None:
        settings = job.config.ingestion
        shorter = min(settings.segment_max_seconds, job.etl_seconds)
        ingestion = replace(settings, segment_max_seconds=shorter)
        job = replace(job, config=replace(job.config, ingestion=ingestion))
    Worker(job, source, out).run()


if __name__ == "__main__":
    main()
