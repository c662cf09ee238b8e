from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from fluxforge.errors import AccessDeniedError, ConfigError, StorageError
from fluxforge.storage.fsspec_storage import FsspecStorage
from fluxforge.testing import StorageConformance

if TYPE_CHECKING:
    from fluxforge.storage.base import StorageBackend
    from fluxforge.testing.s3_server import S3Server

pytestmark = pytest.mark.s3

_prefixes = itertools.count(1)


def options(server: S3Server, **changes: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "endpoint_url": server.endpoint_url,
        "key": server.access_key,
        "secret": server.secret_key,
        "skip_instance_cache": False,  # one client for all tests
    }
    return settings | changes


class TestFsspecStorage(StorageConformance):
    """Any protocol would do; this one has a real server here."""

    @pytest.fixture
    def storage(self, s3_server: S3Server) -> FsspecStorage:
        self.server = s3_server
        place = f"{s3_server.bucket}/fsspec{next(_prefixes)}"
        return FsspecStorage("s3", place, **options(s3_server))

    def put_raw(self, storage: StorageBackend, key: str, data: bytes) -> None:
        storage.get_filesystem().pipe_file(f"{storage.base_path}/{key}", data)

    def get_raw(self, storage: StorageBackend, key: str) -> bytes:
        return bytes(storage.get_filesystem().cat_file(f"{storage.base_path}/{key}"))

    def list_raw(self, storage: StorageBackend) -> list[str]:
        root = f"{storage.base_path}/"
        found = storage.get_filesystem().find(root, detail=True).values()
        return sorted(file["name"].removeprefix(root) for file in found if file["type"] == "file")

    def reopen(self, storage: StorageBackend) -> StorageBackend:
        return FsspecStorage("s3", storage.base_path, **options(self.server))


def test_a_missing_container_is_not_an_empty_one(s3_server: S3Server) -> None:
    storage = FsspecStorage("s3", "absent/prefix", **options(s3_server))
    for call in (storage.list_files, storage.list_folders, lambda: storage.exists("x")):
        with pytest.raises(StorageError, match="there is no s3://absent"):
            call()


def test_wrong_credentials(s3_server: S3Server) -> None:
    storage = FsspecStorage("s3", "lake", **options(s3_server, secret="wrong"))
    with pytest.raises(AccessDeniedError):
        storage.list_files()


def test_unknown_protocols() -> None:
    with pytest.raises(ConfigError, match="'nowhere' cannot be used"):
        FsspecStorage("nowhere", "lake")


def test_it_says_where_it_is(s3_server: S3Server) -> None:
    storage = FsspecStorage("s3", "s3://lake/prefix/", **options(s3_server))
    assert (storage.backend_type, storage.base_path) == ("s3", "lake/prefix")
    assert storage.get_full_path("raw/x") == "s3://lake/prefix/raw/x"
    assert s3_server.secret_key not in repr(storage)
