"""``fluxforge run``: killed part by part, cut off from its store, and asked to stop."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psutil
import pytest

from fluxforge.simulator import local_exchange
from tests.support.fault_proxy import Fault, FaultProxy

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from fluxforge.testing.s3_server import S3Server
    from tests.operate.conftest import Run

PARTS = ("capture.coinbase", "etl", "maintenance")
KILLS = int(float(os.environ.get("FLUXFORGE_LONG", "1")))

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM for others")


def kill(run: Run, process: subprocess.Popen[bytes], part: str, kills: int) -> None:
    """Kill a part, and wait until it is back and rows come again."""
    lines, up = 'etl_lines_total{outcome="taken"}', f'part_up{{part="{part}"}}'
    before = run.wait_for(lambda now: now.get(up) == 1)
    run.child(process, part).kill()
    run.wait_for(lambda now: now.get(f'part_restarts_total{{part="{part}"}}') == kills)
    run.wait_for(lambda now: now.get(lines, 0) > before[lines])


@pytest.mark.long
def test_each_part_that_is_killed_is_started_again(make_run: Callable[..., Run]) -> None:
    with local_exchange("coinbase", seed=5, rate=300) as exchange:
        run = make_run(exchange.url)
        with run.going() as process:
            for kills in range(1, KILLS + 1):
                for part in PARTS:
                    kill(run, process, part, kills)
    assert run.check_accounts() > 100
    ended = [line["message"] for line in run.log() if "ended with exit code -9" in line["message"]]
    assert sorted(line.split()[0] for line in ended) == sorted(PARTS * KILLS)
    assert {line["part"] for line in run.log()} == {"run", *PARTS}


@pytest.mark.long
@pytest.mark.s3
def test_a_store_that_is_away_costs_nothing(
    make_run: Callable[..., Run], s3_server: S3Server, request: pytest.FixtureRequest
) -> None:
    spool, lag = 'spool_bytes{source="coinbase"}', 'capture_lag_seconds{source="coinbase"}'
    with (
        local_exchange("coinbase", seed=6, rate=200) as exchange,
        FaultProxy(s3_server.host, s3_server.port) as proxy,
    ):
        run = make_run(
            exchange.url,
            "storage.backend=s3",
            f"storage.base_dir={s3_server.bucket}/{request.node.name}",
            f"storage.s3.endpoint_url={proxy.url}",
            f"storage.s3.aws_access_key_id={s3_server.access_key}",
            f"storage.s3.aws_secret_access_key={s3_server.secret_key}",
            "storage.lease_seconds=2",
            "ingestion.spool_max_mb=1",
            "run.maintenance_interval_seconds=3600",
        )
        away_at_first = proxy.inject(Fault("refuse"))
        with run.going():
            run.wait_for(lambda now: now.get("state_failures_total", 0) > 0)
            assert away_at_first.struck > 0
            proxy.heal()
            run.wait_for(lambda now: now.get('etl_lines_total{outcome="taken"}', 0) > 0)
            rule = proxy.inject(Fault("refuse"))
            before = run.wait_for(lambda now: rule.struck > 3)
            frames = 'frames_total{source="coinbase"}'
            away = run.wait_for(lambda now: now[frames] > before[frames] + 400)
            assert away["state_age_seconds"] > 0
            assert 'channel_age_seconds{channel="ticker",source="coinbase"}' in away
            full = run.wait_for(lambda now: now[spool] > 400_000 and now[lag] > 3)
            assert full[spool] <= 1_000_000
            proxy.heal()
            taken = away['etl_lines_total{outcome="taken"}']
            run.wait_for(lambda now: now['etl_lines_total{outcome="taken"}'] > taken + 200)
            run.wait_for(lambda now: now[spool] < 400_000 and now[lag] < 3)
        assert run.check_accounts() > 400


def test_processes_stop_when_their_supervisor_is_killed(make_run: Callable[..., Run]) -> None:
    with local_exchange("coinbase", seed=7, rate=100) as exchange:
        run = make_run(exchange.url)
        with pytest.raises(psutil.NoSuchProcess), run.going() as process:
            run.wait_for(lambda now: now.get('frames_total{source="coinbase"}', 0) > 0)
            children = psutil.Process(process.pid).children()
            assert len(children) == len(PARTS)
            process.kill()
            process.wait()
            _, alive = psutil.wait_procs(children, timeout=60)
            assert not alive
        assert run.check_accounts() > 0


def test_check_says_what_it_would_do_and_does_nothing(make_run: Callable[..., Run]) -> None:
    run = make_run("ws://127.0.0.1:9", 'retention={"coinbase.ticker": 30d}')
    done = run.command("run", "--check")
    assert (done.returncode, done.stderr) == (0, "")
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert list(said) == [*PARTS, "metrics"]
    assert "ws://127.0.0.1:9" in said["capture.coinbase"]
    assert "keep 30d of coinbase.ticker" in said["maintenance"]
    assert str(run.port) in said["metrics"]
    assert run.lake().tables().height == 0
