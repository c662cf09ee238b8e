"""The command line: arguments to ``Lake`` calls, results to text or JSON."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fluxforge import __version__
from fluxforge.errors import FluxForgeError, UsageError
from fluxforge.signals import interrupting
from fluxforge.simulator.faults import FAULTS_HELP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fluxforge.lake import Lake

app = typer.Typer(
    name="fluxforge",
    help="A market-data lake: capture feeds, make tables, query them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(help="Show the configuration, or bring an old one up to date.")
app.add_typer(config_app, name="config", no_args_is_help=True)

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SOURCE] [KEY=VALUE]...", help="A source, and settings to override."),
]
Settings = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings to override.")
]
Overlays = Annotated[
    list[str] | None,
    typer.Option("-c", "--config", metavar="OVERLAY", help="An overlay's name or file."),
]
ConfigDir = Annotated[
    Path | None, typer.Option("--config-dir", metavar="DIR", help="Where config.yaml lies.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]

_INTERRUPTED = 130


@dataclass(frozen=True)
class Request:
    """What the arguments that all commands share say.

    Attributes
    ----------
    words
        Positional arguments that are no settings.
    settings
        Those of the form ``key=value``.
    """

    words: tuple[str, ...]
    settings: tuple[str, ...]
    overlays: tuple[str, ...]
    config_dir: Path | None
    as_json: bool = field(default=False)

    @classmethod
    def read(
        cls,
        arguments: list[str] | None,
        overlays: list[str] | None,
        config_dir: Path | None,
        *,
        as_json: bool = False,
        most_words: int = 1,
    ) -> Request:
        """Tell words from settings."""
        every = arguments or []
        words = tuple(word for word in every if "=" not in word)
        if len(words) > most_words:
            raise UsageError(f"unexpected argument {words[most_words]!r}: settings are key=value")
        settings = tuple(word for word in every if "=" in word)
        return cls(words, settings, tuple(overlays or ()), config_dir, as_json)

    @property
    def source(self) -> str | None:
        """The source that was named, if any."""
        return self.words[0] if self.words else None

    def lake(self) -> Lake:
        """Return the lake that the arguments configure."""
        from fluxforge.lake import Lake

        return Lake(*self.overlays, config_dir=self.config_dir, overrides=self.settings)

    def one_source(self, lake: Lake) -> str:
        """Return the source that was named, or the only one that is configured."""
        if self.source is not None:
            return self.source
        if len(lake.sources) == 1:
            return lake.sources[0]
        raise UsageError(f"name a source: {', '.join(lake.sources)}")


def _say(text: str, *, err: bool = False, newline: bool = True) -> None:
    """Print; a reader of the pipe who has seen enough does not end the work."""
    try:
        typer.echo(text, err=err, nl=newline)
    except OSError as exc:
        stream = sys.stderr if err else sys.stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # what is still buffered too
        if not isinstance(exc, BrokenPipeError):
            raise FluxForgeError(f"the output cannot be written: {exc.strerror}") from exc


def _print_json(value: Any) -> None:
    _say(json.dumps(_finite(value), default=str, ensure_ascii=False))


def _finite(value: Any) -> Any:
    """Put null where a float is none of JSON's numbers."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print_frame(frame: Any, *, thousands_separator: bool = True) -> None:
    import polars as pl

    with pl.Config(
        tbl_rows=-1, tbl_cols=-1, tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True,
        fmt_str_lengths=60, thousands_separator=thousands_separator, tbl_width_chars=200,
    ):  # fmt: skip
        _say(str(frame))


@contextmanager
def _progress(label: str, *, quiet: bool) -> Iterator[Callable[[int, int | None, str], None]]:
    """Yield a function that shows how far the work is: a bar on a terminal, else lines."""
    if quiet:
        yield lambda done, total, note: None
        return
    if not sys.stderr.isatty():
        yield lambda done, total, note: _say(f"{label}: {note}", err=True)
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


@app.command()
def ingest(
    words: Words = None,
    duration: Annotated[str | None, typer.Option(help="Stop after this long: 60s, 5m.")] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Stop after so many frames.")] = None,
    config: Overlays = None,
    config_dir: ConfigDir = None,
    as_json: AsJson = False,
) -> None:
    """Capture a source into segments until stopped."""
    request = Request.read(words, config, config_dir, as_json=as_json)
    lake = request.lake()
    source = request.one_source(lake)
    with _progress(f"ingest {source}", quiet=as_json) as show:
        report = lake.ingest_sync(
            source,
            duration=duration,
            frames=frames,
            on_progress=lambda p: show(
                p.frames, frames, f"{p.frames:,} frames, {p.bytes / 1e6:,.1f} MB, {p.gaps} gaps"
            ),
        )
    _print_json(report.to_dict()) if as_json else _say(repr(report))


@app.command()
def etl(
    words: Words = None,
    watch: Annotated[bool, typer.Option("--watch", help="Keep going until stopped.")] = False,
    config: Overlays = None,
    config_dir: ConfigDir = None,
    as_json: AsJson = False,
) -> None:
    """Take waiting segments into the tables, exactly once."""
    from fluxforge.etl.report import SegmentsFailedError

    request = Request.read(words, config, config_dir, as_json=as_json)
    lake = request.lake()

    def tell(report: Any) -> None:
        _print_json(report.to_dict()) if as_json else _say(repr(report))

    if watch:
        lake.watch(request.source, on_report=tell)
        return
    with _progress("etl", quiet=as_json) as show:
        try:
            report = lake.etl(
                request.source,
                on_progress=lambda done, total: show(done, total, f"{done} of {total} segments"),
            )
        except SegmentsFailedError as exc:
            tell(exc.report)
            raise
    tell(report)


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="SQL over views named source.table.")],
    settings: Settings = None,
    config: Overlays = None,
    config_dir: ConfigDir = None,
    as_json: AsJson = False,
) -> None:
    """Run a SQL statement over the tables."""
    from fluxforge.query.views import fetch

    request = Request.read(settings, config, config_dir, as_json=as_json, most_words=0)
    frame = fetch(request.lake().catalog, query)
    _print_json(frame.to_dicts()) if as_json else _print_frame(frame, thousands_separator=False)


@app.command()
def tables(
    settings: Settings = None,
    config: Overlays = None,
    config_dir: ConfigDir = None,
    as_json: AsJson = False,
) -> None:
    """List the tables: rows, files, bytes and times."""
    request = Request.read(settings, config, config_dir, as_json=as_json, most_words=0)
    frame = request.lake().tables()
    _print_json(frame.to_dicts()) if as_json else _print_frame(frame)


@app.command()
def status(
    settings: Settings = None,
    config: Overlays = None,
    config_dir: ConfigDir = None,
    as_json: AsJson = False,
) -> None:
    """Count segments by state."""
    request = Request.read(settings, config, config_dir, as_json=as_json, most_words=0)
    frame = request.lake().status()
    _print_json(frame.to_dicts()) if as_json else _print_frame(frame)


@app.command()
def verify(
    settings: Settings = None,
    config: Overlays = None,
    config_dir: ConfigDir = None,
    as_json: AsJson = False,
) -> None:
    """Check the layout and the accounts; exit 1 if there are problems."""
    request = Request.read(settings, config, config_dir, as_json=as_json, most_words=0)
    report = request.lake().verify()
    _print_json(report.to_dict()) if as_json else _say(str(report))
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def gaps(
    words: Words = None,
    config: Overlays = None,
    config_dir: ConfigDir = None,
    as_json: AsJson = False,
) -> None:
    """List the frames that the venue numbered and nobody received; exit 1 if there are any."""
    request = Request.read(words, config, config_dir, as_json=as_json)
    lake = request.lake()
    frame = lake.gaps(request.one_source(lake))
    _print_json(frame.to_dicts()) if as_json else _print_frame(frame)
    if frame.height:
        raise typer.Exit(1)


@app.command()
def optimize(
    words: Words = None,
    config: Overlays = None,
    config_dir: ConfigDir = None,
    as_json: AsJson = False,
) -> None:
    """Join small files of the tables into larger ones."""
    from dataclasses import asdict

    request = Request.read(words, config, config_dir, as_json=as_json)
    reports = request.lake().optimize(request.source)
    if as_json:
        _print_json([asdict(report) for report in reports])
        return
    for report in reports:
        _say(f"{report.table}: {report.files_before} files are now {report.files_after}")


@app.command()
def vacuum(
    words: Words = None,
    keep: Annotated[str, typer.Option(help="Spare versions of this long.")] = "7d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
    config: Overlays = None,
    config_dir: ConfigDir = None,
    as_json: AsJson = False,
) -> None:
    """Delete files that no recent table version refers to."""
    request = Request.read(words, config, config_dir, as_json=as_json)
    removed = request.lake().vacuum(request.source, keep=keep, dry_run=dry_run)
    if as_json:
        _print_json(removed)
        return
    for table, paths in removed.items():
        _say(f"{table}: {len(paths)} files {'would be ' if dry_run else ''}deleted")


@app.command()
def sync(
    to: Annotated[
        list[str],
        typer.Option(
            "--to",
            metavar="OVERLAY|KEY=VALUE",
            help="The destination: an overlay's name or file, or a setting; repeatable.",
        ),
    ],
    settings: Settings = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Move: delete what was compared, byte for byte.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what would be done.")
    ] = False,
    config: Overlays = None,
    config_dir: ConfigDir = None,
    as_json: AsJson = False,
) -> None:
    """Copy segments and tables to another place; exit 1 if some were refused."""
    request = Request.read(settings, config, config_dir, as_json=as_json, most_words=0)
    overlays = [word for word in to if "=" not in word]
    changes = [word for word in to if "=" in word]
    there = Request.read(changes, overlays, config_dir).lake()
    with _progress("sync", quiet=as_json) as show:
        report = request.lake().sync(
            there,
            delete=delete,
            dry_run=dry_run,
            on_progress=lambda done, total, size: show(
                done, total, f"{done:,} of {total:,} files, {size / 1e6:,.1f} MB copied"
            ),
        )
    _print_json(report.to_dict()) if as_json else _say(str(report))
    if not report.ok:
        raise typer.Exit(1)


@app.command(epilog=FAULTS_HELP)
def exchange(
    source: Annotated[str, typer.Argument(help="Whose protocol to speak.")] = "coinbase",
    replay: Annotated[
        list[Path] | None, typer.Option(help="A recorded segment to serve; repeatable.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Exit after the last recording.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 0,
    rate: Annotated[
        float | None,
        typer.Option(min=0, help="Frames a second, or a multiple of the recorded pace; 0: full."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the market model.")] = 1,
    faults: Annotated[str, typer.Option(help="What goes wrong; see below.")] = "",
    only_subscribed: Annotated[
        bool, typer.Option("--filter", help="Replay only what was subscribed to.")
    ] = False,
) -> None:
    """Run a local exchange: a real WebSocket server with a market model or recorded traffic."""
    from fluxforge.simulator import ExchangeOptions, run_exchange

    options = ExchangeOptions(
        port=port,
        replay=tuple(replay or ()),
        once=once,
        rate=rate,
        seed=seed,
        faults=faults,
        filter=only_subscribed,
    )
    run_exchange(source, options, on_start=lambda url: print(url, flush=True))


@app.command()
def demo(
    settings: Settings = None,
    frames: Annotated[int, typer.Option(min=100, help="How many frames to capture.")] = 5000,
    config: Overlays = None,
    config_dir: ConfigDir = None,
) -> None:
    """Show the whole path on this machine: exchange, capture, tables, SQL, a picture."""
    from fluxforge.demo import run_demo

    request = Request.read(settings, config, config_dir, most_words=0)
    if not run_demo(request.overlays, request.config_dir, request.settings, frames, _say):
        raise typer.Exit(1)


@config_app.command("show")
def config_show(
    settings: Settings = None, config: Overlays = None, config_dir: ConfigDir = None
) -> None:
    """Print the whole configuration as it is in force, secrets masked."""
    from fluxforge.config import load_config

    request = Request.read(settings, config, config_dir, most_words=0)
    shown = load_config(
        *request.overlays, config_dir=request.config_dir, overrides=request.settings
    )
    _say(shown.to_yaml(), newline=False)


@config_app.command("migrate")
def config_migrate(
    old: Annotated[Path, typer.Argument(metavar="OLD.yaml", help="A file of the earlier form.")],
) -> None:
    """Print an old configuration in today's form."""
    from fluxforge.config import migrate_file

    _say(migrate_file(old), newline=False)


def _version(shown: bool) -> None:
    if shown:
        _say(f"fluxforge {__version__}")
        raise typer.Exit


@app.callback()
def options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="And exit.")
    ] = False,
) -> None:
    """Set up what every command shares."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )


def main() -> None:
    """Run the command line: exit 0 done, 1 the work found problems, 2 wrong use or settings."""
    try:
        with interrupting():
            code = app(standalone_mode=False) or 0
    except typer.TyperException as exc:  # arguments that fit no command
        message = " ".join(exc.format_message().split())
        if message:
            _say(f"fluxforge: {message}", err=True)
        code = UsageError.exit_code
    except FluxForgeError as exc:
        _say(f"fluxforge: {exc}", err=True)
        code = exc.exit_code
    except RuntimeError as exc:
        if "interrupted" not in str(exc):  # so DuckDB calls Ctrl-C
            raise
        code = _INTERRUPTED
    if code == _INTERRUPTED:
        _say("fluxforge: interrupted; nothing is lost, run it again to carry on", err=True)
    sys.exit(code)
