"""The commands for a lake in operation."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from fluxforge.cli.app import app, quarantine_app
from fluxforge.cli.options import DryRun, SourceName
from fluxforge.cli.request import Request, command
from fluxforge.errors import StorageError, StorageUnavailableError, UsageError
from fluxforge.logs import set_up_logs
from fluxforge.signals import leave


@command(app)
def run(
    request: Request,
    check: Annotated[
        bool, typer.Option("--check", help="Show what would run, and test that it can start.")
    ] = False,
) -> None:
    """Run captures, the ETL and table maintenance until stopped.

    Each source, the ETL and the maintenance run in processes of their own, which are restarted if
    they exit.
    """
    from fluxforge.operate import Supervisor
    from fluxforge.operate.metrics import serve
    from fluxforge.operate.supervisor import describe

    config = request.config()
    if check:
        lines = list(describe(config))
        request.show({"parts": lines}, "\n".join(lines))
        return
    set_up_logs(logging.INFO, as_json=request.log_as_json, part="run")
    try:
        list(describe(config))
    except StorageUnavailableError as exc:
        logging.getLogger("fluxforge.run").warning("%s: the parts wait for it", exc)
    supervisor = Supervisor(config, log_as_json=request.log_as_json)
    with serve(supervisor, config.run.metrics_port):
        ok = supervisor.run()
    parts = supervisor.parts()
    restarts = sum(part["restarts"] for part in parts.values())
    request.show({"parts": parts}, f"stopped {len(parts)} parts after {restarts} restarts")
    leave(0 if ok else 1)


@command(app)
def status(request: Request) -> None:
    """Show waiting segments, the age of the newest rows, and the processes of `fluxforge run`."""
    from fluxforge.operate import lake_state

    request.show(lake_state(request.lake()))


@command(app)
def health(request: Request) -> None:
    """Check the lake against the limits under `health` in the configuration.

    Exits with 1 if a limit is exceeded.
    """
    from fluxforge.operate import HealthReport, check_health, lake_state
    from fluxforge.operate.health import Problem

    lake = request.lake()
    try:
        report = check_health(lake.config, lake_state(lake))
    except StorageError as exc:
        report = HealthReport(ok=False, problems=(Problem("storage", "lake", str(exc)),))
    request.show(report)
    if not report.ok:
        raise typer.Exit(1)


@command(app)
def retain(
    request: Request,
    dry_run: DryRun = False,
) -> None:
    """Remove data that exceeds the limits under `retention` in the configuration.

    Whole days are removed from a table in one commit. Vacuum deletes their files when no version
    that is kept refers to them.
    """
    from fluxforge.operate import retain as carry_out

    request.show(carry_out(request.lake(), dry_run=dry_run))


@command(quarantine_app, "list", of_source=True)
def list_quarantine(request: Request) -> None:
    """List the quarantine files with their line counts and reasons."""
    import polars as pl

    lines = request.lake().quarantine(request.source)
    files = lines.group_by("source", "file", "at", maintain_order=True)
    request.show(files.agg(lines=pl.len(), reasons=pl.col("reason").unique().sort()))


@command(quarantine_app, "show")
def show_quarantine(
    request: Request,
    source: SourceName,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A name from the list.")],
) -> None:
    """Show the lines of a quarantine file, each with its reason."""
    import polars as pl

    lines = request.lake().quarantine(source).filter(pl.col("file") == file)
    if not lines.height:
        raise UsageError(f"{source} has no file {file!r} in quarantine")
    request.show(lines.drop("source", "file", "at"))


@command(quarantine_app, "retry", of_source=True)
def retry_quarantine(request: Request) -> None:
    """Process the quarantined lines again, and all segments that wait."""
    request.show(request.lake().retry_quarantine(request.source))
