from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from fluxforge import Lake
from fluxforge.errors import ExchangeError
from fluxforge.simulator import local_exchange
from fluxforge.simulator.replay import index_recordings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_connections_come_in_order_of_first_appearance_over_all_files(
    write_segment: Callable[..., Path],
) -> None:
    first = write_segment("b.ndjson", ("Z", b'{"n":0}'), ("A", b'{"n":1}'), ("Z", b'{"n":2}'))
    second = write_segment("a.ndjson", ("A", b"not json"), ("M", b"\xff\xfe"), ("Z", b'{"n":5}'))
    found = index_recordings([first, second])
    assert [(r.conn, r.frames) for r in found] == [("Z", 3), ("A", 2), ("M", 1)]
    assert [[e.frame for e in r.envelopes()] for r in found] == [
        [b'{"n":0}', b'{"n":2}', b'{"n":5}'],
        [b'{"n":1}', b"not json"],
        [b"\xff\xfe"],
    ]


def test_compressed_recordings_are_read(write_segment: Callable[..., Path], tmp_path: Path) -> None:
    plain = write_segment("x.ndjson", ("A", b'{"n":0}'), ("A", '{"n":"é"}'.encode()))
    packed = tmp_path / "x.ndjson.zst"
    with pa.output_stream(str(packed), compression="zstd") as out:
        out.write(plain.read_bytes())
    (recording,) = index_recordings([packed])
    assert [e.frame for e in recording.envelopes()] == [b'{"n":0}', '{"n":"é"}'.encode()]


def test_what_cannot_be_replayed_is_one_clear_error(
    write_segment: Callable[..., Path], tmp_path: Path
) -> None:
    good = write_segment("good.ndjson", ("A", b'{"n":0}'))
    empty = tmp_path / "empty.ndjson"
    empty.write_bytes(b"\n\n")
    torn = tmp_path / "torn.ndjson"
    torn.write_bytes(good.read_bytes() + b'{"capture_ns":1,"co')
    broken = tmp_path / "broken.ndjson.zst"
    broken.write_bytes(b"these bytes are not zstd")
    for path, says in (
        (tmp_path / "missing.ndjson", "missing.ndjson"),
        (tmp_path, str(tmp_path)),
        (torn, "torn.ndjson, line 2"),
        (broken, "broken.ndjson.zst"),
    ):
        with pytest.raises(ExchangeError) as error:
            index_recordings([good, path])
        assert says in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(ExchangeError, match="no frame in"):
        index_recordings([empty])


def test_a_file_that_vanishes_after_indexing_is_an_error(
    write_segment: Callable[..., Path],
) -> None:
    path = write_segment("x.ndjson", ("A", b'{"n":0}'))
    (recording,) = index_recordings([path])
    path.unlink()
    with pytest.raises(ExchangeError, match=r"x\.ndjson"):
        list(recording.envelopes())


def test_what_came_after_a_recorded_answer_waits_for_its_call(tmp_path: Path) -> None:
    def captured(url: str, folder: Path, frames: int) -> Lake:
        wanted = {"url": url, "products": "[BTCUSDT,ETHUSDT]", "channels": "[depth]"}
        overrides = [f"ingestion.sources.binance.{key}={value}" for key, value in wanted.items()]
        lake = Lake(overrides=[f"storage.base_dir={folder}", *overrides])
        assert lake.ingest_sync("binance", frames=frames).frames == frames
        return lake

    with local_exchange("binance", rate=400) as exchange:
        made = captured(exchange.url, tmp_path / "made", 80)
    ready = made.layout.ready("binance")
    files = tuple(tmp_path / "made" / key for key in made.storage.list_files(ready))
    expected = made.scan("binance", "orderbook", live=True).filter("is_snapshot").collect().height
    for number in range(3):
        with local_exchange("binance", replay=files, rate=0) as exchange:
            again = captured(exchange.url, tmp_path / str(number), 80)
        again.etl()
        found = again.scan("binance", "orderbook").filter("is_snapshot").collect().height
        assert found == expected > 0
