"""The commands that make tables and look after them."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fluxforge.cli.app import app
from fluxforge.cli.options import DryRun
from fluxforge.cli.request import Request, command

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from fluxforge.etl.report import EtlReport


@command(app, of_source=True)
def etl(
    request: Request,
    watch: Annotated[bool, typer.Option("--watch", help="Keep running until stopped.")] = False,
    retry: Annotated[
        bool,
        typer.Option("--retry", help="Also retry segments that were set aside."),
    ] = False,
    dask: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="The Dask scheduler to transform with."),
    ] = None,
) -> None:
    """Commit the waiting segments to the tables, exactly once.

    Exits with 1 if a segment failed, or is set aside until --retry.
    """
    from fluxforge.etl.report import SegmentsFailedError

    lake = request.lake()
    if watch:
        lake.watch(request.source, on_report=request.show)
        return
    with request.progress("etl") as show:
        try:
            report: EtlReport = lake.etl(
                request.source,
                executor=_dask_executor(dask) if dask else None,
                retry=retry,
                on_progress=lambda done, total: show(done, total, f"{done} of {total} segments"),
            )
        except SegmentsFailedError as exc:
            request.show(exc.report)
            raise
    request.show(report)
    if report.set_aside:
        raise typer.Exit(1)


def _dask_executor(address: str) -> Executor:
    from fluxforge.errors import ConnectionFailedError, MissingExtraError

    try:
        import distributed
    except ImportError as exc:
        raise MissingExtraError("--dask", "distributed") from exc
    try:
        connect: Any = distributed.Client
        executor: Executor = connect(address).get_executor(pure=False, retries=3)
    except (OSError, ValueError) as exc:
        raise ConnectionFailedError(f"no Dask scheduler answers at {address}") from exc
    return executor


@command(app)
def verify(
    request: Request,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read all files and compare them with their checksums.")
    ] = False,
) -> None:
    """Check the files of the lake and that every captured line is accounted for.

    Exits with 1 if there are problems.
    """
    report = request.lake().verify(deep=deep)
    request.show(report)
    if not report.ok:
        raise typer.Exit(1)


@command(app, of_source=True)
def optimize(request: Request) -> None:
    """Compact small files of the tables into larger ones."""
    reports = request.lake().optimize(request.source)
    lines = (f"{one.table}: {one.files_before} files are now {one.files_after}" for one in reports)
    request.show([asdict(report) for report in reports], "\n".join(lines))


@command(app, of_source=True)
def vacuum(
    request: Request,
    keep: Annotated[
        str, typer.Option(metavar="TIME", help="Keep files that versions of this period refer to.")
    ] = "7d",
    dry_run: DryRun = False,
) -> None:
    """Delete data files that no recent table version refers to."""
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
            help="The destination: an overlay or a setting. Repeatable.",
        ),
    ],
    delete: Annotated[
        bool,
        typer.Option(
            "--delete", help="Move: delete each file after its copy was compared byte by byte."
        ),
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Copy or move segments and tables to another lake.

    Exits with 1 if some could not be copied.
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
