from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from fluxforge import Lake
from fluxforge.simulator import local_exchange
from fluxforge.widgets import EtlProgressBar, IngestProgressBar, Progress

if TYPE_CHECKING:
    from pathlib import Path


async def test_bars_follow_a_real_run(tmp_path: Path) -> None:
    with local_exchange("coinbase", seed=3, rate=0) as exchange:
        lake = Lake(
            overrides=[
                f"storage.base_dir={tmp_path}",
                f"ingestion.sources.coinbase.url={exchange.url}",
            ],
        )
        with IngestProgressBar(frames=400) as ingest_bar:
            await lake.ingest("coinbase", frames=400, on_progress=ingest_bar)
    with EtlProgressBar() as etl_bar:
        lake.etl("coinbase", on_progress=etl_bar)
    assert ingest_bar.state.stage == etl_bar.state.stage == "done"
    assert ingest_bar.state.note.startswith("400 frames, ")
    assert etl_bar.state.note == "1 of 1 segments"


def test_a_bar_shows_its_state() -> None:
    bar = EtlProgressBar(label="tables")
    bar(1, 4)
    assert (bar._bar.description, bar._bar.value, bar._bar.bar_style) == ("tables", 0.25, "info")
    assert bar._note.value == "1 of 4 segments"


def test_a_bar_turns_red_where_the_work_failed() -> None:
    bar = EtlProgressBar()
    with pytest.raises(RuntimeError, match="no space"), bar:
        bar(1, 4)
        raise RuntimeError("no space")
    assert (bar._bar.value, bar._bar.bar_style) == (0.25, "danger")


def test_without_a_bound_the_bar_is_full_but_not_done() -> None:
    bar = IngestProgressBar()
    bar.show(Progress("ingest", None, "250 frames"))
    assert (bar._bar.value, bar._bar.bar_style) == (1.0, "info")


def test_without_ipywidgets_the_message_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['ipywidgets'] = None\n"
        "from fluxforge.errors import MissingExtraError\n"
        "from fluxforge.widgets import EtlProgressBar\n"
        "try:\n    EtlProgressBar()\n"
        "except MissingExtraError as exc:\n    print(exc)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stderr == ""
    assert "pip install ipywidgets" in run.stdout
