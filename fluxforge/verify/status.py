"""What lies where right now: segments by state."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fluxforge.layout import STATES
from fluxforge.segments import SegmentStore
from fluxforge.segments.files import is_segment_name
from fluxforge.storage.local import LocalStorage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import polars as pl

    from fluxforge.layout import Layout
    from fluxforge.storage.base import StorageBackend


def segment_status(
    places: Iterable[tuple[StorageBackend, Layout]],
    sources: Iterable[str],
    spool_dir: str | Path | None,
) -> pl.DataFrame:
    """Count segments by source and state; see :meth:`fluxforge.Lake.status`."""
    import polars as pl

    at = pl.Datetime("us", "UTC")
    schema = {"source": pl.String, "state": pl.String, "files": pl.Int64, "bytes": pl.Int64}
    return pl.DataFrame(
        list(_rows(places, sorted(sources), spool_dir)), {**schema, "oldest": at, "newest": at}
    )


def _rows(
    places: Iterable[tuple[StorageBackend, Layout]],
    sources: Iterable[str],
    spool_dir: str | Path | None,
) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for storage, layout in places:
        for source in sources:
            store = SegmentStore(storage, layout, source, spool_dir=spool_dir)
            found: dict[str, list[tuple[int, datetime]]] = {}  # sizes and times, by state
            for state in STATES:
                place = storage.get_full_path(layout.state(state, source))
                if place not in seen:
                    seen.add(place)
                    found[state] = [(one.size, one.modified) for one in store.list(state)]
            if found and not storage.is_local:
                files = LocalStorage(store.folder).list_entries(recursive=False)
                spooled = [(one.size, one.modified) for one in files if is_segment_name(one.name)]
                found["spool"] = spooled
            for name, entries in found.items():
                times = [modified.astimezone(UTC) for _, modified in entries]
                yield {
                    "source": source,
                    "state": name,
                    "files": len(entries),
                    "bytes": sum(size for size, _ in entries),
                    "oldest": min(times, default=None),
                    "newest": max(times, default=None),
                }
