"""The state of a run as Prometheus text, on a port of this machine alone."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fluxforge.errors import ExchangeError
from fluxforge.operate.state import CAPTURE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from fluxforge.operate.state import LakeState
    from fluxforge.operate.supervisor import Supervisor


METRICS = {
    # name: type, labels, what it is
    "part_up": ("gauge", "part", "Whether a process of the run is up"),
    "part_restarts": ("counter", "part", "How often a process was started again"),
    "log_messages": ("counter", "part level", "Warnings and errors in the log"),
    "frames": ("counter", "source", "Frames received"),
    "bytes": ("counter", "source", "Bytes received"),
    "connections": ("counter", "source", "Sockets opened"),
    "connected": ("gauge", "source", "Sockets open now"),
    "buffered_bytes": ("gauge", "source", "Received and not yet durable"),
    "missing_frames": (
        "gauge",
        "source",
        "Frames or trades that the venue numbered and no table holds",
    ),
    "spool_bytes": ("gauge", "source", "Waiting on this disk for the object store"),
    "capture_lag_seconds": ("gauge", "source", "How long the oldest frame waits to be durable"),
    "channel_age_seconds": ("gauge", "source channel", "Since the last frame of a channel"),
    "etl_segments": ("counter", "", "Segments committed"),
    "etl_seconds": ("counter", "", "Time from taking up segments to their last commit"),
    "etl_lines": ("counter", "outcome", "Lines of segments, taken or quarantined"),
    "retries": ("counter", "part", "Requests and commits that were tried again"),
    "segments": ("gauge", "source state", "Segments in a state"),
    "segments_bytes": ("gauge", "source state", "Their bytes"),
    "segments_oldest_seconds": ("gauge", "source state", "Since the oldest came there"),
    "segments_failing": (
        "gauge",
        "source",
        "Segments that failed and are tried again by themselves",
    ),
    "segments_set_aside": ("gauge", "source", "Segments that wait for `fluxforge etl --retry`"),
    "table_rows": ("gauge", "source table", "Rows"),
    "table_files": ("gauge", "source table", "Files"),
    "table_bytes": ("gauge", "source table", "Bytes of files"),
    "age_seconds": ("gauge", "source table", "Since the newest row was captured"),
    "lag_seconds": ("gauge", "source table", "From the venue's time to that of capture"),
    "disk_free_bytes": ("gauge", "", "Free on the disk that captures are written to"),
    "disk_hours": ("gauge", "", "Until that disk is full, at the rate of now"),
    "maintenance_problems": ("gauge", "", "What the last verify found"),
    "state_age_seconds": ("gauge", "", "Since the lake was last looked at"),
    "state_failures": ("counter", "", "How often the lake could not be looked at"),
}
"""What is exported, each with the prefix ``fluxforge_``; counters end with ``_total``."""

Sample = tuple[str, tuple[str, ...], float | None]


@contextmanager
def serve(supervisor: Supervisor, port: int) -> Iterator[None]:
    """Serve the metrics while the block runs; port 0: do not.

    Raises
    ------
    ExchangeError
        If the port is taken.
    """
    if not port:
        yield
        return
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    registry.register(_Collector(supervisor))
    try:
        server, thread = start_http_server(port, addr="127.0.0.1", registry=registry)
    except OSError as exc:
        raise ExchangeError(f"port {port} is taken: change run.metrics_port") from exc
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Collector:
    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def describe(self) -> list[Any]:
        """Return nothing: what there is shows when it is asked for."""
        return []

    def collect(self) -> Iterable[Any]:
        """Return all metrics as they are now."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        families: dict[str, Any] = {}
        for name, labels, value in samples(self._supervisor):
            if value is None:
                continue
            kind, keys, help_text = METRICS[name]
            if name not in families:
                family = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
                families[name] = family(f"fluxforge_{name}", help_text, labels=keys.split())
            families[name].add_metric(labels, value)
        return families.values()


def samples(supervisor: Supervisor) -> Iterator[Sample]:
    """Yield each metric's name, labels and value."""
    for name, part in supervisor.parts().items():
        yield from _of_part(name, part)
    yield "state_failures", (), supervisor.failures
    if supervisor.lake_state is not None:
        yield from _of_lake(supervisor.lake_state)


def _of_part(name: str, part: Mapping[str, Any]) -> Iterator[Sample]:
    yield "part_up", (name,), part["up"]
    yield "part_restarts", (name,), part["restarts"]
    yield "retries", (name,), part.get("retries", 0)
    for level in ("warnings", "errors"):
        yield "log_messages", (name, level), part.get(level, 0)
    if name.startswith(CAPTURE):
        source = name.removeprefix(CAPTURE)
        for key in ("frames", "bytes", "connections", "connected", "buffered_bytes"):
            yield key, (source,), part.get(key, 0)
        yield "spool_bytes", (source,), part.get("spool", 0)
        yield "capture_lag_seconds", (source,), part.get("lag", 0)
        for channel, age in part.get("ages", {}).items():
            yield "channel_age_seconds", (source, channel), age
    elif name == "etl":
        yield "etl_segments", (), part.get("segments", 0)
        yield "etl_seconds", (), part.get("seconds", 0)
        for outcome in ("taken", "quarantined"):
            yield "etl_lines", (outcome,), part.get(f"lines_{outcome}", 0)
    else:
        yield "maintenance_problems", (), part.get("problems", 0)


def _of_lake(state: LakeState) -> Iterator[Sample]:
    from datetime import UTC, datetime

    since = (datetime.now(UTC) - state.at).total_seconds()
    yield "state_age_seconds", (), since
    yield "disk_free_bytes", (), state.disk_free_bytes
    yield "disk_hours", (), state.disk_hours
    for source, failing in state.failing.items():
        aside = sum(one.aside for one in failing)
        yield "segments_set_aside", (source,), aside
        yield "segments_failing", (source,), len(failing) - aside
    for source, missing in state.missing.items():
        yield "missing_frames", (source,), missing
    for one in state.segments:
        labels = one.source, one.state
        yield "segments", labels, one.files
        yield "segments_bytes", labels, one.bytes
        yield "segments_oldest_seconds", labels, one.oldest_seconds and one.oldest_seconds + since
    for table in state.tables:
        labels = table.source, table.table
        for key in ("rows", "files", "bytes"):
            yield f"table_{key}", labels, getattr(table, key)
        yield "age_seconds", labels, table.age_seconds and table.age_seconds + since
        yield "lag_seconds", labels, table.lag_seconds
