"""Random operations on a storage, compared with a dict after each."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fluxforge.errors import FileExistsAlreadyError, FileMissingError
from fluxforge.layout import join_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from fluxforge.storage.base import StorageBackend

FOLDERS = ["", "a", "a/b", "a/b c", "a-b"]

keys = st.builds(join_key, st.sampled_from(FOLDERS), st.sampled_from(["x", "x.ndjson", "y.json"]))
contents = st.one_of(st.binary(max_size=40), st.integers(0, 3).map(lambda n: b"line\n" * n * 9000))
positions = st.integers(0, 60)


def storage_machine(make: Callable[[], StorageBackend]) -> type[RuleBasedStateMachine]:
    """Return a state machine that drives new, empty storages made by `make`.

    Run it with :func:`hypothesis.stateful.run_state_machine_as_test`, or as its ``TestCase``.
    """

    class StorageMachine(_StorageMachine):
        def __init__(self) -> None:
            super().__init__(make())

    return StorageMachine


class _StorageMachine(RuleBasedStateMachine):
    def __init__(self, storage: StorageBackend) -> None:
        super().__init__()
        self.storage = storage
        self.model: dict[str, bytes] = {}

    @rule(key=keys, data=contents)
    def write(self, key: str, data: bytes) -> None:
        self.storage.write_bytes(key, data)
        self.model[key] = data

    @rule(key=keys, data=contents, as_file=st.booleans())
    def write_exclusively(self, key: str, data: bytes, as_file: bool) -> None:
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
        if end is not None and end < start:
            start, end = end, start
        if key not in self.model:
            start, end = 0, None
        try:
            data = self.storage.read_bytes(key, start, end)
        except FileMissingError:
            assert key not in self.model
        else:
            assert data == self.model[key][start:end]

    @rule(key=keys)
    def fetch(self, key: str) -> None:
        with TemporaryDirectory() as folder:
            try:
                data = self.storage.fetch(key, Path(folder)).read_bytes()
            except FileMissingError:
                assert key not in self.model
            else:
                assert data == self.model[key]

    @rule(key=keys)
    def delete(self, key: str) -> None:
        self.storage.delete(key)
        self.model.pop(key, None)

    @rule(source=keys, destination=keys)
    def move(self, source: str, destination: str) -> None:
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
        start = f"{folder}/" if folder else ""
        below = [
            (key, len(data))
            for key, data in sorted(self.model.items())
            if key.startswith(start) and (recursive or "/" not in key[len(start) :])
        ]
        found = self.storage.list_entries(folder, recursive=recursive)
        assert [(file.key, file.size) for file in found] == below

    @rule(key=keys)
    def ask_for_file(self, key: str) -> None:
        assert self.storage.exists(key) == (key in self.model)

    @invariant()
    def holds_what_the_dict_holds(self) -> None:
        assert self.storage.list_files() == sorted(self.model)
