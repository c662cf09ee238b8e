"""The processes of ``fluxforge run``: started, watched, started again, and stopped together."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from fluxforge.config import Role
from fluxforge.errors import FluxForgeError, MissingExtraError, redacted_url
from fluxforge.ingestion.connection import Endpoint
from fluxforge.lake import Lake
from fluxforge.lake.child import Child
from fluxforge.operate.health import check_health
from fluxforge.operate.part import ETL, MAINTENANCE, Task
from fluxforge.operate.retention import check_retention
from fluxforge.operate.state import CAPTURE, lake_state, publish
from fluxforge.retry import RetryPolicy
from fluxforge.signals import on_stop_signal
from fluxforge.sources import get_source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fluxforge.config import FluxForgeConfig
    from fluxforge.operate.state import LakeState

logger = logging.getLogger("fluxforge.run")

STOP_SECONDS = 4.0
"""How long processes may take to stop; what they had flushed survives their being killed."""

_BACKOFF = RetryPolicy(first=1.0, cap=60.0)
_STABLE_SECONDS = 60.0
_DISK_SECONDS = 6 * 3600.0  # how far back the forecast of a full disk looks


class Process:
    """One supervised process, and what it says."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.restarts = 0
        self.stopping = threading.Event()
        self.failed = False  # when it was to stop
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._said: dict[str, Any] = {}
        self._before: Counter[str] = Counter()

    def keep(self) -> None:
        """Run the process, again and again, until it shall stop."""
        delays = _BACKOFF.delays()
        while not self.stopping.is_set():
            started = time.monotonic()
            code = self._run()
            if self.stopping.is_set():
                self.failed = code != 0
                return
            if time.monotonic() - started > _STABLE_SECONDS:
                delays = _BACKOFF.delays()
            delay = next(delays, _BACKOFF.cap)
            logger.error(
                "%s ended with exit code %d: starting it again in %.1f s",
                self.task.name, code, delay,
            )  # fmt: skip
            self.stopping.wait(delay)
            self.restarts += not self.stopping.is_set()

    def _run(self) -> int:
        with self._lock:
            if self.stopping.is_set():
                return 0
            child = self._child = Child("fluxforge.operate.part", self.task, self.task.name)
        for self._said in child.hear():
            pass
        code = child.wait()
        self._before.update({k: v for k, v in self._said.items() if isinstance(v, int | float)})
        self._said = {}
        return code

    def ask_to_stop(self) -> None:
        """Close its standard input, by which it knows."""
        with self._lock:
            self.stopping.set()
        if self._child:
            self._child.leave()

    def kill(self) -> None:
        """End it at once, if it is still there."""
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
            held = self._said.get("buffered_bytes", 0)
            lost = f": up to {held:,} bytes it had received are on no disk" if held else ""
            logger.error("%s did not stop in time and was killed%s", self.task.name, lost)

    def state(self) -> dict[str, Any]:
        """Return its totals over all its lives, and whether it is up."""
        totals = Counter(self._before)
        totals.update({k: v for k, v in self._said.items() if isinstance(v, int | float)})
        now = {name: self._said.get(name, 0) for name in _GAUGES if name in totals}
        child = self._child
        up = child is not None and child.poll() is None
        pid = child.pid if child is not None and up else None
        ages = self._said.get("ages", {})
        return {**totals, **now, "ages": ages, "up": up, "restarts": self.restarts, "pid": pid}


_GAUGES = ("connected", "running", "rate", "buffered_bytes", "spool", "lag", "problems")
"""What a process says of this moment, and not of all time."""


class Supervisor:
    """All processes of a run: a capture for each source, the ETL and the maintenance.

    Parameters
    ----------
    config
        What to run.
    log_as_json
        Whether all processes log so.
    """

    def __init__(self, config: FluxForgeConfig, *, log_as_json: bool = False) -> None:
        self._lake = Lake(config=config)
        names = [*(f"{CAPTURE}{source}" for source in self._lake.sources), ETL, MAINTENANCE]
        self.processes = [Process(Task(name, config, log_as_json)) for name in names]
        self.lake_state: LakeState | None = None
        self.failures = 0
        self._stop = threading.Event()
        self._disk: deque[tuple[float, int]] = deque()

    def run(self) -> bool:
        """Run everything until a signal to stop, then stop everything within five seconds.

        :func:`fluxforge.operate.metrics.serve` shows its numbers meanwhile. Return whether every
        capture could write what it had received.
        """
        with on_stop_signal(self._stop.set):
            keepers = [threading.Thread(target=one.keep, daemon=True) for one in self.processes]
            for keeper in keepers:
                keeper.start()
            look = threading.Thread(target=self._look, daemon=True)
            look.start()
            while not self._stop.wait(0.5):
                pass  # in steps: on Windows a signal does not end a wait
            self._end(keepers)
            look.join(0.5)
            publish(self._lake, None, [])
        return not any(one.failed for one in self.processes if one.task.name.startswith(CAPTURE))

    def _end(self, keepers: list[threading.Thread]) -> None:
        logger.info("stopping")
        for process in self.processes:
            process.ask_to_stop()
        until = time.monotonic() + STOP_SECONDS
        for keeper in keepers:
            keeper.join(max(0.0, until - time.monotonic()))
        for process in self.processes:
            process.kill()
        for keeper in keepers:
            keeper.join(1.0)

    def parts(self) -> dict[str, dict[str, Any]]:
        """Return how each process is, by name."""
        return {process.task.name: process.state() for process in self.processes}

    def _look(self) -> None:
        """Look at the lake again and again, for metrics and warnings."""
        warned: set[str] = set()
        publish(self._lake, self.parts(), [])
        while not self._stop.is_set():
            try:
                state = lake_state(self._lake)
                self._disk.append((state.at.timestamp(), state.disk_free_bytes))
                while self._disk[-1][0] - self._disk[0][0] > _DISK_SECONDS:
                    self._disk.popleft()
                self.lake_state = state
                problems = check_health(self._lake.config, state).problems
                for one in problems:
                    if one.limit + one.subject not in warned:
                        logger.warning("%s: %s (%s)", one.subject, one.message, one.limit)
                warned = {one.limit + one.subject for one in problems}
            except FluxForgeError as exc:
                self.failures += 1
                logger.warning("the lake cannot be looked at: %s", exc)
            except Exception:  # the processes need this one
                self.failures += 1
                logger.exception("the lake cannot be looked at")
            self._publish_until(time.monotonic() + self._lake.config.run.status_interval_seconds)

    def _publish_until(self, end: float) -> None:
        """Publish how the processes are, and again as soon as one has ended or begun."""
        told = None
        while not self._stop.is_set() and (left := end - time.monotonic()) > 0:
            parts = self.parts()
            if told != (told := [(part["pid"], part["restarts"]) for part in parts.values()]):
                publish(self._lake, parts, list(self._disk)[:1] + list(self._disk)[-1:])
            self._stop.wait(min(1.0, left))


def describe(config: FluxForgeConfig) -> Iterator[str]:
    """Say what a run would do, one line for each part, and try out that it can begin.

    Raises
    ------
    FluxForgeError
        If a part could not begin: a source is unknown, a storage cannot be written to, a table to
        keep for so long is none, or there is no ``prometheus-client``.
    """
    lake, run = Lake(config=config), config.run
    if run.metrics_port and find_spec("prometheus_client") is None:
        raise MissingExtraError("run.metrics_port", "prometheus-client")
    for name in lake.sources:
        wanted = config.ingestion.sources[name]
        venue = get_source(name)
        sockets = len(venue.plan(wanted.products, wanted.channels))
        url = Endpoint(venue, wanted).url  # a wrong one is refused
        store = lake.segment_store(name)
        store.prepare()
        yield (
            f"{CAPTURE}{name}: {', '.join(wanted.channels)} of {', '.join(wanted.products)} from "
            f"{redacted_url(url)} over {sockets} socket{'s' * (sockets > 1)} into {store.folder}"
        )
    read, written = lake.storage_for(Role.ETL_INPUT), lake.storage_for(Role.ETL_OUTPUT)
    written.mkdir(lake.layout_for(Role.ETL_OUTPUT).processed)
    yield (
        f"{ETL}: segments in {read.get_full_path()} into tables in {written.get_full_path()}, "
        f"every {config.etl.watch_interval_seconds:g} s"
    )
    check_retention(lake)
    kept = "".join(f", keep {limit} of {what}" for what, limit in config.retention.items())
    yield (
        f"{MAINTENANCE}: every {run.maintenance_interval_seconds:g} s optimize{kept}, vacuum what "
        f"is older than {run.keep_versions}, verify"
    )
    where = f"http://127.0.0.1:{run.metrics_port}/metrics"
    yield f"metrics: {where if run.metrics_port else 'none, run.metrics_port is 0'}"
