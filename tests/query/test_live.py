"""What ``live=True`` shows: all that was flushed, nothing that was not written, each row once.

``FLUXFORGE_LONG=20 pytest -m long tests/query/test_live.py`` looks a hundred times.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from omegaconf import OmegaConf

import fluxforge
from fluxforge import Lake
from fluxforge.config import Role, load_config
from fluxforge.errors import UsageError
from fluxforge.etl.report import SegmentsFailedError
from fluxforge.ingestion.writers import LogWriter
from fluxforge.layout import SegmentName
from tests.support import commands

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fluxforge.config import FluxForgeConfig
    from fluxforge.testing.s3_server import S3Server

LONG = float(os.environ.get("FLUXFORGE_LONG", "1"))
LOOKS = round(5 * LONG)
SENT = "2026-08-09T21:05:48.1Z"


def trade_frame(number: int) -> bytes:
    """Return a frame of one trade, and of the one before it, as venues repeat trades."""
    trades = [
        {
            "product_id": "BTC-USD", "trade_id": str(each), "price": "65086.18", "size": "0.5",
            "time": "2026-08-09T21:05:48.000001Z", "side": "BUY",
        }
        for each in (number, number - 1)
        if each >= 0
    ]  # fmt: skip
    event = {"type": "update", "trades": trades}
    return json.dumps(
        {"channel": "market_trades", "timestamp": SENT, "sequence_num": number, "events": [event]}
    ).encode()


def writer_of(config: FluxForgeConfig) -> LogWriter:
    lake = Lake(config=config)
    storage, layout = lake.storage_for(Role.INGESTION), lake.layout_for(Role.INGESTION)
    return LogWriter(
        storage=storage,
        active_path=layout.active("coinbase"),
        ready_path=layout.ready("coinbase"),
        source_name="coinbase",
        spool_dir=config.ingestion.spool_dir,
        mirror_interval_seconds=0.1,
    )


class Capture:
    """Writes trades until it is stopped, a few at a time, and closes a segment now and then."""

    def __init__(self, config: FluxForgeConfig) -> None:
        self._writer = writer_of(config)
        self.written = self.flushed = 0

    def step(self, frames: int = 25) -> None:
        for _ in range(frames):
            number = self.written
            self.written += 1
            self._writer.write(trade_frame(number), conn="A")
        self._writer.flush()
        self.flushed = self.written

    def run(self, stop: threading.Event) -> None:
        with self._writer:
            steps = 0
            while not stop.wait(0.02):
                self.step()
                steps += 1
                if steps % 8 == 0:
                    self._writer.rotate()


def tend(config: FluxForgeConfig, stop: threading.Event) -> None:
    lake = Lake(config=config)
    while not stop.wait(0.05):
        lake.etl("coinbase")
        lake.optimize("coinbase")


@contextmanager
def busy_lake(config: FluxForgeConfig) -> Iterator[Capture]:
    capture, stop, failures = Capture(config), threading.Event(), []

    def guarded(work: Any, *args: Any) -> None:
        try:
            work(*args)
        except BaseException as exc:
            failures.append(exc)

    threads = [
        threading.Thread(target=guarded, args=(capture.run, stop)),
        threading.Thread(target=guarded, args=(tend, config, stop)),
    ]
    for thread in threads:
        thread.start()
    try:
        yield capture
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []


def check_looks(config: FluxForgeConfig) -> None:
    """Look again and again while segments are written, committed and joined."""
    lake, versions = Lake(config=config), set()
    with busy_lake(config) as capture:
        for _ in range(LOOKS):
            low = capture.flushed
            rows = lake.scan("coinbase", "trades", live=True, raw=True).collect()
            high = capture.written
            numbers = rows["seq"].n_unique()
            assert low <= numbers <= high
            assert rows["seq"].max() == numbers - 1 or numbers == 0
            assert rows.height == max(0, 2 * numbers - 1)
            own = rows.filter(pl.col("seq") == pl.col("trade_id"))
            assert not own["is_repeat"].any()
            assert rows.filter(pl.col("seq") != pl.col("trade_id"))["is_repeat"].all()
            versions.add(lake.catalog.open("coinbase", "trades").version >= 0)
            time.sleep(0.05)
    assert capture.flushed > 100
    lake.etl("coinbase")
    rows = lake.scan("coinbase", "trades").collect()
    assert sorted(rows["trade_id"]) == list(range(capture.written))


@pytest.mark.long
def test_every_look_is_whole_on_disk(tmp_path: Path) -> None:
    check_looks(load_config(overrides=[f"storage.base_dir={tmp_path}"]))


def s3_config(s3_server: S3Server, folder: Path, spool: str = "spool") -> FluxForgeConfig:
    overlay = folder / "s3.yaml"
    storage = {
        "backend": "s3",
        "base_dir": f"{s3_server.bucket}/{folder.name}",
        "s3": s3_server.settings(),
    }
    OmegaConf.save(OmegaConf.create({"storage": storage}), overlay)
    return load_config(overlay, overrides=[f"ingestion.spool_dir={folder / spool}"])


@pytest.mark.long
@pytest.mark.s3
def test_every_look_is_whole_on_s3(s3_server: S3Server, tmp_path: Path) -> None:
    check_looks(s3_config(s3_server, tmp_path))


@pytest.mark.s3
def test_another_machine_sees_what_was_mirrored(s3_server: S3Server, tmp_path: Path) -> None:
    capture = Capture(s3_config(s3_server, tmp_path))
    other = Lake(config=s3_config(s3_server, tmp_path, "another"))
    for goal in (25, 50, 75):
        capture.step()
        deadline = time.monotonic() + 60
        while other.scan("coinbase", "trades", live=True).collect().height < goal:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    capture._writer.close()
    assert other.scan("coinbase", "trades", live=True).collect().height == 75


@pytest.mark.parametrize("source", ["coinbase", "kraken", "binance", "bybit"])
def test_live_rows_are_those_that_the_etl_makes(source: str) -> None:
    with fluxforge.sandbox(rate=0, sources=[source]) as lake:
        for _ in range(2):
            lake.ingest_sync(source, frames=700)
        names = [name for name in lake.catalog.names(source) if name != "segments"]
        live = {name: rows_of(lake, source, name, live=True) for name in names}
        kept = {name: lake.scan(source, name, live=True).collect().height for name in names}
        assert sum(frame.height for frame in live.values()) > 700
        lake.etl(source)
        for name in names:
            assert live[name].equals(rows_of(lake, source, name)), name
            assert kept[name] == lake.scan(source, name).collect().height
            assert rows_of(lake, source, name, live=True).equals(live[name])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"product_id": "BTC-USD"', b'"product_id": ""'),
        (b'"size": "0.5"', b'"size": "0.5",'),
        (b'"size": "0.5"', b'"size": 5e-999'),
        (b'"events": [', b'"events": [['),
        (b"market_trades", b"market\\u005ftrades"),
    ],
)
def test_a_line_that_needs_care_is_read_with_care(
    before: bytes, after: bytes, tmp_path: Path
) -> None:
    lake = Lake(path=tmp_path)
    line = b'{"capture_ns":1786309548000000000,"conn":"A","data":%s}\n'
    frames = [trade_frame(number) for number in range(4)]
    frames[2] = frames[2].replace(before, after, 1)
    key = f"{lake.layout.ready('coinbase')}/segment_20260809T21_00001.ndjson"
    lake.storage.write_bytes(key, b"".join(line % frame for frame in frames))
    live = rows_of(lake, "coinbase", "trades", live=True)
    lake.etl()
    assert live.equals(rows_of(lake, "coinbase", "trades"))
    assert live.height in (5, 7)


def rows_of(lake: Lake, source: str, name: str, *, live: bool = False) -> pl.DataFrame:
    """Return all rows; which of two segments came first with a trade is left to the ETL."""
    rows = lake.scan(source, name, live=live, raw=True).collect()
    return rows.drop("is_repeat", strict=False).sort(pl.all())


def test_only_new_bytes_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(overrides=[f"storage.base_dir={tmp_path}"])
    capture, lake = Capture(config), Lake(config=config)
    capture.step()
    assert lake.tail("coinbase", "trades", n=100)["trade_id"].n_unique() == 25
    read = []
    get = type(lake.storage).get_object

    def counted(storage: Any, key: str, start: int = 0, end: int | None = None) -> bytes:
        data: bytes = get(storage, key, start, end)
        read.append(len(data))
        return data

    monkeypatch.setattr(type(lake.storage), "get_object", counted)
    capture.step(2)
    assert lake.tail("coinbase", "trades", n=100)["trade_id"].n_unique() == 27
    [segment] = lake.storage.list_entries(lake.layout.active("coinbase"))
    assert 0 < sum(read) < segment.size / 5
    capture._writer.close()


def test_a_torn_line_is_not_shown_and_a_dead_capture_is(tmp_path: Path) -> None:
    lake = Lake(path=tmp_path)
    folder = tmp_path / lake.layout.active("coinbase")
    folder.mkdir(parents=True)
    line = b'{"capture_ns":1786309548000000000,"conn":"A","data":%s}\n'
    whole = b"".join(line % trade_frame(number) for number in range(4))
    (folder / "segment_20260809T21_00001_9f86d081.ndjson").write_bytes(whole[:-9])
    assert sorted(lake.tail("coinbase", "trades")["trade_id"]) == [0, 1, 2]
    assert lake.scan("coinbase", "trades").collect().is_empty()


def test_copies_of_a_segment_are_shown_once(tmp_path: Path) -> None:
    lake = Lake(path=tmp_path)
    line = b'{"capture_ns":1786309548000000000,"conn":"A","data":%s}\n' % trade_frame(0)
    for number in (1, 2):
        name = f"segment_20260809T21_0000{number}.ndjson"
        lake.storage.write_bytes(f"{lake.layout.ready('coinbase')}/{name}", line)
    assert lake.scan("coinbase", "trades", live=True, raw=True).collect().height == 1
    lake.etl()
    lake.storage.write_bytes(f"{lake.layout.ready('coinbase')}/{name}", line)
    assert lake.scan("coinbase", "trades", live=True, raw=True).collect().height == 1


def test_another_segment_of_the_same_name_is_shown(tmp_path: Path) -> None:
    """The ETL sets it aside: whose name a table has, it does not take again."""
    lake = Lake(path=tmp_path)
    key = f"{lake.layout.ready('coinbase')}/segment_20260809T21_00001.ndjson"
    line = b'{"capture_ns":1786309548000000000,"conn":"A","data":%s}\n'
    lake.storage.write_bytes(key, line % trade_frame(0))
    lake.etl()
    lake.storage.write_bytes(key, line % trade_frame(1))
    with suppress(SegmentsFailedError):
        lake.etl()
    assert lake.scan("coinbase", "trades").collect()["trade_id"].to_list() == [0]
    shown = lake.scan("coinbase", "trades", live=True).collect()
    assert sorted(shown["trade_id"]) == [0, 1]


@pytest.mark.s3
def test_what_others_ended_goes_on_in_another_segment(s3_server: S3Server, tmp_path: Path) -> None:
    """A segment is ended by others at what was mirrored, while its file has more."""
    config = s3_config(s3_server, tmp_path)
    lake, storage = Lake(config=config), Lake(config=config).storage
    capture = Capture(config)
    capture.step()
    deadline = time.monotonic() + 60
    while capture._writer.spooled_bytes:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    capture._writer.abandon()
    [file] = (tmp_path / "spool").rglob("segment_*.ndjson")
    end = file.stat().st_size
    with file.open("ab") as more:
        line = b'{"capture_ns":1786309549000000000,"conn":"A","data":%s}\n'
        more.write(line % trade_frame(25))
    assert lake.scan("coinbase", "trades", live=True).collect().height == 26
    active = lake.layout.active("coinbase")
    storage.write_bytes(f"{active}/{file.name}/{end:015d}", b"", exclusive=True)
    storage.write_bytes(f"{active}/{file.name}/end", b"%d" % end, exclusive=True)
    storage.write_bytes(f"{lake.layout.ready('coinbase')}/{file.name}", file.read_bytes()[:end])
    assert lake.scan("coinbase", "trades", live=True).collect().height == 26
    other = Lake(config=s3_config(s3_server, tmp_path, "another"))
    other.etl("coinbase")
    assert other.scan("coinbase", "trades", live=True).collect().height == 25
    assert lake.scan("coinbase", "trades", live=True).collect().height == 26
    name = SegmentName.parse(file.name)
    assert name is not None
    file.rename(file.with_name(str(name.derive(end))))
    assert lake.scan("coinbase", "trades", live=True).collect().height == 26


def test_sql_and_views_show_live_rows_from_a_second_process(tmp_path: Path) -> None:
    config = load_config(overrides=[f"storage.base_dir={tmp_path}"])
    capture, lake = Capture(config), Lake(config=config)
    capture.step()
    count = "SELECT count(*), count(DISTINCT trade_id) FROM coinbase.trades"
    assert lake.sql(count, live=True).fetchall() == [(25, 25)]
    assert lake.sql(count).fetchall() == [(0, 0)]
    assert lake.connect(live=True).sql(count).fetchall() == [(25, 25)]
    query = "SELECT count(*) FROM coinbase.trades_raw"
    assert lake.sql(query, live=True).fetchall() == [(49,)]
    code = (
        "import sys; from fluxforge import Lake\n"
        "print(Lake(path=sys.argv[1]).tail('coinbase', 'trades', n=3)['trade_id'].to_list())"
    )
    done = commands.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True
    )
    assert sorted(json.loads(done.stdout)) == [22, 23, 24]
    capture._writer.close()
    with pytest.raises(UsageError, match="choose one of version"):
        lake.scan("coinbase", "trades", version=0, live=True)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_lake_shows_live_rows(tmp_path: Path) -> None:
    config = load_config(overrides=[f"storage.base_dir={tmp_path}"])
    capture = Capture(config)
    capture.step()
    capture._writer.close()
    folders = [tmp_path, *(path for path in tmp_path.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert Lake(config=config).tail("coinbase", "trades").height == 20
    finally:
        for folder in folders:
            folder.chmod(0o755)
