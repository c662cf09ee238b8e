from __future__ import annotations

import copy
import io
import json
import logging
import pickle
import pprint
import traceback
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from omegaconf import OmegaConf

from fluxforge.config import StorageConfig, load_config, reveal, storage_config
from fluxforge.config.secrets import Secret
from fluxforge.errors import ConfigError
from fluxforge.storage.factory import create_storage_backend

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HIDDEN = "wJalrXUtnFEMI-K7MDENG"
KEYS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
PLACES = ("storage", "ingestion.storage", "etl.storage_input", "etl.storage_output")


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FLUXFORGE_CONFIG_DIR", raising=False)
    monkeypatch.chdir(tmp_path)


@cache
def settings() -> Any:
    """Return a configuration with a secret under every key that can hold one."""
    overrides = [f"{place}.s3.{key}={HIDDEN}{key}" for place in PLACES for key in KEYS]
    return load_config(overrides=overrides)


def printed(config: Any) -> str:
    out = io.StringIO()
    with redirect_stdout(out):
        print(config)
    return out.getvalue()


def logged(config: Any) -> str:
    out = io.StringIO()
    logger = logging.Logger("secrets")
    logger.addHandler(logging.StreamHandler(out))
    logger.warning("%s %r", config, config)
    return out.getvalue()


SHOWN: dict[str, Callable[[Any], str]] = {
    "repr": repr,
    "str": str,
    "format": lambda config: f"{config}",
    "print": printed,
    "log": logged,
    "pprint": pprint.pformat,
    "own dict": lambda config: repr(config.to_dict()),
    "dict": lambda config: repr(asdict(config)),
    "json": lambda config: json.dumps(asdict(config), default=str),
    "yaml": lambda config: yaml.safe_dump(asdict(without_files(config))),
    "full yaml": lambda config: yaml.dump(asdict(config)),
    "omegaconf yaml": OmegaConf.to_yaml,
    "omegaconf container": lambda config: repr(OmegaConf.to_container(OmegaConf.create(config))),
    "omegaconf merged": lambda config: repr(OmegaConf.merge(config, config)),
}

MADE: dict[str, Callable[[Any], Any]] = {
    "loaded": lambda config: config,
    "copied": copy.deepcopy,
    "pickled": lambda config: pickle.loads(pickle.dumps(config)),
    "replaced": lambda config: replace(config, etl=replace(config.etl, threads=2)),
    "section": lambda config: config.storage,
    "nested section": lambda config: config.storage.s3,
    "role's section": lambda config: config.etl.storage_output,
    "role's nested section": lambda config: config.ingestion.storage.s3,
    "role": lambda config: storage_config(config, "etl_output"),
    "set later": lambda config: replace(
        load_config().storage.s3, **{key: f"{HIDDEN}{key}" for key in KEYS}
    ),
    "options": lambda config: StorageConfig(
        options={"nested": [{key: f"{HIDDEN}{key}"} for key in KEYS]}
    ),
}


def without_files(config: Any) -> Any:
    """Paths are none of what YAML's safe form can hold."""
    return replace(config, files=()) if hasattr(config, "files") else config


@pytest.mark.parametrize("made", MADE)
def test_no_secret_shows(made: str) -> None:
    config = MADE[made](settings())
    for way, shown in SHOWN.items():
        if made == "options" and way.startswith("omegaconf"):
            continue  # which takes no text of ours in an untyped place
        text = shown(config)
        assert HIDDEN not in text, way
        assert "***" in text, way


@pytest.mark.parametrize("made", [name for name in MADE if name != "options"])
def test_the_real_text_survives(made: str) -> None:
    config = MADE[made](settings())
    section = getattr(getattr(config, "storage", config), "s3", config)
    for key in KEYS:
        assert reveal(getattr(section, key)) == HIDDEN + key


def test_options_are_revealed_as_a_whole() -> None:
    options = {"account_key": HIDDEN, "nested": [{"token": HIDDEN}], "anon": False, "retries": 3}
    assert HIDDEN not in str(StorageConfig(options=options))
    assert reveal(StorageConfig(options=options).options) == options


def test_a_url_shows_neither_user_nor_password_nor_token() -> None:
    config = load_config(
        overrides=[
            f"ingestion.sources.coinbase.url=wss://user:{HIDDEN}@host/feed?token={HIDDEN}",
            f"storage.s3.endpoint_url=http://user:{HIDDEN}@127.0.0.1:8333",
            f"etl.storage_output.s3.endpoint_url=http://user:{HIDDEN}@127.0.0.1:8334/",
        ]
    )
    assert config.ingestion.sources["coinbase"].url.count(HIDDEN) == 2
    for text in (repr(config), config.to_yaml(), json.dumps(config.to_dict())):
        assert HIDDEN not in text
        assert "user" not in text
        for url in ("wss://host/feed", "http://127.0.0.1:8333", "http://127.0.0.1:8334/"):
            assert url in text


def test_the_storage_gets_the_real_text() -> None:
    pytest.importorskip("s3fs")
    config = load_config(
        overrides=[
            "storage.backend=s3",
            "storage.base_dir=bucket",
            "storage.s3.region=us-east-1",
            *(f"storage.s3.{key}={HIDDEN}{key}" for key in KEYS),
        ]
    )
    storage = create_storage_backend(config)
    options = storage.get_storage_options()
    assert HIDDEN + "aws_secret_access_key" in options.values()
    assert all(type(value) is str for value in options.values())
    assert HIDDEN not in repr(storage)


def test_a_number_is_a_secret_too_and_null_is_none() -> None:
    config = load_config(
        overrides=["storage.s3.aws_access_key_id=12345", "ingestion.storage.s3.aws_session_token=7"]
    )
    assert reveal(config.storage.s3.aws_access_key_id) == "12345"
    assert reveal(config.ingestion.storage.s3.aws_session_token) == "7"
    assert config.storage.s3.aws_secret_access_key is None
    assert "12345" not in repr(config)


def test_a_secret_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET", HIDDEN)
    reference = "${oc.env:MY_SECRET}"
    for place in PLACES:
        config = load_config(overrides=[f"{place}.s3.aws_secret_access_key={reference}"])
        found = OmegaConf.select(OmegaConf.create(config), f"{place}.s3.aws_secret_access_key")
        assert reveal(found) == HIDDEN
        assert all(HIDDEN not in shown(config) for shown in SHOWN.values())


def test_secrets_are_equal_where_their_texts_are() -> None:
    one, same, other = Secret("a"), Secret("a"), Secret("b")
    assert one == same
    assert one == "a"
    assert one != other
    assert one != "***"
    assert len({one, same, other}) == 2
    mine, theirs = (
        load_config(overrides=[f"storage.s3.aws_session_token={text}"]) for text in "ab"
    )
    assert mine != theirs
    assert storage_config(mine) != storage_config(theirs)


WRONG = {
    "a list": "storage: {s3: {aws_secret_access_key: [SECRET]}}",
    "a mapping": "storage: {s3: {aws_secret_access_key: {a: SECRET}}}",
    "a list in an overlay": "etl: {storage_output: {s3: {aws_secret_access_key: [SECRET]}}}",
    "beside an unknown key": "storage: {s3: {aws_secret_access_key: SECRET, bad: 1}}",
    "under a misspelt key": "storage: {s3: {aws_secret_acess_key: SECRET}}",
    "in place of a section": "storage: {s3: SECRET}",
    "in place of storage": "storage: s3://key:SECRET@bucket",
    "in place of an overlay": "etl: {storage_output: SECRET}",
    "beside another error": (
        "storage: {backend: s3, base_dir: b, s3: {bucket: c, aws_session_token: SECRET}}"
    ),
    "beside old keys": (
        "storage: {s3: {aws_secret_access_key: SECRET}}\ningestion: {output_dir: F:/raw}"
    ),
    "beside old keys in an overlay": (
        "etl: {input_dir: F:/raw/ready/x, storage_output: {s3: {aws_session_token: SECRET}}}"
    ),
    "in broken YAML": "storage:\n  s3:\n    aws_secret_access_key: SECRET\n   bad: 1",
    "with a brace": "storage: {s3: {aws_secret_access_key: '${SECRET'}}",
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_no_error_quotes_a_secret(tmp_path: Path, text: str) -> None:
    (tmp_path / "conf").mkdir()
    path = tmp_path / "conf" / "config.yaml"
    path.write_text(text.replace("SECRET", HIDDEN), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config()
    assert HIDDEN not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "override",
    [f"storage.s3.aws_secret_access_key=[{HIDDEN}]", f"storage.s3.aws_secret_access_key=[{HIDDEN}",
     f"storage.s3.aws_secret_access_key {HIDDEN}", f"storage.s3.aws_secret_access_key={HIDDEN}: x",
     f"storage.s3.aws_secret_acess_key={HIDDEN}", f"storage.s3={HIDDEN}",
     f"storage.s3.aws_secret_access_key=${{{HIDDEN}",
     f"etl.storage_output.s3.aws_secret_access_key={{a: {HIDDEN}}}"],
)  # fmt: skip
def test_no_override_error_quotes_a_secret(override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(overrides=[override])
    assert HIDDEN not in "".join(traceback.format_exception(caught.value))


def test_a_shown_configuration_is_valid_yaml() -> None:
    shown = yaml.safe_load(settings().to_yaml())
    assert shown["storage"]["s3"]["aws_secret_access_key"] == "***"
