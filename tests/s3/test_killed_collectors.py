"""Collectors that are killed while they write to S3, beside one that lives on."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter, defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from fluxforge.errors import FileMissingError
from fluxforge.segments import Envelope
from tests.support.fault_proxy import Fault

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from typing import Any

    from fluxforge.storage.s3 import S3Storage
    from tests.conftest import Recorded
    from tests.s3.conftest import Place
    from tests.support.fault_proxy import FaultProxy

pytestmark = [
    pytest.mark.long,
    pytest.mark.s3,
    pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for others"),
]

LEASE_SECONDS = 4.0
RATE = 100
QUICK = (
    f"storage.lease_seconds={LEASE_SECONDS}",
    "ingestion.flush_interval_seconds=0.1",
    "ingestion.mirror_interval_seconds=0.2",
    "ingestion.sources.coinbase.products=[BTC-USD]",
    "ingestion.sources.coinbase.channels=[ticker, market_trades]",
    "etl.delete_after_processing=false",
)
ACTIVE, READY = "raw/active/coinbase", "raw/ready/coinbase"

NEVER = Fault("stall", seconds=600)  # the request is not carried out
DONE = Fault("drop_response")  # it is, and its sender does not hear of it
LATE = Fault("late", seconds=0.5)  # it is, when its sender is dead
TOO_LATE = Fault("late", seconds=LEASE_SECONDS + 4)  # it is, when others have taken over

# Six moments; the last kill is in an outage. FLUXFORGE_LONG goes through all nine, so often.
LONG = int(float(os.environ.get("FLUXFORGE_LONG", "0")))
OFTEN: tuple[tuple[Fault, str, str], ...] = (
    (NEVER, "PUT", "ndjson/head"),  # a segment begins
    (LATE, "PUT", "ndjson/0"),  # any part of it
    (TOO_LATE, "PUT", "ndjson/0"),
    (NEVER, "PUT", "ndjson/end"),  # it ends,
    (DONE, "PUT", f"/{READY}/"),  # is stored as a whole,
    (NEVER, "DELETE", "ndjson/0"),  # and its parts are removed
)
SELDOM: tuple[tuple[Fault, str, str], ...] = (
    (DONE, "PUT", "ndjson/000000000000000"),  # its first part
    (NEVER, "PUT", f"/{READY}/"),
    (DONE, "DELETE", "ndjson/head"),
)
MOMENTS = LONG * (OFTEN + SELDOM) or OFTEN


class Watched:
    """What lies on S3, looked at beside the collectors."""

    def __init__(self, storage: S3Storage) -> None:
        self._storage = storage

    def began(self, pid: int) -> bool:
        """Whether a process has a segment under way."""
        for file in self._storage.list_entries(ACTIVE):
            with suppress(FileMissingError):
                if file.name == "head":
                    head = json.loads(self._storage.read_bytes(file.key))
                    if head["writer"].endswith(f"/{pid}"):
                        return True
        return False

    def heads(self) -> list[str]:
        """The segments that are not settled."""
        return [file.key for file in self._storage.list_entries(ACTIVE) if file.name == "head"]

    def ready(self) -> list[bytes]:
        """The lines in ``ready/``; the ETL takes segments of the same content once."""
        contents = {self._storage.read_bytes(key) for key in self._storage.list_files(READY)}
        return [line for content in contents for line in content.splitlines(keepends=True)]


def spooled(folder: Path) -> list[bytes]:
    """The lines that lie on the local disk: all that was flushed and is not settled."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
    lines = [line for path in files for line in path.read_bytes().splitlines(keepends=True)]
    return [line for line in lines if line.startswith(b'{"capture_ns"') and line.endswith(b"}\n")]


def numbers(lines: Iterable[bytes]) -> dict[str, list[int]]:
    """The venue's numbers of frames, sorted, by connection."""
    found: dict[str, list[int]] = defaultdict(list)
    for line in lines:
        envelope = Envelope.parse(line)
        found[envelope.conn].append(json.loads(envelope.frame)["sequence_num"])
    return {conn: sorted(of_conn) for conn, of_conn in found.items()}


def stopped(process: subprocess.Popen[str]) -> Any:
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "another collector" not in err  # nobody took its segments for a dead one's
    return json.loads(out)


def test_kills_beside_a_living_collector(
    place: Place,
    proxy: FaultProxy,
    market: Callable[..., Any],
    wait_until: Callable[..., None],
    recorded: Callable[[Path], Recorded],
) -> None:
    watched = Watched(place.storage())
    ingest = ("ingest", "coinbase", "--json")
    flushed: set[bytes] = set()
    with market(rate=RATE) as served:
        quick = place.having(*QUICK).watching(served.url)
        living_place = quick.having("ingestion.segment_max_seconds=20")
        mortal_place = quick.having("ingestion.segment_max_seconds=1.5").through(proxy)
        with living_place.started(*ingest) as living:
            for fault, method, path in MOMENTS:
                proxy.heal()
                with mortal_place.started(*ingest) as mortal:
                    rule = proxy.inject(fault, method=method, path=path)
                    wait_until(lambda r=rule: r.struck, f"{method} {path}")  # type: ignore[misc]
                    mortal.kill()
                    mortal.wait()
                    flushed.update(spooled(place.folder / "spool"))
                assert living.poll() is None
                wait_until(lambda: watched.began(living.pid), "the living one's segment")

            # The last one in an outage: what it had flushed lies on this machine's disk.
            proxy.heal()
            with mortal_place.started(*ingest) as mortal:
                wait_until(lambda: watched.began(mortal.pid), "a first flush")
                proxy.inject(Fault("refuse"))
                wait_until(lambda: len(spooled(place.folder / "spool")) > RATE, "the spool's use")
                mortal.kill()
                mortal.wait()
                flushed.update(spooled(place.folder / "spool"))
            proxy.heal()

            time.sleep(LEASE_SECONDS + 1)
            last = mortal_place.json("ingest", "coinbase", "--frames", "100")
            assert last["frames"] == 100
            report = stopped(living)

    wait_until(lambda: not watched.heads(), "the end of every segment")
    assert spooled(place.folder / "spool") == []
    kept = watched.ready()
    assert max(Counter(kept).values()) == 1
    assert flushed - set(kept) == set()
    runs = numbers(kept)
    assert all(run == list(range(len(run))) for run in runs.values())
    assert report["gaps"] == 0
    assert report["frames"] in [len(run) for run in runs.values()]
    assert len(runs) > 2  # the living one's, the last one's, and what killed ones had received

    everything = place.folder / "everything.ndjson"
    everything.write_bytes(b"".join(kept))
    lake = living_place.lake()
    assert lake.etl("coinbase").lines_taken == len(kept)
    rows = dict(lake.tables().select("channel", "rows").iter_rows())
    assert {name: rows[name] for name in recorded(everything).rows} == recorded(everything).rows
    found = lake.sql(
        "SELECT conn, min(seq), max(last_seq), sum(frames)::BIGINT "
        "FROM coinbase.sequences GROUP BY conn"
    ).fetchall()
    assert {conn: (0, len(run) - 1, len(run)) for conn, run in runs.items()} == {
        conn: (first, last_seq, frames) for conn, first, last_seq, frames in found
    }
    assert lake.gaps("coinbase").is_empty()
    assert lake.verify().ok
