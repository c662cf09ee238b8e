"""ETL workers side by side on one S3 lake, and one that is killed."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from fluxforge.etl import job as job_module
from tests.support.fault_proxy import Fault

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from typing import Any

    from fluxforge import Lake
    from tests.conftest import Recorded
    from tests.s3.conftest import Place
    from tests.support.fault_proxy import FaultProxy

pytestmark = pytest.mark.s3

SEGMENTS = 50
FEWER = 10
TASKS = 4
LEASE_SECONDS = 3.0
ETL = ("etl", "coinbase", "--json")

NEVER = Fault("stall", seconds=600)  # the request is not carried out
DONE = Fault("drop_response")  # it is, and its sender does not hear of it
MOMENTS = (
    (NEVER, "PUT", "/ticker/date"),  # before rows are stored,
    (NEVER, "PUT", "/ticker/_delta_log/0"),  # before they are committed,
    (DONE, "PUT", "/ticker/_delta_log/0"),  # when one table has them,
    (DONE, "PUT", "/segments/_delta_log/0"),  # when all have,
    (NEVER, "DELETE", "raw/processing/coinbase/segment"),  # when only the segment is left
)


def ended(process: subprocess.Popen[str]) -> Any:
    out, err = process.communicate(timeout=240)
    assert (process.returncode, err) == (0, "")
    return json.loads(out)


def check_each_row_once(lake: Lake, trading: Recorded, segments: int) -> None:
    """Compare the tables with what plain Python reads from the recording."""
    rows = dict(lake.tables().select("channel", "rows").iter_rows())
    assert {name: rows[name] for name in trading.rows} == trading.rows
    assert rows["segments"] == segments
    [(read, taken)] = lake.sql(
        "SELECT sum(lines_read)::BIGINT, sum(lines_taken)::BIGINT FROM coinbase.segments"
    ).fetchall()
    assert (read, taken) == (trading.count, trading.count)
    assert lake.gaps("coinbase").is_empty()
    assert lake.storage.list_files("raw") == []
    assert lake.verify().ok


def test_two_workers_share_fifty_segments(place: Place, trading: Recorded) -> None:
    place.put_segments(trading, SEGMENTS)
    with place.started(*ETL) as one, place.started(*ETL) as other:
        reports = [ended(one), ended(other)]
    assert sum(report["segments"] for report in reports) == SEGMENTS
    assert sum(report["lines_taken"] for report in reports) == trading.count
    assert all(report["segments"] for report in reports)
    check_each_row_once(place.lake(), trading, SEGMENTS)


def test_others_complete_what_killed_workers_began(
    make_place: Callable[..., Place],
    proxy: FaultProxy,
    trading: Recorded,
    wait_until: Callable[..., None],
) -> None:
    place = make_place(f"storage.lease_seconds={LEASE_SECONDS}", "etl.watch_interval_seconds=1")
    place.put_segments(trading, FEWER)

    @contextmanager
    def began(fault: Fault, method: str, path: str) -> Iterator[None]:
        """Run a worker that is killed at a moment; it waits until the leases of others lapse."""
        proxy.heal()
        rule = proxy.inject(fault, method=method, path=path)
        with place.through(proxy).started(*ETL, "--watch"):
            wait_until(lambda: rule.struck, f"{method} {path}")
            yield

    *moments, last = MOMENTS
    for moment in moments:
        with began(*moment):
            pass
    assert place.storage().list_files("raw/processing") != []
    with ExitStack() as stack:
        with began(*last):
            other = stack.enter_context(place.started(*ETL, "--watch"))
        wait_until(lambda: not place.storage().list_files("raw"), "the rest")
        other.terminate()
        other.communicate()
    check_each_row_once(place.lake(), trading, FEWER)


def test_a_watching_worker_makes_tables_anew_that_were_removed(
    place: Place, trading: Recorded
) -> None:
    storage = place.storage()
    job = job_module.ETLJob(
        storage=storage, input_path="raw/ready/coinbase", output_path="processed/coinbase"
    )
    for _ in range(2):
        place.put_segments(trading, 1)
        report = job.process_all_segments()
        assert (report.segments, report.lines_taken) == (1, trading.count)
        check_each_row_once(place.lake(), trading, 1)
        for key in storage.list_files("processed"):
            storage.delete(key)


@pytest.mark.long
def test_a_cluster_does_again_what_a_killed_worker_had(
    place: Place,
    proxy: FaultProxy,
    trading: Recorded,
    wait_until: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Workers of Dask, each a process with credentials of its own environment."""
    distributed = pytest.importorskip("distributed")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", place.server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", place.server.secret_key)
    monkeypatch.setattr(job_module, "_GROUP_BYTES", 1)  # a task a segment
    place.put_segments(trading, TASKS)
    rule = proxy.inject(NEVER, method="PUT", path="/ticker/date", times=1)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        pids = client.run(os.getpid)
        executor = client.get_executor(pure=False, retries=3)
        running = pool.submit(place.through(proxy).lake().etl, "coinbase", executor=executor)

        def busy() -> list[str]:
            return [address for address, tasks in client.processing().items() if tasks]

        wait_until(lambda: rule.struck and len(busy()) == 1, "all but one of the workers is done")
        [victim] = busy()
        os.kill(pids[victim], signal.SIGKILL)
        report = running.result()
    assert (report.segments, report.lines_read) == (TASKS, trading.count)
    check_each_row_once(place.lake(), trading, TASKS)
