from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

import fluxforge
from fluxforge.demo import run_demo
from tests.support import commands

if TYPE_CHECKING:
    from subprocess import CompletedProcess

ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(Path(fluxforge.__file__).resolve().parent.parent),
    "PYTHONUTF8": "1",
}


def demo(folder: Path) -> CompletedProcess[str]:
    return commands.run(
        [sys.executable, "-m", "fluxforge", "demo", "--frames", "1500"],
        cwd=folder,
        env={**ENVIRONMENT, "TMPDIR": str(folder), "TEMP": str(folder), "TMP": str(folder)},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )


def test_the_demo_shows_the_whole_path_and_leaves_nothing(tmp_path: Path) -> None:
    done = demo(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for words in (
        "Captured  1,500 frames",
        "Processed 1,500 lines: 1,500 taken, 0 quarantined",
        "Verified  ok",
        "orderbook",
        "mean_price",
        "seconds after",
    ):
        assert words in done.stdout
    assert list(tmp_path.iterdir()) == []
    here = str(tmp_path)
    left = [
        p for p in psutil.process_iter(["cmdline"]) if here in " ".join(p.info["cmdline"] or [])
    ]
    assert left == []


def test_the_demo_keeps_a_lake_that_was_asked_for(tmp_path: Path) -> None:
    shown: list[str] = []
    report = run_demo((), None, (f"storage.base_dir={tmp_path}",), 4000, shown.append)
    assert report.ok
    assert report.to_dict()["ingest"]["frames"] == 4000
    assert (tmp_path / "processed" / "coinbase" / "orderbook").is_dir()
    assert f"The lake: <Lake {tmp_path}" in "\n".join(shown)
