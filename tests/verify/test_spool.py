"""What lies on this machine on its way to an object store is seen."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fluxforge.layout import Layout
from fluxforge.segments import SegmentStore
from fluxforge.verify import VerifyReport, verify_lake
from fluxforge.verify.status import segment_status
from tests.support.object_store import object_store

if TYPE_CHECKING:
    from pathlib import Path

LINE = b'{"capture_ns":1,"conn":"A","data":{}}\n'


def test_what_waits_is_told_and_a_dead_captures_is_a_problem(tmp_path: Path) -> None:
    place = object_store(), Layout()
    place[0].write_bytes("raw/ready/coinbase/segment_20260809T22_00001.ndjson", LINE)

    def verify() -> VerifyReport:
        return verify_lake([place], place, ["coinbase"], spool_dir=tmp_path)

    segment = SegmentStore(*place, "coinbase", spool_dir=tmp_path).open(datetime.now(UTC))
    segment.file.append(LINE)
    living = verify()
    assert living.ok
    (note,) = (note for note in living.notes if note.kind == "spooled")
    assert note.where == str(segment.file.path.parent)
    assert note.message.startswith("1 segments (0.0 MB)")
    status = segment_status([place], ["coinbase"], tmp_path).filter(state="spool")
    assert status.select("source", "files", "bytes").rows() == [("coinbase", 1, len(LINE))]

    (segment.file.path.parent / "desktop.ini").write_text("stray")
    segment.release()
    found = {(one.kind, one.where) for one in verify().problems}
    assert found == {
        ("abandoned_segment", str(segment.file.path)),
        ("misplaced_file", str(segment.file.path.parent)),
    }
