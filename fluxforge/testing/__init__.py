"""Tests that ship with the library: what a new storage must pass, and the real parts to run it on.

Needs the ``test`` extra: ``pip install 'fluxforge[test]'``.
"""

from fluxforge.testing.conformance import StorageConformance
from fluxforge.testing.stateful import storage_machine

__all__ = ["StorageConformance", "storage_machine"]
