"""A capture in a process of its own, as the process that started it sees it."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from fluxforge import errors
from fluxforge.errors import FluxForgeError, UsageError
from fluxforge.report import Report

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from fluxforge.ingestion.report import IngestProgress, IngestReport
    from fluxforge.lake.lake import Lake

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


@dataclass(frozen=True, repr=False)
class CaptureStatus(Report):
    """A background capture at one moment.

    Attributes
    ----------
    source
        The exchange, or several of them.
    running
        Whether it goes on.
    frames, bytes
        Received so far.
    rate
        Frames a second, over the last seconds.
    lag
        Seconds for which the oldest frame that is not on the disk yet has been waiting.
    ages
        Seconds since the last frame of each channel.
    gaps, missing
        Holes in what the venue sent, and frames that would fill them.
    connected, reconnects
        Sockets that are open, and how often one was opened anew.
    segment
        The segment that is being written.
    spool
        Bytes that wait on this disk for the object store.
    seconds
        Since it began.
    error
        What ended it, or what keeps it from capturing; empty where nothing does.
    sources
        Each source's own status, where there are several.
    """

    source: str
    running: bool = False
    frames: int = 0
    bytes: int = 0
    rate: float = 0.0
    lag: float = 0.0
    ages: Mapping[str, float] = field(default_factory=dict)
    gaps: int = 0
    missing: int = 0
    connected: int = 0
    reconnects: int = 0
    segment: str = ""
    spool: int = 0
    seconds: float = 0.0
    error: str = ""
    sources: tuple[CaptureStatus, ...] = ()

    @classmethod
    def of(cls, progress: IngestProgress, *, running: bool, error: str) -> Self:
        """Return what a source's progress says."""
        same = "source frames bytes rate lag ages gaps missing connected reconnects segment seconds"
        return cls(
            running=running,
            spool=progress.spooled_bytes,
            error=error or progress.error,
            **{name: getattr(progress, name) for name in same.split()},
        )

    @classmethod
    def total(cls, each: Sequence[Self], *, running: bool, error: str) -> Self:
        """Return the status of several sources together; of one, its own."""
        if len(each) == 1:
            return each[0]
        counts = "frames bytes rate gaps missing connected reconnects spool"
        return cls(
            source=", ".join(one.source for one in each),
            running=running,
            lag=max((one.lag for one in each), default=0.0),
            ages={f"{one.source} {name}": age for one in each for name, age in one.ages.items()},
            seconds=max((one.seconds for one in each), default=0.0),
            error=error or "; ".join(one.error for one in each if one.error),
            sources=tuple(each),
            **{name: sum(getattr(one, name) for one in each) for name in counts.split()},
        )

    def summary(self) -> str:
        """Say in one line how it goes."""
        words = [
            "running" if self.running else "ended",
            f"{self.frames:,} frames ({self.bytes / 1e6:,.1f} MB)",
            f"{self.rate:,.0f} a second",
            f"{self.gaps} gaps",
            f"lag {self.lag:.1f} s",
        ]
        if self.spool:
            words.append(f"{self.spool / 1e6:,.1f} MB in the spool")
        if self.error:
            words.append(self.error)
        return f"{self.source}: {', '.join(words)}"


class Capture:
    """A capture in the background; :meth:`fluxforge.Lake.capture` starts it.

    It ends with :meth:`stop`, at its bound, or with the process that started it; in each case what
    was received is stored, and the segments are closed. As a context manager it stops at the end.

    Attributes
    ----------
    added
        Products that were added to those of the configuration.
    """

    def __init__(self, lake: Lake, sources: Sequence[str], job: Job) -> None:
        self.added: list[str] = []
        self._lake = lake
        self._sources = list(sources)
        self._changed = threading.Condition()
        self._progress: dict[str, IngestProgress] = {}
        self._report: IngestReport | None = None
        self._error: FluxForgeError | None = None
        self._etl_error = ""
        self._answers: list[str] = []
        self._ended = False
        package = str(Path(errors.__file__).parent.parent)
        paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
        # An interrupt of this process, in a terminal or a notebook, is not meant for that one.
        apart: Any = (
            {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}  # type: ignore[attr-defined,unused-ignore]
            if sys.platform == "win32"
            else {"start_new_session": True}
        )
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fluxforge.lake.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            **apart,
        )
        self._input: Any = self._process.stdin
        self._say(job)
        self._reader = threading.Thread(target=self._read, name="fluxforge capture", daemon=True)
        self._reader.start()

    def wait_until_begun(self, seconds: float = BEGIN_SECONDS) -> None:
        """Return when each source has sent a frame, or after some seconds.

        Raises
        ------
        FluxForgeError
            What kept it from capturing.
        """

        def begun() -> bool:
            each = [self._progress.get(name) for name in self._sources]
            return self._ended or all(one is not None and one.frames for one in each)

        with self._changed:
            self._changed.wait_for(begun, seconds)
        if self._error is not None:
            self._lake.captures.remove(self)
            raise self._error

    def status(self) -> CaptureStatus:
        """Return how it goes: frames, rate, lag, age of each channel, gaps, spool."""
        with self._changed:
            error = str(self._error or self._etl_error or "")
            running = not self._ended
            each = [
                CaptureStatus.of(self._progress[name], running=running, error=error)
                if name in self._progress
                else CaptureStatus(name, running, error=error)
                for name in self._sources
            ]
        return CaptureStatus.total(each, running=running, error=error)

    def tail(self, table: str, n: int = 20, symbols: Sequence[str] | None = None) -> pl.DataFrame:
        """Return the last rows of a table of what is captured; see :meth:`fluxforge.Lake.tail`."""
        source = self._sources[0] if len(self._sources) == 1 else self._sources
        return self._lake.tail(source, table, n, symbols)

    def add(self, product: str, source: str | None = None) -> None:
        """Capture a product more from now on; no frame of the others is lost by it.

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
        """Capture a product no longer; see :meth:`add`."""
        self._ask("remove", source, product)

    def stop(self) -> IngestReport:
        """Store what was received, close the segments, and return what came of it.

        Where the capture runs the ETL, all of it is in tables then. Stopping twice is allowed.

        Raises
        ------
        FluxForgeError
            What ended the capture before; what had been flushed is safe.
        """
        self._say("stop")
        self._reader.join()
        self._process.wait()
        if self in self._lake.captures:
            self._lake.captures.remove(self)
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
        if source is None and len(self._sources) > 1:
            raise UsageError(f"say whose {product!r} is: source={self._sources[0]!r}")
        with self._changed:
            self._answers.clear()
            self._say((word, source or self._sources[0], product))
            if not self._changed.wait_for(lambda: self._answers or self._ended, _ANSWER_SECONDS):
                raise FluxForgeError("the process of the capture does not answer")
            if not self._answers:
                raise self._error or UsageError("the capture has ended")
            if self._answers[0]:
                raise UsageError(self._answers[0])

    def _say(self, message: object) -> None:
        with suppress(OSError):  # it has ended, and its last words say why
            pickle.dump(message, self._input)
            self._input.flush()

    def _read(self) -> None:
        """Take what the process says, until it ends."""
        try:
            while True:
                kind, content = pickle.load(self._process.stdout)  # type: ignore[arg-type]  # noqa: S301
                with self._changed:
                    self._take(kind, content)
                    self._changed.notify_all()
        except (EOFError, OSError, pickle.UnpicklingError):
            pass
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
