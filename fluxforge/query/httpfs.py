"""DuckDB's own reader of S3, where its ``httpfs`` extension is installed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from fluxforge.transform.database import identifier, literal

if TYPE_CHECKING:
    import duckdb

    from fluxforge.storage.base import StorageBackend

logger = logging.getLogger(__name__)


def open_httpfs(database: duckdb.DuckDBPyConnection, storage: StorageBackend) -> bool:
    """Let a database read the files of an S3 storage by itself; False where it cannot.

    The extension is used if it is there and never downloaded. The credentials are handed over as
    parameters: they stand in no SQL text, no log and no error.
    """
    import duckdb

    if storage.backend_type != "s3":
        return False
    try:
        database.execute("LOAD httpfs")
    except duckdb.Error:
        logger.debug("httpfs is not installed: reading through Arrow")
        return False
    statement, values = _secret(storage)
    database.execute(statement, values)
    return True


def _secret(storage: StorageBackend) -> tuple[str, dict[str, str]]:
    options = storage.get_storage_options()
    names = {
        "KEY_ID": "AWS_ACCESS_KEY_ID",
        "SECRET": "AWS_SECRET_ACCESS_KEY",
        "SESSION_TOKEN": "AWS_SESSION_TOKEN",
        "REGION": "AWS_REGION",
    }
    values = {name: options[key] for name, key in names.items() if key in options}
    fields = ["TYPE s3", f"SCOPE {literal(storage.get_full_path())}"]
    fields += [f"{name} ${name}" for name in values]
    if endpoint := options.get("AWS_ENDPOINT_URL"):
        scheme, _, host = endpoint.partition("://")
        fields += [
            f"ENDPOINT {literal(host.rstrip('/'))}",
            "URL_STYLE 'path'",
            f"USE_SSL {'true' if scheme == 'https' else 'false'}",
        ]
    name = identifier(f"lake_{storage.base_path}")
    return f"CREATE OR REPLACE SECRET {name} ({', '.join(fields)})", values
