"""Storage: one contract, and one sibling file for each kind of place that fulfils it."""

from fluxforge.storage.base import Journal, Lease, StorageBackend, StoredFile

__all__ = ["Journal", "Lease", "StorageBackend", "StoredFile"]
