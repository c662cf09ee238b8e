"""From the earlier form, with a directory for each step, to one storage and its folder names."""

from __future__ import annotations

import copy
import re
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from fluxforge.errors import ConfigError

OLD_KEYS = (
    "ingestion.output_dir",
    "etl.input_dir",
    "etl.output_dir",
    "etl.processing_dir",
)
"""Keys of the earlier form; each is refused with the new form printed."""


def migrate_config(old: Any) -> str:
    """Write the settings of an earlier configuration in today's form, as YAML.

    Parameters
    ----------
    old
        The content of the old file. Settings that have not changed are carried over.

    Raises
    ------
    ConfigError
        If the old directories cannot be expressed: the raw folder is nowhere named, or the
        folder of segments in processing lies outside it.

    Examples
    --------
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
    ingestion, etl = _section(new, "ingestion"), _section(new, "etl")
    raw = _path("ingestion.output_dir", ingestion.pop("output_dir", None))
    ready = _path("etl.input_dir", etl.pop("input_dir", None))
    processed = _path("etl.output_dir", etl.pop("output_dir", None))
    processing = _path("etl.processing_dir", etl.pop("processing_dir", None))
    storage = _section(new, "storage")
    paths: dict[str, str] = {}

    if raw is None and ready is not None:
        raw = ready.parent if ready.name.startswith("ready") else ready.parent.parent
    if raw is None and processing is not None:
        raw = processing.parent
    if raw is not None and ready is not None:
        paths["ready_subdir"] = _state("etl.input_dir", ready, raw)
    if raw is not None and processing is not None:
        paths["processing_subdir"] = _state("etl.processing_dir", processing, raw)
    for key, folder in (("the raw folder", raw), ("etl.output_dir", processed)):
        if folder is not None and (folder.name in ("", "..") or folder.name.endswith(":")):
            raise ConfigError(f"{key} is {folder}: today it is a folder below storage.base_dir")

    home = raw or processed
    if home is not None:
        if raw is not None:
            paths["raw_dir"] = raw.name
        if processed is not None:
            paths["processed_dir"] = processed.name
        storage.update(_place(home.parent))
        if processed is not None and processed.parent != home.parent:
            etl["storage_output"] = _place(processed.parent)
        order = ("raw_dir", "ready_subdir", "processing_subdir", "processed_dir")
        known = {**storage.get("paths", {}), **paths}
        storage["paths"] = {name: known[name] for name in (*order, *known) if name in known}
    ordered = {"storage": storage, **{key: new[key] for key in new if key != "storage"}}
    return str(yaml.safe_dump({k: v for k, v in ordered.items() if v}, sort_keys=False))


def _section(content: dict[str, Any], name: str) -> dict[str, Any]:
    section = content.setdefault(name, {})
    if section is None:
        section = content[name] = {}
    if not isinstance(section, dict):
        raise ConfigError(f"{name!r} holds settings, not a value")
    return section


def _path(key: str, text: object) -> PurePosixPath | None:
    if text is None or text == "":
        return None
    if not isinstance(text, str):
        raise ConfigError(f"{key} is not a directory: {text!r}")
    share = text.startswith("\\\\")
    clean = re.sub(r"(?<!:)/+|(?<=^[A-Za-z]:)/+", "/", text.replace("\\", "/"))
    return PurePosixPath(f"/{clean}" if share else clean)


def _state(key: str, folder: PurePosixPath, raw: PurePosixPath) -> str:
    """Return the name of a state's folder, whether or not the source's is named after it."""
    inside = folder.relative_to(raw).parts if folder.is_relative_to(raw) else ()
    if len(inside) not in (1, 2):
        raise ConfigError(f"{key} is {folder}: today it is a folder directly in {raw}")
    return inside[0]


def _place(folder: PurePosixPath) -> dict[str, Any]:
    text = str(folder)
    if text.startswith("s3:"):
        bucket = text.removeprefix("s3:").strip("/")
        return {"backend": "s3", "base_dir": bucket}
    return {"backend": "local", "base_dir": f"{text}/" if text.endswith(":") else text}


def migrate_file(path: Path) -> str:
    """Read an old configuration file and write its settings in today's form.

    Raises
    ------
    ConfigError
        If the file cannot be read, is not YAML, or cannot be expressed.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror}") from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path} is not valid YAML") from exc
    return migrate_config(content)
