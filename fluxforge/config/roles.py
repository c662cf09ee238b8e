"""The three roles a storage can have, and the settings of each.

In a hybrid lake they are different places: segments are captured on a laptop, say, read from
there, and tables written to S3. Each role's settings are the top-level ``storage`` with the
role's own settings laid over it.
"""

from __future__ import annotations

import re
from enum import StrEnum
from itertools import permutations
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from fluxforge.config.schema import StorageConfig
from fluxforge.config.secrets import hide_secrets
from fluxforge.errors import ConfigError, InvalidKeyError
from fluxforge.layout import check_key, join_key

SHORTEST_LEASE_SECONDS = 2.0


class Role(StrEnum):
    """What a storage is used for."""

    INGESTION = "ingestion"
    ETL_INPUT = "etl_input"
    ETL_OUTPUT = "etl_output"


_KEYS = {
    Role.INGESTION: "ingestion.storage",
    Role.ETL_INPUT: "etl.storage_input",
    Role.ETL_OUTPUT: "etl.storage_output",
}


def storage_config(config: Any, role: Role | str | None = None) -> DictConfig:
    """Return the storage settings of one role; without a role, the top-level ones.

    Parameters
    ----------
    config
        What :func:`load_config` returns, or anything merged from it.
    role
        ``"ingestion"``, ``"etl_input"``, ``"etl_output"`` or None.

    Examples
    --------
    >>> from fluxforge.config import load_config
    >>> config = load_config(overrides=["etl.storage_output.base_dir=/mnt/tables"])
    >>> storage_config(config, "etl_output").base_dir, storage_config(config).base_dir
    ('/mnt/tables', './data')
    """
    base = OmegaConf.structured(StorageConfig)
    hide_secrets(base)
    layers = [base, config.storage]
    if role is not None:
        try:
            key = _KEYS[Role(role)]
        except ValueError as exc:
            names = ", ".join(known.value for known in Role)
            raise ConfigError(f"unknown storage role {role!r}: there are {names}") from exc
        layers.append(OmegaConf.select(config, key) or {})
    merged = cast("DictConfig", OmegaConf.merge(*layers))
    hide_secrets(merged)
    return merged


def check_storage(storage: DictConfig, role: Role | None) -> None:
    """Refuse settings of one storage that contradict each other.

    Raises
    ------
    ConfigError
        If the root is empty, leases are too short to be renewed, a folder name leaves it or is
        not one, two kinds of files would share a folder, or ``s3.bucket`` names another bucket
        than ``base_dir``.
    """
    key = _KEYS[role] if role else "storage"
    base_dir = str(storage.base_dir)
    if not base_dir.strip():
        raise ConfigError(f"{key}.base_dir is empty: name a directory, or bucket[/prefix] for S3")
    if escape := re.search("%[0-9A-Fa-f]{2}", base_dir):
        raise ConfigError(
            f"{key}.base_dir holds {escape.group()!r}, which tables take for an escaped "
            "character: name another directory"
        )
    if not storage.lease_seconds >= SHORTEST_LEASE_SECONDS:
        raise ConfigError(
            f"{key}.lease_seconds is {storage.lease_seconds:g}: a living worker needs at least "
            f"{SHORTEST_LEASE_SECONDS:g} to renew it in time"
        )
    _check_paths(storage.paths, f"{key}.paths")
    if storage.backend != "s3":
        return
    bucket = bucket_of(storage)
    if storage.s3.bucket and storage.s3.bucket != bucket:
        raise ConfigError(
            f"{key}: base_dir is in bucket {bucket!r} but s3.bucket says {storage.s3.bucket!r}: "
            "make them agree, or leave s3.bucket out"
        )


def _check_paths(paths: DictConfig, key: str) -> None:
    folders = {}
    for name in map(str, paths):
        raw = "" if name == "processed_dir" else paths.raw_dir
        try:
            folders[name] = join_key(raw, check_key(paths[name]))
        except InvalidKeyError as exc:
            raise ConfigError(f"{key}.{name}: {exc}") from exc
        if any(part.startswith(".") for part in paths[name].split("/")):
            raise ConfigError(f"{key}.{name}: folders that begin with a dot are reserved")
    del folders["raw_dir"]
    for one, other in permutations(folders, 2):
        # Names are compared as Windows and macOS compare them.
        inner, outer = f"{folders[one]}/".casefold(), f"{folders[other]}/".casefold()
        if outer == "/" or inner.startswith(outer):
            raise ConfigError(
                f"{key}: {one} is {folders[one]!r} and {other} is {folders[other]!r}: "
                "give each a folder of its own"
            )


def bucket_of(storage: DictConfig) -> str:
    """Return the bucket of an S3 storage's ``base_dir`` (``bucket[/prefix]``)."""
    return str(storage.base_dir).removeprefix("s3://").strip("/").partition("/")[0]
