"""What lies where right now: segments by state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fluxforge.layout import STATES, SegmentName
from fluxforge.segments import is_quarantine_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    import polars as pl

    from fluxforge.layout import Layout
    from fluxforge.storage.base import StorageBackend


def segment_status(
    places: Iterable[tuple[StorageBackend, Layout]], sources: Iterable[str]
) -> pl.DataFrame:
    """Count segments by source and state; see :meth:`fluxforge.Lake.status`."""
    import polars as pl

    schema: dict[str, Any] = {
        "source": pl.String,
        "state": pl.String,
        "files": pl.Int64,
        "bytes": pl.Int64,
        "oldest": pl.Datetime("us", "UTC"),
        "newest": pl.Datetime("us", "UTC"),
    }
    seen: set[str] = set()
    rows = []
    for storage, layout in places:
        for source in sources:
            for state in STATES:
                folder = layout.state(state, source)
                if storage.get_full_path(folder) in seen:
                    continue
                seen.add(storage.get_full_path(folder))
                entries = storage.list_entries(folder, recursive=False)
                files = [entry for entry in entries if _counts(entry.name)]
                times = [entry.modified for entry in files]
                rows.append(
                    {
                        "source": source,
                        "state": state,
                        "files": len(files),
                        "bytes": sum(entry.size for entry in files),
                        "oldest": min(times, default=None),
                        "newest": max(times, default=None),
                    }
                )
    return pl.DataFrame(rows, schema=schema)


def _counts(name: str) -> bool:
    return SegmentName.parse(name) is not None or is_quarantine_name(name)
