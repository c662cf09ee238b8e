from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import fsspec
import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from fluxforge.errors import AccessDeniedError, ConfigError, StorageError
from fluxforge.layout import Layout
from fluxforge.segments import SegmentStore
from fluxforge.storage.fsspec_storage import FsspecStorage
from fluxforge.tables import Table
from fluxforge.testing import StorageConformance

if TYPE_CHECKING:
    from pathlib import Path

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


class Careless(MemoryFileSystem):  # type: ignore[misc]
    """A filesystem that replaces what it is told to create, as older S3 servers do."""

    protocol = "careless"

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        super().pipe_file(path, value)


class Unable(Careless):
    protocol = "unable"

    def pipe_file(self, path: str, value: bytes, **_: Any) -> None:
        if _:
            raise NotImplementedError(f"no {', '.join(_)} here")


@pytest.mark.parametrize(
    ("filesystem", "words"), [(Careless, "told to create"), (Unable, "cannot do what a lake")]
)
def test_what_cannot_create_exclusively_is_refused_at_the_start(
    filesystem: Any, words: str, tmp_path: Path
) -> None:
    fsspec.register_implementation(filesystem.protocol, filesystem, clobber=True)
    storage = FsspecStorage(filesystem.protocol, "lake")
    with pytest.raises(ConfigError, match=words):
        SegmentStore(storage, Layout(), "coinbase", spool_dir=tmp_path).prepare()
    with pytest.raises(ConfigError, match=words):
        Table(storage, "processed/coinbase/ticker").ensure(pa.schema([("date", pa.date32())]))
    assert storage.list_files() == []
