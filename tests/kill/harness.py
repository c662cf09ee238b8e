"""Real processes over one lake, killed and put to sleep at random; and the accounts afterwards.

The exchange replays recordings in which every frame has a number of its own, so that a row says of
which frame it is. Whatever lay in a raw folder once, complete to its end of line, has to be
accounted for once in the end: in a table, or in quarantine.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import fluxforge
from fluxforge import Lake
from tests.support import commands

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LEASE_SECONDS = 2.0
FRAMES = 3_000
"""Frames of one recorded connection, 20 ms apart."""
PATIENCE = 300.0
FAULTS = ("dies", "dies with its disk", "sleeps", "sleeps and dies")
MACHINES = ("A", "B")

Frame = tuple[str, int]
"""A connection and the venue's number of a frame."""


# What the venue sends


def kind_of(number: int) -> str:
    """What the frame of this number is."""
    if number % 20 == 19:
        return "unknown"
    if number % 10 == 5:
        return "heartbeats"
    return {1: "trades", 3: "orderbook"}.get(number % 5, "ticker")


def frame_of(recording: int, number: int) -> str:
    unique = str(recording * 1_000_000 + number)
    match kind_of(number):
        case "trades":  # of the same identities in each recording: a venue repeats them, too
            trade = {"product_id": "BTC-USD", "price": unique, "size": "1", "side": "SELL",
                     "time": "2026-08-09T21:05:48Z"}  # fmt: skip
            trades = [{**trade, "trade_id": str(2 * number + n)} for n in range(2)]
            channel, event = "market_trades", {"type": "update", "trades": trades}
        case "orderbook":
            level = {"side": "bid", "event_time": "2026-08-09T21:05:48Z", "price_level": unique}
            updates = [{**level, "new_quantity": str(n)} for n in range(3)]
            channel, event = (
                "l2_data",
                {"type": "update", "product_id": "BTC-USD", "updates": updates},
            )
        case "ticker":
            ticker = {"type": "ticker", "product_id": "BTC-USD", "price": unique}
            channel, event = "ticker", {"type": "update", "tickers": [ticker]}
        case "heartbeats":
            channel, event = "heartbeats", {"current_time": "x", "heartbeat_counter": number}
        case _:
            channel, event = "weather", {"type": "update", "unique": unique}
    head = {"channel": channel, "timestamp": "2026-08-09T21:05:48Z", "sequence_num": number}
    return json.dumps({**head, "events": [event]}, separators=(",", ":"))


def rows_of(recording: int, number: int) -> Iterator[tuple[str, tuple[object, ...]]]:
    """Tell which rows a frame makes: the table and what tells them apart."""
    price = float(recording * 1_000_000 + number)
    match kind_of(number):
        case "trades":
            yield from (("trades", (price, 2 * number + n)) for n in range(2))
        case "orderbook":
            yield from (("orderbook", (price, float(n))) for n in range(3))
        case "ticker":
            yield "ticker", (price,)


COLUMNS = {
    "ticker": ("price",),
    "trades": ("price", "trade_id"),
    "orderbook": ("price", "size"),
}


def write_recordings(path: Path, count: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        for recording in range(count):
            for number in range(FRAMES):
                at = 1_786_309_548_000_000_000 + number * 20_000_000
                frame = frame_of(recording, number)
                file.write(f'{{"capture_ns":{at},"conn":"{recording}","data":{frame}}}\n')


def frames_in(content: bytes) -> Iterator[Frame]:
    """Read which frames the complete lines of some raw file hold."""
    for line in content.splitlines(keepends=True):
        if line.startswith(b'{"capture_ns"') and line.endswith(b"}\n"):
            fields = json.loads(line)
            yield fields["conn"], fields["data"]["sequence_num"]


# The lake and its processes


@dataclass(frozen=True)
class Place:
    """A lake, on disk or on S3, and how its commands are called.

    Attributes
    ----------
    folder
        A folder of this machine for all that belongs to it.
    storage
        Its configuration under ``storage``.
    settings
        Overrides for every command.
    """

    folder: Path
    storage: dict[str, Any]
    settings: tuple[str, ...] = ()

    @property
    def is_local(self) -> bool:
        return self.storage["backend"] == "local"

    @cached_property
    def overlay(self) -> Path:
        path = self.folder / "overlay.yaml"
        path.write_text(yaml.safe_dump({"storage": self.storage}), encoding="utf-8")
        return path

    @cached_property
    def lake(self) -> Lake:
        return Lake(str(self.overlay), overrides=list(self.settings))

    def spool(self, machine: str) -> Path:
        return self.folder / f"spool of {machine}"

    def words(self, command: Iterable[str], machine: str = "A") -> list[str]:
        spool = f"ingestion.spool_dir={self.spool(machine)}"
        program = [sys.executable, "-m", "fluxforge", *command]
        return [*program, "-c", str(self.overlay), spool, *self.settings]

    def run(self, *command: str, machine: str = "A") -> Any:
        """Run a command to its end; return what it prints as JSON."""
        done = commands.run(
            self.words([*command, "--json"], machine),
            cwd=self.folder,
            env=environment(),
            capture_output=True,
            encoding="utf-8",
            stdin=subprocess.DEVNULL,
            timeout=2 * PATIENCE,
        )
        assert done.returncode in (0, 1), f"{command}: {done.returncode}: {done.stderr}"
        return json.loads(done.stdout)

    def stored(self, folder: str = "raw") -> Iterator[Frame]:
        """Read the frames that lie in the raw folders of the lake at this moment."""
        storage = self.lake.storage
        for key in storage.list_files(folder):
            if key.startswith("raw/quarantine"):
                continue
            try:
                content = storage.read_bytes(key)
            except fluxforge.errors.FluxForgeError:
                continue  # it has moved on
            if not key.endswith(".zst"):
                yield from frames_in(content)

    def spooled(self, machine: str) -> Iterator[Frame]:
        """Read the frames that lie in the spool of a machine."""
        for path in self.spool(machine).rglob("*"):
            try:
                yield from frames_in(path.read_bytes() if path.is_file() else b"")
            except OSError:
                continue

    def being_written(self) -> Iterator[Frame]:
        yield from self.stored("raw/active")
        for machine in MACHINES:
            yield from self.spooled(machine)

    def quarantined(self) -> Iterator[Frame]:
        storage = self.lake.storage
        for key in storage.list_files("raw/quarantine"):
            for record in storage.read_bytes(key).splitlines():
                yield from frames_in(json.loads(record)["text"].encode() + b"\n")


def environment() -> dict[str, str]:
    """Return the environment of a command: nothing of this machine's AWS settings is in it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    package = Path(fluxforge.__file__).resolve().parent.parent
    return {**kept, "PYTHONPATH": str(package), "PYTHONUTF8": "1"}


@dataclass
class Actor:
    """A command that runs all the time: begun again when it was killed, or has ended."""

    place: Place
    name: str
    command: tuple[str, ...]
    machine: str
    ends: bool = False
    process: subprocess.Popen[str] | None = None
    starts_at: float = 0.0
    wakes_at: float | None = None
    killed_after: bool = False
    said: list[str] = field(default_factory=list)

    @property
    def runs(self) -> bool:
        return self.process is not None

    def start(self) -> None:
        self.process = commands.Popen(
            self.place.words(self.command, self.machine),
            cwd=self.place.folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            encoding="utf-8",
        )

    @property
    def captures(self) -> bool:
        """Whether it has a segment open at this moment, where the system tells."""
        assert self.process is not None
        handles = Path(f"/proc/{self.process.pid}/fd")
        try:
            return any("/segment_" in str(handle.readlink()) for handle in handles.iterdir())
        except OSError:
            return False

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def end(self, *, after: float = 0.0) -> int:
        """Collect a process that has ended or is about to; start it again some time after."""
        assert self.process is not None
        out, _ = self.process.communicate(timeout=PATIENCE)
        self.said.append(out)
        code = self.process.returncode
        self.process, self.wakes_at = None, None
        self.starts_at = time.monotonic() + after
        return code

    def kill(self, *, after: float = 0.0) -> None:
        self.send(signal.SIGKILL)
        self.end(after=after)


class Round:
    """Some kills over one lake, and what must be true after them.

    Parameters
    ----------
    place
        An empty lake.
    seed
        Decides who is killed or put to sleep, and when.
    kills
        How many times.
    """

    def __init__(self, place: Place, seed: str, kills: int) -> None:
        self.place = place
        self.kills = kills
        self.log: list[str] = []
        self.actors: list[Actor] = []
        self._dice = random.Random(seed)
        self._faults: list[str] = []
        self._seen: set[Frame] = set()
        self._spooled: dict[str, set[Frame]] = defaultdict(set)
        self._began = time.monotonic()

    def run(self) -> Counter[str]:
        """Kill, clean up, and check.

        Returns
        -------
        Counter
            What was found: frames, rows, connections.
        """
        recordings = self.place.folder / "recordings.ndjson"
        write_recordings(recordings, 20 + self.kills)  # a slow machine takes minutes
        with self._exchange(recordings) as url:
            place = self.place = Place(
                self.place.folder,
                self.place.storage,
                (*self.place.settings, f"ingestion.sources.coinbase.url={url}"),
            )
            ingest, etl = ("ingest", "coinbase", "--json"), ("etl", "coinbase", "--watch")
            self.actors = [
                Actor(place, "collector A", ingest, "A"),
                Actor(place, "collector B", ingest, "B"),
                Actor(place, "worker A", etl, "A"),
                Actor(place, "worker B", etl, "B"),
                Actor(place, "optimize", ("optimize", "coinbase"), "A", ends=True),
            ]
            try:
                self._kill_at_random()
                self._stop_all()
                self._clean_up()
            finally:
                for actor in self.actors:
                    if actor.runs:
                        actor.kill()
        return self._check()

    # Killing

    def _kill_at_random(self) -> None:
        slow = min(4.0, max(1.0, self._wait_until_captured() / 2.5))  # how busy this machine is
        due = time.monotonic()
        done = 0
        while done < self.kills or any(actor.wakes_at for actor in self.actors):
            now = time.monotonic()
            for actor in self.actors:
                self._keep_going(actor, now)
            if done < self.kills and now >= due:
                awake = [actor for actor in self.actors if actor.runs and not actor.wakes_at]
                if awake:
                    self._strike(awake, now)
                    done += 1
                    due = now + slow * self._dice.uniform(0.3, 1.8)
            time.sleep(0.01)

    def _keep_going(self, actor: Actor, now: float) -> None:
        if actor.wakes_at and now >= actor.wakes_at:
            actor.send(signal.SIGCONT)
            actor.wakes_at = None
            self._note(f"{actor.name} wakes")
            if actor.killed_after:
                time.sleep(self._dice.uniform(0, 0.3))
                self._kill(actor)
        elif actor.process is not None and not actor.wakes_at and actor.process.poll() is not None:
            code = actor.end(after=self._dice.uniform(0, 1))
            assert actor.ends, f"{actor.name} ended by itself: {code}: {actor.said[-1]}"
            assert code == 0, f"{actor.name}: {code}: {actor.said[-1]}"
        elif actor.process is None and now >= actor.starts_at:
            actor.start()

    def _strike(self, awake: list[Actor], now: float) -> None:
        """Do one thing to one of them: each fault once before any comes again."""
        if not self._faults:
            self._faults = self._dice.sample(FAULTS, len(FAULTS))
        fault = self._faults.pop()
        collectors = [actor for actor in awake if actor.name.startswith("collector")]
        actor = self._dice.choice(collectors if "disk" in fault and collectors else awake)
        if fault.startswith("sleeps"):
            self._note(f"{actor.name} sleeps")
            actor.send(signal.SIGSTOP)
            actor.wakes_at = now + LEASE_SECONDS * self._dice.uniform(1.1, 2.2)
            actor.killed_after = "dies" in fault
        else:
            self._kill(actor, with_disk="disk" in fault)

    def _kill(self, actor: Actor, *, with_disk: bool = False) -> None:
        self._note(f"{actor.name} is killed")
        actor.kill(after=self._dice.choice([0.0, 0.0, 0.5, LEASE_SECONDS * 1.5]))
        if actor.name.startswith("collector"):
            self._look()
            if with_disk and not self.place.is_local:
                self._note(f"machine {actor.machine} is lost, and its disk")
                shutil.rmtree(self.place.spool(actor.machine), ignore_errors=True)
                self._spooled.pop(actor.machine, None)

    def _look(self) -> None:
        """Take down what lies in the raw folders: all of it has to be found again."""
        self._seen.update(self.place.stored())
        if not self.place.is_local:
            for machine in MACHINES:
                self._spooled[machine].update(self.place.spooled(machine))

    def _note(self, what: str) -> None:
        self.log.append(f"{time.monotonic() - self._began:7.2f} s  {what}")

    # Ending

    def _stop_all(self) -> None:
        """End everything as Ctrl-C does."""
        self._wait_until_captured()
        self._look()
        for actor in self.actors:
            if actor.runs:
                self._note(f"{actor.name} is asked to stop")
                # One that is only about to begin has not yet begun what ends cleanly.
                allowed = (0,) if actor.captures else (0, 130, -signal.SIGINT)
                actor.send(signal.SIGINT)
                code = actor.end()
                assert code in allowed, f"{actor.name}: {code}: {actor.said[-1]}"

    def _wait_until_captured(self) -> float:
        """Wait until every collector writes; return how long that took."""
        collectors = [actor for actor in self.actors if actor.name.startswith("collector")]
        began = time.monotonic()
        first: dict[str, int] = {}
        grown: set[str] = set()
        while len(grown) < len(collectors):
            assert time.monotonic() < began + PATIENCE, f"only {len(grown)} capture"
            for actor in self.actors:
                self._keep_going(actor, time.monotonic())
            last = dict(sorted(self.place.being_written()))
            grown |= {conn for conn, number in last.items() if number > first.get(conn, number)}
            first = last | first
            time.sleep(0.3 if self.place.is_local else 1.0)
        return time.monotonic() - began

    def _clean_up(self) -> None:
        """Let one more collector of each machine, and one more worker, take up what is left."""
        time.sleep(LEASE_SECONDS + 0.5)
        for machine in MACHINES:
            self.place.run("ingest", "coinbase", "--frames", "20", machine=machine)
        for _ in range(3):
            self.place.run("etl", "coinbase")
            if not list(self.place.stored()):
                break
            time.sleep(LEASE_SECONDS + 0.5)

    # Checking

    def _check(self) -> Counter[str]:
        place = self.place
        left = Counter(place.stored())
        assert not left, f"{sum(left.values())} frames are still raw: {some(left)}"
        for machine in MACHINES:
            spooled = Counter(place.spooled(machine))
            assert not spooled, f"machine {machine} still has {some(spooled)}"

        ledger = place.lake.scan("coinbase", "segments").collect()
        assert ledger["digest"].n_unique() == ledger.height, "a segment is in the ledger twice"
        quarantined = Counter(place.quarantined())
        assert max(quarantined.values(), default=1) == 1, (
            f"twice in quarantine: {some(quarantined)}"
        )
        numbered = self._numbered(quarantined)
        counts = {conn: len(numbers) for conn, numbers in numbered.items()}
        holes = {conn: n for conn, n in counts.items() if numbered[conn] != set(range(n))}
        assert not holes, f"frames are missing in the middle: {holes}"

        for seen in (self._seen, *self._spooled.values()):
            lost = {frame for frame in seen if frame[1] >= counts.get(frame[0], 0)}
            assert not lost, f"{len(lost)} frames were stored and are lost: {some(lost)}"
        frames = sum(counts.values())
        assert ledger["lines_read"].sum() == frames
        assert ledger["lines_quarantined"].sum() == len(quarantined)
        unknown = {(c, n) for c, ns in numbered.items() for n in ns if kind_of(n) == "unknown"}
        assert set(quarantined) == unknown
        rows = self._check_rows(numbered)
        problems = place.run("verify")["problems"]
        assert problems == [], problems
        return Counter(frames=frames, rows=rows, connections=len(counts))

    def _numbered(self, quarantined: Iterable[Frame]) -> dict[str, set[int]]:
        """Tell which frames of each connection are accounted for."""
        numbered: dict[str, set[int]] = defaultdict(set)
        for conn, number in quarantined:
            numbered[conn].add(number)
        runs = self.place.lake.scan("coinbase", "sequences").collect()
        twice: Counter[Frame] = Counter()
        for run in runs.iter_rows(named=True):
            span = range(run["seq"], run["last_seq"] + 1)
            assert run["frames"] == len(span), f"frames of a run are counted otherwise: {run}"
            twice.update((run["conn"], number) for number in span)
            numbered[run["conn"]].update(span)
        doubled = {frame for frame, times in twice.items() if times > 1}
        assert not doubled, f"{len(doubled)} frames are counted twice: {some(doubled)}"
        return numbered

    def _check_rows(self, numbered: dict[str, set[int]]) -> int:
        """Compare every row of every table with the frame it came from."""
        found: dict[str, Counter[Any]] = {}
        recording: dict[str, int] = {}
        for table, columns in COLUMNS.items():
            frame = self.place.lake.scan("coinbase", table, raw=True)
            rows = frame.select("conn", "seq", *columns).collect().rows()
            found[table] = Counter(rows)
            for conn, _, price, *_ in rows:
                assert recording.setdefault(conn, int(price) // 1_000_000) == price // 1_000_000
        expected: dict[str, Counter[Any]] = {table: Counter() for table in COLUMNS}
        for conn, numbers in numbered.items():
            for number in numbers:
                for table, values in rows_of(recording.get(conn, -1), number):
                    expected[table][(conn, number, *values)] += 1
        for table, rows_expected in expected.items():
            lost, doubled = rows_expected - found[table], found[table] - rows_expected
            assert not lost, f"{sum(lost.values())} rows of {table} are lost: {some(lost)}"
            assert not doubled, f"{sum(doubled.values())} rows of {table} too many: {some(doubled)}"
        identities = {trade for _, _, _, trade in expected["trades"]}
        kept = self.place.lake.scan("coinbase", "trades").collect()["trade_id"]
        assert sorted(kept) == sorted(identities), "not one row a trade"
        return sum(sum(rows.values()) for rows in found.values())

    # The exchange

    def _exchange(self, recordings: Path) -> Exchange:
        return Exchange(recordings, self.place.folder)


class Exchange:
    """The local exchange, in a process of its own."""

    def __init__(self, recordings: Path, folder: Path) -> None:
        words = ("exchange", "coinbase", "--replay", str(recordings), "--rate", "1")
        self._process = commands.Popen(
            [sys.executable, "-m", "fluxforge", *words],
            cwd=folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            encoding="utf-8",
        )

    def __enter__(self) -> str:
        assert self._process.stdout is not None
        url = self._process.stdout.readline().strip()
        assert url.startswith("ws://"), url
        return url

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def some(frames: Iterable[Any]) -> str:
    shown = sorted(frames, key=str)
    return ", ".join(map(str, shown[:5])) + (" …" if len(shown) > 5 else "")
