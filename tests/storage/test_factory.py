"""From configuration to a storage and its paths."""

from __future__ import annotations

import pytest

from fluxforge.config import Role, load_config
from fluxforge.errors import ConfigError, RenamedError, UsageError
from fluxforge.storage.factory import (
    create_storage_backend,
    get_etl_input_path,
    get_etl_output_path,
    get_ingestion_path,
    get_processing_path,
    storage_for,
)


def test_each_role_has_the_storage_that_its_settings_say(tmp_path: object) -> None:
    config = load_config(
        overrides=[
            f"storage.base_dir={tmp_path}",
            "etl.storage_output.backend=s3",
            "etl.storage_output.base_dir=bucket/prefix",
        ]
    )
    assert create_storage_backend(config).get_full_path("a") == f"{tmp_path}/a"
    assert create_storage_backend(config, "etl_input").backend_type == "local"
    output = create_storage_backend(config, "etl_output")
    assert output.backend_type == "s3"
    assert output.get_full_path("processed/x") == "s3://bucket/prefix/processed/x"


def test_any_other_protocol_that_fsspec_knows_is_a_backend() -> None:
    config = load_config(
        overrides=["storage.backend=memory", "storage.base_dir=fluxforge-factory-test"]
    )
    storage = create_storage_backend(config)
    storage.write_bytes("raw/a", b"1")
    assert storage.read_bytes("raw/a") == b"1"
    storage.delete("raw/a")


def test_an_unknown_backend_says_what_there_is() -> None:
    config = load_config(overrides=["storage.backend=loacl"])
    with pytest.raises(ConfigError, match=r"'loacl' cannot be used.*'local', 's3'"):
        create_storage_backend(config)


def test_paths_follow_the_names_of_each_role() -> None:
    config = load_config(
        overrides=[
            "storage.paths={raw_dir: ingested, ready_subdir: completed}",
            "ingestion.storage.paths.active_subdir=streaming",
            "etl.storage_output.paths.processed_dir=curated",
        ]
    )
    assert get_ingestion_path(config, "coinbase", "active") == "ingested/streaming/coinbase"
    assert get_ingestion_path(config, "coinbase", state="ready") == "ingested/completed/coinbase"
    assert get_etl_input_path(config, "coinbase") == "ingested/completed/coinbase"
    assert get_processing_path(config, "coinbase") == "ingested/processing/coinbase"
    assert get_etl_output_path(config, "coinbase") == "curated/coinbase"


def test_a_storage_knows_those_of_the_roles_in_its_configuration(tmp_path: object) -> None:
    config = load_config(
        overrides=[f"storage.base_dir={tmp_path}/a", f"etl.storage_output.base_dir={tmp_path}/b"]
    )
    storage = create_storage_backend(config)
    assert storage_for(storage, Role.ETL_INPUT) is storage
    assert storage_for(storage, Role.ETL_OUTPUT).get_full_path() == f"{tmp_path}/b"
    of_a_role = create_storage_backend(config, "etl_input")
    assert storage_for(of_a_role, Role.ETL_OUTPUT) is of_a_role


def test_an_unknown_state_lists_those_there_are() -> None:
    with pytest.raises(UsageError, match="'raedy': there are active, ready, processing, archive"):
        get_ingestion_path(load_config(), "coinbase", state="raedy")  # type: ignore[arg-type]


def test_the_earlier_factory_answers_with_what_it_is_now() -> None:
    with pytest.raises(RenamedError, match=r"create_storage_backend\(config\)"):
        from fluxforge.storage.factory import StorageFactory  # noqa: F401
    with pytest.raises(ImportError, match="cannot import name 'Nothing'"):
        from fluxforge.storage.factory import Nothing  # noqa: F401
