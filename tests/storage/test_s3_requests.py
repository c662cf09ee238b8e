"""S3 storage behind a proxy that misbehaves."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from fluxforge.errors import (
    FileExistsAlreadyError,
    FileMissingError,
    StorageUnavailableError,
)
from fluxforge.storage.s3 import PART_BYTES
from tests.support.fault_proxy import Fault

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fluxforge.storage.s3 import S3Storage
    from tests.support.fault_proxy import FaultProxy

pytestmark = pytest.mark.s3

PART = "raw/active/coinbase/segment_20251203T14_00001.ndjson/000000000000000"
SEALED = "raw/ready/coinbase/segment_20251203T14_00001.ndjson"
LARGE = b"0123456789abcdef" * (PART_BYTES // 16) * 2 + b"and more"

UNANSWERED = [
    Fault("drop_response"),
    Fault("refuse"),
    Fault("status", status=503),
    Fault("cut_request", after=3),
]


@pytest.fixture
def storage(
    make_s3: Callable[..., S3Storage], proxy: FaultProxy, impatient: dict[str, Any]
) -> S3Storage:
    return make_s3(endpoint_url=proxy.url, **impatient)


def names(faults: list[Fault]) -> list[str]:
    return [f"{fault.kind}-{fault.status}" for fault in faults]


@pytest.mark.parametrize("fault", UNANSWERED, ids=names(UNANSWERED))
class TestOneUnansweredRequest:
    """The first request of a kind goes wrong; what the caller sees is as if it had not."""

    def test_exclusive_write(self, storage: S3Storage, proxy: FaultProxy, fault: Fault) -> None:
        rule = proxy.inject(fault, method="PUT", times=1)
        storage.write_bytes("claim", b"mine", exclusive=True)
        assert rule.struck == 1
        assert storage.read_bytes("claim") == b"mine"
        with pytest.raises(FileExistsAlreadyError):
            storage.write_bytes("claim", b"mine", exclusive=True)

    def test_lost_exclusive_write(
        self, storage: S3Storage, proxy: FaultProxy, fault: Fault
    ) -> None:
        storage.write_bytes("claim", b"same")
        rule = proxy.inject(fault, method="PUT", times=1)
        with pytest.raises(FileExistsAlreadyError):
            storage.write_bytes("claim", b"same", exclusive=True)
        assert rule.struck == 1

    def test_move(self, storage: S3Storage, proxy: FaultProxy, fault: Fault) -> None:
        storage.write_bytes("raw/ready/x", b"segment")
        rule = proxy.inject(fault, method="PUT", times=1)
        storage.move("raw/ready/x", "raw/processing/x")
        assert rule.struck == 1
        assert storage.list_files() == ["raw/processing/x"]
        assert storage.read_bytes("raw/processing/x") == b"segment"

    def test_delete(self, storage: S3Storage, proxy: FaultProxy, fault: Fault) -> None:
        storage.write_bytes("x", b"")
        rule = proxy.inject(fault, method="DELETE", times=1)
        storage.delete("x")
        assert rule.struck == 1
        assert storage.list_files() == []

    def test_large_exclusive_write(
        self, storage: S3Storage, proxy: FaultProxy, fault: Fault
    ) -> None:
        rules = [
            proxy.inject(fault, method="POST", path="uploads", times=1),
            proxy.inject(fault, method="PUT", path="partNumber=2", times=1),
            proxy.inject(fault, method="POST", path="uploadId", times=1),
        ]
        storage.write_bytes("large", LARGE, exclusive=True)
        assert [rule.struck for rule in rules] == [1, 1, 1]
        assert storage.read_bytes("large") == LARGE


@pytest.mark.parametrize("fault", [Fault("stall", seconds=1.5), Fault("status", status=500)])
def test_stalls_and_server_errors(storage: S3Storage, proxy: FaultProxy, fault: Fault) -> None:
    rule = proxy.inject(fault, times=3)
    storage.write_bytes("x", b"content", exclusive=True)
    assert storage.read_bytes("x") == b"content"
    assert rule.struck == 3


@pytest.mark.parametrize("after", [0, 1, 7_000_000])
def test_answers_cut_short(
    storage: S3Storage, proxy: FaultProxy, after: int, tmp_path: Path
) -> None:
    storage.write_bytes("large", LARGE)
    for read in (
        lambda: storage.read_bytes("large"),
        lambda: storage.fetch("large", tmp_path).read_bytes(),
    ):
        rule = proxy.inject(Fault("cut_response", after=after), method="GET", times=3)
        assert read() == LARGE
        assert rule.struck == 3


def test_answers_that_are_always_cut_raise(
    make_s3: Callable[..., S3Storage], proxy: FaultProxy, tmp_path: Path
) -> None:
    storage = make_s3(endpoint_url=proxy.url, attempts=3)
    storage.write_bytes("x", b"0123456789")
    proxy.inject(Fault("cut_response", after=5), method="GET")
    with pytest.raises(StorageUnavailableError):
        storage.read_bytes("x")
    with pytest.raises(StorageUnavailableError):
        storage.fetch("x", tmp_path)
    assert list(tmp_path.iterdir()) == []


class TestListings:
    """A page that fails raises, and never looks like the end."""

    @pytest.fixture
    def listed(
        self,
        storage: S3Storage,
        make_s3: Callable[..., S3Storage],
        monkeypatch: pytest.MonkeyPatch,
    ) -> list[str]:
        def call(name: str, **words: Any) -> Any:
            return direct_call(name, **words, **({"MaxKeys": 10} if "list" in name else {}))

        direct_call = storage._client.call_s3
        monkeypatch.setattr(storage._client, "call_s3", call)  # pages of ten, not of a thousand
        keys = [f"raw/ready/{number:04d}" for number in range(15)]
        direct = make_s3(prefix=storage.base_path.partition("/")[2])  # not through the proxy
        with ThreadPoolExecutor(10) as pool:
            list(pool.map(lambda key: direct.put_object(key, b""), keys))
        return keys

    def test_pages(self, storage: S3Storage, proxy: FaultProxy, listed: list[str]) -> None:
        assert storage.list_files("raw/ready") == listed
        broken = proxy.inject(Fault("status", status=503), path="continuation-token")
        for call in (
            lambda: storage.list_files("raw"),
            lambda: storage.list_entries("raw/ready", recursive=False),
            lambda: storage.list_folders("raw/ready"),
        ):
            with pytest.raises(StorageUnavailableError):
                call()
        assert broken.struck > 3
        proxy.heal()
        for fault in (Fault("cut_response", after=200), Fault("refuse"), Fault("status")):
            rule = proxy.inject(fault, path="list-type", times=2)
            assert storage.list_files("raw/ready") == listed
            assert rule.struck == 2
        proxy.inject(Fault("status", status=500), path="list-type")
        for probe in (storage.exists, storage.list_files, storage.list_folders):
            with pytest.raises(StorageUnavailableError):
                probe("raw")


def test_an_outage_raises_in_bounded_time_and_loses_nothing(
    make_s3: Callable[..., S3Storage], proxy: FaultProxy
) -> None:
    storage = make_s3(endpoint_url=proxy.url, attempts=3, connect_timeout=1, read_timeout=0.3)
    storage.write_bytes(PART, b"one\n", exclusive=True)
    for fault in (Fault("refuse"), Fault("stall", seconds=5), Fault("drop_response")):
        proxy.inject(fault)
        with pytest.raises(StorageUnavailableError, match="try again"):
            storage.write_bytes(SEALED, b"two\n", exclusive=True)
        proxy.heal()
    with suppress(FileExistsAlreadyError):  # the last answer was dropped
        storage.write_bytes(SEALED, b"two\n", exclusive=True)
    assert storage.read_bytes(SEALED) == b"two\n"
    assert storage.list_files() == [PART, SEALED]


def test_an_upload_that_loses_leaves_nothing(storage: S3Storage, proxy: FaultProxy) -> None:
    storage.write_bytes("large", b"first")
    with pytest.raises(FileExistsAlreadyError):
        storage.write_bytes("large", LARGE, exclusive=True)
    proxy.inject(Fault("status", status=403), method="PUT", path="partNumber=2")
    with pytest.raises(Exception, match="permission"):
        storage.write_bytes("larger", LARGE)
    proxy.heal()
    uploads = storage.get_filesystem().list_multipart_uploads("lake")
    prefix = storage.base_path.partition("/")[2]
    assert [upload for upload in uploads if upload["Key"].startswith(prefix)] == []
    assert storage.list_files() == ["large"]
    assert storage.read_bytes("large") == b"first"


def test_everything_comes_right_under_random_faults(
    make_s3: Callable[..., S3Storage], proxy: FaultProxy, impatient: dict[str, Any], tmp_path: Path
) -> None:
    storage = make_s3(endpoint_url=proxy.url, **impatient)
    faults = [
        Fault("status", status=503),
        Fault("status", status=500),
        Fault("cut_response", after=20),
        Fault("cut_request", after=2),
        Fault("drop_response"),
        Fault("refuse"),
    ]
    rules = [proxy.inject(fault, share=0.05) for fault in faults]
    model: dict[str, bytes] = {}
    for number in range(28):
        key = f"raw/ready/{number % 7}"
        data = b"%d\n" % number * (number + 1)
        try:
            storage.write_bytes(key, data, exclusive=True)
        except FileExistsAlreadyError:
            assert key in model
        else:
            assert key not in model
            model[key] = data
        if number % 3 == 0:
            target = f"raw/processing/{number}"
            try:
                storage.move(key, target)
            except FileMissingError:
                assert key not in model
            else:
                model[target] = model.pop(key)
        for name, content in model.items():
            if number % 10 == 0:
                assert storage.read_bytes(name) == content
        assert storage.list_files("raw") == sorted(model)
    # A write that comes late may bring back a file that was moved meanwhile; an exclusive one
    # whose file stays may not.
    rules.append(proxy.inject(Fault("late", seconds=0.2), path="/active/", share=0.1))
    parts = {f"raw/active/{number:015d}": b"line %d\n" % number for number in range(40)}
    for key, content in parts.items():
        storage.write_bytes(key, content, exclusive=True)
    proxy.heal()
    assert storage.fetch(key, tmp_path).read_bytes() == content
    assert storage.list_files("raw") == sorted([*model, *parts])
    assert all(rule.struck > 0 for rule in rules)
