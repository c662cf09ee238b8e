"""The commands that capture, and the local exchange."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fluxforge.cli.app import app
from fluxforge.cli.options import End, SourceName, Start, Symbols
from fluxforge.cli.output import say, say_json
from fluxforge.cli.request import Request, command
from fluxforge.errors import UsageError
from fluxforge.simulator.faults import FAULTS_HELP


@command(app, of_source=True)
def ingest(
    request: Request,
    duration: Annotated[
        str | None, typer.Option(metavar="TIME", help="Stop after this time: 60s, 5m.")
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Stop after this many frames from each source. A source that cannot be reached "
            "keeps the command waiting.",
        ),
    ] = None,
    all_sources: Annotated[
        bool, typer.Option("--all", help="Capture all configured sources. This is the default.")
    ] = False,
) -> None:
    """Capture one source, or all configured sources, into segments until stopped."""
    from fluxforge.ingestion.report import IngestProgress

    if all_sources and request.source:
        raise UsageError(f"--all captures every configured source: leave out {request.source!r}")
    lake = request.lake()
    latest: dict[str, IngestProgress] = {}
    with request.progress(f"ingest {request.source or ', '.join(lake.sources)}") as show:

        def on_progress(progress: IngestProgress) -> None:
            latest[progress.source] = progress
            now = IngestProgress.total([*latest.values()])
            note = f"{now.frames:,} frames, {now.bytes / 1e6:,.1f} MB, {now.gaps} gaps"
            show(now.frames, frames and frames * len(latest), note)

        report = lake.ingest_sync(
            request.source, duration=duration, frames=frames, on_progress=on_progress
        )
    request.show(report)
    if report.error:
        raise typer.Exit(1)


@command(app)
def instruments(
    request: Request,
    source: SourceName,
    search: Annotated[
        str | None, typer.Option(metavar="TEXT", help="List only names with this text.")
    ] = None,
) -> None:
    """List the instruments that a venue offers."""
    request.show(request.lake().instruments(source, search))


@command(app, of_source=True)
def backfill(
    request: Request,
    table: Annotated[str | None, typer.Option(metavar="TABLE", help="trades or candles.")] = None,
    symbols: Symbols = None,
    start: Start = None,
    end: End = None,
    interval: Annotated[
        str | None, typer.Option(metavar="LENGTH", help="Length of a candle: 1m, 5m, 1h or 1d.")
    ] = None,
    gaps: Annotated[
        bool, typer.Option("--gaps", help="Download what `fluxforge gaps` lists.")
    ] = False,
) -> None:
    """Download past or missing trades and candles as segments for the next ETL."""
    report = request.lake().backfill(
        request.source, table, symbols=symbols, start=start, end=end, interval=interval, gaps=gaps
    )
    request.show(report)


@command(app, of_source=True)
def recover(request: Request) -> None:
    """Recover the segments of captures that crashed, for the next ETL.

    Exits with 1 if a segment could not be recovered.
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
        typer.Option(metavar="FILE", help="A recorded segment to replay. Repeatable."),
    ] = None,
    once: Annotated[
        bool,
        typer.Option(
            "--once", help="Exit after the last recording, or with the first client of the model."
        ),
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 selects a free port.")
    ] = 0,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Frames per second (default: 100). With --replay, a multiple of the recorded "
            "speed (default: 1). 0 sends as fast as the client reads.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the market model.")] = 1,
    faults: Annotated[
        str,
        typer.Option(
            metavar="KIND@FRAME[:AMOUNT],…",
            help="Faults to inject. drop@500 cuts the connection before frame 500; "
            "skip@120:3,drop@900 omits frames 120 to 122 and cuts it before frame 900. "
            "All kinds are listed below.",
        ),
    ] = "",
    only_subscribed: Annotated[
        bool,
        typer.Option("--filter", help="Replay only what the client subscribes to."),
    ] = False,
) -> None:
    """Run a local exchange: a real WebSocket server.

    It speaks the protocol of SOURCE (default: coinbase), serves a market model or recorded
    segments, and prints its URL as the first line.
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
    frames: Annotated[int, typer.Option(min=100, help="Number of frames to capture.")] = 5000,
) -> None:
    """Demonstrate the whole path from an exchange to a chart.

    The exchange runs on this machine. Unless you pass settings, the lake is a temporary directory.
    """
    from fluxforge.demo import run_demo

    tell = (lambda text: None) if request.as_json else say
    report = run_demo(request.overlays, request.config_dir, request.settings, frames, tell)
    if request.as_json:
        say_json(report)
    if not report.ok:
        raise typer.Exit(1)
