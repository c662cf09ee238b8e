"""Copying a lake's segments and tables from one place to another, or moving them.

A copy can be cut short anywhere and run again: what is at the destination already is left alone.
Nothing is deleted before its copy was read back and found equal, byte for byte.
"""

from fluxforge.sync.job import sync_places
from fluxforge.sync.places import Place, Route
from fluxforge.sync.report import SyncReport

__all__ = ["Place", "Route", "SyncReport", "sync_places"]
