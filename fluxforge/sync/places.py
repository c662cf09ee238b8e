"""Where a sync reads and writes, and whether that is one place."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING, NamedTuple

from fluxforge.errors import UsageError
from fluxforge.layout import join_key

if TYPE_CHECKING:
    from fluxforge.layout import Layout
    from fluxforge.storage.base import StorageBackend


class Place(NamedTuple):
    """A storage, and the names of the folders in it."""

    storage: StorageBackend
    layout: Layout

    def locate(self, folder: str) -> tuple[str, str]:
        """Return where a folder is: the server, if there is one, and the path on it."""
        path = self.storage.get_full_path(folder)
        return self.storage.server, os.path.realpath(path) if self.storage.is_local else path


class Route(NamedTuple):
    """From where to where one kind of file goes."""

    source: Place
    destination: Place

    def is_needed(self, folders: list[str], others: list[str], *, delete: bool) -> bool:
        """Return False if both ends are one place by name; under two names nothing is deleted."""
        here, there = self
        if [here.locate(one) for one in folders] == [there.locate(one) for one in others]:
            return False
        if delete and self._share_a_file(folders[0], others[0]):
            raise UsageError(
                f"{here.storage!r} and {there.storage!r} are one place: nothing can be moved"
            )
        return True

    def _share_a_file(self, folder: str, other: str) -> bool:
        """Tell whether a file that is claimed at one end is claimed at the other too.

        Names alone do not tell: a server has several, and a disk may be mounted twice.
        """
        probe = f"sync-{uuid.uuid4().hex}"
        claim = self.source.storage.acquire_lease(join_key(folder, probe))
        if claim is None:
            return True
        with claim:
            found = self.destination.storage.acquire_lease(join_key(other, probe))
            if found is not None:
                found.release()
            return found is None
