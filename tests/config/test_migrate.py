from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from fluxforge.config import load_config, migrate_config, migrate_file, storage_config
from fluxforge.config.migrate import OLD_KEYS
from fluxforge.errors import ConfigError
from fluxforge.storage.factory import (
    get_etl_input_path,
    get_etl_output_path,
    get_ingestion_path,
    get_processing_path,
)

if TYPE_CHECKING:
    from pathlib import Path

    from fluxforge.config import FluxForgeConfig

OLD = {
    "ingestion": {"output_dir": "F://raw"},
    "etl": {
        "input_dir": "F://raw/ready/coinbase",
        "output_dir": "F://processed",
        "processing_dir": "F://raw/processing",
    },
}


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FLUXFORGE_CONFIG_DIR", raising=False)
    monkeypatch.chdir(tmp_path)


def loaded(tmp_path: Path, text: str) -> FluxForgeConfig:
    path = tmp_path / "new.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path)


def test_the_users_old_configuration_becomes_the_new_one(tmp_path: Path) -> None:
    new = yaml.safe_load(migrate_config(OLD))
    assert new == {
        "storage": {
            "backend": "local",
            "base_dir": "F:/",
            "paths": {
                "raw_dir": "raw",
                "ready_subdir": "ready",
                "processing_subdir": "processing",
                "processed_dir": "processed",
            },
        }
    }
    config = loaded(tmp_path, migrate_config(OLD))
    assert config == load_config(overrides=["storage.base_dir=F:/"])


@pytest.mark.parametrize("key", OLD_KEYS)
def test_each_old_key_is_refused_and_the_printed_form_loads(tmp_path: Path, key: str) -> None:
    section, name = key.split(".")
    old = tmp_path / "old.yaml"
    old.write_text(yaml.safe_dump({section: {name: OLD[section][name]}}), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(old)
    message = str(caught.value)
    assert str(old) in message
    assert repr(key) in message
    assert f"fluxforge config migrate {old}" in message
    printed = message.partition("write instead\n\n")[2].partition("\n\n'fluxforge")[0]
    assert loaded(tmp_path, printed).storage.base_dir == "F:/"
    assert yaml.safe_load(printed) == yaml.safe_load(migrate_file(old))


def test_all_old_keys_at_once_and_by_override(tmp_path: Path) -> None:
    old = tmp_path / "old.yaml"
    old.write_text(yaml.safe_dump(OLD), encoding="utf-8")
    with pytest.raises(ConfigError, match="belong to an earlier form") as caught:
        load_config(old)
    assert all(repr(key) in str(caught.value) for key in OLD_KEYS)
    with pytest.raises(ConfigError, match=r"override: 'etl\.input_dir' belongs") as caught:
        load_config(overrides=["etl.input_dir=F:/raw/ready/coinbase"])
    assert "config migrate" not in str(caught.value)


def test_other_settings_are_carried_over(tmp_path: Path) -> None:
    old = {**OLD, "etl": {**OLD["etl"], "threads": 3, "delete_after_processing": False}}
    config = loaded(tmp_path, migrate_config(old))
    assert (config.etl.threads, config.etl.delete_after_processing) == (3, False)


def test_other_folder_names_are_kept(tmp_path: Path) -> None:
    old = {
        "ingestion": {"output_dir": "/srv/lake/ingested"},
        "etl": {
            "input_dir": "/srv/lake/ingested/completed/coinbase",
            "output_dir": "/srv/tables/curated",
            "processing_dir": "/srv/lake/ingested/transforming/coinbase",
        },
    }
    config = loaded(tmp_path, migrate_config(old))
    assert get_ingestion_path(config, "coinbase", "active") == "ingested/active/coinbase"
    assert get_ingestion_path(config, "coinbase", "ready") == "ingested/completed/coinbase"
    assert get_etl_input_path(config, "coinbase") == "ingested/completed/coinbase"
    assert get_processing_path(config, "coinbase") == "ingested/transforming/coinbase"
    assert get_etl_output_path(config, "coinbase") == "curated/coinbase"
    assert storage_config(config, "etl_input").base_dir == "/srv/lake"
    assert storage_config(config, "etl_output").base_dir == "/srv/tables"


def test_tables_may_have_been_on_s3(tmp_path: Path) -> None:
    old = {
        "ingestion": {"output_dir": "data/raw"},
        "etl": {"output_dir": "s3://bucket/prefix/processed"},
    }
    config = loaded(tmp_path, migrate_config(old))
    output = storage_config(config, "etl_output")
    assert (output.backend, output.base_dir) == ("s3", "bucket/prefix")
    assert storage_config(config, "ingestion").base_dir == str(tmp_path / "data")


@pytest.mark.parametrize(
    ("folder", "base_dir"),
    [("F:\\\\raw", "F:/"), ("F:/x//raw/", "F:/x"), ("raw", "PROJECT"), ("/raw", "/"),
     ("\\\\host\\share\\lake\\raw", "//host/share/lake"), ("./data/raw", "PROJECT/data")],
)  # fmt: skip
def test_directories_are_read_as_people_write_them(
    tmp_path: Path, folder: str, base_dir: str
) -> None:
    config = loaded(tmp_path, migrate_config({"ingestion": {"output_dir": folder}}))
    base_dir = base_dir.replace("PROJECT", str(tmp_path))
    assert (config.storage.base_dir, config.storage.paths.raw_dir) == (base_dir, "raw")


@pytest.mark.parametrize(
    "old",
    [
        {"ingestion": {"output_dir": "F:/"}},
        {"ingestion": {"output_dir": "/"}},
        {"etl": {"output_dir": "C:\\"}},
        {"etl": {"input_dir": 5}},
        {"etl": {"input_dir": ["a"]}},
        {"etl": 5},
        {"ingestion": {"output_dir": "/a/raw"}, "etl": {"input_dir": "/b/raw/ready/coinbase"}},
        {"ingestion": {"output_dir": "/a/raw"}, "etl": {"processing_dir": "/b/processing"}},
        {"ingestion": {"output_dir": "/a/raw"}, "etl": {"input_dir": "/a/raw"}},
        {"ingestion": {"output_dir": "/a/raw"}, "etl": {"input_dir": "/a/raw/b/c/d"}},
        [],
        "text",
    ],
    ids=str,
)
def test_what_cannot_be_expressed_is_refused(old: object) -> None:
    with pytest.raises(ConfigError):
        migrate_config(old)


def test_the_old_content_is_not_changed() -> None:
    before = yaml.safe_dump(OLD)
    migrate_config(OLD)
    assert yaml.safe_dump(OLD) == before


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        migrate_file(tmp_path / "nowhere.yaml")
    (tmp_path / "bad.yaml").write_bytes(b"a: b: c")
    with pytest.raises(ConfigError, match=r"bad\.yaml is not valid YAML"):
        migrate_file(tmp_path / "bad.yaml")


def test_a_current_file_stays_as_it_is() -> None:
    current = {"storage": {"base_dir": "x"}, "etl": {"threads": 2}}
    assert yaml.safe_load(migrate_config(current)) == current
