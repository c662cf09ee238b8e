"""What a command is given: the arguments that all commands share, and what they stand for."""

from __future__ import annotations

import inspect
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

from fluxforge.cli.options import (  # noqa: TC001 -- read when a command is added
    AsJson,
    ConfigDir,
    LogFormat,
    Overlays,
    Settings,
    Source,
    Verbose,
)
from fluxforge.cli.output import progress, say, say_frame, say_json
from fluxforge.errors import UsageError
from fluxforge.logs import set_up_logs

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    import typer

    from fluxforge.config import FluxForgeConfig
    from fluxforge.lake import Lake


@dataclass(frozen=True)
class Request:
    """What the arguments that all commands share say.

    Attributes
    ----------
    source
        The source that was named, if any.
    settings
        Overrides, as ``key=value``.
    """

    source: str | None
    settings: tuple[str, ...]
    overlays: tuple[str, ...]
    config_dir: Path | None
    as_json: bool
    log_as_json: bool = False

    def config(self) -> FluxForgeConfig:
        """Return the configuration that the arguments ask for."""
        from fluxforge.config import load_config

        return load_config(*self.overlays, config_dir=self.config_dir, overrides=self.settings)

    def lake(self) -> Lake:
        """Return the lake that the arguments configure."""
        from fluxforge.lake import Lake

        return Lake(config=self.config())

    def show(self, result: Any, text: str | None = None) -> None:
        """Print a result as JSON, or else as a table or `text` (by default, its own words)."""
        if self.as_json:
            say_json(result)
        elif text is None and hasattr(result, "to_dicts"):
            say_frame(result)
        else:
            say(str(result) if text is None else text)

    def progress(
        self, label: str
    ) -> AbstractContextManager[Callable[[int, int | None, str], None]]:
        """Show how far the work is, unless a machine reads the output."""
        return progress(label, quiet=self.as_json)


def _request(
    source: Source = None,
    settings: Settings = None,
    config: Overlays = None,
    config_dir: ConfigDir = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
    log_format: LogFormat = "text",
) -> Request:
    """Take a source and settings in any order; these are the parameters of every command."""
    level = logging.INFO if verbose else logging.getLogger().level
    set_up_logs(level, as_json=log_format == "json")
    words = [word for word in (source, *(settings or ())) if word is not None]
    names = [word for word in words if "=" not in word]
    if len(names) > 1:
        raise UsageError(f"unexpected argument {names[1]!r}: settings are key=value")
    overrides = tuple(word for word in words if "=" in word)
    return Request(
        source=names[0] if names else None,
        settings=overrides,
        overlays=tuple(config or ()),
        config_dir=config_dir,
        as_json=as_json,
        log_as_json=log_format == "json",
    )


class _Command(TyperCommand):
    """Shows its arguments first: ``fluxforge etl [SOURCE] [KEY=VALUE]... [OPTIONS]``."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        options, *arguments = super().collect_usage_pieces(ctx)
        return [*(argument.strip("{}") for argument in arguments), options]


def command(
    app: typer.Typer, name: str | None = None, *, of_source: bool = False, epilog: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add a function to an app as a command.

    Its first parameter is the :class:`Request` that the arguments of all commands make; the
    others are its own.

    Parameters
    ----------
    name
        By default, the function's.
    of_source
        The command takes a source.
    epilog
        What the help ends with.
    """

    def add(function: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        shared = list(inspect.signature(_request, eval_str=True).parameters.values())
        if not of_source:
            del shared[0]
        every = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*own, *shared)]

        def run(**values: Any) -> None:
            mine = {parameter.name: values.pop(parameter.name) for parameter in own}
            request = _request(**values)
            if request.source is not None and not of_source:
                raise UsageError(f"unexpected argument {request.source!r}: settings are key=value")
            function(request, **mine)

        run.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in every}
        run.__name__, run.__doc__ = function.__name__, function.__doc__
        app.command(name, cls=_Command, epilog=epilog)(run)
        return function

    return add
