"""The whole path on one machine: a local exchange, capture, tables, checks, SQL, a picture."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fluxforge.lake import Lake
from fluxforge.report import Report

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fluxforge.etl.report import EtlReport
    from fluxforge.ingestion.report import IngestReport
    from fluxforge.verify import VerifyReport

_SOURCE = "coinbase"
_SEED = 7
_FRAMES_PER_SECOND = 2500.0
_QUERY = """
SELECT symbol, count(*) AS trades, round(avg(price), 2) AS mean_price, round(sum(size), 4) AS volume
FROM coinbase.trades GROUP BY symbol ORDER BY symbol
""".strip()


@dataclass(frozen=True, repr=False)
class DemoReport(Report):
    """The outcome of the demonstration; `ok` if no frame is missing and every check passed."""

    ok: bool
    ingest: IngestReport
    etl: EtlReport
    verify: VerifyReport


def run_demo(
    overlays: tuple[str, ...],
    config_dir: Path | None,
    overrides: tuple[str, ...],
    frames: int,
    show: Callable[[str], object],
) -> DemoReport:
    """Run the demonstration.

    Without any configuration of the caller's own, the lake is made in a temporary folder and
    removed at the end.

    Parameters
    ----------
    overlays, config_dir, overrides
        Where the lake is, as :class:`fluxforge.Lake` takes it.
    frames
        How many frames to capture.
    show
        Prints one block of text.
    """
    from fluxforge.plot.terminal import terminal_chart
    from fluxforge.simulator import local_exchange

    with ExitStack() as stack:
        folder = None
        if not overlays and config_dir is None and not overrides:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fluxforge-demo-"))
        exchange = stack.enter_context(local_exchange(_SOURCE, seed=_SEED, rate=_FRAMES_PER_SECOND))
        url = f"ingestion.sources.{_SOURCE}.url={exchange.url}"
        lake = Lake(*overlays, config_dir=config_dir, overrides=[*overrides, url], path=folder)
        show(f"A local exchange speaks Coinbase's protocol on {exchange.url}")
        show(f"The lake: {lake!r}\n")

        captured = lake.ingest_sync(_SOURCE, frames=frames)
        show(f"Captured  {captured.frames:,} frames, {captured.bytes / 1e6:.1f} MB, "
             f"{captured.segments} segments, {captured.gaps} gaps")  # fmt: skip
        made = lake.etl(_SOURCE)
        show(f"Processed {made.lines_read:,} lines: {made.lines_taken:,} taken, "
             f"{made.lines_quarantined} quarantined")  # fmt: skip
        checked = lake.verify()
        show(f"Verified  {'ok' if checked.ok else checked}\n")

        show(str(lake.tables().drop("source", "version")))
        show(f"\n{_QUERY}\n")
        show(str(lake.sql(_QUERY).pl()))
        ticker = lake.scan(_SOURCE, "ticker", symbols=["BTC-USD"]).collect()
        show("\n" + terminal_chart(ticker, title="BTC-USD"))
        whole = made.lines_taken + made.lines_quarantined == captured.frames
        return DemoReport(checked.ok and whole, captured, made, checked)
