"""The journal of object stores, interrupted at every request it makes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from fluxforge.errors import (
    FileExistsAlreadyError,
    FileMissingError,
    JournalFencedError,
    StorageError,
    StorageUnavailableError,
)
from fluxforge.storage.memory import MemoryStorage, _Object
from fluxforge.storage.object_journal import ObjectJournal, part_key, resolve_append

if TYPE_CHECKING:
    from pathlib import Path

KEY = "raw/active/coinbase/segment_20251203T14_00001.ndjson"
SEALED = "raw/ready/coinbase/segment_20251203T14_00001.ndjson"
LINES = [b"one\n", b"two\ntwo\n", b"three\n"]
REQUESTS = ("get_range", "put_object", "copy_object", "delete_object", "scan")


class Killed(BaseException):
    """What a process does when it is killed: no handler of ours may catch it."""


class BrokenStorage(MemoryStorage):
    """A store that fails at the request of one number, done or not done, and maybe ever after."""

    def __init__(self, objects: dict[str, Any], number: int, *, done: bool, deadly: bool) -> None:
        super().__init__()
        self._objects = objects
        self.number = number
        self.done = done
        self.deadly = deadly
        self.count = 0

    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        if name not in REQUESTS:
            return method

        def request(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            if self.deadly and self.count >= self.number:
                self.stop_renewing()
            if self.deadly and self.count > self.number:
                raise Killed
            if self.count != self.number:
                result = method(*args, **kwargs)
                return list(result) if name == "scan" else result
            if self.done:
                result = method(*args, **kwargs)
                if name == "scan":
                    list(result)
            if self.deadly:
                raise Killed
            raise StorageUnavailableError("no answer")

        return request

    def stop_renewing(self) -> None:
        """Leave the leases to lapse, as a dead process does."""
        with self._leases._changed:
            self._leases._held.clear()
            self._leases._changed.notify_all()


def on(objects: dict[str, Any]) -> MemoryStorage:
    """Return a storage on the same objects, in which no lease is alive."""
    for key in [key for key in objects if key.endswith(".lease")]:
        del objects[key]
    storage = MemoryStorage()
    storage._objects = objects
    return storage


def write_and_seal(storage: MemoryStorage, acked: list[bytes]) -> None:
    journal = storage.create_journal(KEY)
    for line in LINES:
        journal.append(line)
        acked.append(line)
    journal.seal(SEALED)


def recover(storage: MemoryStorage) -> None:
    for key in storage.list_journals("raw/active"):
        heir = storage.take_over_journal(key)
        if heir is not None:
            heir.seal(SEALED)


def check(objects: dict[str, Any], acked: list[bytes]) -> None:
    """Every append that returned is in the one sealed file, once, and the next one may be."""
    storage = on(objects)
    assert storage.list_journals("raw/active") == []
    if not storage.exists(SEALED):
        assert acked == []
        return
    content = storage.read_bytes(SEALED)
    possible = [b"".join(LINES[:count]) for count in (len(acked), len(acked) + 1)]
    assert content in possible
    assert storage.list_files() == [SEALED]
    leftovers = [key for key in objects if key != SEALED]
    assert len(leftovers) <= 1  # the record of the end
    assert all(objects[key].data == b"" for key in leftovers)


def requests_of(action: Any) -> int:
    """Count the requests of an undisturbed run."""
    storage = BrokenStorage({}, -1, done=True, deadly=False)
    action(storage)
    return storage.count


@pytest.mark.parametrize("done", [False, True])
def test_a_writer_killed_at_any_request(done: bool) -> None:
    total = requests_of(lambda storage: write_and_seal(storage, []))
    assert total > 15
    for number in range(1, total + 1):
        objects: dict[str, Any] = {}
        acked: list[bytes] = []
        with pytest.raises(Killed):
            write_and_seal(BrokenStorage(objects, number, done=done, deadly=True), acked)
        recover(on(objects))
        check(objects, acked)


@pytest.mark.parametrize("done", [False, True])
def test_a_recovery_killed_at_any_request(done: bool) -> None:
    total = requests_of(lambda storage: write_and_seal(storage, []))
    deaths = 0
    for first in range(4, total + 1, 2):
        second = 0
        finished = False
        while not finished:
            second += 1
            objects: dict[str, Any] = {}
            acked: list[bytes] = []
            with pytest.raises(Killed):
                write_and_seal(BrokenStorage(objects, first, done=done, deadly=True), acked)
            on(objects)
            try:
                recover(BrokenStorage(objects, second, done=done, deadly=True))
                finished = True
            except Killed:
                deaths += 1
            recover(on(objects))
            check(objects, acked)
    assert deaths > 50


@pytest.mark.parametrize("done", [False, True])
def test_any_unanswered_request_can_be_repeated(done: bool) -> None:
    total = requests_of(lambda storage: write_and_seal(storage, []))
    repeated = 0
    for number in range(1, total + 1):
        objects: dict[str, Any] = {}
        storage = BrokenStorage(objects, number, done=done, deadly=False)
        try:
            journal = storage.create_journal(KEY)
        except StorageUnavailableError:
            continue  # nothing is promised yet; a name that is in doubt is not used again
        for line in LINES:
            try:
                journal.append(line)
            except StorageUnavailableError:
                repeated += 1
                with pytest.raises(StorageError, match="append the same data again"):
                    journal.seal(SEALED)
                for other in (b"something else\n", line + b"and more\n", b""):
                    with pytest.raises(StorageError, match="append the same data again"):
                        journal.append(other)
                journal.append(line)
        try:
            journal.seal(SEALED)
        except StorageUnavailableError:
            repeated += 1
            journal.seal(SEALED)
        recover(on(objects))
        assert on(objects).read_bytes(SEALED) == b"".join(LINES)
        check(objects, LINES)
    assert repeated > len(LINES)


def lapse(storage: MemoryStorage) -> MemoryStorage:
    """Let all leases lapse while their holders live."""
    return on(storage._objects)


def test_a_writer_that_was_thought_dead_is_fenced() -> None:
    storage = MemoryStorage()
    journal = storage.create_journal(KEY)
    journal.append(b"one\n")
    heir = lapse(storage).take_over_journal(KEY)
    assert heir is not None
    with pytest.raises(JournalFencedError):
        journal.append(b"two\n")
    heir.seal(SEALED)
    for call in (lambda: journal.append(b"two\n"), lambda: journal.seal(SEALED + "x")):
        with pytest.raises(JournalFencedError):
            call()
    assert storage.read_bytes(SEALED) == b"one\n"
    assert storage.list_files() == [SEALED]


def test_a_writer_is_fenced_when_it_seals() -> None:
    storage = MemoryStorage()
    journal = storage.create_journal(KEY)
    journal.append(b"one\n")
    heir = lapse(storage).take_over_journal(KEY)
    assert heir is not None
    with pytest.raises(JournalFencedError):
        journal.seal(SEALED + "x")
    heir.seal(SEALED)
    assert storage.list_files() == [SEALED]


@pytest.mark.parametrize("carried_out", [False, True])
@pytest.mark.parametrize("sealed", [False, True])
def test_a_fenced_writer_knows_what_its_heir_took(carried_out: bool, sealed: bool) -> None:
    objects: dict[str, Any] = {}
    storage = BrokenStorage(objects, -1, done=carried_out, deadly=False)
    journal = storage.create_journal(KEY)
    journal.append(b"one\n")
    storage.number = storage.count + 1
    with pytest.raises(StorageUnavailableError):
        journal.append(b"two\n")
    heir = on(objects).take_over_journal(KEY)
    assert heir is not None
    if sealed:
        heir.seal(SEALED)
    if carried_out:
        journal.append(b"two\n")  # it is in there already, and not added again
    else:
        with pytest.raises(JournalFencedError):
            journal.append(b"two\n")
    with pytest.raises(JournalFencedError):
        journal.append(b"three\n")
    if not sealed:
        heir.seal(SEALED)
    recover(on(objects))
    expected = b"one\ntwo\n" if carried_out else b"one\n"
    assert on(objects).read_bytes(SEALED) == expected
    assert on(objects).list_files() == [SEALED]


def test_two_heirs_make_one_file() -> None:
    storage = MemoryStorage()
    journal = storage.create_journal(KEY)
    for line in LINES:
        journal.append(line)
    first = lapse(storage).take_over_journal(KEY)
    second = lapse(storage).take_over_journal(KEY)
    assert first is not None
    assert second is not None
    first.seal(SEALED)
    with pytest.raises(JournalFencedError, match="sealed"):
        second.seal(SEALED)
    assert storage.read_bytes(SEALED) == b"".join(LINES)
    assert storage.list_files() == [SEALED]
    assert storage.list_journals("raw") == []


def test_an_heir_finds_that_all_was_sealed_before() -> None:
    storage = MemoryStorage()
    journal = storage.create_journal(KEY)
    journal.append(b"one\n")
    journal.close()
    storage.write_bytes(SEALED, b"one\n")  # by an heir that died before it removed the parts
    heir = storage.take_over_journal(KEY)
    assert heir is not None
    heir.seal(SEALED)
    assert storage.list_files() == [SEALED]


def test_another_file_of_the_same_content_is_not_ours() -> None:
    storage = MemoryStorage()
    storage.write_bytes(SEALED, b"one\n")
    journal = storage.create_journal(KEY)
    journal.append(b"one\n")
    with pytest.raises(FileExistsAlreadyError):
        journal.seal(SEALED)
    journal.seal(SEALED + "x")
    assert storage.list_files() == [SEALED, SEALED + "x"]


@pytest.fixture
def journal() -> ObjectJournal:
    started = MemoryStorage().create_journal(KEY)
    assert isinstance(started, ObjectJournal)
    started.append(b"one\n")
    return started


class TestResolveAppend:
    """An append whose outcome was lost with its writer."""

    def test_it_is_there(self, journal: ObjectJournal) -> None:
        number = journal.next_part
        journal.append(b"two\n")
        storage = lapse(journal._storage)  # type: ignore[arg-type]
        assert resolve_append(storage, KEY, number, b"two\n")
        heir = storage.take_over_journal(KEY)
        assert heir is not None
        assert heir.size == 8
        assert resolve_append(storage, KEY, number, b"two\n")
        heir.seal(SEALED)
        assert resolve_append(storage, KEY, number, b"two\n")
        assert storage.read_bytes(SEALED) == b"one\ntwo\n"

    def test_it_never_was_and_never_will_be(self, journal: ObjectJournal) -> None:
        number = journal.next_part
        storage = lapse(journal._storage)  # type: ignore[arg-type]
        assert not resolve_append(storage, KEY, number, b"two\n")
        with pytest.raises(JournalFencedError):
            journal.append(b"two\n")  # a request that comes late
        heir = storage.take_over_journal(KEY)
        assert heir is not None
        heir.seal(SEALED)
        assert not resolve_append(storage, KEY, number, b"two\n")
        assert storage.read_bytes(SEALED) == b"one\n"

    def test_the_journal_was_taken_over_first(self, journal: ObjectJournal) -> None:
        storage = lapse(journal._storage)  # type: ignore[arg-type]
        heir = storage.take_over_journal(KEY)
        assert heir is not None
        assert not resolve_append(storage, KEY, journal.next_part, b"two\n")
        heir.seal(SEALED)
        assert not resolve_append(storage, KEY, journal.next_part, b"two\n")
        assert resolve_append(storage, KEY, journal.next_part - 1, b"one\n")

    def test_the_first_append_of_all(self) -> None:
        storage = MemoryStorage()
        journal = storage.create_journal(KEY)
        journal.close()
        assert not resolve_append(storage, KEY, 1, b"one\n")
        recover(storage)
        assert not resolve_append(storage, KEY, 1, b"one\n")

    def test_nothing_is_known_of_it(self, journal: ObjectJournal) -> None:
        storage = lapse(journal._storage)  # type: ignore[arg-type]
        journal.seal(SEALED)
        with pytest.raises(FileMissingError, match="nothing is known"):
            resolve_append(storage, KEY, 1, b"one\n")
        assert storage.list_files() == [SEALED]


class LateStorage(MemoryStorage):
    """A store whose puts go unanswered when told so, and are carried out when told so."""

    def __init__(self) -> None:
        super().__init__()
        self.silent = False
        self.late: list[tuple[str, Any]] = []

    def put_object(self, key: str, content: bytes | Path, *, exclusive: bool = False) -> bool:
        if self.silent and key.endswith(".part"):
            self.late.append((key, content))
            raise StorageUnavailableError("no answer")
        return super().put_object(key, content, exclusive=exclusive)

    def deliver(self) -> None:
        for key, content in self.late:
            try:
                super().put_object(key, content, exclusive=True)
            except FileExistsAlreadyError:
                continue


def test_requests_that_come_after_the_seal_change_nothing() -> None:
    storage = LateStorage()
    journal = storage.create_journal(KEY)
    storage.silent = True
    with pytest.raises(StorageUnavailableError):
        journal.append(b"one\n")
    storage.silent = False
    journal.append(b"one\n")
    journal.append(b"two\n")
    journal.seal(SEALED)
    storage.deliver()
    later = lapse(storage)
    recover(later)
    assert later.list_journals("raw") == []
    assert later.list_files() == [SEALED]
    assert later.read_bytes(SEALED) == b"one\ntwo\n"


def test_records_are_forgotten_after_a_week(journal: ObjectJournal) -> None:
    storage = lapse(journal._storage)  # type: ignore[arg-type]
    heir = storage.take_over_journal(KEY)
    assert heir is not None
    heir.seal(SEALED)
    record = part_key(KEY, 2)
    assert sorted(storage._objects) == sorted([record, SEALED])
    assert storage.list_journals("raw/active") == []
    with pytest.raises(FileExistsAlreadyError):
        storage.create_journal(KEY)  # the name is not free while the record lasts
    for age, kept in ((timedelta(days=6), True), (timedelta(days=8), False)):
        storage._objects[record] = _Object(b"", datetime.now(UTC) - age, "")
        assert storage.list_journals("raw/active") == []
        assert (record in storage._objects) == kept
    storage.create_journal(KEY).close()


def test_a_part_that_somebody_deleted_is_noticed(journal: ObjectJournal) -> None:
    journal.append(b"two\n")
    journal.close()
    storage = lapse(journal._storage)  # type: ignore[arg-type]
    del storage._objects[part_key(KEY, 1)]
    with pytest.raises(StorageError, match="deleted by hand"):
        storage.take_over_journal(KEY)
    assert part_key(KEY, 2) in storage._objects  # and what is left stays
