"""Two lakes to copy between, on disks and on the real S3 server, and what is put into them."""

from __future__ import annotations

import itertools
import shutil
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf

from fluxforge import Lake
from fluxforge.layout import STATES, Layout
from fluxforge.storage.local import LocalStorage
from fluxforge.sync import Place, Route, sync_places
from fluxforge.tables import Table, TableFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fluxforge.storage.base import StorageBackend
    from fluxforge.sync import SyncReport
    from fluxforge.testing.s3_server import S3Server

DAY = date(2025, 12, 3)
SCHEMA = pa.schema(
    [
        ("symbol", pa.string()),
        ("ts_event", pa.timestamp("us", tz="UTC")),
        ("n", pa.int64()),
        ("date", pa.date32()),
    ]
)
_prefixes = itertools.count(1)


class Numbers:
    """A table whose commit number n added the row n; it is small, so that logs can be long."""

    def __init__(self, storage: StorageBackend, work: Path, name: str = "ticker") -> None:
        self.table = Table(storage, f"processed/coinbase/{name}")
        self._work = work

    def _write(self, *numbers: int) -> TableFile:
        moments = [datetime(2025, 12, 3, tzinfo=UTC) + timedelta(seconds=n) for n in numbers]
        columns = {"symbol": ["BTC-USD"] * len(numbers), "ts_event": moments, "n": numbers}
        rows = pa.table(columns, SCHEMA.remove(SCHEMA.get_field_index("date")))
        local = self._work / "rows.parquet"
        pq.write_table(rows, local)
        path = f"date={DAY}/part-{numbers[0]:03}-{len(numbers)}.parquet"
        self.table.storage.write_file(local, f"{self.table.path}/{path}")
        return TableFile(path, local.stat().st_size, len(numbers), DAY, {}, {}, {})

    def add(self, *numbers: int) -> None:
        for n in numbers:
            snapshot = self.table.ensure(SCHEMA)
            assert self.table.commit(snapshot, [self._write(n)], [f"segment {n}"], {})

    def join(self, *, vacuum: bool) -> None:
        """Put one file in the place of all."""
        snapshot = self.table.snapshot()
        assert snapshot is not None
        rows = sorted(numbers(self.table) or [])
        self.table.replace(snapshot, snapshot.files(), [self._write(*rows)])
        if vacuum:
            assert self.table.vacuum(timedelta(0), dry_run=False)


def numbers(table: Table, version: int | None = None) -> list[int] | None:
    snapshot = table.snapshot(version)
    if snapshot is None:
        return None
    return sorted(snapshot.dataset().to_table(["n"])["n"].to_pylist())


@pytest.fixture(scope="session", name="numbers")
def _numbers() -> Callable[..., list[int] | None]:
    """Return what reads a table of numbers as its readers see it; None where there is none."""
    return numbers


@pytest.fixture(scope="session")
def segment() -> Callable[..., bytes]:
    """Return a maker of segments that say which connection they are of."""

    def make(conn: str, lines: int = 3, wide: int = 10) -> bytes:
        return b"".join(
            b'{"capture_ns":%d,"conn":"%s","data":{"text":"%s"}}\n'
            % (1_764_770_400_000_000_000 + n, conn.encode(), b"x" * wide)
            for n in range(lines)
        )

    return make


@pytest.fixture(scope="session")
def content() -> Callable[..., dict[str, bytes]]:
    """Return what reads all files of a storage."""

    def read(storage: StorageBackend, path: str = "") -> dict[str, bytes]:
        return {key: storage.read_bytes(key) for key in storage.list_files(path)}

    return read


@pytest.fixture
def make_storage(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., StorageBackend]:
    """Return a maker of empty storages."""

    def make(kind: str = "local") -> StorageBackend:
        number = next(_prefixes)
        if kind == "local":
            return LocalStorage(tmp_path / f"{number}")
        from fluxforge.storage.s3 import S3Storage

        server: S3Server = request.getfixturevalue("s3_server")
        return S3Storage(
            server.bucket,
            f"sync-{tmp_path.name}-{number}",
            region=server.region,
            endpoint_url=server.endpoint_url,
            access_key_id=server.access_key,
            secret_access_key=server.secret_key,
        )

    return make


@pytest.fixture(scope="session")
def sync() -> Callable[..., SyncReport]:
    """Return what syncs two storages with the usual folders."""

    def run(here: StorageBackend, there: StorageBackend, **options: Any) -> SyncReport:
        route = Route(Place(here, Layout()), Place(there, Layout()))
        return sync_places(segments=route, tables=route, **options)

    return run


@pytest.fixture
def make_overlay(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Path]:
    """Return a maker of configurations, each of a place of its own."""

    def make(kind: str = "local", **more: object) -> Path:
        number = next(_prefixes)
        storage: dict[str, object] = {"backend": "local", "base_dir": str(tmp_path / f"{number}")}
        if kind == "s3":
            server: S3Server = request.getfixturevalue("s3_server")
            base_dir = f"{server.bucket}/sync-{tmp_path.name}-{number}"
            storage = {"backend": "s3", "base_dir": base_dir, "s3": server.settings()}
        overlay = tmp_path / f"overlay-{number}.yaml"
        OmegaConf.save(OmegaConf.create({"storage": storage | more}), overlay)
        return overlay

    return make


@pytest.fixture
def make_lake(make_overlay: Callable[..., Path]) -> Callable[..., Lake]:
    """Return a maker of empty lakes."""
    return lambda kind="local", **more: Lake(make_overlay(kind, **more))


@pytest.fixture
def full_lake(
    make_lake: Callable[..., Lake], filled_lake: Lake, segment: Callable[..., bytes]
) -> Lake:
    """Return a lake with real tables and a segment in every state, to be changed at will."""
    lake = make_lake()
    shutil.copytree(filled_lake.storage.get_full_path(), lake.storage.get_full_path())
    for name in lake.catalog.written("coinbase"):  # files that no version has are not copied
        Table(lake.storage, lake.layout.table("coinbase", name)).vacuum(timedelta(0), dry_run=False)
    for state in STATES:
        suffix = {"archive": ".ndjson.zst", "quarantine": "-0123456789ab.ndjson"}
        name = f"segment_20251203T14_00001{suffix.get(state, '.ndjson')}"
        key = f"raw/{state}/coinbase/{name}"
        lake.storage.write_bytes(key, segment(state))
    return lake


@pytest.fixture
def make_numbers(tmp_path: Path) -> Callable[..., Numbers]:
    """Return a maker of tables of numbers."""

    def make(storage: StorageBackend, *added: int, name: str = "ticker") -> Numbers:
        table = Numbers(storage, tmp_path, name)
        table.add(*added)
        return table

    return make
