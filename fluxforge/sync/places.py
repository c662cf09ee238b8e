"""Where a sync reads and writes, and whether that is one place."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fluxforge.layout import STATES, join_key

if TYPE_CHECKING:
    from fluxforge.layout import Layout
    from fluxforge.storage.base import StorageBackend


@dataclass(frozen=True)
class Place:
    """A storage, and the names of the folders in it."""

    storage: StorageBackend
    layout: Layout

    def segment_folders(self) -> list[str]:
        """Return the folders of segments, without a source's name."""
        return [self.layout.state(state, "") for state in STATES]

    def table_folders(self) -> list[str]:
        """Return the folder of all tables, without a source's name."""
        return [join_key(self.layout.processed)]

    def locate(self, folder: str) -> tuple[str, str]:
        """Return where a folder is: the server, if there is one, and the path on it."""
        path = self.storage.get_full_path(folder)
        if self.storage.backend_type == "local":
            return "", os.path.realpath(path)
        return self.storage.get_storage_options().get("AWS_ENDPOINT_URL", ""), path


def have_same_name(one: Place, folders: list[str], other: Place, others: list[str]) -> bool:
    """Tell whether two lists of folders are called the same."""
    here = [one.locate(folder) for folder in folders]
    return here == [other.locate(folder) for folder in others]


def share_a_file(one: Place, folder: str, other: Place, other_folder: str) -> bool:
    """Tell whether two folders are one, whatever they are called.

    A file that is claimed in the one is then claimed in the other too. Names alone do not tell: a
    server has several, and a disk may be mounted twice.
    """
    probe = f"sync-{uuid.uuid4().hex}"
    claim = one.storage.acquire_lease(join_key(folder, probe))
    if claim is None:
        return True
    with claim:
        found = other.storage.acquire_lease(join_key(other_folder, probe))
        if found is None:
            return True
        found.release()
        return False
