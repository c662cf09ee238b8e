from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from fluxforge.errors import StorageError
from fluxforge.storage.local import LocalStorage
from fluxforge.testing import StorageConformance, storage_machine

if TYPE_CHECKING:
    from pathlib import Path

    from fluxforge.storage.base import StorageBackend


def root(storage: StorageBackend) -> Path:
    assert isinstance(storage, LocalStorage)
    return storage._root


class TestLocalStorage(StorageConformance):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> LocalStorage:
        return LocalStorage(tmp_path / "lake")

    def put_raw(self, storage: StorageBackend, key: str, data: bytes) -> None:
        path = root(storage) / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def get_raw(self, storage: StorageBackend, key: str) -> bytes:
        return (root(storage) / key).read_bytes()

    def list_raw(self, storage: StorageBackend) -> list[str]:
        base = root(storage)
        return sorted(
            path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file()
        )

    def reopen(self, storage: StorageBackend) -> StorageBackend:
        return LocalStorage(storage.base_path)


def test_random_operations(tmp_path: Path) -> None:
    roots = itertools.count()
    run_state_machine_as_test(
        storage_machine(lambda: LocalStorage(tmp_path / f"lake_{next(roots)}")),
        settings=settings(
            max_examples=20,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="there is no /proc")
def test_a_place_where_no_folder_can_be_says_what_to_change() -> None:
    with pytest.raises(StorageError, match=r"/proc/nowhere/raw: change storage\.base_dir"):
        LocalStorage("/proc/nowhere").mkdir("raw")
