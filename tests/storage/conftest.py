"""Fixtures for storages on the real S3 server."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from botocore.retries.standard import ExponentialBackoff

from fluxforge.storage.s3 import S3Storage
from tests.support.fault_proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fluxforge.testing.s3_server import S3Server

_prefixes = itertools.count(1)


@pytest.fixture
def make_s3(s3_server: S3Server) -> Callable[..., S3Storage]:
    """Return a maker of storages: on a new prefix, unless told otherwise."""

    def make(prefix: str | None = None, **changes: Any) -> S3Storage:
        settings: dict[str, Any] = {
            "region": s3_server.region,
            "endpoint_url": s3_server.endpoint_url,
            "access_key_id": s3_server.access_key,
            "secret_access_key": s3_server.secret_key,
        }
        bucket = changes.pop("bucket", s3_server.bucket)
        chosen = f"tests/storage {next(_prefixes)}" if prefix is None else prefix
        return S3Storage(bucket, chosen, **settings | changes)

    return make


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    """Run a proxy in front of the S3 server."""
    with FaultProxy(s3_server.host, s3_server.port) as running:
        yield running


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return settings for tests: many attempts, in quick succession."""
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda *_: 0.02)
    return {"attempts": 9, "connect_timeout": 2, "read_timeout": 1}
