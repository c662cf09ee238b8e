"""Retention: whole days go, the accounts still add up, and readers that began before finish."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from fluxforge import Lake
from fluxforge.errors import ConfigError
from fluxforge.operate import retain

if TYPE_CHECKING:
    from pathlib import Path

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=1, microsecond=0)


def fill(lake: Lake, *days: datetime, rows: int = 200) -> None:
    """Commit a segment of each day, as a capture of that day would have left it."""
    for day in days:
        start = int(day.timestamp() * 1e9)
        lines = []
        for number in range(rows):
            ticker = {"type": "ticker", "product_id": "BTC-USD", "price": str(number + 1)}
            frame = {
                "channel": "ticker", "timestamp": day.isoformat(), "sequence_num": number,
                "events": [{"type": "update", "tickers": [ticker]}],
            }  # fmt: skip
            envelope = {"capture_ns": start + number * 1000, "conn": f"{day:%Y%m%d}", "data": frame}
            lines.append(json.dumps(envelope, separators=(",", ":")) + "\n")
        name = f"segment_{day:%Y%m%dT%H}_00001.ndjson"
        lake.storage.write_bytes(f"raw/ready/coinbase/{name}", "".join(lines).encode())
    lake.etl("coinbase")


def make(folder: Path, **retention: str) -> Lake:
    rules = ", ".join(f'"{key}": {value}' for key, value in retention.items())
    return Lake(
        overrides=[
            f"storage.base_dir={folder}", "etl.delete_after_processing=false",
            f"retention={{{rules}}}",
        ]
    )  # fmt: skip


def test_days_leave_and_the_accounts_add_up(tmp_path: Path) -> None:
    lake = make(tmp_path, **{"*.ticker": "3d"})
    fill(lake, *(TODAY - timedelta(days=back) for back in range(6, -1, -1)))
    before, counted = lake.scan("coinbase", "ticker"), "SELECT count(*) FROM coinbase.ticker"
    relation = lake.sql(counted)
    would = retain(lake, dry_run=True)
    assert lake.scan("coinbase", "ticker").collect().height == 7 * 200
    assert retain(lake).tables == would.tables
    assert would.tables["coinbase.ticker"].rows == 3 * 200
    stray = tmp_path / "processed/coinbase/ticker" / f"date={TODAY:%Y-%m-%d}" / "stray.parquet"
    stray.write_bytes(b"of a commit that never was")
    os.utime(stray, (0, 0))
    (deleted,) = lake.vacuum(keep="1h")["coinbase.ticker"]
    assert deleted.endswith(stray.name)
    assert not stray.exists()
    assert before.collect().height == 7 * 200  # it began before
    assert relation.fetchall() == [(7 * 200,)]
    assert lake.sql(counted).fetchall() == [(4 * 200,)]
    left = lake.scan("coinbase", "ticker").collect()
    assert left.height == 4 * 200
    assert left["date"].min() == (TODAY - timedelta(days=3)).date()
    assert not any(one.days for one in retain(lake).tables.values())
    report = lake.verify(deep=True)
    assert report.ok, str(report)
    lake.optimize()
    fill(lake, TODAY + timedelta(hours=1))
    assert lake.verify().ok


def test_sizes_are_bounded_over_a_month(tmp_path: Path) -> None:
    lake = make(tmp_path, **{"coinbase.ticker": "0.02 MB", "archive": "0.01 MB"})
    ticker = lake.catalog.open("coinbase", "ticker").table
    for back in range(30, -1, -3):
        fill(lake, *(TODAY - timedelta(days=back - one) for one in range(3) if back >= one))
        retain(lake)
        ticker.vacuum(timedelta(0), dry_run=False)  # as if versions were kept for less than a day
        files = (tmp_path / "processed" / "coinbase" / "ticker").glob("date=*/*.parquet")
        assert 0 < sum(file.stat().st_size for file in files) <= 20_000
        archived = (tmp_path / "raw" / "archive" / "coinbase").iterdir()
        assert 0 < sum(file.stat().st_size for file in archived) <= 10_000
    rows = lake.scan("coinbase", "ticker").collect().height
    assert 200 < rows < 30 * 200
    assert lake.verify().ok


def test_lines_in_quarantine_go_and_verify_knows(tmp_path: Path) -> None:
    lake = make(tmp_path, quarantine="0.001 MB")
    for hour in range(3):
        line = f'{{"capture_ns":1786309548000000000,"conn":"A","data":{{"channel":"{hour}"}}}}\n'
        name = f"segment_20260809T2{hour}_00001.ndjson"
        lake.storage.write_bytes(f"raw/ready/coinbase/{name}", line.encode() * 3)
        lake.etl("coinbase")
    assert lake.quarantine().height == 9
    would = retain(lake, dry_run=True).raw
    assert lake.quarantine().height == 9
    assert retain(lake).raw == would
    (gone,) = would.values()
    assert lake.quarantine().height == 9 - 3 * len(gone)
    assert 0 < len(gone) < 3
    report = lake.verify(deep=True)
    assert report.ok, str(report)
    left = lake.storage.list_files("raw/quarantine/coinbase")
    lake.storage.delete(left[0])
    assert not lake.verify().ok


def test_keys_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    for wrong in ("tickre", "coinbase.tickre"):
        with pytest.raises(ConfigError, match=rf"retention\.{wrong}"):
            retain(make(tmp_path, **{wrong: "3d"}))
    for wrong in ("soon", "1s", "5 bananas"):
        with pytest.raises(ConfigError, match=r"write an age|keep at least"):
            make(tmp_path, archive=wrong)
