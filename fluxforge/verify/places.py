"""Checks of the raw folders: right names in right places, and nothing left behind or edited."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fluxforge.errors import AccessDeniedError
from fluxforge.layout import STATES, join_key
from fluxforge.segments import (
    Quarantined,
    SegmentStore,
    is_quarantine_name,
    open_segment,
    quarantine_name,
    retry_name,
)
from fluxforge.segments.files import find_segments, is_segment_name
from fluxforge.segments.mirror import HEAD
from fluxforge.segments.store import belongs_in
from fluxforge.segments.tries import SUFFIX as TRIES
from fluxforge.segments.tries import TriesJournal
from fluxforge.storage.local import LocalStorage
from fluxforge.tables.retention import retired_quarantine
from fluxforge.verify.report import Check, Finding, guarded
from fluxforge.verify.strays import odd_files, unknown_sources

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fluxforge.layout import Layout, State
    from fluxforge.storage.base import StorageBackend, StoredFile
    from fluxforge.verify.accounts import Ledger, Places
    from fluxforge.verify.report import Found

_ABANDONED = "its collector ended without closing it: the next ingest of this source will"
_UNFINISHED = "its worker ended, or failed over it: the next etl takes it up, or tells why not"


def verify_raw(storage: StorageBackend, layout: Layout, known: set[str]) -> Found:
    """Check the segments of one storage. Nothing is changed."""
    yield from guarded(layout.raw, _unknown_folders(storage, layout))
    yield from guarded(layout.raw, odd_files(storage, layout.raw))
    for state in STATES:
        yield from guarded(_home(layout, state), _state(storage, layout, state, known))


def verify_spool(
    storage: StorageBackend, layout: Layout, sources: Iterable[str], spool_dir: str | Path | None
) -> Found:
    """Check what waits on this machine for an object store."""
    for source in () if storage.is_local else sorted(sources):
        folder = SegmentStore(storage, layout, source, spool_dir=spool_dir).folder
        yield from guarded(str(folder), _spool(folder))


def _spool(folder: Path) -> Found:
    found, strays = find_segments(folder)
    for stray in strays:
        yield Finding("misplaced_file", str(folder), stray)
    disk = LocalStorage(folder)
    for path in found:
        if _is_abandoned(disk, path.name):
            yield Finding("abandoned_segment", str(path), _ABANDONED)
    if found:
        size = sum(file.size for file in disk.list_entries() if is_segment_name(file.name))
        message = f"{len(found)} segments ({size / 1e6:,.1f} MB) are on their way to the store"
        yield Finding("spooled", str(folder), message)


def _home(layout: Layout, state: State) -> str:
    """Return the folder that holds a state's folder of each source."""
    return layout.state(state, "x").rpartition("/")[0]


def _unknown_folders(storage: StorageBackend, layout: Layout) -> Found:
    prefix = f"{layout.raw}/" if layout.raw else ""
    known = {_home(layout, state).removeprefix(prefix).split("/")[0] for state in STATES}
    if not layout.raw:
        known.add(layout.processed.split("/")[0])
    message = "no state has this name: move what is in it away"
    for name in storage.list_folders(layout.raw):
        if name not in known:
            yield Finding("unknown_folder", join_key(layout.raw, name), message)


def _state(storage: StorageBackend, layout: Layout, state: State, known: set[str]) -> Found:
    home = _home(layout, state)
    found = set(storage.list_folders(home))
    yield from unknown_sources(home, found - known)
    for key in storage.list_files(home, recursive=False):
        message = "it belongs to no source: move it into the folder of one"
        yield Finding("misplaced_file", key, message)
    for source in sorted(found & known):
        folder = layout.state(state, source)
        yield from guarded(folder, _segments(storage, layout, source, state))


def _segments(storage: StorageBackend, layout: Layout, source: str, state: State) -> Found:
    folder = layout.state(state, source)
    files = storage.list_entries(folder)
    yield Check("files", folder, len(files))
    if state == "active":
        yield from _active(storage, folder, files)
        return
    for file in files:
        name = file.key[len(folder) + 1 :]
        if not belongs_in(state, name.removesuffix(TRIES) if state == "processing" else name):
            message = f"not a segment of {state}: nothing reads it"
            yield Finding("misplaced_file", file.key, message)
    for name in storage.list_folders(folder):
        if storage.is_local and not storage.list_files(join_key(folder, name)):
            message = "a folder among the segments: nothing reads it; move it away"
            yield Finding("odd_file", join_key(folder, name), message)
    segments = [file.key for file in files if file.name.endswith(".ndjson")]
    if state == "processing":
        yield from _processing(storage, TriesJournal(storage, layout, source), segments)
    elif segments and state == "ready":
        yield Finding("waiting", folder, f"{len(segments)} segments wait for the etl")


def _processing(storage: StorageBackend, journal: TriesJournal, segments: list[str]) -> Found:
    known = journal.read()
    for key in segments:
        tries = known.get(key.rpartition("/")[2])
        if tries is not None and tries.aside:
            message = f"{tries.error}: when that is mended, `fluxforge etl --retry` takes it up"
            yield Finding("set_aside_segment", key, message)
        elif _is_abandoned(storage, key):
            message = _UNFINISHED if tries is None else f"it is tried again later: {tries.error}"
            yield Finding("unfinished_segment", key, message)


def _active(storage: StorageBackend, folder: str, files: Iterable[StoredFile]) -> Found:
    for file in files:
        name = file.key[len(folder) + 1 :].partition("/")[0]  # of a mirrored one, its folder
        if not is_segment_name(name):
            message = "not a segment of active: nothing reads it"
            yield Finding("misplaced_file", file.key, message)
        elif (storage.is_local or file.name == HEAD) and _is_abandoned(storage, file.key):
            yield Finding("abandoned_segment", file.key, _ABANDONED)


def _is_abandoned(storage: StorageBackend, key: str) -> bool:
    """Tell whether nobody living holds a key: whoever does keeps others from leasing it."""
    try:
        lease = storage.acquire_lease(key)
    except AccessDeniedError:
        return False  # a reader may not find out
    if lease is None:
        return False
    with lease:
        return storage.exists(key)  # its holder may have finished it just now


def verify_set_aside(places: Places, ledger: Ledger, *, deep: bool) -> Found:
    """Compare quarantine and archive with what the ledger says of their segments."""
    for storage, layout in places if deep else ():
        folder = layout.archive(ledger.source)
        yield from guarded(folder, _archive(storage, folder, ledger))
    folder = places[-1][1].quarantine(ledger.source)
    yield from guarded(folder, _quarantine(places, folder, ledger, deep=deep))


def _quarantine(places: Places, folder: str, ledger: Ledger, *, deep: bool) -> Found:
    files = {
        key.removesuffix(".ndjson").rpartition("-")[2]: (storage, key)
        for storage, layout in places
        for key in storage.list_files(layout.quarantine(ledger.source))
        if is_quarantine_name(key)
    }
    stores = [SegmentStore(*place, ledger.source) for place in places]
    # Lines that are tried again are those of a segment of their own, in work or done.
    retried = {segment.name for store in stores for segment in store.waiting()}
    retried |= ledger.counts.keys()
    retired = retired_quarantine(ledger.table)
    expected = {
        row["digest"][:12]: row
        for row in ledger.rows
        if row["lines_quarantined"]
        and row["digest"][:12] not in retired
        and retry_name(quarantine_name(row["segment"], row["digest"])) not in retried
    }
    for row in [row for digest, row in expected.items() if digest not in files]:
        message = f"its {row['lines_quarantined']:,} lines are gone: restore them from a copy"
        yield Finding("missing_quarantine", join_key(folder, row["segment"]), message)
    for digest, (storage, key) in files.items() if deep else ():
        # Those that the ledger does not know are of torn lines, or of a segment in work.
        row = expected.get(digest, {})
        yield from _records(storage, key, row.get("lines_quarantined"))
    if expected or files:
        lines = sum(row["lines_quarantined"] for row in expected.values())
        message = f"{lines:,} lines of {len(expected):,} segments, in {len(files):,} files"
        yield Finding("quarantine", folder, message)


def _records(storage: StorageBackend, key: str, expected: int | None) -> Found:
    lines = storage.read_bytes(key).splitlines(keepends=True)
    edited = [number for number, line in enumerate(lines, 1) if not Quarantined.is_intact(line)]
    if edited:
        message = f"line {edited[0]} is not as it was written: restore the file from a copy"
    elif expected is not None and len(lines) != expected:
        message = f"{len(lines):,} of {expected:,} lines: restore the file from a copy"
    else:
        return
    yield Finding("damaged_quarantine", key, message)


def _archive(storage: StorageBackend, folder: str, ledger: Ledger) -> Found:
    """Read archived segments, and compare them with their digests in the ledger."""
    digests = {row["segment"]: row["digest"] for row in ledger.rows}
    digests |= {row["digest"][:12]: row["digest"] for row in ledger.rows}
    for key in storage.list_files(folder, "*.zst"):
        name = key.rpartition("/")[2].removesuffix(".zst")
        expected = digests.get(name) or digests.get(name.rpartition("-")[2][:12])
        with tempfile.TemporaryDirectory(prefix="fluxforge-verify-") as work:
            found = _digest(storage.fetch(key, Path(work)))
        if not found or (expected and found != expected):
            message = "it is not the segment that was processed: restore it from a copy"
            yield Finding("damaged_archive", key, message)


def _digest(path: Path) -> str:
    """Return the digest of an archived segment; empty if it cannot be read to its end."""
    try:
        with open_segment(path) as file:
            digest = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type]
            return digest.hexdigest()[:32]
    except OSError:
        return ""
