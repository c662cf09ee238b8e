"""An object store in this process's memory: leases and parts as on S3, without a server."""

from __future__ import annotations

import uuid

from fluxforge.storage.fsspec_storage import FsspecStorage


def object_store(name: str = "", lease_seconds: float = 60.0) -> FsspecStorage:
    """Return a new store, or the one of that name."""
    place = f"lake/{name or uuid.uuid4().hex}"
    return FsspecStorage("memory", place, lease_seconds=lease_seconds)
