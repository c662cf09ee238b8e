"""Reading the configuration, with errors that say which key of which file to change."""

from __future__ import annotations

import difflib
import os
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import GrammarParseError, OmegaConfBaseException

from fluxforge.config.migrate import OLD_KEYS, migrate_config
from fluxforge.config.roles import Role, check_storage, storage_config
from fluxforge.config.schema import SECRET_KEYS, FluxForgeConfig, StorageConfig
from fluxforge.config.secrets import MASK, hide_secrets
from fluxforge.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

BASE_FILE = "config.yaml"

_STRAY_DOLLAR = "a value holds '${' that refers to nothing: write '\\${' for the characters"

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
    base = folder / BASE_FILE
    paths = [base] if base.is_file() else []
    paths += [_overlay_path(overlay, folder) for overlay in overlays]
    layers = [(str(path), _read_yaml(path)) for path in paths]
    layers += [("override", _read_override(override)) for override in overrides]
    config = OmegaConf.structured(FluxForgeConfig)
    hide_secrets(config)  # first, so that no error on the way can quote one
    for where, content in layers:
        config = _lay(config, content, where)
    return _finish(config, layers)


def _config_dir(config_dir: str | Path | None) -> Path:
    chosen = config_dir if config_dir is not None else os.environ.get("FLUXFORGE_CONFIG_DIR")
    if chosen is None:
        return Path("conf")
    folder = Path(chosen).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"configuration folder {folder} does not exist")
    if not (folder / BASE_FILE).is_file():
        raise ConfigError(f"{folder} holds no {BASE_FILE}: create it or name another --config-dir")
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
        return OmegaConf.load(path)
    except GrammarParseError:
        raise ConfigError(f"{path}: {_STRAY_DOLLAR}") from None
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError) as exc:
        where = getattr(exc, "problem_mark", None)
        line = f", line {where.line + 1}" if where is not None else ""
        raise ConfigError(f"{path}{line}: not valid YAML") from exc
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror}") from exc


def _read_override(text: str) -> Any:
    key, equals, _ = text.partition("=")
    if not equals or not key.strip():
        secret = any(name in text for name in SECRET_KEYS)
        raise ConfigError(
            f"override {'***' if secret else repr(text)} is not of the form key=value"
        )
    try:
        return OmegaConf.from_dotlist([text])
    except GrammarParseError:
        raise ConfigError(f"override of {key!r}: {_STRAY_DOLLAR}") from None
    except (OmegaConfBaseException, yaml.YAMLError):
        # Not "from" it: YAML's errors quote the text, and it may be a secret.
        raise ConfigError(f"override of {key!r} cannot be read: quote its value") from None


def _lay(config: Any, content: Any, where: str) -> Any:
    """Lay one file or override over the configuration so far."""
    if not isinstance(content, DictConfig):
        raise ConfigError(f"{where}: settings are expected, as 'key: value' lines")
    _refuse_old_keys(content, where)
    _tidy(content, config, where)
    for section, name in _OVERLAYS:
        overlay = OmegaConf.select(content, f"{section}.{name}")
        if overlay is not None:
            _check_overlay(overlay, f"{section}.{name}", where)
    return _merged(config, content, where)


def _tidy(content: DictConfig, config: Any, where: str, prefix: str = "") -> None:
    """Leave out sections that hold nothing but comments: YAML reads them as null."""
    for key in map(str, list(content.keys())):
        known = config._get_node(key, validate_access=False)  # noqa: SLF001 -- nor resolved
        if not isinstance(known, DictConfig) or OmegaConf.is_interpolation(content, key):
            continue
        section = None if OmegaConf.is_missing(content, key) else content[key]
        if section is None:
            del content[key]
        elif isinstance(section, DictConfig):
            _tidy(section, known, where, f"{prefix}{key}.")
        else:
            # Said before merging, whose error would quote the value: it may hold a secret.
            raise ConfigError(f"{where}: {prefix + key!r} holds settings, not a value")


def _merged(config: Any, content: Any, where: str, prefix: str = "") -> Any:
    try:
        return OmegaConf.merge(config, content)
    except OmegaConfBaseException as exc:
        raise ConfigError(_explain(exc, where, prefix)) from exc
    except TypeError as exc:
        raise ConfigError(f"{where}: {exc}: give lists as a whole, [a, b]") from exc


def _check_overlay(overlay: Any, key: str, where: str) -> None:
    known = OmegaConf.structured(StorageConfig)
    hide_secrets(known)
    _tidy(overlay, known, where, f"{key}.")
    _merged(known, overlay, where, f"{key}.")


def _explain(exc: OmegaConfBaseException, where: str, prefix: str) -> str:
    key = prefix + str(exc.full_key or "").removeprefix(prefix)
    message = str(exc.msg or exc).splitlines()[0]
    if "not in '" in message:
        near = message.partition("Did you mean: ")[2].rstrip("?").strip("'")
        hint = f"did you mean {near!r}?" if near else _known_keys(exc)
        return f"{where}: unknown key {key!r}: {hint}"
    if "is not a subclass of" in message:
        return f"{where}: {key!r} holds settings, not a value"
    if "is not a ListConfig" in message:
        return f"{where}: {key!r} is a list: write [a, b]"
    return f"{where}: {key!r}: {message}"


def _known_keys(exc: OmegaConfBaseException) -> str:
    fields = getattr(exc.object_type, "__dataclass_fields__", {})
    return f"there are: {', '.join(fields)}"


def _refuse_old_keys(content: DictConfig, where: str) -> None:
    old = OmegaConf.to_container(content)
    found = [key for key in OLD_KEYS if _at(old, key) is not None]
    if found:
        new = migrate_config(_masked(old)).rstrip().replace("\n", "\n  ")
        keys = ", ".join(repr(key) for key in found)
        belong = "belongs" if len(found) == 1 else "belong"
        hint = "" if where == "override" else f"\n\n'fluxforge config migrate {where}' writes it"
        raise ConfigError(
            f"{where}: {keys} {belong} to an earlier form; write instead\n\n  {new}{hint}"
        )


def _at(settings: Any, key: str) -> Any:
    for name in key.split("."):
        settings = settings.get(name) if isinstance(settings, dict) else None
    return settings


def _masked(settings: Any) -> Any:
    if not isinstance(settings, dict):
        return settings
    return {
        key: MASK if key in SECRET_KEYS and value is not None else _masked(value)
        for key, value in settings.items()
    }


def _finish(config: DictConfig, layers: list[tuple[str, Any]]) -> DictConfig:
    try:
        OmegaConf.resolve(config)
    except OmegaConfBaseException as exc:
        key = str(exc.full_key)
        where = next((w for w, content in reversed(layers) if _sets(content, key)), "defaults")
        raise ConfigError(f"{where}: {key!r} cannot be resolved: {_reason(exc)}") from exc
    hide_secrets(config)
    _check_values(config)
    for role in (None, *Role):
        check_storage(storage_config(config, role), role)
    return config


def _sets(content: Any, key: str) -> bool:
    return _at(OmegaConf.to_container(content), key) is not None


def _reason(exc: OmegaConfBaseException) -> str:
    return str(exc.msg or exc).splitlines()[0].rpartition("interpolation: ")[2].strip('"')


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
    for name, source in config.ingestion.sources.items():
        for key in ("products", "channels"):
            if not all(isinstance(item, str) for item in source[key]):
                raise ConfigError(f"'ingestion.sources.{name}.{key}' is a list of names: [a, b]")
    if config.etl.threads < 0:
        raise ConfigError("'etl.threads' must be 0 (all) or more")
