"""Checks of the raw folders: right names in right places, and nothing left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluxforge.errors import AccessDeniedError
from fluxforge.layout import STATES, SegmentName, join_key
from fluxforge.segments import is_quarantine_name
from fluxforge.verify.report import Check, Finding, VerifyReport

if TYPE_CHECKING:
    from collections.abc import Collection

    from fluxforge.layout import Layout
    from fluxforge.storage.base import StorageBackend, StoredFile


def verify_raw(storage: StorageBackend, layout: Layout, sources: Collection[str]) -> VerifyReport:
    """Check the segments of one storage. Nothing is changed."""
    report = _folders(storage, layout, sources)
    for source in sources:
        for state in STATES:
            folder = layout.state(state, source)
            files = storage.list_entries(folder)
            report += VerifyReport((Check(f"files in {state}/{source}", len(files)),))
            report += _names(storage, folder, state, files)
        report += _active(storage, layout.active(source))
        report += _processing(storage, layout.processing(source))
        report += _waiting(storage, layout, source)
    return report


def _folders(storage: StorageBackend, layout: Layout, sources: Collection[str]) -> VerifyReport:
    known = {layout.state(state, "x").split("/")[-2] for state in STATES}
    problems = []
    for state in storage.list_folders(layout.raw):
        where = join_key(layout.raw, state)
        if state not in known:
            problems.append(
                Finding("unknown folder", where, "no state has this name: move what is in it away")
            )
            continue
        problems.extend(
            Finding(
                "unknown source",
                join_key(where, source),
                "no source of this name is installed or configured: nothing reads it",
            )
            for source in storage.list_folders(where)
            if source not in sources
        )
        problems.extend(
            Finding(
                "misplaced file", key, "it belongs to no source: move it into the folder of one"
            )
            for key in storage.list_files(where, recursive=False)
        )
    return VerifyReport(problems=tuple(problems))


def _names(
    storage: StorageBackend, folder: str, state: str, files: list[StoredFile]
) -> VerifyReport:
    journals = set(storage.list_journals(folder)) if state == "active" else set()
    ends = (".ndjson.zst",) if state == "archive" else (".ndjson",)
    problems = []
    for file in files:
        if state == "quarantine":
            segment = is_quarantine_name(file.name)
        else:
            segment = SegmentName.parse(file.name) is not None
        part = any(file.key.startswith(journal) for journal in journals)
        if not part and not (segment and file.name.endswith(ends)):
            problems.append(
                Finding("misplaced file", file.key, f"not a segment of {state}: nothing reads it")
            )
    return VerifyReport(problems=tuple(problems))


def _active(storage: StorageBackend, folder: str) -> VerifyReport:
    return VerifyReport(
        problems=tuple(
            Finding(
                "abandoned segment",
                key,
                "its collector ended without closing it: the next ingest of this source will",
            )
            for key in storage.list_journals(folder)
            if SegmentName.parse(key) is not None and _is_abandoned(storage, key)
        )
    )


def _processing(storage: StorageBackend, folder: str) -> VerifyReport:
    return VerifyReport(
        problems=tuple(
            Finding(
                "unfinished segment",
                key,
                "its worker ended, or failed over it: the next etl takes it up, or tells why not",
            )
            for key in storage.list_files(folder, "*.ndjson", recursive=False)
            if _is_abandoned(storage, key)
        )
    )


def _is_abandoned(storage: StorageBackend, key: str) -> bool:
    """Tell whether nobody living holds a key: whoever does keeps others from leasing it."""
    try:
        lease = storage.acquire_lease(key)
    except AccessDeniedError:
        return False  # a reader may not find out
    if lease is None:
        return False
    lease.release()
    return True


def _waiting(storage: StorageBackend, layout: Layout, source: str) -> VerifyReport:
    ready = storage.list_files(layout.ready(source), "*.ndjson")
    refused = storage.list_files(layout.quarantine(source), "*.ndjson")
    notes = []
    if ready:
        message = f"{len(ready)} segments wait for the etl"
        notes.append(Finding("waiting", layout.ready(source), message))
    if refused:
        message = f"{len(refused)} files of lines that no table took, each with its reason"
        notes.append(Finding("quarantine", layout.quarantine(source), message))
    return VerifyReport(notes=tuple(notes))
