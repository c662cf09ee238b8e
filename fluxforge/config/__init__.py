"""Configuration: a typed schema, YAML files laid over it, and dotlist overrides over those."""

from fluxforge.config.load import load_config
from fluxforge.config.migrate import migrate_config, migrate_file
from fluxforge.config.schema import FluxForgeConfig, Role, StorageConfig, storage_config
from fluxforge.config.secrets import reveal

__all__ = [
    "FluxForgeConfig",
    "Role",
    "StorageConfig",
    "load_config",
    "migrate_config",
    "migrate_file",
    "reveal",
    "storage_config",
]
