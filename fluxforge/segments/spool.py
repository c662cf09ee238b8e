"""Where a spool lies."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from pathlib import Path

from fluxforge.errors import ConfigError

_READABLE_CHARACTERS = 80


def default_spool_dir() -> Path:
    """Return the folder for all spools in the user's state directory.

    ``$XDG_STATE_HOME/fluxforge/spool``, by default below ``~/.local/state``; on macOS below
    ``~/Library/Application Support``, on Windows below ``%LOCALAPPDATA%``.
    """
    try:
        return _state_directory() / "fluxforge" / "spool"
    except RuntimeError as exc:
        raise ConfigError(
            "this user has no home directory for a spool: set ingestion.spool_dir"
        ) from exc


def _state_directory() -> Path:
    if sys.platform == "win32":
        chosen = os.environ.get("LOCALAPPDATA", "")
        return Path(chosen) if chosen else Path.home() / "AppData" / "Local"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    chosen = Path(os.environ.get("XDG_STATE_HOME", ""))  # a relative one does not count
    return chosen if chosen.is_absolute() else Path.home() / ".local" / "state"


def spool_name(ready: str, server: str) -> str:
    """Name the spool of one source of one lake: readable, and like no other lake's.

    Parameters
    ----------
    ready
        Full path of the folder that its segments go to.
    server
        The address of the object store; empty where the path alone says it.

    >>> spool_name("s3://lake/raw/ready/coinbase", "https://minio:9000")
    'lake-raw-ready-coinbase-7004348fc6b9'
    >>> spool_name("s3://lake/raw/ready/coinbase", "")
    'lake-raw-ready-coinbase-ac1a7cd304fb'
    """
    digest = hashlib.sha256(f"{server}\n{ready}".encode()).hexdigest()
    readable = re.sub(r"[^A-Za-z0-9]+", "-", ready.partition("://")[2]).strip("-")
    return f"{readable[-_READABLE_CHARACTERS:].strip('-')}-{digest[:12]}"
