"""``fluxforge run``: killed part by part, cut off from its store, and asked to stop."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from fluxforge.simulator import local_exchange
from fluxforge.testing.s3_server import s3_server
from tests.operate.conftest import set_one_aside

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from tests.operate.conftest import Run

PARTS = ("capture.coinbase", "etl", "maintenance")
KILLS = int(float(os.environ.get("FLUXFORGE_LONG", "1")))
"""Of each part; the S3 server is stopped for six seconds each, and the run lasts a minute each."""

FRAMES, TAKEN = 'frames_total{source="coinbase"}', 'etl_lines_total{outcome="taken"}'
SPOOL, LAG = 'spool_bytes{source="coinbase"}', 'capture_lag_seconds{source="coinbase"}'
ASIDE = 'segments_set_aside{source="coinbase"}'

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM for others")


def restarts(run: Run, part: str) -> int | None:
    """Return how often ``fluxforge status`` says that a part was started again."""
    parts = json.loads(run.command("status", "--json").stdout)["parts"]
    again: int | None = parts.get(part, {}).get("restarts")
    return again


def kill_each(run: Run, process: subprocess.Popen[bytes]) -> None:
    """Kill each part in turn, and wait until all are back and rows come again."""
    for part in PARTS:
        restarts, up = (f'part_{what}{{part="{part}"}}' for what in ("restarts_total", "up"))
        child, count = run.child(process, part), run.metrics()[restarts]
        child.kill()
        child.wait()
        back = run.wait_for(lambda now: now[up] == 1 and now[restarts] > count)  # noqa: B023
        assert back[restarts] == count + 1
    before = run.metrics()
    run.wait_for(lambda now: now[TAKEN] > before[TAKEN])


@pytest.mark.long
@pytest.mark.s3
def test_whatever_happens_shows_and_costs_nothing(
    make_run: Callable[..., Run],
) -> None:
    with (
        local_exchange("coinbase", seed=6, rate=120, faults="skip@100:3") as exchange,
        s3_server() as server,
    ):
        run = make_run(
            exchange.url,
            "storage.backend=s3",
            f"storage.base_dir={server.bucket}/lake",
            *(f"storage.s3.{name}={value}" for name, value in server.settings().items()),
            "storage.lease_seconds=5",
            "ingestion.spool_max_mb=0.6",
            "ingestion.segment_max_seconds=3",
            # In a long run often, so that what it keeps from round to round would show.
            f"run.maintenance_interval_seconds={60 if KILLS == 1 else 15}",
        )
        set_one_aside(run.lake())
        began = time.monotonic()
        server.kill()
        with run.going() as process:
            starting = run.wait_for(lambda now: now.get('part_up{part="etl"}') == 1)
            assert starting[FRAMES] == starting[TAKEN] == 0
            assert "state_age_seconds" not in starting
            server.restart()
            run.wait_for(lambda now: now[TAKEN] > 0 and now.get(ASIDE) == 1)
            run.wait_for(lambda now: now['missing_frames{source="coinbase"}'] >= 3)
            problems = run.unhealthy("health.gaps=2")
            assert problems.keys() == {"health.gaps=2", "health.set_aside=0"}
            assert "fluxforge etl --retry" in problems["health.set_aside=0"]
            run.lake()._jobs(["coinbase"])[0].take_back()  # what --retry does before its ETL
            run.wait_for(lambda now: now[ASIDE] == 0)
            for _ in range(KILLS):
                kill_each(run, process)
            before, used = run.metrics(), run.memory(process)

            until = time.monotonic() + 6 * KILLS
            server.kill()
            away = run.wait_for(lambda now: now[FRAMES] > before[FRAMES] + 400)
            assert away["state_age_seconds"] > 0
            assert 'channel_age_seconds{channel="ticker",source="coinbase"}' in away
            assert run.unhealthy().keys() == {"storage"}
            full = run.wait_for(
                lambda now: (
                    now[LAG] > 3
                    and any("spool" in one and "is full" in one for one in run.messages())
                )
            )
            assert 0 < full[SPOOL] <= 600_000
            run.wait_for(
                lambda now: (
                    now["state_failures_total"] > before["state_failures_total"]
                    and time.monotonic() > until
                )
            )
            server.restart()
            run.wait_for(lambda now: now[TAKEN] > away[TAKEN] + 200)
            run.wait_for(lambda now: now[SPOOL] < full[SPOOL] and now[LAG] < 3)
            until, seen = max(began + 60 * (KILLS - 1), until + 20 * (KILLS - 1)), [used]
            while time.monotonic() < until:
                seen.append(run.memory(process))
                time.sleep(1)
            last, now = run.metrics(), run.memory(process)
            assert max(now.values()) < 256 + 350  # the ETL's limit, and the libraries beside it
            assert now["run"] < used["run"] + 50
            half = len(seen) // 2
            for part in PARTS if half > 60 else ():
                before, after = (max(one[part] for one in s) for s in (seen[:half], seen[half:]))
                assert after < before + 60, (part, before, after)
        assert run.check_accounts() > 400
    for part in PARTS:
        ended = [line for line in run.messages() if line.startswith(f"{part} ended with exit code")]
        assert len(ended) == last[f'part_restarts_total{{part="{part}"}}']
        assert sum("code -9:" in line for line in ended) == KILLS
    assert {line["part"] for line in run.log()} == {"run", *PARTS}


@pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="limits of others: Linux only")
def test_a_full_disk_keeps_the_venue_waiting_and_a_stop_says_what_it_costs(
    make_run: Callable[..., Run],
) -> None:
    def limit(capture: psutil.Process, size: int) -> None:
        """Let no file of a process grow beyond a size: what it writes then is EFBIG."""
        capture.rlimit(psutil.RLIMIT_FSIZE, (size, psutil.RLIM_INFINITY))

    with local_exchange("coinbase", seed=8, rate=150) as exchange:
        run = make_run(exchange.url, "ingestion.segment_max_seconds=600")
        with run.going(code=1) as process:
            run.wait_for(lambda now: now.get(FRAMES, 0) > 0)
            capture = run.child(process, PARTS[0])
            limit(capture, 400_000)
            run.wait_for(lambda now: now[LAG] > 5)
            found = run.unhealthy("health.capture_lag_seconds=0.5")
            assert "disk" in found["health.capture_lag_seconds=0.5"]
            limit(capture, psutil.RLIM_INFINITY)
            before = run.wait_for(lambda now: now[LAG] < 5)
            run.wait_for(lambda now: now[FRAMES] > before[FRAMES] + 100)
            limit(capture, 400_000)
            run.wait_for(lambda now: now[LAG] > 2)
        (told,) = [
            one
            for one in run.messages("error")
            if "could not be written" in one or "on no disk" in one
        ]
        lines = run.check_accounts()
        assert f"The {lines:,} before them are safe" in told or "was killed" in told


def test_processes_stop_when_their_supervisor_is_killed(make_run: Callable[..., Run]) -> None:
    with local_exchange("coinbase", seed=7, rate=100) as exchange:
        run = make_run(exchange.url, "run.status_interval_seconds=1000")
        with pytest.raises(psutil.NoSuchProcess), run.going() as process:
            run.wait_for(lambda now: now.get('frames_total{source="coinbase"}', 0) > 0)
            children = psutil.Process(process.pid).children()
            assert len(children) == len(PARTS)
            run.child(process, "etl").kill()
            run.wait_for(lambda _: restarts(run, "etl") == 1)  # long before the next look
            children = psutil.Process(process.pid).children()
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
    kraken = "ingestion.sources.kraken={products: [BTC/USD], channels: [book]}"
    assert (
        "wss://ws.kraken.com/v2 over 1 socket into" in run.command("run", "--check", kraken).stdout
    )
