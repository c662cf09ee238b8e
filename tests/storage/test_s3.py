from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from fluxforge.testing import StorageConformance, storage_machine

if TYPE_CHECKING:
    from collections.abc import Callable

    from fluxforge.storage.base import StorageBackend
    from fluxforge.storage.s3 import S3Storage
    from fluxforge.testing.s3_server import S3Server

pytestmark = pytest.mark.s3


class TestS3Storage(StorageConformance):
    @pytest.fixture
    def storage(self, make_s3: Callable[..., S3Storage], s3_server: S3Server) -> S3Storage:
        import s3fs

        self.make = make_s3
        self.raw: Any = s3fs.S3FileSystem(
            key=s3_server.access_key,
            secret=s3_server.secret_key,
            endpoint_url=s3_server.endpoint_url,
            use_listings_cache=False,
        )
        return make_s3()

    def put_raw(self, storage: StorageBackend, key: str, data: bytes) -> None:
        self.raw.pipe_file(f"{storage.base_path}/{key}", data)

    def get_raw(self, storage: StorageBackend, key: str) -> bytes:
        return bytes(self.raw.cat_file(f"{storage.base_path}/{key}"))

    def list_raw(self, storage: StorageBackend) -> list[str]:
        root = f"{storage.base_path}/"
        found = self.raw.find(root, detail=True).values()
        return sorted(file["name"].removeprefix(root) for file in found if file["type"] == "file")

    def reopen(self, storage: StorageBackend) -> StorageBackend:
        return self.make(prefix=storage.base_path.partition("/")[2])


def test_random_operations(make_s3: Callable[..., S3Storage]) -> None:
    run_state_machine_as_test(
        storage_machine(make_s3),
        settings=settings(
            max_examples=6,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
