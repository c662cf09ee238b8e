"""Random operations on a storage, compared with a dict after each."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fluxforge.errors import FileExistsAlreadyError, FileMissingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fluxforge.storage.base import Journal, StorageBackend

FOLDERS = ["", "a", "a/b", "a/b c", "a-b"]
NAMES = ["x", "x.ndjson", "y.json"]

keys = st.builds(
    lambda folder, name: f"{folder}/{name}" if folder else name,
    st.sampled_from(FOLDERS),
    st.sampled_from(NAMES),
)
contents = st.one_of(st.binary(max_size=40), st.integers(0, 3).map(lambda n: b"line\n" * n * 9000))
positions = st.integers(0, 60)


def storage_machine(make: Callable[[], StorageBackend]) -> type[RuleBasedStateMachine]:
    """Return a state machine that drives new, empty storages made by `make`.

    Run it with :func:`hypothesis.stateful.run_state_machine_as_test`, or as its ``TestCase``.
    """

    class StorageMachine(_StorageMachine):
        def make(self) -> StorageBackend:
            return make()

    return StorageMachine


class _StorageMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.storage = self.make()
        self.model: dict[str, bytes] = {}
        self.journal: Journal | None = None
        self.journaled = b""
        self.journals = 0

    def make(self) -> StorageBackend:
        """Return a new storage; see :func:`storage_machine`."""
        from fluxforge.storage.memory import MemoryStorage

        return MemoryStorage()

    def teardown(self) -> None:
        """Let go of what the last steps left open."""
        if self.journal is not None:
            self.journal.close()

    @rule(key=keys, data=contents)
    def write(self, key: str, data: bytes) -> None:
        """Write, replacing what was there."""
        self.storage.write_bytes(key, data)
        self.model[key] = data

    @rule(key=keys, data=contents, as_file=st.booleans())
    def write_exclusively(self, key: str, data: bytes, as_file: bool) -> None:
        """Write only where nothing was, from bytes or from a file."""
        try:
            if as_file:
                with TemporaryDirectory() as folder:
                    path = Path(folder) / "source"
                    path.write_bytes(data)
                    self.storage.write_file(path, key, exclusive=True)
            else:
                self.storage.write_bytes(key, data, exclusive=True)
        except FileExistsAlreadyError:
            assert key in self.model
        else:
            assert key not in self.model
            self.model[key] = data

    @rule(key=keys, start=positions, end=st.none() | positions)
    def read(self, key: str, start: int, end: int | None) -> None:
        """Read a range of a file that may be missing."""
        if end is not None and end < start:
            start, end = end, start
        if key in self.model:
            assert self.storage.read_bytes(key, start, end) == self.model[key][start:end]
            return
        try:
            self.storage.read_bytes(key)
        except FileMissingError:
            return
        raise AssertionError(f"{key} was read and should not be there")

    @rule(key=keys)
    def fetch(self, key: str) -> None:
        """Download a file that may be missing."""
        with TemporaryDirectory() as folder:
            try:
                data = self.storage.fetch(key, Path(folder)).read_bytes()
            except FileMissingError:
                assert key not in self.model
            else:
                assert data == self.model[key]

    @rule(key=keys)
    def delete(self, key: str) -> None:
        """Delete a file that may be missing."""
        self.storage.delete(key)
        self.model.pop(key, None)

    @rule(source=keys, destination=keys)
    def move(self, source: str, destination: str) -> None:
        """Move a file that may be missing to a place that may be taken."""
        if source == destination:
            return
        try:
            self.storage.move(source, destination)
        except FileMissingError:
            assert source not in self.model
        except FileExistsAlreadyError:
            assert destination in self.model
        else:
            assert destination not in self.model
            self.model[destination] = self.model.pop(source)

    @rule(folder=st.sampled_from(FOLDERS), recursive=st.booleans())
    def list_folder(self, folder: str, recursive: bool) -> None:
        """List one folder, alone or with all below it."""
        start = f"{folder}/" if folder else ""
        below = {key: data for key, data in self.model.items() if key.startswith(start)}
        if not recursive:
            below = {key: data for key, data in below.items() if "/" not in key[len(start) :]}
        found = self.storage.list_entries(folder, recursive=recursive)
        entries = [file for file in found if not file.key.startswith("active/")]
        assert [file.key for file in entries] == sorted(below)
        assert [file.size for file in entries] == [len(below[key]) for key in sorted(below)]

    @rule(key=keys)
    def ask_for_file(self, key: str) -> None:
        """Ask whether a file is there."""
        assert self.storage.exists(key) == (key in self.model)

    @precondition(lambda self: self.journal is None)
    @rule()
    def start_journal(self) -> None:
        """Start a journal under a new name."""
        self.journals += 1
        self.journal = self.storage.create_journal(f"active/journal_{self.journals}")
        self.journaled = b""

    @precondition(lambda self: self.journal is not None)
    @rule(data=contents)
    def append(self, data: bytes) -> None:
        """Add to the journal."""
        if self.journal is not None:
            self.journal.append(data)
            self.journaled += data
            assert self.journal.size == len(self.journaled)

    @precondition(lambda self: self.journal is not None)
    @rule(key=keys, crash=st.booleans(), clean=st.booleans())
    def seal(self, key: str, crash: bool, clean: bool) -> None:
        """Seal the journal, or leave it for a recovery that does."""
        journal = self.journal
        if journal is None:
            return
        name = journal.key
        assert self.storage.list_journals("active") == [name]
        assert self.storage.take_over_journal(name) is None
        if crash:
            journal.close()
            journal = self.journal = self.storage.take_over_journal(name)
            assert journal is not None
        if clean:
            journal.drop_torn_tail()
            self.journaled = self.journaled[: self.journaled.rfind(b"\n") + 1]
        try:
            journal.seal(key)
        except FileExistsAlreadyError:
            assert key in self.model
            self.storage.delete(key)
            journal.seal(key)
        else:  # an heir may find that the journal was sealed there before
            assert key not in self.model or (crash and self.model[key] == self.journaled)
        self.model[key] = self.journaled
        self.journal = None
        assert self.storage.list_journals("active") == []

    @invariant()
    def holds_what_the_dict_holds(self) -> None:
        """Compare names; the rules compare contents. An open journal is a file on some storages."""
        listed = [key for key in self.storage.list_files() if not key.startswith("active/")]
        assert listed == sorted(self.model)
