"""What commands print: results as text or JSON, and how far the work is."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer

from fluxforge.errors import FluxForgeError, printable
from fluxforge.report import to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


def say(text: str, *, err: bool = False, newline: bool = True) -> None:
    """Print; a reader of the pipe who has seen enough does not end the work.

    What a venue sent cannot command the terminal: control characters are escaped.
    """
    text = "\n".join(printable(line, len(line)) for line in text.split("\n"))
    try:
        typer.echo(text, err=err, nl=newline)
    except OSError as exc:
        stream = sys.stderr if err else sys.stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # what is still buffered too
        if not isinstance(exc, BrokenPipeError):
            raise FluxForgeError(f"the output cannot be written: {exc.strerror}") from exc


def say_json(result: Any) -> None:
    """Print a report, a frame (a list of one object a row) or any plain value as JSON."""
    say(to_json(result))


def say_frame(frame: Any, *, thousands_separator: bool = False) -> None:
    """Print all of a frame as a table."""
    import polars as pl

    with pl.Config(
        tbl_rows=-1, tbl_cols=-1, tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True,
        fmt_str_lengths=60, thousands_separator=thousands_separator, tbl_width_chars=200,
    ):  # fmt: skip
        say(str(frame))


def say_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows as a table, as :func:`say_frame` does, without loading Polars."""
    table = [columns, *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    rules = ["─" * (width + 2) for width in widths]
    lines = [
        "┆".join(f" {cell:{width}} " for cell, width in zip(row, widths, strict=True))
        for row in table
    ]
    head, *body = (f"│{line}│" for line in lines)
    middle = [f"╞{'╪'.join(rules).replace('─', '═')}╡"] if body else []
    say("\n".join([f"┌{'┬'.join(rules)}┐", head, *middle, *body, f"└{'┴'.join(rules)}┘"]))


def _cell(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    text = printable(str(value), 60)
    return text.replace("+00:00", " UTC") if isinstance(value, datetime) else text


@contextmanager
def progress(label: str, *, quiet: bool) -> Iterator[Callable[[int, int | None, str], None]]:
    """Yield a function that shows how far the work is: a bar on a terminal, else lines."""
    if quiet:
        yield lambda done, total, note: None
        return
    if not sys.stderr.isatty():
        yield lambda done, total, note: say(f"{label}: {note}", err=True)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(label, total=None, note="")

        def show(done: int, total: int | None, note: str) -> None:
            bars.update(task, completed=done, total=total, note=note)

        yield show
