"""Storage: one contract, and one module for each kind of place that fulfils it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fluxforge.storage.base import StorageBackend, StoredFile
from fluxforge.storage.local import LocalStorage
from fluxforge.storage.objects import Lease

if TYPE_CHECKING:
    from fluxforge.storage.factory import create_storage_backend
    from fluxforge.storage.memory import MemoryStorage
    from fluxforge.storage.s3 import S3Storage

__all__ = [
    "Lease",
    "LocalStorage",
    "MemoryStorage",
    "S3Storage",
    "StorageBackend",
    "StoredFile",
    "create_storage_backend",
]

_HOMES = {"MemoryStorage": "memory", "S3Storage": "s3", "create_storage_backend": "factory"}


def __getattr__(name: str) -> Any:
    # Loaded when asked for: a local lake needs neither fsspec nor s3fs.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
