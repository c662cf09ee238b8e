"""Settings that have the right type and yet cannot work, or contradict each other."""

from __future__ import annotations

import re
from itertools import permutations

from fluxforge.config.durations import parse_limit
from fluxforge.config.schema import (
    ROLE_KEYS,
    FluxForgeConfig,
    PathsConfig,
    StorageConfig,
    storage_config,
)
from fluxforge.errors import ConfigError, InvalidKeyError
from fluxforge.layout import check_key, join_key

SHORTEST_LEASE_SECONDS = 2.0
SHORTEST_KEEP_SECONDS = 3600.0
"""What is younger may still be needed: by an ETL that is about to commit it, or by readers."""


_MORE_THAN_0 = {
    "ingestion": (
        "flush_interval_seconds",
        "segment_max_mb",
        "segment_max_seconds",
        "spool_max_mb",
        "mirror_interval_seconds",
    ),
    "etl": ("memory_limit_mb", "watch_interval_seconds"),
    "run": ("status_interval_seconds", "maintenance_interval_seconds"),
}


def check_config(config: FluxForgeConfig) -> None:
    """Refuse settings that cannot work: a ConfigError says which, and what to write."""
    for section, names in _MORE_THAN_0.items():
        for name in names:
            if not getattr(getattr(config, section), name) > 0:
                raise ConfigError(f"'{section}.{name}' must be more than 0")
    if config.etl.threads < 0:
        raise ConfigError("'etl.threads' must be 0 (all) or more")
    if not config.query.cache_max_mb >= 0:
        raise ConfigError("'query.cache_max_mb' must be 0 (no cache) or more")
    if not 0 <= config.run.metrics_port <= 65535:
        raise ConfigError("'run.metrics_port' must be a port, or 0 for none")
    for key, limit in {"run.keep_versions": config.run.keep_versions, **config.retention}.items():
        if not isinstance(limit, str):  # OmegaConf lets sections and lists pass for text
            raise ConfigError(
                f"'retention.{key}' must be an age (90d) or a size (50GB); a table is one key: "
                "retention[coinbase.trades]=90d"
            )
        try:
            age, _ = parse_limit(limit)
        except ConfigError as exc:
            raise ConfigError(f"{key!r} is {limit!r}: write an age (90d) or a size (50GB)") from exc
        if age is not None and age < SHORTEST_KEEP_SECONDS:
            raise ConfigError(f"{key!r} is {limit!r}: keep at least 1h")
    for source, wanted in config.ingestion.sources.items():
        for name in ("products", "channels"):
            if not all(isinstance(item, str) for item in getattr(wanted, name)):
                raise ConfigError(f"'ingestion.sources.{source}.{name}' is a list of names: [a, b]")
    _check_storage(config.storage, "storage")
    for role, key in ROLE_KEYS.items():
        _check_storage(storage_config(config, role), key)


def _check_storage(storage: StorageConfig, key: str) -> None:
    if not storage.base_dir.strip():
        raise ConfigError(f"{key}.base_dir is empty: name a directory, or bucket[/prefix] for S3")
    if escape := re.search("%[0-9A-Fa-f]{2}", storage.base_dir):
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
    bucket = storage.base_dir.removeprefix("s3://").strip("/").partition("/")[0]
    if storage.backend == "s3" and (storage.s3.bucket or bucket) != bucket:
        raise ConfigError(
            f"{key}: base_dir is in bucket {bucket!r} but s3.bucket says {storage.s3.bucket!r}: "
            "make them agree, or leave s3.bucket out"
        )


def _check_paths(paths: PathsConfig, key: str) -> None:
    folders = {}
    for name, folder in vars(paths).items():
        raw = "" if name == "processed_dir" else paths.raw_dir
        try:
            folders[name] = join_key(raw, check_key(folder))
        except InvalidKeyError as exc:
            raise ConfigError(f"{key}.{name}: {exc}") from exc
        if any(part.startswith(".") for part in folder.split("/")):
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
