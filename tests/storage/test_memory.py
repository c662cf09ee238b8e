from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from fluxforge.storage.memory import MemoryStorage
from fluxforge.testing import StorageConformance, storage_machine

if TYPE_CHECKING:
    from fluxforge.storage.base import StorageBackend


class TestMemoryStorage(StorageConformance):
    @pytest.fixture
    def storage(self) -> MemoryStorage:
        return MemoryStorage()

    def put_raw(self, storage: StorageBackend, key: str, data: bytes) -> None:
        assert isinstance(storage, MemoryStorage)
        storage.put_object(key, data)

    def get_raw(self, storage: StorageBackend, key: str) -> bytes:
        assert isinstance(storage, MemoryStorage)
        return storage._objects[key].data

    def list_raw(self, storage: StorageBackend) -> list[str]:
        assert isinstance(storage, MemoryStorage)
        return sorted(storage._objects)

    def reopen(self, storage: StorageBackend) -> StorageBackend:
        return storage


def test_random_operations() -> None:
    run_state_machine_as_test(
        storage_machine(MemoryStorage),
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
