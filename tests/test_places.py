"""The same lake on a disk, on S3, half and half, and under other names: by configuration alone."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from omegaconf import OmegaConf

from fluxforge import Lake
from fluxforge.config import Role
from fluxforge.simulator import local_exchange

if TYPE_CHECKING:
    import polars as pl

    from fluxforge.testing.s3_server import S3Server

pytestmark = pytest.mark.s3

FRAMES = 900
CHANNELS = ("ticker", "trades", "orderbook", "candles")
CAPTURE_COLUMNS = ("ts_recv", "conn", "date")
CUSTOM_PATHS = {
    "raw_dir": "ingested",
    "active_subdir": "streaming",
    "ready_subdir": "completed",
    "processing_subdir": "transforming",
    "processed_dir": "curated",
}


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Record what all four lakes will capture, so that they can be compared row for row."""
    folder = tmp_path_factory.mktemp("recording")
    with local_exchange("coinbase", seed=11, rate=400) as exchange:
        lake = Lake(overrides=[f"storage.base_dir={folder}", _url(exchange.url)])
        lake.ingest_sync("coinbase", frames=FRAMES)
    [segment] = lake.storage.list_files("raw/ready/coinbase")
    return Path(lake.storage.get_full_path(segment))


def _url(url: str) -> str:
    return f"ingestion.sources.coinbase.url={url}"


def _configuration(kind: str, folder: Path, server: S3Server) -> dict[str, object]:
    disk = {"backend": "local", "base_dir": str(folder)}
    bucket = {
        "backend": "s3",
        "base_dir": f"{server.bucket}/places-{kind}-{folder.name}",
        "s3": {"bucket": server.bucket, **server.settings()},
    }
    match kind:
        case "local":
            return {"storage": disk}
        case "s3":
            return {"storage": bucket}
        case "hybrid":
            return {
                "ingestion": {"storage": disk},
                "etl": {"storage_input": disk, "storage_output": bucket},
            }
        case _:
            return {"storage": {**disk, "paths": CUSTOM_PATHS}}


def _run(kind: str, folder: Path, server: S3Server, recording: Path) -> Lake:
    overlay = folder / "overlay.yaml"
    OmegaConf.save(OmegaConf.create(_configuration(kind, folder / "lake", server)), overlay)
    with local_exchange("coinbase", replay=(recording,), once=True, rate=0) as exchange:
        lake = Lake(overlay, overrides=[_url(exchange.url)])
        captured = lake.ingest_sync("coinbase", frames=FRAMES)
    assert (captured.frames, captured.gaps, captured.segments) == (FRAMES, 0, 1)

    raw = lake.layout_for(Role.ETL_INPUT)
    ready = lake.storage_for(Role.ETL_INPUT).list_files(raw.ready("coinbase"))
    assert len(ready) == 1

    report = lake.etl("coinbase")
    assert report.lines_read == report.lines_taken == FRAMES
    assert lake.etl("coinbase").segments == 0
    assert lake.verify().ok
    return lake


def _rows(lake: Lake, channel: str) -> pl.DataFrame:
    frame = lake.scan("coinbase", channel, raw=True).collect()
    by_sql = lake.sql(f"SELECT count(*) FROM coinbase.{channel}").fetchall()
    assert by_sql == [(lake.scan("coinbase", channel).collect().height,)]
    columns = [name for name in frame.columns if name not in CAPTURE_COLUMNS]
    return frame.select(columns).sort(columns)


@pytest.fixture(scope="module")
def lakes(
    tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server, recording: Path
) -> dict[str, Lake]:
    return {
        kind: _run(kind, tmp_path_factory.mktemp(kind), s3_server, recording)
        for kind in ("local", "s3", "hybrid", "custom")
    }


@pytest.mark.parametrize("channel", CHANNELS)
def test_the_tables_are_the_same_row_for_row_wherever_they_lie(
    lakes: dict[str, Lake], channel: str
) -> None:
    expected = _rows(lakes["local"], channel)
    assert expected.height > 0
    for kind in ("s3", "hybrid", "custom"):
        assert _rows(lakes[kind], channel).equals(expected), kind


@pytest.mark.parametrize("kind", ["local", "s3", "hybrid", "custom"])
def test_every_file_lies_where_the_configuration_says(lakes: dict[str, Lake], kind: str) -> None:
    lake = lakes[kind]
    processed = "curated" if kind == "custom" else "processed"
    assert lake.layout_for(Role.ETL_OUTPUT).table("coinbase", "ticker") == (
        f"{processed}/coinbase/ticker"
    )
    tables = lake.storage_for(Role.ETL_OUTPUT)
    parquet = tables.list_files(f"{processed}/coinbase/ticker", "*.parquet")
    assert parquet
    assert all(key.startswith(f"{processed}/coinbase/ticker/date=") for key in parquet)
    where = {"local": "local", "custom": "local"}.get(kind, "s3")
    assert tables.backend_type == where
    assert tables.get_full_path(parquet[0]).startswith("s3://" if where == "s3" else "/")
    for role in (Role.INGESTION, Role.ETL_INPUT):
        assert lake.storage_for(role).backend_type == ("s3" if kind == "s3" else "local")
        assert not lake.storage_for(role).list_files("ingested" if kind == "custom" else "raw")


def test_a_hybrid_lake_writes_nothing_of_the_other_side(lakes: dict[str, Lake]) -> None:
    hybrid = lakes["hybrid"]
    assert not hybrid.storage_for("ingestion").list_folders("processed")
    assert not hybrid.storage_for("etl_output").list_folders("raw")


def test_secrets_show_nowhere(
    lakes: dict[str, Lake], s3_server: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    lake = lakes["s3"]
    print(lake, repr(lake), lake._repr_html_(), lake.config, OmegaConf.to_yaml(lake.config))
    print(lake.storage, vars(lake.storage), lake.etl("coinbase"), lake.verify())
    print(lake.connect().sql("FROM duckdb_views()").fetchall())
    with pytest.raises(Exception, match="no table") as caught:
        lake.scan("coinbase", "tickr")
    trace = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    ours = [frame for frame in trace.stack if Path(frame.filename).parts[-2] != "tests"]
    print(repr(caught.value), *((frame.name, frame.locals) for frame in ours))
    shown = capsys.readouterr()
    for secret in (s3_server.secret_key, s3_server.access_key):
        assert secret not in shown.out + shown.err
