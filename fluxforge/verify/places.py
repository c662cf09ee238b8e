"""Checks of the raw folders: right names in right places, and nothing left behind."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from fluxforge.errors import AccessDeniedError
from fluxforge.layout import STATES, SegmentName, join_key
from fluxforge.segments import is_quarantine_name
from fluxforge.segments.files import is_segment_name
from fluxforge.segments.mirror import HEAD
from fluxforge.sources import source_names
from fluxforge.verify.report import Check, Finding, VerifyReport, guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from fluxforge.layout import Layout, State
    from fluxforge.storage.base import StorageBackend, StoredFile


def in_work(places: Iterable[tuple[StorageBackend, Layout]]) -> bool:
    """Tell whether any segment is in the hands of an ETL."""
    return any(
        storage.list_files(_home(layout, "processing"), "*.ndjson") for storage, layout in places
    )


def verify_raw(
    storage: StorageBackend, layout: Layout, configured: Collection[str]
) -> VerifyReport:
    """Check the segments of one storage. Nothing is changed."""
    report = guarded(layout.raw, partial(_unknown_folders, storage, layout))
    for state in STATES:
        home = _home(layout, state)
        report += guarded(home, partial(_state, storage, layout, state, set(configured)))
    return report


def _home(layout: Layout, state: State) -> str:
    """Return the folder that holds a state's folder of each source."""
    return layout.state(state, "x").rpartition("/")[0]


def _unknown_folders(storage: StorageBackend, layout: Layout) -> VerifyReport:
    prefix = f"{layout.raw}/" if layout.raw else ""
    known = {_home(layout, state).removeprefix(prefix).split("/")[0] for state in STATES}
    if not layout.raw:
        known.add(layout.processed.split("/")[0])
    return VerifyReport(
        problems=tuple(
            Finding(
                "unknown folder",
                join_key(layout.raw, name),
                "no state has this name: move what is in it away",
            )
            for name in storage.list_folders(layout.raw)
            if name not in known
        )
    )


def _state(
    storage: StorageBackend, layout: Layout, state: State, configured: set[str]
) -> VerifyReport:
    home = _home(layout, state)
    found = set(storage.list_folders(home))
    sources = (found & {*source_names()}) | configured
    unknown = [
        Finding(
            "unknown source",
            join_key(home, name),
            "no source of this name is installed or configured: nothing reads it",
        )
        for name in sorted(found - sources)
    ]
    strays = [
        Finding("misplaced file", key, "it belongs to no source: move it into the folder of one")
        for key in storage.list_files(home, recursive=False)
    ]
    report = VerifyReport(problems=(*unknown, *strays))
    for source in sorted(sources):
        folder = layout.state(state, source)
        report += guarded(folder, partial(_segments, storage, folder, state))
    return report


def _segments(storage: StorageBackend, folder: str, state: State) -> VerifyReport:
    files = storage.list_entries(folder)
    report = VerifyReport((Check(f"files in {folder}", len(files)),))
    if state == "active":
        return report + _active(storage, folder, files)
    report += _names(state, files)
    segments = [file.key for file in files if file.name.endswith(".ndjson")]
    if state == "processing":
        return report + _processing(storage, segments)
    if segments and state == "ready":
        message = f"{len(segments)} segments wait for the etl"
        return report + VerifyReport(notes=(Finding("waiting", folder, message),))
    if segments and state == "quarantine":
        message = f"{len(segments)} files of lines that no table took, each with its reason"
        return report + VerifyReport(notes=(Finding("quarantine", folder, message),))
    return report


def _names(state: State, files: Iterable[StoredFile]) -> VerifyReport:
    return VerifyReport(
        problems=tuple(
            Finding("misplaced file", file.key, f"not a segment of {state}: nothing reads it")
            for file in files
            if not _belongs(state, file.name)
        )
    )


def _belongs(state: State, name: str) -> bool:
    if state == "quarantine":
        return is_quarantine_name(name)
    plain = name.removesuffix(".zst") if state == "archive" else name
    if state == "archive" and plain == name:
        return False
    if not plain.endswith(".ndjson"):
        return False
    # In the archive a namesake with other content bears its digest, as quarantine files do.
    return SegmentName.parse(plain) is not None or (
        state == "archive" and is_quarantine_name(plain)
    )


def _active(storage: StorageBackend, folder: str, files: Iterable[StoredFile]) -> VerifyReport:
    message = "its collector ended without closing it: the next ingest of this source will"
    problems = []
    for file in files:
        name = file.key[len(folder) + 1 :].partition("/")[0]  # of a mirrored one, its folder
        if not is_segment_name(name):
            wrong = "not a segment of active: nothing reads it"
            problems.append(Finding("misplaced file", file.key, wrong))
        elif (storage.is_local or file.name == HEAD) and _is_abandoned(
            storage, file.key, storage.exists
        ):
            problems.append(Finding("abandoned segment", file.key, message))
    return VerifyReport(problems=tuple(problems))


def _processing(storage: StorageBackend, segments: Iterable[str]) -> VerifyReport:
    message = "its worker ended, or failed over it: the next etl takes it up, or tells why not"
    return VerifyReport(
        problems=tuple(
            Finding("unfinished segment", key, message)
            for key in segments
            if _is_abandoned(storage, key, storage.exists)
        )
    )


def _is_abandoned(storage: StorageBackend, key: str, is_there: Callable[[str], bool]) -> bool:
    """Tell whether nobody living holds a key: whoever does keeps others from leasing it."""
    try:
        lease = storage.acquire_lease(key)
    except AccessDeniedError:
        return False  # a reader may not find out
    if lease is None:
        return False
    with lease:
        return is_there(key)  # its holder may have finished it just now
