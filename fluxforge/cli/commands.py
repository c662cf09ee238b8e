"""The commands: each asks the lake for one thing and shows the answer."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fluxforge.cli.output import say, say_frame, say_json
from fluxforge.cli.request import Request, command
from fluxforge.simulator.faults import FAULTS_HELP

if TYPE_CHECKING:
    from fluxforge.etl.report import EtlReport

app = typer.Typer(
    name="fluxforge",
    help="A market-data lake: capture feeds, make tables, query them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(help="Show the configuration, or bring an old one up to date.")
app.add_typer(config_app, name="config", no_args_is_help=True)


@command(app, of_source=True)
def ingest(
    request: Request,
    duration: Annotated[
        str | None, typer.Option(metavar="TIME", help="Stop after this long: 60s, 5m, or seconds.")
    ] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Stop after so many frames.")] = None,
) -> None:
    """Capture a source into segments until stopped."""
    lake = request.lake()
    source = request.one_source(lake)
    with request.progress(f"ingest {source}") as show:
        report = lake.ingest_sync(
            source,
            duration=duration,
            frames=frames,
            on_progress=lambda p: show(
                p.frames, frames, f"{p.frames:,} frames, {p.bytes / 1e6:,.1f} MB, {p.gaps} gaps"
            ),
        )
    request.show(report)


@command(app, of_source=True)
def etl(
    request: Request,
    watch: Annotated[bool, typer.Option("--watch", help="Keep running until stopped.")] = False,
) -> None:
    """Commit waiting segments to the tables, exactly once."""
    from fluxforge.etl.report import SegmentsFailedError

    lake = request.lake()
    if watch:
        lake.watch(request.source, on_report=request.show)
        return
    with request.progress("etl") as show:
        try:
            report: EtlReport = lake.etl(
                request.source,
                on_progress=lambda done, total: show(done, total, f"{done} of {total} segments"),
            )
        except SegmentsFailedError as exc:
            request.show(exc.report)
            raise
    request.show(report)


@command(app)
def sql(
    request: Request,
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="SQL over views named source.table.")
    ],
) -> None:
    """Run a SQL statement over the tables."""
    from fluxforge.query.views import fetch

    frame = fetch(request.lake().catalog, query)
    say_json(frame) if request.as_json else say_frame(frame, thousands_separator=False)


@command(app)
def tables(request: Request) -> None:
    """List the tables: rows, files, bytes and times."""
    request.show(request.lake().tables())


@command(app)
def status(request: Request) -> None:
    """Count segments by state."""
    request.show(request.lake().status())


@command(app)
def verify(request: Request) -> None:
    """Check the layout and the accounts.

    Exit 1 if there are problems.
    """
    report = request.lake().verify()
    request.show(report)
    if not report.ok:
        raise typer.Exit(1)


@command(app, of_source=True)
def gaps(request: Request) -> None:
    """List the frames that the venue sent and nobody received.

    Exit 1 if there are any. Only what is in tables is looked at.
    """
    lake = request.lake()
    frame = lake.gaps(request.one_source(lake))
    request.show(frame)
    if frame.height:
        raise typer.Exit(1)


@command(app, of_source=True)
def optimize(request: Request) -> None:
    """Join small files of the tables into larger ones."""
    reports = request.lake().optimize(request.source)
    lines = (f"{one.table}: {one.files_before} files are now {one.files_after}" for one in reports)
    request.show([asdict(report) for report in reports], "\n".join(lines))


@command(app, of_source=True)
def vacuum(
    request: Request,
    keep: Annotated[
        str, typer.Option(metavar="TIME", help="Keep the versions of this long.")
    ] = "7d",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be deleted.")
    ] = False,
) -> None:
    """Delete files that no recent table version refers to."""
    removed = request.lake().vacuum(request.source, keep=keep, dry_run=dry_run)
    verb = "would be deleted" if dry_run else "deleted"
    lines = (f"{table}: {len(paths)} files {verb}" for table, paths in removed.items())
    request.show(removed, "\n".join(lines))


@command(app)
def sync(
    request: Request,
    to: Annotated[
        list[str],
        typer.Option(
            "--to",
            metavar="OVERLAY|KEY=VALUE",
            help="The destination: an overlay's name or file, or a setting; repeatable.",
        ),
    ],
    delete: Annotated[
        bool,
        typer.Option(
            "--delete", help="Move: delete each file once its copy was compared, byte for byte."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only report what would be done.")
    ] = False,
) -> None:
    """Copy segments and tables to another place, or move them.

    Exit 1 if some were refused.
    """
    there = replace(
        request,
        overlays=tuple(word for word in to if "=" not in word),
        settings=tuple(word for word in to if "=" in word),
    )
    with request.progress("sync") as show:
        report = request.lake().sync(
            there.lake(),
            delete=delete,
            dry_run=dry_run,
            on_progress=lambda done, total, size: show(
                done, total, f"{done:,} of {total:,} files, {size / 1e6:,.1f} MB copied"
            ),
        )
    request.show(report)
    if not report.ok:
        raise typer.Exit(1)


@command(app, of_source=True, epilog=FAULTS_HELP)
def exchange(
    request: Request,
    replay: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A recorded segment to serve; repeatable."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Exit after the last recording.")] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 0,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Frames per second, or in a replay a multiple of the recorded pace; 0 sends as "
            "fast as the client reads.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the market model.")] = 1,
    faults: Annotated[
        str,
        typer.Option(
            metavar="KIND@FRAME[:AMOUNT],…",
            help="Faults to inject: drop@500 cuts the connection before its frame 500; "
            "skip@120:3,drop@900 leaves out frames 120 to 122, then cuts it before frame 900. "
            "All kinds are listed below.",
        ),
    ] = "",
    only_subscribed: Annotated[
        bool, typer.Option("--filter", help="Replay only what was subscribed to.")
    ] = False,
) -> None:
    """Run a local exchange: a real WebSocket server.

    It speaks the venue's protocol (SOURCE is coinbase by default), from a market model or from
    recorded segments, and prints its URL as its first line.
    """
    from fluxforge.simulator import ExchangeOptions, run_exchange

    request.config()  # so that a wrong setting is refused here too
    options = ExchangeOptions(
        port=port,
        replay=tuple(replay or ()),
        once=once,
        rate=rate,
        seed=seed,
        faults=faults,
        filter=only_subscribed,
    )
    run_exchange(
        request.source or "coinbase",
        options,
        on_start=lambda url: request.show({"url": url}, url),
    )


@command(app)
def demo(
    request: Request,
    frames: Annotated[int, typer.Option(min=100, help="How many frames to capture.")] = 5000,
) -> None:
    """Show the whole path, from an exchange to a chart.

    The exchange is on this machine; without settings of your own, so is the lake, in a temporary
    folder.
    """
    from fluxforge.demo import run_demo

    tell = (lambda text: None) if request.as_json else say
    report = run_demo(request.overlays, request.config_dir, request.settings, frames, tell)
    if request.as_json:
        say_json(report)
    if not report.ok:
        raise typer.Exit(1)


@command(config_app)
def show(request: Request) -> None:
    """Print the configuration in force and its files.

    Secrets are masked.
    """
    config = request.config()
    request.show(config, config.to_yaml().rstrip())


@command(config_app)
def migrate(
    request: Request,
    old: Annotated[Path, typer.Argument(metavar="OLD.yaml", help="A file of the earlier form.")],
) -> None:
    """Print an old configuration in today's form."""
    import yaml

    from fluxforge.config import migrate_file

    new = migrate_file(old)
    request.show(yaml.safe_load(new) or {}, new.rstrip())
