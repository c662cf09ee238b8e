"""Reading the configuration, with errors that say which key of which file to change."""

from __future__ import annotations

import difflib
import os
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fluxforge.config.migrate import OLD_KEYS, migrate_config
from fluxforge.config.roles import Role, check_storage, storage_config
from fluxforge.config.schema import SECRET_KEYS, FluxForgeConfig, StorageConfig
from fluxforge.config.secrets import hide_secrets
from fluxforge.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

BASE_FILE = "config.yaml"

_OVERLAYS = (
    ("ingestion", "storage"),
    ("etl", "storage_input"),
    ("etl", "storage_output"),
)


def load_config(
    *overlays: str | Path,
    config_dir: str | Path | None = None,
    overrides: Iterable[str] = (),
) -> DictConfig:
    """Build the configuration.

    Later wins: built-in defaults, ``config.yaml``, `overlays` in order, `overrides`.

    Parameters
    ----------
    *overlays
        Names of files in the configuration folder (``"hybrid"`` is ``hybrid.yaml``), or paths.
    config_dir
        The folder; by default ``conf`` in the working directory, and where that does not exist,
        the built-in defaults with the overlays that come with FluxForge.
    overrides
        ``"storage.base_dir=/mnt/lake"`` and the like.

    Returns
    -------
    DictConfig
        Typed, resolved, and with secrets that print as ``***``.

    Raises
    ------
    ConfigError
        If a file is missing or not YAML, a key is unknown or out of date, or a value is of the
        wrong type; the message names the key, where it was set, and the nearest right name.

    Examples
    --------
    >>> config = load_config(overrides=["storage.base_dir=/mnt/lake", "etl.threads=2"])
    >>> config.storage.base_dir, config.etl.threads
    ('/mnt/lake', 2)
    >>> load_config(overrides=["storage.base_dri=/mnt/lake"])
    Traceback (most recent call last):
    ...
    fluxforge.errors.ConfigError: override: unknown key 'storage.base_dri': did you mean 'base_dir'?
    """
    folder = _config_dir(config_dir)
    config = OmegaConf.structured(FluxForgeConfig)
    base = folder / BASE_FILE
    if base.is_file():
        config = _lay(config, _read_yaml(base), str(base))
    elif config_dir is not None:
        raise ConfigError(f"{folder} holds no {BASE_FILE}: create it or name another --config-dir")
    for overlay in overlays:
        path = _overlay_path(overlay, folder)
        config = _lay(config, _read_yaml(path), str(path))
    for override in overrides:
        config = _lay(config, _read_override(override), "override")
    return _finish(config)


def _config_dir(config_dir: str | Path | None) -> Path:
    chosen = config_dir if config_dir is not None else os.environ.get("FLUXFORGE_CONFIG_DIR")
    if chosen is None:
        return Path("conf")
    folder = Path(chosen).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"configuration folder {folder} does not exist")
    return folder


def _shipped_dir() -> Path | None:
    """Return the overlays that come with FluxForge: in the wheel, or beside a source tree."""
    package = Path(str(resources.files("fluxforge")))
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / BASE_FILE).is_file():
            return folder
    return None


def _overlay_path(overlay: str | Path, folder: Path) -> Path:
    text = str(overlay)
    if isinstance(overlay, Path) or text.endswith((".yaml", ".yml")):
        path = Path(overlay).expanduser()
        if path.is_file():
            return path
        raise ConfigError(f"configuration file {path} does not exist")
    folders = [place for place in (folder, _shipped_dir()) if place is not None]
    for place in folders:
        if (place / f"{text}.yaml").is_file():
            return place / f"{text}.yaml"
    names = sorted({file.stem for place in folders for file in place.glob("*.yaml")} - {"config"})
    near = difflib.get_close_matches(text, names, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names) or 'none'}"
    raise ConfigError(f"no overlay {text!r} in {folder}: {hint}")


def _read_yaml(path: Path) -> Any:
    try:
        content = OmegaConf.load(path)
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError) as exc:
        where = getattr(exc, "problem_mark", None)
        line = f", line {where.line + 1}" if where is not None else ""
        raise ConfigError(f"{path}{line}: not valid YAML") from exc
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror}") from exc
    return content


def _read_override(text: str) -> Any:
    key, equals, _ = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"override {text!r} is not of the form key=value")
    try:
        return OmegaConf.from_dotlist([text])
    except (OmegaConfBaseException, yaml.YAMLError) as exc:
        raise ConfigError(f"override of {key!r} cannot be read: quote its value") from exc


def _lay(config: Any, content: Any, where: str) -> Any:
    """Lay one file or override over the configuration so far."""
    if not isinstance(content, DictConfig):
        raise ConfigError(f"{where}: settings are expected, as 'key: value' lines")
    _refuse_old_keys(content, where)
    try:
        for section, name in _OVERLAYS:
            overlay = OmegaConf.select(content, f"{section}.{name}")
            if overlay is not None:
                _check_overlay(overlay, f"{section}.{name}", where)
        return OmegaConf.merge(config, content)
    except OmegaConfBaseException as exc:
        raise ConfigError(_explain(exc, where)) from exc


def _check_overlay(overlay: Any, key: str, where: str) -> None:
    if not isinstance(overlay, DictConfig):
        raise ConfigError(f"{where}: {key!r} holds settings of a storage, not a value")
    try:
        OmegaConf.merge(OmegaConf.structured(StorageConfig), overlay)
    except OmegaConfBaseException as exc:
        raise ConfigError(_explain(exc, where, prefix=f"{key}.")) from exc


def _explain(exc: OmegaConfBaseException, where: str, prefix: str = "") -> str:
    full_key = str(exc.full_key or "")
    key = full_key if full_key.startswith(prefix) else prefix + full_key
    message = str(exc.msg or exc).splitlines()[0]
    if "not in '" in message:
        near = message.partition("Did you mean: ")[2].rstrip("?").strip("'")
        hint = f"did you mean {near!r}?" if near else _known_keys(exc)
        return f"{where}: unknown key {key!r}: {hint}"
    if full_key.rpartition(".")[2] in SECRET_KEYS:
        return f"{where}: {key!r} must be text"
    return f"{where}: {key!r}: {message}" if key else f"{where}: {message}"


def _known_keys(exc: OmegaConfBaseException) -> str:
    fields = getattr(exc.object_type, "__dataclass_fields__", {})
    return f"there are: {', '.join(fields)}"


def _refuse_old_keys(content: DictConfig, where: str) -> None:
    found = [key for key in OLD_KEYS if OmegaConf.select(content, key) is not None]
    if found:
        new = migrate_config(OmegaConf.to_container(content)).rstrip().replace("\n", "\n  ")
        keys = ", ".join(repr(key) for key in found)
        belong = "belongs" if len(found) == 1 else "belong"
        hint = "" if where == "override" else f"\n\n'fluxforge config migrate {where}' writes it"
        raise ConfigError(
            f"{where}: {keys} {belong} to an earlier form; write instead\n\n  {new}{hint}"
        )


def _finish(config: DictConfig) -> DictConfig:
    try:
        OmegaConf.resolve(config)
    except OmegaConfBaseException as exc:
        reason = str(exc).splitlines()[0].rpartition("interpolation: ")[2]
        raise ConfigError(f"{exc.full_key!r} cannot be resolved: {reason}") from exc
    hide_secrets(config)
    _check_values(config)
    for role in (None, *Role):
        check_storage(storage_config(config, role), role)
    return config


def _check_values(config: DictConfig) -> None:
    for key in (
        "ingestion.flush_interval_seconds",
        "ingestion.segment_max_mb",
        "ingestion.segment_max_seconds",
        "ingestion.spool_max_mb",
        "etl.memory_limit_mb",
        "etl.watch_interval_seconds",
    ):
        if not OmegaConf.select(config, key) > 0:
            raise ConfigError(f"{key!r} must be more than 0")
    if config.etl.threads < 0:
        raise ConfigError("'etl.threads' must be 0 (all) or more")
