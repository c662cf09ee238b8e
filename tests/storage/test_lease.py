from __future__ import annotations

import json
import logging
import threading
import time
from typing import TYPE_CHECKING

import pytest

from fluxforge.errors import StorageUnavailableError
from fluxforge.storage.fsspec_storage import FsspecStorage
from fluxforge.storage.objects import lease_key
from tests.support.object_store import object_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = "raw/processing/coinbase"


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


def content(storage: FsspecStorage) -> dict[str, object]:
    return dict(json.loads(storage.get_object(lease_key(KEY))))


def renewing_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "fluxforge-leases"}


def test_a_lease_says_who_holds_it_and_until_when() -> None:
    storage = object_store()
    before = time.time_ns()
    lease = storage.acquire_lease(KEY)
    assert lease is not None
    held = content(storage)
    assert "/" in str(held["owner"])
    assert before + 59e9 < int(str(held["expires_ns"])) < time.time_ns() + 61e9
    lease.release()
    assert list(storage.scan("")) == []


def test_a_living_holder_keeps_its_lease() -> None:
    storage = object_store("living", 0.4)
    lease = storage.acquire_lease(KEY)
    assert lease is not None
    first = content(storage)
    wait_until(lambda: int(str(content(storage)["expires_ns"])) > int(str(first["expires_ns"])))
    assert content(storage)["token"] == first["token"]
    assert object_store("living", 0.4).acquire_lease(KEY) is None
    lease.release()


def test_a_dead_holders_lease_lapses() -> None:
    storage = object_store(lease_seconds=60)
    lapsed = {"owner": "elsewhere/1", "token": "dead", "expires_ns": time.time_ns() + int(2e8)}
    storage.put_object(lease_key(KEY), json.dumps(lapsed).encode())
    assert storage.acquire_lease(KEY) is None
    wait_until(lambda: storage.acquire_lease(KEY) is not None)
    assert content(storage)["token"] != "dead"


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff\x00", b'{"token": 1}', b"[1]"])
def test_a_lease_that_cannot_be_read_counts_as_lapsed(data: bytes) -> None:
    storage = object_store()
    storage.put_object(lease_key(KEY), data)
    lease = storage.acquire_lease(KEY)
    assert lease is not None
    lease.release()


def test_one_thread_renews_all_and_ends_with_the_last() -> None:
    before = renewing_threads()  # of leases that other tests let lapse; they may end any time
    storage = object_store(lease_seconds=60)
    leases = [storage.acquire_lease(f"{KEY}/{number}") for number in range(20)]
    assert len(renewing_threads() - before) == 1
    for lease in leases:
        assert lease is not None
        lease.release()
    wait_until(lambda: not renewing_threads() - before)
    again = storage.acquire_lease(KEY)
    assert again is not None
    assert len(renewing_threads() - before) == 1
    again.release()


def test_a_lease_that_went_to_another_is_left_alone() -> None:
    storage = object_store()
    lease = storage.acquire_lease(KEY)
    assert lease is not None
    other = {"owner": "elsewhere/1", "token": "other", "expires_ns": time.time_ns() + int(60e9)}
    storage.put_object(lease_key(KEY), json.dumps(other).encode())
    lease.release()
    assert content(storage)["token"] == "other"


def test_a_holder_that_slept_too_long_notices(caplog: pytest.LogCaptureFixture) -> None:
    storage = object_store(lease_seconds=0.2)
    lease = storage.acquire_lease(KEY)
    assert lease is not None
    other = {"owner": "elsewhere/1", "token": "other", "expires_ns": time.time_ns() + int(60e9)}
    with lease.lock:  # type: ignore[attr-defined]  # the renewal waits: this process sleeps
        time.sleep(0.3)
        storage.put_object(lease_key(KEY), json.dumps(other).encode())
    wait_until(lambda: "went to another holder" in caplog.text)
    assert content(storage)["token"] == "other"
    lease.release()
    assert content(storage)["token"] == "other"


class DeafStorage(FsspecStorage):
    deaf = False

    def put_object(self, key: str, content: bytes | Path, *, exclusive: bool = False) -> None:
        if self.deaf:
            raise StorageUnavailableError("no answer")
        super().put_object(key, content, exclusive=exclusive)

    def delete_object(self, key: str) -> None:
        if self.deaf:
            raise StorageUnavailableError("no answer")
        super().delete_object(key)


def test_failures_are_logged_and_do_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    storage = DeafStorage("memory", "deaf", lease_seconds=0.2)
    lease = storage.acquire_lease(KEY)
    assert lease is not None
    token = content(storage)["token"]
    storage.deaf = True
    wait_until(lambda: "could not be renewed" in caplog.text)
    storage.deaf = False
    wait_until(lambda: int(str(content(storage)["expires_ns"])) > time.time_ns())
    assert content(storage)["token"] == token
    storage.deaf = True
    lease.release()
    assert "is left to lapse" in caplog.text
