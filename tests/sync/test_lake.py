"""A whole lake to S3, back, and on: what is copied, and that it reads the same."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from fluxforge import Lake
from fluxforge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import polars as pl

    from fluxforge.storage.base import StorageBackend

    Content = Callable[..., dict[str, bytes]]

CHANNELS = ("ticker", "trades", "orderbook", "candles")
SETTLED = ("ready", "archive", "quarantine")


def same_rows(one: Lake, other: Lake) -> bool:
    def rows(lake: Lake, channel: str) -> pl.DataFrame:
        frame = lake.scan("coinbase", channel, raw=True).collect()
        return frame.sort(frame.columns)

    return all(rows(one, name).equals(rows(other, name)) for name in CHANNELS)


def settled(storage: StorageBackend, content: Content) -> dict[str, bytes]:
    files = {k: v for k, v in content(storage, "processed").items() if "_delta_log" not in k}
    for state in SETTLED:
        files |= content(storage, f"raw/{state}")
    return files


def everything(storage: StorageBackend, content: Content) -> dict[str, bytes]:
    return {k: v for k, v in content(storage).items() if "_delta_log" not in k}


@pytest.mark.s3
def test_a_lake_goes_to_s3_and_on_and_back_and_reads_the_same(
    full_lake: Lake, make_lake: Callable[..., Lake], content: Content
) -> None:
    first, second, back = make_lake("s3"), make_lake("s3"), make_lake()
    expected = settled(full_lake.storage, content)
    for source, destination in ((full_lake, first), (first, second), (second, back)):
        report = source.sync(destination, delete=source is second)
        assert report.problems == ()
        assert sorted(report.copied) == sorted(expected)
        assert everything(destination.storage, content) == expected
    assert second.storage.list_files() == []
    assert same_rows(full_lake, first)
    assert same_rows(full_lake, back)
    query = "FROM coinbase.trades ORDER BY symbol, trade_id, ts_recv"
    assert back.sql(query).fetchall() == full_lake.sql(query).fetchall()
    assert back.tables().drop("bytes").equals(full_lake.tables().drop("bytes"))


def test_a_second_sync_copies_what_is_new_and_nothing_else(
    full_lake: Lake, make_lake: Callable[..., Lake], segment: Callable[..., bytes]
) -> None:
    copy = make_lake()
    first = full_lake.sync(copy)
    again = full_lake.sync(copy)
    assert (again.copied, again.bytes, again.problems) == ((), 0, ())
    assert sorted(again.skipped) == sorted(first.copied)

    new = "raw/ready/coinbase/segment_20251203T14_00002.ndjson"
    full_lake.storage.write_bytes(new, segment("another"))
    full_lake.optimize("coinbase")
    third = full_lake.sync(copy)
    assert new in third.copied
    tables = {key.split("/")[2] for key in third.copied if key.startswith("processed")}
    assert tables >= set(CHANNELS)
    assert same_rows(full_lake, copy)
    assert full_lake.sync(copy).copied == ()


def test_a_dry_run_tells_what_a_run_does_and_touches_nothing(
    full_lake: Lake, make_lake: Callable[..., Lake], content: Content
) -> None:
    copy = make_lake()
    before = content(full_lake.storage)
    for delete in (False, True):
        told = full_lake.sync(copy, delete=delete, dry_run=True)
        assert told.dry_run
        assert bool(told.deleted) == delete
        assert content(full_lake.storage) == before
        assert copy.storage.list_files() == []
        assert copy.storage.list_folders() == []
    done = full_lake.sync(copy, delete=True)
    assert sorted(done.copied) == sorted(told.copied)
    assert sorted(done.deleted) == sorted(told.deleted)
    assert done.bytes == told.bytes
    assert "to be copied" in repr(told)
    assert f"would delete {told.deleted[0]}" in str(told)


@pytest.mark.s3
def test_a_move_leaves_only_what_is_written_or_processed(
    full_lake: Lake, make_lake: Callable[..., Lake], content: Content
) -> None:
    copy, untouched = make_lake("s3"), make_lake()
    full_lake.sync(untouched)
    expected = settled(full_lake.storage, content)
    report = full_lake.sync(copy, delete=True)
    assert report.problems == ()
    assert everything(copy.storage, content) == expected
    assert same_rows(copy, untouched)
    assert sorted(report.deleted) == sorted(expected)
    assert full_lake.storage.list_files() == [
        "raw/active/coinbase/segment_20251203T14_00001.ndjson",
        "raw/processing/coinbase/segment_20251203T14_00001.ndjson",
    ]
    assert full_lake.tables().height == 0


@pytest.mark.s3
def test_segments_and_tables_of_a_hybrid_lake_go_where_the_other_lake_has_them(
    full_lake: Lake, make_overlay: Callable[..., Path], content: Content, tmp_path: Path
) -> None:
    bucket = make_overlay("s3")
    s3 = Lake(bucket)
    hybrid = tmp_path / "hybrid.yaml"
    text = bucket.read_text().replace("storage:", "storage_output:", 1).replace("\n", "\n  ")
    paths = "{raw_dir: captured, ready_subdir: waiting}"
    place = f"storage: {{base_dir: '{tmp_path}/hybrid', paths: {paths}}}"
    hybrid.write_text(f"{place}\netl:\n  {text}\n")
    other = Lake(hybrid)
    full_lake.sync(other)
    assert other.storage.list_folders() == ["captured"]
    assert len(other.storage.list_files("captured/waiting/coinbase")) == 1
    assert s3.storage.list_folders() == ["processed"]
    assert same_rows(full_lake, s3)
    # Its tables lie where the other one's do: only segments are copied.
    report = other.sync(s3)
    assert {key.split("/")[1] for key in report.copied} == set(SETTLED)
    assert settled(s3.storage, content) == settled(full_lake.storage, content)


def test_a_lake_is_not_copied_to_itself(full_lake: Lake, content: Content, tmp_path: Path) -> None:
    before = content(full_lake.storage)
    with pytest.raises(UsageError, match="name another destination"):
        full_lake.sync(Lake(config=full_lake.config), delete=True)
    link = tmp_path / "link"
    link.symlink_to(full_lake.storage.get_full_path())
    with pytest.raises(UsageError, match="name another destination"):
        full_lake.sync(Lake(overrides=[f"storage.base_dir={link}"]), delete=True)
    assert content(full_lake.storage) == before


@pytest.mark.s3
def test_a_bucket_is_known_by_another_address(
    make_lake: Callable[..., Lake], segment: Callable[..., bytes], content: Content
) -> None:
    lake = make_lake("s3")
    key = "raw/ready/coinbase/segment_20251203T14_00001.ndjson"
    lake.storage.write_bytes(key, segment("A"))
    storage = lake.config.storage
    assert storage.s3.endpoint_url is not None
    elsewhere = storage.s3.endpoint_url.replace("127.0.0.1", "localhost")
    s3 = replace(storage.s3, endpoint_url=elsewhere)
    config = replace(lake.config, storage=replace(storage, s3=s3))
    with pytest.raises(UsageError, match="are one place"):
        lake.sync(Lake(config=config), delete=True)
    assert content(lake.storage) == {key: segment("A")}


def test_a_report_says_what_happened(full_lake: Lake, make_lake: Callable[..., Lake]) -> None:
    calls: list[tuple[int, int, int]] = []
    report = full_lake.sync(make_lake(), on_progress=lambda *call: calls.append(call))
    assert calls[0] == (0, 3, 0)
    assert calls[-1] == (len(report.copied), len(report.copied), report.bytes)
    assert repr(report).startswith(f"<SyncReport: {len(report.copied)} files copied (")
    assert str(len(report.copied)) in report._repr_html_()
    assert report.to_dict()["copied"] == list(report.copied)
    with pytest.raises(AttributeError):
        report.bytes = 0  # type: ignore[misc]
