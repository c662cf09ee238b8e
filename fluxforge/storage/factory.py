"""From configuration to a storage and the paths in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fluxforge.config import Role, reveal, storage_config
from fluxforge.errors import RenamedError
from fluxforge.layout import Layout

if TYPE_CHECKING:
    from fluxforge.config import FluxForgeConfig, StorageConfig
    from fluxforge.layout import State
    from fluxforge.storage.base import StorageBackend


def create_storage_backend(
    config: FluxForgeConfig, role: Role | str | None = None
) -> StorageBackend:
    """Return the storage of one role; without a role, the top-level one.

    Parameters
    ----------
    config
        What :func:`fluxforge.config.load_config` returns.
    role
        ``"ingestion"``, ``"etl_input"`` or ``"etl_output"``: the storage with that role's own
        settings laid over it.

    Raises
    ------
    ConfigError
        If the backend is neither ``local``, ``s3`` or ``memory`` nor a protocol that fsspec knows.
    MissingExtraError
        If the backend's package is not installed.

    Examples
    --------
    >>> from fluxforge.config import load_config
    >>> storage = create_storage_backend(load_config(overrides=["storage.base_dir=/mnt/lake"]))
    >>> storage.backend_type
    'local'
    """
    storage = _create(storage_config(config, role))
    storage.layout = create_layout(config, role)
    storage.config = config if role is None else None
    return storage


def storage_for(storage: StorageBackend, role: Role) -> StorageBackend:
    """Return the storage of a role in the configuration that `storage` is the top level of.

    A storage that was not made from a configuration, or for one role, is that of every role.
    """
    config = storage.config
    if config is None or storage_config(config, role) == config.storage:
        return storage
    return create_storage_backend(config, role)


def _create(settings: StorageConfig) -> StorageBackend:
    root = settings.base_dir.removeprefix(f"{settings.backend}://")
    if settings.backend in ("local", "file"):
        from fluxforge.storage.local import LocalStorage

        return LocalStorage(root)
    if settings.backend == "memory":
        from fluxforge.storage.memory import MemoryStorage

        return MemoryStorage(root.removeprefix("./").strip("/"))
    if settings.backend == "s3":
        from fluxforge.storage.s3 import S3Storage

        bucket, _, prefix = root.strip("/").partition("/")
        return S3Storage(
            bucket,
            prefix,
            region=settings.s3.region,
            endpoint_url=settings.s3.endpoint_url,
            access_key_id=reveal(settings.s3.aws_access_key_id),
            secret_access_key=reveal(settings.s3.aws_secret_access_key),
            session_token=reveal(settings.s3.aws_session_token),
            lease_seconds=settings.lease_seconds,
        )
    from fluxforge.storage.fsspec_storage import FsspecStorage

    return FsspecStorage(
        settings.backend, root, lease_seconds=settings.lease_seconds, **reveal(settings.options)
    )


def create_layout(config: FluxForgeConfig, role: Role | str | None = None) -> Layout:
    """Return the layout of one role's storage."""
    names = dict(vars(storage_config(config, role).paths))
    return Layout(raw=names.pop("raw_dir"), processed=names.pop("processed_dir"), **names)


def get_ingestion_path(config: FluxForgeConfig, source: str, state: State = "active") -> str:
    """Return the key of the folder where ingestion keeps a source's segments in one state.

    Raises
    ------
    UsageError
        If there is no such state; the message lists them.

    Examples
    --------
    >>> from fluxforge.config import load_config
    >>> get_ingestion_path(load_config(), "coinbase", state="ready")
    'raw/ready/coinbase'
    """
    return create_layout(config, Role.INGESTION).state(state, source)


def get_etl_input_path(config: FluxForgeConfig, source: str) -> str:
    """Return the key of the folder from which the ETL takes a source's segments."""
    return create_layout(config, Role.ETL_INPUT).ready(source)


def get_etl_output_path(config: FluxForgeConfig, source: str) -> str:
    """Return the key of the folder that holds a source's tables."""
    return create_layout(config, Role.ETL_OUTPUT).tables(source)


def get_processing_path(config: FluxForgeConfig, source: str) -> str:
    """Return the key of the folder that holds the segments an ETL has claimed."""
    return create_layout(config, Role.ETL_INPUT).processing(source)


def __getattr__(name: str) -> Any:
    if name == "StorageFactory":
        raise RenamedError("StorageFactory is the function create_storage_backend(config) now")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
