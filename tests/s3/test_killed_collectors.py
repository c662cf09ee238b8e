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

LEASE_SECONDS = 8.0
RATE = 100
QUICK = (
    f"storage.lease_seconds={LEASE_SECONDS}",
    "ingestion.flush_interval_seconds=0.1",
    "ingestion.sources.coinbase.products=[BTC-USD]",
    "ingestion.sources.coinbase.channels=[ticker, market_trades]",
    "etl.delete_after_processing=false",
)
ACTIVE, READY = "raw/active/coinbase", "raw/ready/coinbase"

NEVER = Fault("stall", seconds=600)  # the request is not carried out
DONE = Fault("drop_response")  # it is, and its sender does not hear of it
LATE = Fault("late", seconds=0.5)  # it is, when its sender is dead
TOO_LATE = Fault("late", seconds=LEASE_SECONDS + 6)  # it is, when others have taken over

# Nine moments; the tenth kill is in an outage. FLUXFORGE_LONG=2 goes through the nine twice.
LONG = max(1, int(float(os.environ.get("FLUXFORGE_LONG", "1"))))
MOMENTS: tuple[tuple[Fault, str, str], ...] = LONG * (
    (NEVER, "PUT", ".00000000.part"),  # a segment begins
    (DONE, "PUT", ".00000001.part"),  # the first flush
    (LATE, "PUT", ".00000004.part"),  # any other
    (TOO_LATE, "PUT", ".00000003.part"),
    (NEVER, "GET", ".00000002.part"),  # a segment is put together,
    (NEVER, "PUT", f"/{READY}/"),  # stored as a whole,
    (DONE, "PUT", f"/{READY}/"),
    (DONE, "DELETE", ".00000000.part"),  # and its parts are removed
    (NEVER, "DELETE", ".00000003.part"),
)


class Watched:
    """What lies on S3, looked at beside the collectors."""

    def __init__(self, storage: S3Storage) -> None:
        self._storage = storage

    def journals_of(self, pid: int) -> set[str]:
        """The journals that a process began."""
        heads = [file.key for file in self._storage.scan(ACTIVE) if ".00000000.part" in file.key]
        found = set()
        for key in heads:
            with suppress(FileMissingError):
                head = json.loads(self._storage.get_object(key))
                if head["writer"].endswith(f"/{pid}"):
                    found.add(head["journal"])
        return found

    def parts(self, journals: Iterable[str]) -> list[bytes]:
        """The lines in the parts of journals whose writer is dead."""
        names = tuple(f".{key.rpartition('/')[2]}." for key in journals)
        content = b"".join(
            self._storage.get_object(file.key)
            for file in self._storage.scan(ACTIVE)
            if file.name.startswith(names) and file.name.endswith(".part")
            if not file.name.endswith(".00000000.part")
        )
        return content.splitlines(keepends=True)

    def ready(self) -> list[bytes]:
        """The lines in ``ready/``; the ETL takes segments of the same content once."""
        contents = {self._storage.read_bytes(key) for key in self._storage.list_files(READY)}
        return [line for content in contents for line in content.splitlines(keepends=True)]


def spooled(folder: Path) -> list[bytes]:
    """The lines that wait on the local disk, in segments and in notes."""
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


def test_ten_kills_beside_a_living_collector(
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
                    flushed.update(watched.parts(watched.journals_of(mortal.pid)))
                assert living.poll() is None
                wait_until(lambda: watched.journals_of(living.pid), "the living one's segment")

            # The last one in an outage: what it had flushed lies on this machine's disk.
            proxy.heal()
            with mortal_place.started(*ingest) as mortal:
                wait_until(lambda: watched.journals_of(mortal.pid), "a first flush")
                proxy.inject(Fault("refuse"))
                wait_until(lambda: len(spooled(place.folder / "spool")) > RATE, "the spool's use")
                mortal.kill()
                mortal.wait()
                flushed.update(watched.parts(watched.journals_of(mortal.pid)))
                flushed.update(spooled(place.folder / "spool"))
            proxy.heal()

            time.sleep(LEASE_SECONDS + 1)
            last = mortal_place.json("ingest", "coinbase", "--frames", "100")
            assert last["frames"] == 100
            report = stopped(living)

    storage = place.storage()
    assert storage.list_journals(ACTIVE) == []
    assert spooled(place.folder / "spool") == []
    kept = watched.ready()
    assert max(Counter(kept).values()) == 1
    assert flushed - set(kept) == set()
    runs = numbers(kept)
    assert all(run == list(range(len(run))) for run in runs.values())
    assert report["gaps"] == 0
    assert report["frames"] in [len(run) for run in runs.values()]
    assert len(runs) >= 2 + sum(fault is not NEVER for fault, _, _ in MOMENTS)

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
