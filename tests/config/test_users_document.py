"""The four configurations of the user's own document, and the keys that come of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fluxforge.config import load_config, storage_config
from fluxforge.storage.factory import (
    create_storage_backend,
    get_etl_input_path,
    get_etl_output_path,
    get_ingestion_path,
    get_processing_path,
)

if TYPE_CHECKING:
    from pathlib import Path

    from fluxforge.config import FluxForgeConfig

ALL_LOCAL = """
storage:
  backend: "local"
  base_dir: "F:/"  # Or "./data" for relative path

  paths:
    raw_dir: "raw"
    active_subdir: "active"
    ready_subdir: "ready"
    processing_subdir: "processing"
    processed_dir: "processed"
"""
ALL_S3 = """
storage:
  backend: "s3"
  base_dir: "my-datalake"  # S3 bucket name (base_dir acts as bucket when s3)

  paths:
    raw_dir: "raw"
    active_subdir: "active"
    ready_subdir: "ready"
    processing_subdir: "processing"
    processed_dir: "processed"

  s3:
    bucket: "my-datalake"  # Must match base_dir
    region: "us-east-1"
    aws_access_key_id: null  # Uses environment/IAM role
    aws_secret_access_key: null
"""
HYBRID = """
ingestion:
  storage:
    backend: "local"
    base_dir: "F:/"
    paths:
      raw_dir: "raw"
      active_subdir: "active"
      ready_subdir: "ready"

etl:
  storage_input:  # Read from local
    backend: "local"
    base_dir: "F:/"
    paths:
      raw_dir: "raw"
      ready_subdir: "ready"

  storage_output:  # Write to S3
    backend: "s3"
    base_dir: "my-datalake"
    paths:
      processed_dir: "processed"
    s3:
      bucket: "my-datalake"
      region: "us-east-1"
"""
CUSTOM = """
storage:
  backend: "local"
  base_dir: "./data"

  paths:
    raw_dir: "ingested"           # Instead of "raw"
    active_subdir: "streaming"     # Instead of "active"
    ready_subdir: "completed"      # Instead of "ready"
    processing_subdir: "transforming"
    processed_dir: "curated"       # Instead of "processed"
"""
MIGRATED = """
storage:
  backend: "local"
  base_dir: "F:/"
  paths:
    raw_dir: "raw"
    active_subdir: "active"
    ready_subdir: "ready"
    processing_subdir: "processing"
    processed_dir: "processed"

ingestion:
  # output_dir removed - uses storage.paths

etl:
  # input_dir, output_dir, processing_dir removed - uses storage.paths
"""


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FLUXFORGE_CONFIG_DIR", raising=False)
    monkeypatch.chdir(tmp_path)


def load(tmp_path: Path, text: str) -> FluxForgeConfig:
    (tmp_path / "conf").mkdir(exist_ok=True)
    (tmp_path / "conf" / "config.yaml").write_text(text, encoding="utf-8")
    return load_config()


def folders(config: FluxForgeConfig) -> list[str]:
    return [
        get_ingestion_path(config, "coinbase"),
        get_ingestion_path(config, "coinbase", state="ready"),
        get_etl_input_path(config, "coinbase"),
        get_processing_path(config, "coinbase"),
        get_etl_output_path(config, "coinbase"),
    ]


USUAL = [
    "raw/active/coinbase",
    "raw/ready/coinbase",
    "raw/ready/coinbase",
    "raw/processing/coinbase",
    "processed/coinbase",
]


@pytest.mark.parametrize("text", [ALL_LOCAL, MIGRATED], ids=["example 1", "after migration"])
def test_all_local(tmp_path: Path, text: str) -> None:
    config = load(tmp_path, text)
    assert folders(config) == USUAL
    for role in (None, "ingestion", "etl_input", "etl_output"):
        storage = storage_config(config, role)
        assert (storage.backend, storage.base_dir) == ("local", "F:/")


def test_all_s3(tmp_path: Path) -> None:
    pytest.importorskip("s3fs")
    config = load(tmp_path, ALL_S3)
    assert folders(config) == USUAL
    storage = create_storage_backend(config)
    assert storage.backend_type == "s3"
    assert (
        storage.get_full_path(get_ingestion_path(config, "coinbase"))
        == "s3://my-datalake/raw/active/coinbase"
    )
    assert (
        storage.get_full_path(f"{get_etl_output_path(config, 'coinbase')}/ticker")
        == "s3://my-datalake/processed/coinbase/ticker"
    )


def test_hybrid(tmp_path: Path) -> None:
    pytest.importorskip("s3fs")
    config = load(tmp_path, HYBRID)
    assert folders(config) == USUAL
    for role in ("ingestion", "etl_input"):
        storage = storage_config(config, role)
        assert (storage.backend, storage.base_dir) == ("local", "F:/")
    output = create_storage_backend(config, "etl_output")
    assert (
        output.get_full_path(get_etl_output_path(config, "coinbase"))
        == "s3://my-datalake/processed/coinbase"
    )
    assert storage_config(config).base_dir == "./data"


def test_custom_paths(tmp_path: Path) -> None:
    config = load(tmp_path, CUSTOM)
    assert folders(config) == [
        "ingested/streaming/coinbase",
        "ingested/completed/coinbase",
        "ingested/completed/coinbase",
        "ingested/transforming/coinbase",
        "curated/coinbase",
    ]
    storage = create_storage_backend(config)
    assert storage.get_full_path(get_ingestion_path(config, "coinbase")) == str(
        tmp_path / "data" / "ingested" / "streaming" / "coinbase"
    )
