"""A capture in a process of its own, as the process that started it sees it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from fluxforge import errors
from fluxforge.errors import FluxForgeError, UsageError
from fluxforge.ingestion.report import IngestProgress
from fluxforge.lake.child import Child

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from fluxforge.ingestion.report import IngestReport
    from fluxforge.lake.reading import Reader

BEGIN_SECONDS = 20.0
"""How long :meth:`Lake.capture` waits for the first frames before it returns without them."""

_ANSWER_SECONDS = 60.0


@dataclass(frozen=True)
class Job:
    """What the process is to do; it is handed over through its standard input."""

    config: Any
    duration: float | None
    frames: int | None
    etl_seconds: float | None


class Capture:
    """A capture in the background; :meth:`fluxforge.Lake.capture` starts it.

    It ends with :meth:`stop`, at its bound, or with the process that started it; in each case what
    was received is stored, and the segments are closed. As a context manager it stops at the end.

    Attributes
    ----------
    sources
        What it captures.
    added
        Products that were added to those of the configuration.
    """

    def __init__(self, lake: Reader, sources: Sequence[str], job: Job) -> None:
        self.added: list[str] = []
        self._lake = lake
        self.sources = list(sources)
        self._changed = threading.Condition()
        self._progress = {name: IngestProgress(name) for name in sources}
        self._report: IngestReport | None = None
        self._error: FluxForgeError | None = None
        self._etl_error = ""
        self._answers: list[str] = []
        self._stopped = self._ended = False
        self._process = Child("fluxforge.lake.worker", job, "capture")
        self._reader = threading.Thread(target=self._read, name="fluxforge capture", daemon=True)
        self._reader.start()

    @property
    def stopped(self) -> bool:
        """Whether :meth:`stop` was called, or it could not begin."""
        return self._stopped

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return not self._ended

    def wait_until_begun(self) -> None:
        """Return when each source has sent a frame, or after :data:`BEGIN_SECONDS`.

        Raises
        ------
        FluxForgeError
            What kept it from capturing.
        """

        def begun() -> bool:
            return self._ended or all(one.frames for one in self._progress.values())

        with self._changed:
            self._changed.wait_for(begun, BEGIN_SECONDS)
        if self._error is not None:
            self._stopped = True
            raise self._error

    def status(self) -> IngestProgress:
        """Return how it goes: frames, rate, lag, age of each channel, gaps, spool."""
        with self._changed:
            error = str(self._error or self._etl_error or "")
            each = [
                replace(one, running=not self._ended, error=error or one.error)
                for one in self._progress.values()
            ]
        return IngestProgress.total(each)

    def tail(self, table: str, n: int = 20, symbols: Sequence[str] | None = None) -> pl.DataFrame:
        """Return the last rows of a table of what is captured; see :meth:`fluxforge.Lake.tail`."""
        source = self.sources[0] if len(self.sources) == 1 else self.sources
        return self._lake.tail(source, table, n, symbols)

    def add(self, product: str, source: str | None = None) -> None:
        """Capture a product more from now on; no frame of the others is lost by it.

        One that is captured already stays so.

        Parameters
        ----------
        source
            Whose it is, where several are captured.

        Raises
        ------
        FluxForgeError
            If the venue does not have it, or the capture has ended.
        """
        self._ask("add", source, product)
        self.added.append(product)

    def remove(self, product: str, source: str | None = None) -> None:
        """Capture a product no longer; a UsageError where it is not captured. See :meth:`add`."""
        self._ask("remove", source, product)

    def stop(self) -> IngestReport:
        """Store what was received, close the segments, and return what came of it.

        Where the capture runs the ETL, all of it is in tables then. Stopping twice is allowed.

        Raises
        ------
        FluxForgeError
            What ended the capture before; what had been flushed is safe.
        """
        self._process.say("stop")
        self._reader.join()
        self._process.wait()
        self._stopped = True
        if self._error is not None:
            raise self._error
        if self._report is None:
            raise FluxForgeError(
                f"the process of the capture ended with {self._process.returncode}: what it had "
                "flushed is safe, and lake.recover() takes it up"
            )
        return self._report

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Capture {self.status().summary()}>"

    def _repr_html_(self) -> str:
        return self.status()._repr_html_()

    def _ask(self, word: str, source: str | None, product: str) -> None:
        if source is None and len(self.sources) > 1:
            raise UsageError(f"say whose {product!r} is: source={self.sources[0]!r}")
        with self._changed:
            self._answers.clear()
            self._process.say((word, source or self.sources[0], product))
            if not self._changed.wait_for(lambda: self._answers or self._ended, _ANSWER_SECONDS):
                raise FluxForgeError("the process of the capture does not answer")
            if not self._answers:
                raise self._error or UsageError("the capture has ended")
            if self._answers[0]:
                raise UsageError(self._answers[0])

    def _read(self) -> None:
        """Take what the process says, until it ends."""
        for kind, content in self._process.hear():
            with self._changed:
                self._take(kind, content)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _take(self, kind: str, content: Any) -> None:
        match kind:
            case "progress":
                self._progress[content.source] = content
            case "report":
                self._report = content
            case "answer":
                self._answers.append(content)
            case "etl":
                self._etl_error = content
            case "error":
                name, message = content
                found = getattr(errors, name, FluxForgeError)
                self._error = found.__new__(found, message)
