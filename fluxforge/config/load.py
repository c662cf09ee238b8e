"""Reading the configuration, with errors that say which key of which file to change."""

from __future__ import annotations

import difflib
import os
import pickle
import re
from dataclasses import asdict, dataclass, fields, replace
from functools import cache, lru_cache
from importlib import resources
from io import StringIO
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import GrammarParseError, OmegaConfBaseException

from fluxforge.config.check import check_config
from fluxforge.config.migrate import OLD_KEYS, migrate_config
from fluxforge.config.schema import (
    ROLE_KEYS,
    EtlConfig,
    FluxForgeConfig,
    IngestionConfig,
    Role,
    StorageConfig,
    storage_config,
)
from fluxforge.config.secrets import SECRET_KEYS, hide
from fluxforge.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

BASE_FILE = "config.yaml"

_STRAY_DOLLAR = "a value holds '${' that refers to nothing: write '\\${' for the characters"


def load_config(
    *overlays: str | Path,
    config_dir: str | Path | None = None,
    overrides: Iterable[str] = (),
) -> FluxForgeConfig:
    """Build the configuration.

    Later wins: built-in defaults, ``config.yaml``, `overlays` in order, `overrides`. A relative
    ``base_dir`` or ``spool_dir`` in a file is relative to the project that the file belongs to
    (the parent of its configuration folder); elsewhere, to the working directory.

    Parameters
    ----------
    *overlays
        Names of files in the configuration folder (``"hybrid"`` is ``hybrid.yaml``), or paths.
    config_dir
        The folder; by default ``FLUXFORGE_CONFIG_DIR``, or the nearest ``conf/config.yaml`` in
        the working directory and its parents. Without one, overlays are FluxForge's own.
    overrides
        ``"storage.base_dir=/mnt/lake"`` and the like.

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
    folder = _find_folder(config_dir)
    files = [_Layer.of_file(folder / BASE_FILE)] if folder else []
    files += [_find_overlay(overlay, folder) for overlay in overlays]
    layers = [*files, *map(_Layer.of_override, overrides)]
    config = pickle.loads(files[0].over_defaults() if files else _defaults())  # noqa: S301 -- ours
    for layer in layers[bool(files) :]:
        config = layer.laid_over(config)
    for key in ROLE_KEYS.values():
        stated = [own for layer in layers if isinstance(own := layer.get(key), dict)]
        if stated:
            section, _, name = key.partition(".")
            storage = OmegaConf.merge(config.storage, *stated)
            config = OmegaConf.merge(config, {section: {name: storage}})
    typed = _at_home(_typed(config, layers), layers)
    check_config(typed)
    return replace(typed, files=tuple(Path(file.where) for file in files))


def _find_folder(config_dir: str | Path | None) -> Path | None:
    chosen = config_dir if config_dir is not None else os.environ.get("FLUXFORGE_CONFIG_DIR")
    if not chosen:
        here = Path.cwd()
        folders = (parent / "conf" for parent in (here, *here.parents))
        return next((folder for folder in folders if (folder / BASE_FILE).is_file()), None)
    folder = Path(chosen).expanduser().absolute()
    if not folder.is_dir():
        raise ConfigError(f"configuration folder {folder} does not exist")
    if not (folder / BASE_FILE).is_file():
        raise ConfigError(f"{folder} holds no {BASE_FILE}: create it or name another --config-dir")
    return folder


def _find_overlay(overlay: str | Path, folder: Path | None) -> _Layer:
    text = str(overlay)
    if isinstance(overlay, Path) or text.endswith((".yaml", ".yml")):
        path = Path(overlay).expanduser().absolute()
        if path.is_file():
            return _Layer.of_file(path)
        raise ConfigError(f"configuration file {path} does not exist")
    # Those that come with FluxForge are in the wheel, or beside a source tree.
    package = Path(str(resources.files("fluxforge")))
    shipped = [place for place in (package / "conf", package.parent / "conf") if place.is_dir()]
    places = [folder, *shipped] if folder else shipped
    for place in places:
        if (path := place / f"{text}.yaml").is_file():
            return _Layer.of_file(path, home=folder.parent if folder else Path())
    names = sorted({file.stem for place in places for file in place.glob("*.yaml")} - {"config"})
    near = difflib.get_close_matches(text, names, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names) or 'none'}"
    raise ConfigError(f"no overlay {text!r} in {folder or 'the built-in ones'}: {hint}")


@cache
def _defaults() -> bytes:
    """Return the defaults as a pickle: OmegaConf shares nodes of what it merges and copies."""
    return pickle.dumps(OmegaConf.structured(FluxForgeConfig))


@dataclass(frozen=True, eq=False)
class _Layer:
    """What one file or override sets."""

    where: str  # the path of the file, or "override"
    content: dict[str, Any]
    home: Path  # what its relative paths are relative to

    @classmethod
    def of_file(cls, path: Path, home: Path | None = None) -> _Layer:
        """Read a file, by default one of the project in whose configuration folder it lies."""
        if home is None:
            home = path.parent.parent if (path.parent / BASE_FILE).is_file() else path.parent
        try:
            return cls.of_text(path.read_text(encoding="utf-8"), str(path), home)
        except GrammarParseError:
            raise ConfigError(f"{path}: {_STRAY_DOLLAR}") from None
        except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError) as exc:
            where = getattr(exc, "problem_mark", None)
            line = f", line {where.line + 1}" if where is not None else ""
            raise ConfigError(f"{path}{line}: not valid YAML") from exc
        except OSError as exc:
            raise ConfigError(f"{path} cannot be read: {exc.strerror or 'not settings'}") from exc

    @classmethod
    @lru_cache(maxsize=16)
    def of_text(cls, text: str, where: str, home: Path) -> _Layer:
        """Parse a file, once as long as it is the same."""
        return cls.of(OmegaConf.load(StringIO(text)), where, home)

    @classmethod
    def of_override(cls, text: str) -> _Layer:
        """Read ``key=value``."""
        key, equals, _ = text.partition("=")
        if not equals or not key.strip():
            shown = "***" if any(name in text for name in SECRET_KEYS) else repr(text)
            raise ConfigError(f"override {shown} is not of the form key=value")
        try:
            return cls.of(OmegaConf.from_dotlist([text]), "override", Path())
        except GrammarParseError:
            raise ConfigError(f"override of {key!r}: {_STRAY_DOLLAR}") from None
        except (OmegaConfBaseException, yaml.YAMLError):
            # Not "from" it: YAML's errors quote the text, and it may be a secret.
            raise ConfigError(f"override of {key!r} cannot be read: quote its value") from None

    @classmethod
    def of(cls, content: Any, where: str, home: Path) -> _Layer:
        """Take settings in today's form, without sections that hold only comments."""
        if not isinstance(content, DictConfig):
            raise ConfigError(f"{where}: settings are expected, as 'key: value' lines")
        plain: Any = OmegaConf.to_container(content)
        _refuse_old_keys(plain, where)
        return cls(where, _tidied(plain, _SHAPE, where), home)

    def get(self, key: str) -> Any:
        """Return what it sets a key to, or None."""
        return _at(self.content, key)

    @lru_cache(maxsize=16)  # noqa: B019 -- the layers of files, which are kept themselves
    def over_defaults(self) -> bytes:
        """Return the configuration with nothing but this, as a pickle."""
        return pickle.dumps(self.laid_over(pickle.loads(_defaults())))  # noqa: S301 -- ours

    def laid_over(self, config: Any) -> Any:
        """Merge this into the configuration so far, and return it; a null source is left out."""
        sources = self.get("ingestion.sources")
        own = sources if isinstance(sources, dict) else {}
        nulls = [name for name, settings in own.items() if settings is None]
        content = OmegaConf.create(self.content)
        try:
            for name in nulls:
                content.ingestion.sources[name] = {}
            config = OmegaConf.unsafe_merge(config, content)
            with read_write(config.ingestion.sources):
                for name in nulls:
                    del config.ingestion.sources[name]
            return config
        except OmegaConfBaseException as exc:
            raise ConfigError(f"{self.where}: {_explained(exc)}") from None
        except TypeError as exc:
            raise ConfigError(f"{self.where}: {exc}: give lists as a whole, [a, b]") from exc


def _at(settings: Any, key: str) -> Any:
    for name in key.split("."):
        settings = settings.get(name) if isinstance(settings, dict) else None
    return settings


def _refuse_old_keys(settings: Any, where: str) -> None:
    found = [key for key in OLD_KEYS if _at(settings, key) is not None]
    if not found:
        return
    new = migrate_config(hide(settings)).rstrip().replace("\n", "\n  ")
    keys = ", ".join(repr(key) for key in found)
    belong = "belongs" if len(found) == 1 else "belong"
    hint = "" if where == "override" else f"\n\n'fluxforge config migrate {where}' writes it"
    raise ConfigError(
        f"{where}: {keys} {belong} to an earlier form; write instead\n\n  {new}{hint}"
    )


_SHAPE = asdict(
    FluxForgeConfig(
        ingestion=IngestionConfig(storage=StorageConfig(), sources={}),
        etl=EtlConfig(storage_input=StorageConfig(), storage_output=StorageConfig()),
    )
)


def _tidied(settings: Any, shape: dict[str, Any], where: str, prefix: str = "") -> dict[str, Any]:
    """Return settings without empty sections: YAML reads one that holds only comments as null."""
    tidy = {}
    for name, value in settings.items():
        known, key = shape.get(name), f"{prefix}{name}"
        # These are said before merging, whose errors quote the value: it may hold a secret.
        if isinstance(known, dict) and not (isinstance(value, str) and value.startswith("${")):
            if not isinstance(value, dict | None):
                raise ConfigError(f"{where}: {key!r} holds settings, not a value")
            if value := _tidied(value or {}, known, where, f"{key}."):
                tidy[name] = value
            continue
        if name in SECRET_KEYS and isinstance(value, dict | list):
            raise ConfigError(f"{where}: {key!r} must be text")
        tidy[name] = value
    return tidy


def _explained(exc: OmegaConfBaseException) -> str:
    key = str(exc.full_key or "")
    message = str(exc.msg or exc).splitlines()[0]
    if "not in '" in message:
        near = message.partition("Did you mean: ")[2].rstrip("?").strip("'")
        known = (f.name for f in fields(exc.object_type) if not f.metadata)  # type: ignore[arg-type]
        hint = f"did you mean {near!r}?" if near else f"there are: {', '.join(known)}"
        return f"unknown key {key!r}: {hint}"
    if "is not a subclass of" in message:
        return f"{key!r} holds settings, not a value"
    if "is not a ListConfig" in message:
        return f"{key!r} is a list: write [a, b]"
    return f"{key!r}: {message}"


def _typed(config: Any, layers: list[_Layer]) -> FluxForgeConfig:
    try:
        return cast("FluxForgeConfig", OmegaConf.to_object(config))
    except OmegaConfBaseException as exc:
        key = str(exc.full_key)
        where = next((layer.where for layer in reversed(layers) if layer.get(key)), "defaults")
        reason = str(exc.msg or exc).splitlines()[0].rpartition("interpolation: ")[2].strip('"')
        # What a reference leads to may be a secret.
        reason = re.sub("^While .* could not", "what it refers to cannot", reason)
        raise ConfigError(f"{where}: {key!r} cannot be resolved: {reason}") from None


def _at_home(config: FluxForgeConfig, layers: list[_Layer]) -> FluxForgeConfig:
    """Make the relative paths in files relative to the files' projects."""

    def placed(path: str, *keys: str) -> str:
        homes = (layer.home for key in keys for layer in reversed(layers) if layer.get(key))
        home = next(homes, Path())
        elsewhere = path.startswith("~") or "://" in path or PureWindowsPath(path).drive
        return path if elsewhere or home == Path() or not path.strip() else str(home / path)

    def at_home(role: Role | None = None) -> StorageConfig:
        storage, key = storage_config(config, role), ROLE_KEYS[role] if role else "storage"
        if storage.backend not in ("local", "file"):
            return storage
        base_dir = placed(storage.base_dir, f"{key}.base_dir", "storage.base_dir")
        return replace(storage, base_dir=base_dir)

    ingestion, etl = config.ingestion, config.etl
    spool_dir = ingestion.spool_dir and placed(ingestion.spool_dir, "ingestion.spool_dir")
    cache_dir = config.query.cache_dir and placed(config.query.cache_dir, "query.cache_dir")
    return replace(
        config,
        storage=at_home(),
        ingestion=replace(
            ingestion,
            storage=ingestion.storage and at_home(Role.INGESTION),
            spool_dir=spool_dir,
        ),
        query=replace(config.query, cache_dir=cache_dir),
        etl=replace(
            etl,
            storage_input=etl.storage_input and at_home(Role.ETL_INPUT),
            storage_output=etl.storage_output and at_home(Role.ETL_OUTPUT),
        ),
    )
