"""The typed configuration: every key, its type and its default.

Any file or override is merged onto these classes by OmegaConf, so that an unknown key or a value
of the wrong type is refused. The defaults alone make a working lake under ``./data``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SECRET_KEYS = frozenset({"aws_access_key_id", "aws_secret_access_key", "aws_session_token"})
"""Keys whose values are never shown."""


@dataclass
class PathsConfig:
    """Folder names below the root; :class:`fluxforge.layout.Layout` joins them."""

    raw_dir: str = "raw"
    active_subdir: str = "active"
    ready_subdir: str = "ready"
    processing_subdir: str = "processing"
    archive_subdir: str = "archive"
    quarantine_subdir: str = "quarantine"
    processed_dir: str = "processed"


@dataclass
class S3Config:
    """Where the object store is, and who asks. Null credentials: the environment or the role."""

    bucket: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    aws_access_key_id: str | None = None
    aws_secret_access_key: str | None = None
    aws_session_token: str | None = None


@dataclass
class StorageConfig:
    """One place: ``local``, ``s3``, or any other fsspec protocol.

    Attributes
    ----------
    base_dir
        A directory for ``local``, ``bucket[/prefix]`` for ``s3``.
    lease_seconds
        On an object store, how long the work of a worker that died stays reserved to it. A living
        one renews its claim four times as often. A local disk tells at once that a worker died.
    """

    backend: str = "local"
    base_dir: str = "./data"
    lease_seconds: float = 60.0
    paths: PathsConfig = field(default_factory=PathsConfig)
    s3: S3Config = field(default_factory=S3Config)


@dataclass
class SourceConfig:
    """What to capture from one exchange."""

    url: str = ""
    products: list[str] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)


def _default_sources() -> dict[str, SourceConfig]:
    return {
        "coinbase": SourceConfig(
            url="wss://advanced-trade-ws.coinbase.com",
            products=["BTC-USD", "ETH-USD"],
            channels=["ticker", "level2", "market_trades", "candles"],
        )
    }


@dataclass
class IngestionConfig:
    """How frames become segments.

    Attributes
    ----------
    storage
        Laid over the top-level ``storage``: state only what differs.
    flush_interval_seconds
        What a crash may cost: frames are durable after at most this long.
    segment_max_mb, segment_max_seconds
        A segment closes at this size (megabytes of 10^6 bytes) or age, on the hour, and on stop.
    spool_dir, spool_max_mb
        Where frames wait while an object store does not answer, and how many megabytes of them;
        null: a folder of this lake's own in the user's state directory.
    sources
        What to capture, by source name.
    """

    storage: dict[str, Any] = field(default_factory=dict)
    flush_interval_seconds: float = 1.0
    segment_max_mb: float = 100
    segment_max_seconds: float = 300
    spool_dir: str | None = None
    spool_max_mb: float = 1024
    sources: dict[str, SourceConfig] = field(default_factory=_default_sources)


@dataclass
class EtlConfig:
    """How segments become tables.

    Attributes
    ----------
    storage_input, storage_output
        Laid over the top-level ``storage``: where segments are read and tables written.
    delete_after_processing
        False keeps each segment, compressed, in the archive.
    memory_limit_mb
        What the transformation of one segment may use before it spills to disk.
    threads
        Processors to use; 0: all.
    watch_interval_seconds
        How often a watcher looks for new segments.
    """

    storage_input: dict[str, Any] = field(default_factory=dict)
    storage_output: dict[str, Any] = field(default_factory=dict)
    delete_after_processing: bool = True
    memory_limit_mb: int = 1024
    threads: int = 0
    watch_interval_seconds: float = 5.0


@dataclass
class FluxForgeConfig:
    """The whole configuration."""

    storage: StorageConfig = field(default_factory=StorageConfig)
    ingestion: IngestionConfig = field(default_factory=IngestionConfig)
    etl: EtlConfig = field(default_factory=EtlConfig)
