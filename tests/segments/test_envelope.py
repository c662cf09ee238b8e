from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fluxforge.errors import SegmentError
from fluxforge.segments import (
    Envelope,
    Quarantined,
    new_connection_id,
    open_segment,
    quarantine_name,
    read_segment,
)
from fluxforge.segments import envelope as envelopes_module

if TYPE_CHECKING:
    from pathlib import Path

FRAMES = (
    st.binary(max_size=200)
    | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=4).map(
        lambda fields: json.dumps(fields, ensure_ascii=False).encode("utf-8", "surrogatepass")
    )
    | st.binary(max_size=60).map(lambda inner: b"{" + inner + b"}")
)


@given(st.integers(0, 2**63 - 1), st.text(max_size=30), FRAMES)
@example(1, "A", b'{"a":1,"data":{"b":2}}')
@example(1, ',"data":', b'{"x":",\\"data\\":"}')
@example(1, "A", b'{"a":"\xff"}')
@example(1, "A", b'{"pretty":\n1}')
@example(1, "A", b"")
@example(1, "A", b"{}\r")
@example(1, 'q"\\', b'{"channel":"ticker"}')
def test_every_frame_comes_back_byte_for_byte(capture_ns: int, conn: str, frame: bytes) -> None:
    line = Envelope(capture_ns, conn, frame).line()
    assert line.count(b"\n") == 1
    assert line.endswith(b"}\n")
    assert Envelope.parse(line) == Envelope(capture_ns, conn, frame)
    assert Envelope.parse(line[:-1] + b"\r\n").frame == frame


@given(st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=8), max_size=4))
def test_a_json_object_is_stored_under_data_unchanged(fields: dict[str, object]) -> None:
    frame = json.dumps(fields).encode()
    line = Envelope(7, "A", frame).line()
    assert line == b'{"capture_ns":7,"conn":"A","data":' + frame + b"}\n"
    assert json.loads(line)["data"] == fields


@pytest.mark.parametrize(
    ("frame", "field"),
    [(b"hello", "raw"), (b"[1]", "raw"), (b'{"a":\n1}', "raw"), (b'"x"', "raw"), (b"", "raw"),
     (b"\xff\xfe", "raw_base64"), (b'{"a":"\xff"}', "raw_base64")],
)  # fmt: skip
def test_what_is_not_a_json_object_on_one_line_is_stored_escaped(frame: bytes, field: str) -> None:
    fields = json.loads(Envelope(1, "A", frame).line())
    assert set(fields) == {"capture_ns", "conn", field}


@pytest.mark.parametrize(
    "line",
    [b"", b"\n", b"null", b"[]", b"5", b"{}", b'{"capture_ns":1}', b'{"capture_ns":1,"conn":"A"}',
     b'{"capture_ns":"x","conn":"A","raw":"y"}', b'{"conn":"A","data":{}}', b'{"capture_ns":1,"co',
     b'{"capture_ns":1,"conn":"A","raw_base64":"!"}', b'{"capture_ns":1,"conn":"A","data":{}',
     b'\xff\xfe',
     b'{"capture_ns":1,"conn":"A","data":}', b'{"capture_ns":null,"conn":"A","data":{}}'],
)  # fmt: skip
def test_a_line_that_is_no_envelope_is_an_error(line: bytes) -> None:
    with pytest.raises(SegmentError, match="not a segment's line"):
        Envelope.parse(line)


@given(st.binary(max_size=300))
def test_parsing_any_bytes_gives_an_envelope_or_a_segment_error(line: bytes) -> None:
    try:
        envelope = Envelope.parse(line)
    except SegmentError:
        return
    assert isinstance(envelope.frame, bytes)


def test_connection_ids_are_unique_and_sort_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len({new_connection_id() for _ in range(1000)}) == 1000
    ids = []
    for millisecond in (0, 1, 999, 1_763_844_318_000, 4_102_444_800_000):
        monkeypatch.setattr(envelopes_module.time, "time_ns", lambda at=millisecond: at * 1_000_000)
        ids.append(new_connection_id())
    assert ids == sorted(ids)


@given(
    st.integers(1, 10**9),
    st.text(max_size=40),
    st.binary(max_size=200) | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")),
)
@example(1, "torn", b"\xf0\x9f\x98")
@example(1, "line separator", "\u2028\u0085\x1c".encode())
def test_quarantined_bytes_can_be_restored(number: int, reason: str, content: bytes) -> None:
    content = content.replace(b"\n", b"")
    record = Quarantined(number, reason, content).record()
    assert record.count(b"\n") == 1
    assert record.endswith(b"\n")
    fields = json.loads(record)
    assert (fields["line"], fields["reason"]) == (number, reason)
    restored = base64.b64decode(fields["base64"]) if "base64" in fields else fields["text"].encode()
    assert restored == content


def test_a_quarantine_file_is_named_after_the_segment_and_its_content() -> None:
    name = quarantine_name("segment_20251203T14_00001.ndjson", "9f86d081884c7d659a2f")
    assert name == "segment_20251203T14_00001-9f86d081884c.ndjson"


@given(st.lists(FRAMES, max_size=8), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_segment_reads_back_plain_and_compressed(
    tmp_path: Path, frames: list[bytes], blank: bool
) -> None:
    envelopes = [Envelope(number, "A", frame) for number, frame in enumerate(frames)]
    content = (b"\n \r\n" if blank else b"").join(envelope.line() for envelope in envelopes)
    plain, packed = tmp_path / "s.ndjson", tmp_path / "s.ndjson.zst"
    plain.write_bytes(content)
    with pa.CompressedOutputStream(str(packed), "zstd") as file:
        file.write(content)
    for path in (plain, packed):
        assert list(read_segment(path)) == envelopes
        with open_segment(path) as file:
            assert file.read() == content


def test_a_compressed_line_may_be_longer_than_any_buffer(tmp_path: Path) -> None:
    frame = b'{"x":"' + b"y" * (3 << 20) + b'"}'
    packed = tmp_path / "s.ndjson.zst"
    with pa.CompressedOutputStream(str(packed), "zstd") as file:
        file.write(Envelope(1, "A", frame).line() * 2)
    assert [envelope.frame for envelope in read_segment(packed)] == [frame, frame]


def test_reading_stops_at_a_line_that_is_no_envelope(tmp_path: Path) -> None:
    path = tmp_path / "s.ndjson"
    path.write_bytes(Envelope(1, "A", b"{}").line() + b"torn\n")
    with pytest.raises(SegmentError):
        list(read_segment(path))
