"""The command line: arguments to ``Lake`` calls, results to text or JSON.

To read, bottom up: ``output`` (what is printed), ``request`` (the arguments that all commands
share), ``app``, and the commands: ``capture``, ``keeping``, ``reading``, ``operating``,
``settings``.
"""

from __future__ import annotations

import logging
import signal
import sys
import warnings
from copy import copy
from typing import Annotated, Any

import typer

from fluxforge import __version__
from fluxforge.cli import (  # noqa: F401 -- they add commands
    capture,
    keeping,
    operating,
    reading,
    settings,
)
from fluxforge.cli.app import app
from fluxforge.cli.output import say
from fluxforge.errors import EXHAUSTED, EmptyAnswerWarning, FluxForgeError, UsageError, translate
from fluxforge.logs import set_up_logs
from fluxforge.signals import STOP_SIGNALS

_INTERRUPTED = 130


def _version(shown: bool) -> None:
    if shown:
        say(f"fluxforge {__version__}")
        raise typer.Exit


@app.callback()
def options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more messages.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Set up what every command shares."""
    set_up_logs(logging.INFO if verbose else logging.WARNING)


def _show_warning(message: Warning | str, category: type[Warning], *where: Any) -> None:
    if issubclass(category, EmptyAnswerWarning):
        say(f"fluxforge: {message}", err=True)
    else:
        sys.stderr.write(warnings.formatwarning(message, category, *where[:2]))


def main() -> None:
    """Run the command line: exit 0 done, 1 the work found problems, 2 wrong use or settings."""
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    sys.exit(_run())


def _run() -> int:
    try:
        _on_stop_signals(signal.default_int_handler)
        code: int = _asked_for()(prog_name="fluxforge", standalone_mode=False) or 0
        _on_stop_signals(signal.SIG_IGN)  # what was done is done, and its exit code stands
    except typer.TyperException as exc:  # arguments that fit no command
        message = exc.format_message()
        if type(exc).__name__ == "NoArgsIsHelpError":  # its message is the help
            say(message, err=True)
        elif message:
            say(f"fluxforge: {' '.join(message.split())}", err=True)
        code = UsageError.exit_code
    except FluxForgeError as exc:
        say(f"fluxforge: {exc}", err=True)
        code = exc.exit_code
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except BaseException as exc:
        if error := translate(exc, EXHAUSTED, "in this process"):
            say(f"fluxforge: {error}", err=True)
            code = error.exit_code
        elif isinstance(exc, RuntimeError) and "interrupted" in str(exc):  # DuckDB's Ctrl-C
            code = _INTERRUPTED
        else:
            raise
    if code == _INTERRUPTED:
        say("fluxforge: interrupted; nothing is lost, run it again to continue", err=True)
    return code


def _asked_for() -> typer.Typer:
    """Return the app with only the command that is asked for: typer examines each it has."""
    word = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    asked = copy(app)
    asked.registered_commands = [
        one
        for one in app.registered_commands
        if one.callback and word == (one.name or one.callback.__name__)
    ]
    asked.registered_groups = [one for one in app.registered_groups if one.name == word]
    return asked if asked.registered_commands or asked.registered_groups else app


def _on_stop_signals(handler: Any) -> None:
    for number in STOP_SIGNALS:
        signal.signal(number, handler)
