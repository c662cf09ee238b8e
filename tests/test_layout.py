from __future__ import annotations

import ntpath
import posixpath
import warnings
from datetime import UTC, datetime, timedelta, timezone
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fluxforge.config import FluxForgeConfig, StorageConfig
from fluxforge.config.schema import PathsConfig
from fluxforge.errors import InvalidKeyError, UsageError
from fluxforge.layout import STATES, Layout, SegmentName, check_key, hour_of, join_key
from fluxforge.storage.factory import create_layout

# Words that have opened doors elsewhere, beside any text at all.
WICKED = st.sampled_from(
    ["..", ".", "/", "\\", "C:", "C:\\", "//host/share", "\\\\host\\share", "~", "a/../..", "",
     "..\\..", "%2e%2e", "nul", "COM1", "a:b", "a\x00b", "...", " ", ". .", "con .txt", "\ud800"]
)  # fmt: skip
PARTS = st.lists(WICKED | st.text(max_size=12), max_size=5)


@given(PARTS)
def test_no_key_leaves_the_root_on_posix(parts: list[str]) -> None:
    try:
        key = join_key(*parts)
    except InvalidKeyError:
        return
    root = PurePosixPath("/srv/lake")
    path = root.joinpath(*key.split("/")) if key else root
    assert path.is_relative_to(root)
    assert posixpath.normpath(path) == str(path)


@given(PARTS)
def test_no_key_leaves_the_root_on_windows(parts: list[str]) -> None:
    try:
        key = join_key(*parts)
    except InvalidKeyError:
        return
    root = PureWindowsPath("F:/lake")
    path = root.joinpath(*key.split("/")) if key else root
    assert path.is_relative_to(root)
    assert path.drive == "F:"
    assert ntpath.normpath(path) == str(path)
    assert ":" not in str(path)[2:]  # an alternate data stream
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert not path.is_reserved()


@given(PARTS)
def test_a_joined_key_is_clean_and_stays_the_same(parts: list[str]) -> None:
    try:
        key = join_key(*parts)
    except InvalidKeyError:
        return
    assert join_key(key) == key
    assert check_key(key) == key
    assert "" not in key.split("/") or key == ""
    key.encode()  # any disk and any object store takes UTF-8


@given(st.lists(st.from_regex(r"[A-Za-z0-9_=-]{1,20}", fullmatch=True), min_size=1, max_size=6))
def test_honest_names_are_kept_as_they_are(names: list[str]) -> None:
    assume(
        not any(
            PureWindowsPath(name).name.upper() in {"CON", "PRN", "AUX", "NUL"} for name in names
        )
    )
    assume(not any(name[:3].upper() in {"COM", "LPT"} for name in names))
    assert join_key(*names) == "/".join(names)


@pytest.mark.parametrize(
    "key",
    ["/raw", "\\raw", "C:/raw", "raw/..", "../raw", "raw/./x", "a\\b", "a\nb", "a:b", "a*b", "a?b",
     'a"b', "a<b", "a|b", "end.", "end ", "NUL", "com1.txt", "LPT\u00b9", "aux .log", "x" * 256,
     "\N{LATIN SMALL LETTER E WITH ACUTE}" * 128, "raw/\udcff"],
)  # fmt: skip
def test_what_some_disk_cannot_hold_is_refused(key: str) -> None:
    with pytest.raises(InvalidKeyError, match="key"):
        check_key(key)


def test_the_longest_name_that_a_disk_holds_is_allowed() -> None:
    assert check_key("x" * 255) == "x" * 255


MOMENTS = st.datetimes(
    min_value=datetime(1970, 1, 2), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)
)


@given(MOMENTS, st.integers(1, 10**7), st.sampled_from(["", "0123abcd"]))
def test_a_segment_name_reads_back(at: datetime, counter: int, token: str) -> None:
    name = SegmentName(hour_of(at), counter, token)
    assert SegmentName.parse(str(name)) == name
    assert SegmentName.parse(f"raw/ready/coinbase/{name}.zst") == name


def test_no_two_new_names_are_the_same() -> None:
    at = datetime(2025, 12, 3, 14, 59, tzinfo=UTC)
    names = {SegmentName.new(at, 1) for _ in range(1_000)}
    assert len(names) == 1_000
    assert {(name.hour, name.counter) for name in names} == {("20251203T14", 1)}


def test_a_derived_name_follows_from_the_first_and_the_reason() -> None:
    name = SegmentName("20251203T14", 1, "0123abcd")
    assert name.derive(7) == name.derive(7)
    names = {name, name.derive(7), name.derive(8), SegmentName("20251203T14", 1).derive(7)}
    assert len(names) == 4
    assert all(SegmentName.parse(str(name)) == name for name in names)


@pytest.mark.parametrize(
    "text",
    ["", "segment_.ndjson", "segment_20251203_00001.ndjson", "segment_20251203T14_0001.ndjson",
     "segment_20251203T14_00001-9f86d081884c.ndjson", "segment_20251203T14_00001_xyz.ndjson",
     "segment_20251203T14_00001_0123ABCD.ndjson", "xsegment_20251203T14_00001.ndjson",
     ".segment_20251203T14_00001.ndjson.lease", "segment_20251203T14_00001.parquet"],
)  # fmt: skip
def test_what_is_no_segment_name_is_none(text: str) -> None:
    assert SegmentName.parse(text) is None


def test_names_sort_by_hour_and_counter_beyond_five_digits() -> None:
    names = [SegmentName("20251203T14", 100_000), SegmentName("20251203T14", 99_999)]
    assert sorted(names)[0].counter == 99_999


def test_the_hour_is_utc_whatever_the_zone() -> None:
    kathmandu = timezone(timedelta(hours=5, minutes=45))
    assert hour_of(datetime(2026, 1, 1, 3, 0, tzinfo=kathmandu)) == "20251231T21"


def test_the_layout_is_the_one_that_the_users_document_shows() -> None:
    layout = create_layout(FluxForgeConfig())
    assert layout == Layout()
    assert layout.active("coinbase") == "raw/active/coinbase"
    assert layout.ready("coinbase") == "raw/ready/coinbase"
    assert layout.processing("coinbase") == "raw/processing/coinbase"
    assert layout.archive("coinbase") == "raw/archive/coinbase"
    assert layout.quarantine("coinbase") == "raw/quarantine/coinbase"
    assert layout.tables("coinbase") == "processed/coinbase"
    assert layout.table("coinbase", "ticker") == "processed/coinbase/ticker"
    assert [layout.state(state, "x") for state in STATES] == [f"raw/{state}/x" for state in STATES]


def test_every_folder_name_of_the_configuration_is_used() -> None:
    names = PathsConfig(
        raw_dir="r", active_subdir="a", ready_subdir="b", processing_subdir="c",
        archive_subdir="d", quarantine_subdir="e", processed_dir="p",
    )  # fmt: skip
    layout = create_layout(FluxForgeConfig(storage=StorageConfig(paths=names)))
    assert [layout.state(state, "x") for state in STATES] == [
        "r/a/x", "r/b/x", "r/c/x", "r/d/x", "r/e/x",
    ]  # fmt: skip
    assert layout.table("x", "ticker") == "p/x/ticker"


def test_a_source_cannot_name_a_place_outside() -> None:
    with pytest.raises(InvalidKeyError):
        Layout().ready("../../etc")


def test_two_folders_tell_the_layout_and_the_source() -> None:
    layout = Layout(raw="r", ready_subdir="in", processing_subdir="work")
    assert layout.around("r/in/x/") == (layout, "x")
    assert layout.around("r/in/x", "r/active/x") == (layout, "x")
    other, source = layout.around("a/new/x", "b/open/x")
    assert [other.state(state, source) for state in STATES] == [
        "b/open/x", "a/new/x", "a/processing/x", "a/archive/x", "a/quarantine/x",
    ]  # fmt: skip
    assert layout.around("a/new/x")[0].active("x") == "a/active/x"
    with pytest.raises(UsageError, match="different sources"):
        layout.around("a/new/x", "a/open/y")
