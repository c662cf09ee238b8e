"""The commands that capture, and the local exchange."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fluxforge.cli.app import app
from fluxforge.cli.output import say, say_json
from fluxforge.cli.request import Request, command
from fluxforge.errors import UsageError
from fluxforge.simulator.faults import FAULTS_HELP

if TYPE_CHECKING:
    from fluxforge.ingestion.report import IngestProgress


@command(app, of_source=True)
def ingest(
    request: Request,
    duration: Annotated[
        str | None, typer.Option(metavar="TIME", help="Stop after this long: 60s, 5m, or seconds.")
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many frames of each source.")
    ] = None,
    all_sources: Annotated[
        bool, typer.Option("--all", help="Capture all configured sources, as without a SOURCE.")
    ] = False,
) -> None:
    """Capture a source, or all that are configured, into segments until stopped."""
    if all_sources and request.source:
        raise UsageError(f"--all is every configured source: leave out {request.source!r}")
    lake = request.lake()
    latest: dict[str, IngestProgress] = {}
    with request.progress(f"ingest {request.source or ', '.join(lake.sources)}") as show:

        def on_progress(progress: IngestProgress) -> None:
            latest[progress.source] = progress
            frames_now, bytes_now, gaps = (
                sum(getattr(one, name) for one in latest.values())
                for name in ("frames", "bytes", "gaps")
            )
            wanted = frames and frames * max(1, len(latest))
            show(
                frames_now,
                wanted,
                f"{frames_now:,} frames, {bytes_now / 1e6:,.1f} MB, {gaps} gaps",
            )

        report = lake.ingest_sync(
            request.source, duration=duration, frames=frames, on_progress=on_progress
        )
    request.show(report)
    if report.error:
        raise typer.Exit(1)


@command(app)
def instruments(
    request: Request,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The exchange.")],
    search: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Only those with this in their name.")
    ] = None,
) -> None:
    """List the instruments of a venue, from its own list."""
    request.show(request.lake().instruments(source, search))


@command(app, of_source=True)
def backfill(
    request: Request,
    table: Annotated[
        str | None, typer.Option(metavar="TABLE", help="trades or candles; for gaps, both.")
    ] = None,
    symbols: Annotated[
        list[str] | None,
        typer.Option("--symbol", metavar="SYMBOL", help="Repeatable; by default as configured."),
    ] = None,
    start: Annotated[str | None, typer.Option(metavar="TIME", help="From when, UTC.")] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="Until when; now.")] = None,
    interval: Annotated[
        str | None, typer.Option(metavar="LENGTH", help="Of candles: 1m, 5m, 1h, 1d.")
    ] = None,
    gaps: Annotated[bool, typer.Option("--gaps", help="Fetch what 'gaps' lists.")] = False,
) -> None:
    """Fetch trades or candles of the past, or those that are missing, for the next ETL."""
    lake = request.lake()
    source = request.one_source(lake)
    report = lake.backfill(
        source, table, symbols=symbols, start=start, end=end, interval=interval, gaps=gaps
    )
    request.show(report)


@command(app, of_source=True)
def recover(request: Request) -> None:
    """Take up what captures left that have died, for the next ETL.

    Exit 1 if something could not be taken up.
    """
    report = request.lake().recover(request.source)
    request.show(report, "\n".join([report.summary(), *report.problems]))
    if report.problems:
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
