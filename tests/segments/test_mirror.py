"""The steps of the mirror, in any order, with crashes, sleepers, lost answers and lost machines.

Each step is one request to the object store or one change of a disk. Before or after any of them a
process may die, sleep beyond its lease while others take over, or not hear an answer.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from fluxforge import layout
from fluxforge.errors import FileExistsAlreadyError, FileMissingError, StorageUnavailableError
from fluxforge.layout import Layout
from fluxforge.segments import SegmentStore, files, mirror
from fluxforge.storage.base import StorageBackend, StoredFile
from fluxforge.storage.disk import LockFile
from fluxforge.storage.objects import Lease

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fluxforge.segments.mirror import MirroredSegment

READY = "raw/ready/coinbase/"
FACTOR = float(os.environ.get("FLUXFORGE_LONG", "1"))
NOW = datetime(2026, 8, 9, 14, tzinfo=UTC)
FAULTS = ["", "", "", "", "die before", "die after", "refused", "lost", "late", "sleep"]


class Died(BaseException):
    """The process is gone."""


@dataclass
class World:
    """One object store, what is on its way to it, and who holds which lease."""

    objects: dict[str, bytes] = field(default_factory=dict)
    published: dict[str, bytes] = field(default_factory=dict)
    late: list[Callable[[], object]] = field(default_factory=list)
    leases: dict[str, Process] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    locks: list[LockFile] = field(default_factory=list)
    names: Iterator[int] = field(default_factory=count)
    while_asleep: Callable[[], None] = lambda: None

    def token(self, size: int) -> str:
        """Return the random part of a name, the same in each run of an example."""
        return hashlib.sha256(b"%d" % next(self.names)).hexdigest()[: 2 * size]

    def put(self, key: str, data: bytes, *, exclusive: bool) -> None:
        if exclusive and key in self.objects:
            raise FileExistsAlreadyError(key)
        if key.startswith(READY):  # a name has one content, however often it is written
            assert self.published.setdefault(key, data) == data, key
        self.objects[key] = data

    def step(self, work: Callable[[], Any], *, on_disk: bool = False) -> Any:
        """Do one step, with the next fault."""
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "die before":
            raise Died
        if fault == "sleep":
            self.while_asleep()
        if on_disk or fault in ("", "sleep", "die after"):
            result = work()
            if fault == "die after":
                raise Died
            return result
        if fault == "lost":
            work()
        elif fault == "late":
            self.late.append(work)
        raise StorageUnavailableError("no answer")


class Held(Lease):
    def __init__(self, world: World, key: str) -> None:
        self.key = key
        self._world = world

    def release(self) -> None:
        self._world.leases.pop(self.key, None)


class ObjectStore(StorageBackend):
    """What one process sees of the object store."""

    backend_type = "test"
    base_path = "lake"

    def __init__(self, world: World, process: Process) -> None:
        self.world = world
        self.process = process

    def get_object(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        def work() -> bytes:
            if key not in self.world.objects:
                raise FileMissingError(key)
            return self.world.objects[key][start:end]

        return self.world.step(work)

    def put_object(self, key: str, content: bytes | Path, *, exclusive: bool = False) -> bool:
        data = content if isinstance(content, bytes) else content.read_bytes()
        self.world.step(lambda: self.world.put(key, data, exclusive=exclusive))
        return True

    def delete_object(self, key: str) -> None:
        self.world.step(lambda: self.world.objects.pop(key, None))

    def scan(
        self, path: str, *, recursive: bool = True, name_prefix: str = ""
    ) -> Iterator[StoredFile]:
        prefix = f"{path}/{name_prefix}"
        found = self.world.step(
            lambda: {key: len(data) for key, data in self.world.objects.items()}
        )
        for key, size in found.items():
            if key.startswith(prefix) and (recursive or "/" not in key[len(path) + 1 :]):
                yield StoredFile(key, size, NOW)

    def get_filesystem(self) -> Any:
        raise NotImplementedError

    def acquire_lease(self, key: str) -> Lease | None:
        holder = self.world.leases.get(key)
        if holder is not None and holder.alive:
            return None
        self.world.leases[key] = self.process
        return Held(self.world, key)


class Process:
    """A collector, or a recovery, on one machine."""

    def __init__(self, world: World, machine: Path) -> None:
        self.world = world
        self.alive = True
        self.store = SegmentStore(ObjectStore(world, self), Layout(), "coinbase", spool_dir=machine)
        self.segments: list[MirroredSegment] = []
        self.current: MirroredSegment | None = None
        self._locks: list[LockFile] = []

    def run(self, work: Callable[[], Any], faults: list[str]) -> Any:
        """Do some work with faults; a process that dies drops its locks and its leases."""
        self.world.faults = list(faults)
        before, self.world.locks = self.world.locks, self._locks
        try:
            return work()
        except StorageUnavailableError:
            return None
        except Died:
            self.die()
            return None
        finally:
            self.world.locks = before
            self.world.faults = []

    def die(self) -> None:
        self.alive = False
        for lock in self._locks:
            lock.release()
        self.segments, self.current = [], None


class MirrorMachine(RuleBasedStateMachine):
    """Two machines, each with a collector, over one object store."""

    folder: Callable[[], Path]
    world_of_test: list[World]

    @initialize()
    def begin(self) -> None:
        self.world = World(while_asleep=self._others_take_over)
        type(self).world_of_test[:] = [self.world]
        self.folders = [type(self).folder() for _ in range(2)]
        self.nowhere = type(self).folder()
        self.machines = [Process(self.world, folder) for folder in self.folders]
        self.begun: list[bytes] = []
        self.written: list[bytes] = []  # those whose flush returned
        self.may_be_lost: set[bytes] = set()
        self.consumed: set[str] = set()
        self.asleep = False

    @rule(
        at=st.integers(0, 1),
        lines=st.integers(0, 6),
        which=st.integers(0, 3),
        times=st.integers(0, 12),
        faults=st.lists(st.sampled_from(FAULTS), max_size=10),
        rotate=st.booleans(),
    )
    def work(
        self, at: int, lines: int, which: int, times: int, faults: list[str], rotate: bool
    ) -> None:
        """Write and flush some lines, and let the uploader bring one segment further."""
        process = self._living(at)
        if process.current is not None and (rotate or process.current.lost):
            process.current.file.close()
            process.current = None
        if lines:
            self._write(process, lines, [fault for fault in faults if fault == "die before"][:1])
        if not (process.alive and process.segments):
            return
        segment = process.segments[which % len(process.segments)]

        def mirror() -> None:
            for _ in range(times):
                if not segment.advance():
                    break

        process.run(mirror, faults)
        if segment.settled and process.alive:
            process.segments.remove(segment)
            process.current = None if process.current is segment else process.current

    def _write(self, process: Process, lines: int, faults: list[str]) -> None:
        def work() -> None:
            if process.current is None:
                process.current = process.store.open(NOW)
                process.segments.append(process.current)
            start = len(self.begun)
            new = [
                b'{"capture_ns":1,"conn":"A","data":{"n":%d}}\n' % number
                for number in range(start, start + lines)
            ]
            self.begun += new
            process.current.file.append(b"".join(new))
            self.written += new

        process.run(work, faults)

    @rule(at=st.integers(0, 1), faults=st.lists(st.sampled_from(FAULTS), max_size=8))
    def take_over(self, at: int, faults: list[str]) -> None:
        """Let another machine settle what dead owners left on the object store."""
        process = self._living(at)
        process.run(process.store.recover_others, faults)

    @rule(
        at=st.integers(0, 1), how=st.sampled_from(["kill", "torn", "late", "late", "etl", "burn"])
    )
    def happens(self, at: int, how: str) -> None:
        match how:
            case "kill" | "torn":
                self._kill(at, torn=how == "torn")
            case "burn":
                self._lose_the_machine(at)
            case "late":
                self._late_request_arrives()
            case "etl":
                self._etl()

    def _kill(self, at: int, torn: bool) -> None:
        process = self._living(at)
        path = process.current.file.path if process.current else None
        process.die()
        if torn and path is not None:
            with path.open("ab") as file:
                file.write(b'{"capture_ns":1,"conn":"A","da')

    def _lose_the_machine(self, at: int) -> None:
        """Let a machine burn: its disk is gone with it."""
        process = self._living(at)
        for segment in process.segments:
            kept = segment.mirrored if not segment.ready else segment.file.size
            content = segment.file.path.read_bytes() if segment.file.path.exists() else b""
            self.may_be_lost.update(content[kept:].splitlines(keepends=True))
        orphans, _ = process.store.adopt()  # of processes that died here before
        for segment in orphans:
            self.may_be_lost.update(segment.file.path.read_bytes().splitlines(keepends=True))
            segment.file.release()
        process.die()
        shutil.rmtree(self.folders[at])
        self.folders[at].mkdir()

    def _late_request_arrives(self) -> None:
        if self.world.late:
            with contextlib.suppress(FileExistsAlreadyError):
                self.world.late.pop(0)()

    def _etl(self) -> None:
        """Take what is ready; a name that was taken before is known by it."""
        for key in [key for key in self.world.objects if key.startswith(READY)]:
            self.consumed.add(key)
            del self.world.objects[key]

    @invariant()
    def no_frame_is_there_twice(self) -> None:
        assert not self._stored() or max(self._stored().values()) == 1

    @invariant()
    def what_was_mirrored_outlives_its_machine(self) -> None:
        held = [segment for process in self.machines for segment in process.segments]
        mirrored = [
            line
            for segment in held
            if not segment.ready and segment.mirrored
            for line in segment.file.path.read_bytes()[: segment.mirrored].splitlines(keepends=True)
        ]
        if mirrored:
            world = World(dict(self.world.objects), dict(self.world.published))
            Process(world, self.nowhere).store.recover_others()  # problems: see the teardown
            assert set(mirrored) <= set(self._stored(world))

    def teardown(self) -> None:
        while self.world.late:
            self._late_request_arrives()
        for process in self.machines:
            process.die()
        for _ in range(3):
            for at in range(2):
                process = Process(self.world, self.folders[at])
                for problem in process.run(process.store.recover, []).problems:
                    self._remove_what_came_late(problem)
                process.die()
        stored = self._stored()
        assert set(self.written) - set(stored) - self.may_be_lost == set()
        assert set(stored) <= set(self.begun)
        left = [key for key in self.world.objects if not key.startswith(READY)]
        assert [key for key in left if key.startswith("raw/active") and key.endswith("head")] == []
        assert all(re.search(r"/(end|\d{15})$|quarantine", key) for key in left)

    def _remove_what_came_late(self, problem: str) -> None:
        """Do as the message says, with a head and a part that both came when all was done."""
        folder, _, words = problem.partition(": ")
        assert "are missing" in words, problem
        parts = [data for key, data in self.world.objects.items() if key.startswith(folder + "/0")]
        assert set(b"".join(parts).splitlines(keepends=True)) <= set(self._stored())
        for key in [key for key in self.world.objects if key.startswith(folder)]:
            del self.world.objects[key]

    def _living(self, at: int) -> Process:
        """Return a machine's process; where it died, it is started again."""
        if not self.machines[at].alive:
            process = self.machines[at] = Process(self.world, self.folders[at])
            process.run(lambda: process.segments.extend(process.store.adopt()[0]), [])
        return self.machines[at]

    def _stored(self, world: World | None = None) -> Counter[bytes]:
        return Counter(
            line
            for content in (world or self.world).published.values()
            for line in content.splitlines(keepends=True)
        )

    def _others_take_over(self) -> None:
        """While one process sleeps, its leases lapse, and a third machine settles all it finds."""
        if self.asleep:
            return
        self.asleep = True
        faults, self.world.faults = self.world.faults, []
        leases, self.world.leases = self.world.leases, {}
        third = Process(self.world, type(self).folder())
        third.run(third.store.recover_others, [])
        third.die()
        self.world.leases = leases
        self.world.faults = faults
        self.asleep = False


@pytest.fixture
def machine(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> type[MirrorMachine]:
    worlds: list[World] = []
    real = {name: getattr(files, name) for name in ("sync_file", "rename_exclusively")}
    acquire = LockFile.acquire

    def step(name: str) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            return worlds[0].step(lambda: real[name](*args), on_disk=True)

        return run

    def locked(path: Path) -> LockFile | None:
        if lock := acquire(path):
            worlds[0].locks.append(lock)
        return lock

    for name in real:
        monkeypatch.setattr(files, name, step(name))
    monkeypatch.setattr(files.LockFile, "acquire", locked)
    monkeypatch.setattr(layout.secrets, "token_hex", lambda size: worlds[0].token(size))
    monkeypatch.setattr(mirror, "PART_BYTES", 100)
    monkeypatch.setattr(MirrorMachine, "world_of_test", worlds, raising=False)
    folder = staticmethod(lambda: tmp_path_factory.mktemp("spool"))
    monkeypatch.setattr(MirrorMachine, "folder", folder, raising=False)
    return MirrorMachine


def test_every_frame_once_whoever_dies_or_sleeps(machine: type[MirrorMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=int(25 * FACTOR),
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_head_that_came_unheard_and_is_ended_by_others(machine: type[MirrorMachine]) -> None:
    """Its owner closes the file, stores it, and dies before it hears of that, too."""
    run = machine()
    run.begin()
    run.work(at=0, lines=3, which=0, times=1, faults=["lost"], rotate=False)
    run.work(at=0, lines=0, which=0, times=1, faults=["lost"], rotate=True)
    run._others_take_over()
    run._kill(0, torn=False)
    run.teardown()
    run.no_frame_is_there_twice()


def test_a_head_that_comes_when_all_is_done(machine: type[MirrorMachine]) -> None:
    run = machine()
    run.begin()
    run.work(at=0, lines=6, which=0, times=1, faults=["late"], rotate=False)
    run.work(at=0, lines=0, which=0, times=12, faults=[], rotate=False)
    run.work(at=0, lines=0, which=0, times=12, faults=["sleep"], rotate=True)
    run._late_request_arrives()
    run.what_was_mirrored_outlives_its_machine()
    run.teardown()
    run.no_frame_is_there_twice()
