"""From the earlier form, with a directory for each step, to one storage and its folder names."""

from __future__ import annotations

import copy
import re
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from fluxforge.errors import ConfigError

OLD_KEYS = ("ingestion.output_dir", "etl.input_dir", "etl.output_dir", "etl.processing_dir")
"""Keys of the earlier form; each is refused with the new form printed."""


def migrate_config(old: Any) -> str:
    """Write the settings of an earlier configuration in today's form, as YAML.

    What has not changed is carried over; a ConfigError says what cannot be expressed.

    >>> print(migrate_config({"ingestion": {"output_dir": "F://raw"}}), end="")
    storage:
      backend: local
      base_dir: F:/
      paths:
        raw_dir: raw
    """
    if not isinstance(old, dict):
        raise ConfigError("the old configuration holds no settings")
    new: dict[str, Any] = copy.deepcopy(old)
    storage, etl = _section(new, "storage"), _section(new, "etl")
    raw, ready, processed, processing = (_popped(new, key) for key in OLD_KEYS)
    if raw is None and ready is not None:
        raw = ready.parent if ready.name.startswith("ready") else ready.parent.parent
    if raw is None and processing is not None:
        raw = processing.parent
    paths = dict(storage.get("paths", {}))
    for name, folder in (("raw_dir", raw), ("processed_dir", processed)):
        if folder is not None:
            if folder.name in ("", "..") or folder.name.endswith(":"):
                raise ConfigError(f"{name} is {folder}: today it is a folder below base_dir")
            paths[name] = folder.name
    for state, folder in (("ready", ready), ("processing", processing)):
        if folder is not None and raw is not None:
            # The source's own folder may have been named, or the one of all sources.
            inside = folder.relative_to(raw).parts if folder.is_relative_to(raw) else ()
            if len(inside) not in (1, 2):
                raise ConfigError(f"the {state} folder is {folder}: today it is one in {raw}")
            paths[f"{state}_subdir"] = inside[0]
    home = raw or processed
    if home is not None:
        storage |= {**_place(home.parent), "paths": paths}
        if processed is not None and processed.parent != home.parent:
            etl["storage_output"] = _place(processed.parent)
    ordered = {"storage": storage, **new}
    return str(yaml.safe_dump({k: v for k, v in ordered.items() if v}, sort_keys=False))


def _section(content: dict[str, Any], name: str) -> dict[str, Any]:
    section = content[name] = {} if content.get(name) is None else content[name]
    if not isinstance(section, dict):
        raise ConfigError(f"{name!r} holds settings, not a value")
    return section


def _popped(content: dict[str, Any], key: str) -> PurePosixPath | None:
    """Take a directory out of the content, written in whatever way people write them."""
    section, _, name = key.partition(".")
    text = _section(content, section).pop(name, None)
    if text is None or text == "":
        return None
    if not isinstance(text, str):
        raise ConfigError(f"{key} is not a directory: {text!r}")
    share = "/" if text.startswith("\\\\") else ""
    clean = re.sub(r"(?<!:)/+|(?<=^[A-Za-z]:)/+", "/", text.replace("\\", "/"))
    return PurePosixPath(share + clean)


def _place(folder: PurePosixPath) -> dict[str, Any]:
    text = str(folder)
    if text.startswith("s3:"):
        return {"backend": "s3", "base_dir": text.removeprefix("s3:").strip("/")}
    return {"backend": "local", "base_dir": f"{text}/" if text.endswith(":") else text}


def migrate_file(path: Path) -> str:
    """Read an old configuration file and write its settings in today's form."""
    try:
        return migrate_config(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror}") from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path} is not valid YAML") from exc
