"""Keeping a segment whose rows are committed: compressed, under its own name."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fluxforge.errors import FileExistsAlreadyError
from fluxforge.layout import join_key
from fluxforge.segments import open_segment

if TYPE_CHECKING:
    from fluxforge.storage.base import StorageBackend

_CHUNK = 1 << 20


def archive_segment(
    storage: StorageBackend, path: Path, folder: str, name: str, digest: str
) -> str:
    """Store a compressed copy of a segment; return its key.

    Running it again for the same segment adds nothing. Another segment that bears the same name
    is kept beside it, with its digest in its name.
    """
    import pyarrow as pa

    with tempfile.TemporaryDirectory(prefix="fluxforge-archive-") as work:
        packed = Path(work) / f"{name}.zst"
        with (
            path.open("rb") as plain,
            pa.CompressedOutputStream(pa.OSFile(str(packed), "wb"), "zstd") as target,
        ):
            shutil.copyfileobj(plain, target, _CHUNK)
        key = join_key(folder, packed.name)
        try:
            storage.write_file(packed, key, exclusive=True)
        except FileExistsAlreadyError:
            stored = Path(work) / "stored"
            stored.mkdir()
            if not _same_content(storage.fetch(key, stored), path):
                stem = name.removesuffix(".ndjson")
                key = join_key(folder, f"{stem}-{digest[:12]}.ndjson.zst")
                storage.write_file(packed, key)
    return key


def _same_content(packed: Path, plain: Path) -> bool:
    with open_segment(packed) as one, plain.open("rb") as other:
        while True:
            left, right = one.read(_CHUNK), other.read(_CHUNK)
            if left != right:
                return False
            if not left:
                return True
