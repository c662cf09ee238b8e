from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest

from fluxforge.errors import AccessDeniedError, StorageError, StorageUnavailableError
from fluxforge.ingestion import uploader as module
from fluxforge.ingestion.uploader import Uploader
from fluxforge.retry import RetryPolicy


class Part:
    """What a segment has in its hands when the store refuses it."""


class RefusedSegment:
    settled, pending, ready = False, 1, ""

    def __init__(self, kind: type[StorageError]) -> None:
        self.kind, self.parts = kind, list[weakref.ref[Part]]()
        self.tried = threading.Semaphore(0)

    def advance(self) -> bool:
        part = Part()
        self.parts.append(weakref.ref(part))
        self.tried.release()
        raise self.kind("no")


@pytest.mark.parametrize("kind", [AccessDeniedError, StorageUnavailableError])
def test_what_a_store_refuses_is_held_no_longer_than_its_request(
    kind: type[StorageError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY", RetryPolicy(first=0.01, cap=0.01))
    segment: Any = RefusedSegment(kind)
    uploader = Uploader("coinbase", 0.01)
    gc.disable()
    try:
        uploader.add([segment])
        for _ in range(5):
            assert segment.tried.acquire(timeout=60)
        assert all(part() is None for part in segment.parts[:4])
        assert isinstance(uploader.error, kind)
    finally:
        gc.enable()
        uploader._segments.clear()
        uploader.leave()
