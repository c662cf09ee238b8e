"""The typed configuration: every key, its type and its default.

OmegaConf merges files and overrides onto these classes, so that an unknown key or a value of the
wrong type is refused. ``conf/config.yaml`` holds the same defaults and says what each key is for.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from fluxforge.config.secrets import MASK, SECRET_KEYS, Secret, hide
from fluxforge.errors import ConfigError, redacted_url


class _Section:
    """A section of the configuration, which shows no secret."""

    def to_dict(self, base: _Section | None = None) -> dict[str, Any]:
        """Return the settings, or those that differ from `base`, as they may be shown.

        Secrets are ``***``, and URLs have no user, password or query.
        """
        return {
            name: _shown(name, value, getattr(base, name, None))
            for name, value in vars(self).items()
            if base is None or value != getattr(base, name)
        }

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.to_dict().items())
        return f"{type(self).__name__}({settings})"


def _shown(name: str, value: Any, base: _Section | None = None) -> Any:
    if isinstance(value, _Section):
        return value.to_dict(base)
    if isinstance(value, dict):
        return {key: _shown(key, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(name, item) for item in value]
    if isinstance(value, Secret):
        return MASK
    if isinstance(value, Path):
        return str(value)
    return redacted_url(value) if name.endswith("url") and value else value


@dataclass(frozen=True, repr=False)
class PathsConfig(_Section):
    """Folder names below the root; :class:`fluxforge.layout.Layout` joins them."""

    raw_dir: str = "raw"
    active_subdir: str = "active"
    ready_subdir: str = "ready"
    processing_subdir: str = "processing"
    archive_subdir: str = "archive"
    quarantine_subdir: str = "quarantine"
    processed_dir: str = "processed"


@dataclass(frozen=True, repr=False)
class S3Config(_Section):
    """Where the object store is, and who asks. Null credentials: the environment or the role."""

    bucket: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    aws_access_key_id: str | None = None
    aws_secret_access_key: str | None = None
    aws_session_token: str | None = None

    def __post_init__(self) -> None:
        for name in SECRET_KEYS:
            object.__setattr__(self, name, hide(getattr(self, name), everything=True))


@dataclass(frozen=True, repr=False)
class StorageConfig(_Section):
    """One place: ``local``, ``s3``, or any other fsspec protocol."""

    backend: str = "local"
    base_dir: str = "./data"
    lease_seconds: float = 60.0
    paths: PathsConfig = field(default_factory=PathsConfig)
    s3: S3Config = field(default_factory=S3Config)
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", hide(self.options, everything=True))


@dataclass(frozen=True, repr=False)
class SourceConfig(_Section):
    """What to capture from one exchange."""

    url: str = ""
    products: list[str] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)
    rest_url: str | None = None  # null: the venue's own, or that of a local exchange at `url`


def _default_sources() -> dict[str, SourceConfig]:
    return {
        "coinbase": SourceConfig(
            url="wss://advanced-trade-ws.coinbase.com",
            products=["BTC-USD", "ETH-USD"],
            channels=["ticker", "level2", "market_trades", "candles"],
        )
    }


@dataclass(frozen=True, repr=False)
class IngestionConfig(_Section):
    """How frames become segments.

    ``storage`` is the top-level one with what differs for captures; None: nothing differs.
    """

    storage: StorageConfig | None = None
    flush_interval_seconds: float = 1.0
    segment_max_mb: float = 100
    segment_max_seconds: float = 300
    spool_dir: str | None = None
    spool_max_mb: float = 1024
    mirror_interval_seconds: float = 5.0
    sources: dict[str, SourceConfig] = field(default_factory=_default_sources)


@dataclass(frozen=True, repr=False)
class EtlConfig(_Section):
    """How segments become tables.

    ``storage_input`` and ``storage_output`` are the top-level ``storage`` with what differs where
    segments are read and where tables are written; None: nothing differs.
    """

    storage_input: StorageConfig | None = None
    storage_output: StorageConfig | None = None
    delete_after_processing: bool = True
    memory_limit_mb: int = 1024
    threads: int = 0
    watch_interval_seconds: float = 5.0


@dataclass(frozen=True, repr=False)
class QueryConfig(_Section):
    """Copies of remote tables' files; ``cache_dir`` None: the user's cache folder."""

    cache_dir: str | None = None
    cache_max_mb: float = 2048


@dataclass(frozen=True, repr=False)
class RunConfig(_Section):
    """What ``fluxforge run`` does beside capturing and the ETL, and how often."""

    metrics_port: int = 0
    status_interval_seconds: float = 15.0
    maintenance_interval_seconds: float = 3600.0
    keep_versions: str = "7d"


@dataclass(frozen=True, repr=False)
class HealthConfig(_Section):
    """Limits beyond which ``fluxforge health`` finds a problem; None: no limit."""

    age_seconds: float | None = 900
    backlog_seconds: float | None = 900
    backlog_mb: float | None = None
    spool_mb: float | None = None
    capture_lag_seconds: float | None = 60
    set_aside: int | None = 0
    quarantine_files: int | None = None
    gaps: int | None = None
    disk_free_mb: float | None = 1024
    disk_hours: float | None = 24
    clock_drift_seconds: float | None = 5


@dataclass(frozen=True, repr=False)
class FluxForgeConfig(_Section):
    """The whole configuration; ``files`` are those that it was read from, in order."""

    storage: StorageConfig = field(default_factory=StorageConfig)
    ingestion: IngestionConfig = field(default_factory=IngestionConfig)
    etl: EtlConfig = field(default_factory=EtlConfig)
    query: QueryConfig = field(default_factory=QueryConfig)
    run: RunConfig = field(default_factory=RunConfig)
    health: HealthConfig = field(default_factory=HealthConfig)
    retention: dict[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = field(default=(), compare=False, metadata={"omegaconf_ignore": True})

    def to_dict(self, base: _Section | None = None) -> dict[str, Any]:
        """Return the settings as a file may state them, secrets masked, and the ``files``."""
        shown = super().to_dict(base)
        for role, key in ROLE_KEYS.items():
            section, _, name = key.partition(".")
            shown[section][name] = storage_config(self, role).to_dict(self.storage)
        sources = dict.fromkeys(_default_sources()) | shown["ingestion"]["sources"]
        shown["ingestion"]["sources"] = sources  # what is left out has to be said
        return shown

    def to_yaml(self) -> str:
        """Return the settings as YAML, secrets masked, below comments that name the files."""
        settings = self.to_dict()
        files = "".join(f"# {file}\n" for file in settings.pop("files"))
        return files + str(yaml.safe_dump(settings, sort_keys=False, default_flow_style=False))

    def in_folder(self, path: str | Path) -> FluxForgeConfig:
        """Return this configuration with the whole lake in a folder of this machine."""
        return replace(
            self,
            storage=replace(self.storage, backend="local", base_dir=str(Path(path).absolute())),
            ingestion=replace(self.ingestion, storage=None),
            etl=replace(self.etl, storage_input=None, storage_output=None),
        )


class Role(StrEnum):
    """What a storage is used for. In a hybrid lake these are different places."""

    INGESTION = "ingestion"
    ETL_INPUT = "etl_input"
    ETL_OUTPUT = "etl_output"


ROLE_KEYS = {
    Role.INGESTION: "ingestion.storage",
    Role.ETL_INPUT: "etl.storage_input",
    Role.ETL_OUTPUT: "etl.storage_output",
}


def storage_config(config: FluxForgeConfig, role: Role | str | None = None) -> StorageConfig:
    """Return the storage settings of one role; without a role, the top-level ones.

    >>> from fluxforge.config import load_config
    >>> config = load_config(overrides=["storage.base_dir=/a", "etl.storage_output.base_dir=/b"])
    >>> storage_config(config, "etl_output").base_dir, storage_config(config).base_dir
    ('/b', '/a')
    """
    if role is None:
        return config.storage
    own = {
        Role.INGESTION: config.ingestion.storage,
        Role.ETL_INPUT: config.etl.storage_input,
        Role.ETL_OUTPUT: config.etl.storage_output,
    }
    if role not in own:
        raise ConfigError(f"unknown storage role {role!r}: there are {', '.join(own)}")
    return own[Role(role)] or config.storage
