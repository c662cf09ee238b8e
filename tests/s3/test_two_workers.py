"""ETL workers side by side on one S3 lake, and one that is killed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.fault_proxy import Fault

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from typing import Any

    from fluxforge import Lake
    from tests.conftest import Recorded
    from tests.s3.conftest import Place
    from tests.support.fault_proxy import FaultProxy

pytestmark = pytest.mark.s3

SEGMENTS = 50
FEWER = 10
LEASE_SECONDS = 5.0
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

    def kill_one(fault: Fault, method: str, path: str) -> None:
        proxy.heal()
        rule = proxy.inject(fault, method=method, path=path)
        with place.through(proxy).started(*ETL) as mortal:
            wait_until(lambda: rule.struck, f"{method} {path}")
            mortal.kill()
            mortal.wait()

    *moments, last = MOMENTS
    for moment in moments:
        kill_one(*moment)
    assert place.storage().list_files("raw/processing") != []
    with place.started("etl", "coinbase", "--watch", "--json") as other:
        kill_one(*last)
        wait_until(lambda: not place.storage().list_files("raw"), "the rest")
        other.terminate()
        other.communicate()
    check_each_row_once(place.lake(), trading, FEWER)
