"""Segments: what is in them, and their whole life from open to archived.

:mod:`~fluxforge.segments.envelope` is the format that ingestion writes and ETL reads;
:class:`~fluxforge.segments.store.SegmentStore` is the life of one source's segments.
"""

from fluxforge.segments.envelope import (
    Envelope,
    envelope_lines,
    new_connection_id,
    open_segment,
    read_segment,
)
from fluxforge.segments.records import (
    Claim,
    Quarantined,
    RecoveryReport,
    StoredSegment,
    is_quarantine_name,
    quarantine_name,
    retry_name,
)
from fluxforge.segments.store import SegmentStore

__all__ = [
    "Claim",
    "Envelope",
    "Quarantined",
    "RecoveryReport",
    "SegmentStore",
    "StoredSegment",
    "envelope_lines",
    "is_quarantine_name",
    "new_connection_id",
    "open_segment",
    "quarantine_name",
    "read_segment",
    "retry_name",
]
