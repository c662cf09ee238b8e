from __future__ import annotations

import copy
import io
import json
import logging
import pickle
import pprint
import traceback
from contextlib import redirect_stdout
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from omegaconf import OmegaConf

from fluxforge.config import load_config, reveal, storage_config
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
    "yaml": OmegaConf.to_yaml,
    "resolved yaml": lambda config: OmegaConf.to_yaml(config, resolve=True),
    "container": lambda config: repr(OmegaConf.to_container(config)),
    "json": lambda config: json.dumps(OmegaConf.to_container(config)),
    "object": lambda config: repr(OmegaConf.to_object(config)),
}

MADE: dict[str, Callable[[Any], Any]] = {
    "loaded": lambda config: config,
    "copied": copy.deepcopy,
    "pickled": lambda config: pickle.loads(pickle.dumps(config)),
    "merged with plain": lambda config: OmegaConf.merge(config, {"etl": {"threads": 2}}),
    "merged into nothing": lambda config: OmegaConf.merge({}, config),
    "merged with itself": lambda config: OmegaConf.merge(config, config),
    "merged into another": lambda config: OmegaConf.merge(load_config(), config),
    "merged under another": lambda config: OmegaConf.merge(config, load_config("local")),
    "merged with a dotlist": lambda config: OmegaConf.merge(
        config, OmegaConf.from_dotlist(["etl.threads=2"])
    ),
    "masked copy": lambda config: OmegaConf.masked_copy(config, ["storage", "ingestion", "etl"]),
    "section": lambda config: config.storage,
    "nested section": lambda config: config.storage.s3,
    "overlay": lambda config: config.etl.storage_output,
    "overlay's section": lambda config: config.ingestion.storage.s3,
    "role": lambda config: storage_config(config, "etl_output"),
    "role of a merged one": lambda config: storage_config(
        OmegaConf.merge(config, {"etl": {"threads": 2}}), "ingestion"
    ),
}  # fmt: skip


@pytest.mark.parametrize("made", MADE)
def test_no_secret_shows(made: str) -> None:
    config = MADE[made](settings())
    for way, shown in SHOWN.items():
        text = shown(config)
        assert HIDDEN not in text, way
        assert "***" in text, way


@pytest.mark.parametrize("made", [name for name in MADE if "under another" not in name])
def test_the_real_text_survives(made: str) -> None:
    config = MADE[made](settings())
    section = next(
        found
        for path in ("storage.s3", "s3", "")
        if (found := OmegaConf.select(config, path) if path else config) is not None
    )
    for key in KEYS:
        assert reveal(section[key]) == HIDDEN + key


def test_what_is_set_later_is_hidden_too() -> None:
    config = load_config()
    config.storage.s3.aws_secret_access_key = HIDDEN
    assert HIDDEN not in repr(config)
    config = OmegaConf.merge(load_config(), {"storage": {"s3": {"aws_session_token": HIDDEN}}})
    for shown in SHOWN.values():
        assert HIDDEN not in shown(config)
    assert reveal(config.storage.s3.aws_session_token) == HIDDEN


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
        found = OmegaConf.select(config, f"{place}.s3.aws_secret_access_key")
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
    shown = yaml.safe_load(OmegaConf.to_yaml(settings()))
    assert shown["storage"]["s3"]["aws_secret_access_key"] == "***"
