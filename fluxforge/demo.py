"""The whole path on one machine: a local exchange, capture, tables, checks, SQL, a picture."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from typing import TYPE_CHECKING

from fluxforge.lake import Lake

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_SOURCE = "coinbase"
_SEED = 7
_FRAMES_PER_SECOND = 2500.0
_QUERY = """
SELECT symbol, count(*) AS trades, round(avg(price), 2) AS mean_price, round(sum(size), 4) AS volume
FROM coinbase.trades GROUP BY symbol ORDER BY symbol
""".strip()


def run_demo(
    overlays: tuple[str, ...],
    config_dir: Path | None,
    overrides: tuple[str, ...],
    frames: int,
    show: Callable[[str], object],
) -> bool:
    """Run the demonstration; return whether every check passed.

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
    from fluxforge.query.charts import terminal_chart
    from fluxforge.simulator import local_exchange

    with ExitStack() as stack:
        if not overlays and config_dir is None and not overrides:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fluxforge-demo-"))
            overrides = (f"storage.base_dir={folder}",)
        exchange = stack.enter_context(local_exchange(_SOURCE, seed=_SEED, rate=_FRAMES_PER_SECOND))
        url = f"ingestion.sources.{_SOURCE}.url={exchange.url}"
        lake = Lake(*overlays, config_dir=config_dir, overrides=[*overrides, url])
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
        return checked.ok and made.lines_taken + made.lines_quarantined == captured.frames
