"""Notebooks with other parameters: rows follow them, and a cell that fails makes the exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

papermill = pytest.importorskip("papermill")

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"



def test_other_parameters_go_in(tmp_path: Path) -> None:
    out = tmp_path / "out.ipynb"
    papermill.execute_notebook(
        NOTEBOOKS / "00_quickstart.ipynb", out, {"frames": 700, "seed": 3},
        cwd=NOTEBOOKS, progress_bar=False,
    )  # fmt: skip
    texts = [
        "".join(output.get("data", {}).get("text/plain", ""))
        for cell in nbformat.read(out, 4).cells
        if cell.cell_type == "code"
        for output in cell.outputs
    ]
    assert any(text.startswith("<IngestReport coinbase: 700 frames") for text in texts)
    charts = [
        output.data["image/svg+xml"]
        for cell in nbformat.read(out, 4).cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "application/vnd.vegalite.v5+json" in output.get("data", {})
    ]
    assert charts
    assert all("<svg" in chart for chart in charts)


def test_a_cell_that_fails_makes_the_exit_code(tmp_path: Path) -> None:
    # The venue skips a frame that the notebook's own check does not expect.
    notebook = nbformat.read(NOTEBOOKS / "00_quickstart.ipynb", 4)
    for cell in notebook.cells:
        cell.source = cell.source.replace("(seed=seed,", '(seed=seed, faults="skip@200:2",')
    changed = tmp_path / "changed.ipynb"
    nbformat.write(notebook, changed)
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", "--cwd", NOTEBOOKS]
    done = subprocess.run(
        [*command, "-p", "frames", "700", changed, tmp_path / "out.ipynb"],
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode != 0
    assert "AssertionError" in done.stderr


def test_every_notebook_has_parameters_and_is_soon_useful() -> None:
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        code = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
        assert code[0].metadata.tags == ["parameters"], path.name
        lines = [line for line in code[1].source.splitlines() if line.strip()]
        assert len(lines) <= 4, path.name
        assert path.stat().st_size < 160_000, path.name
        hidden = [cell for cell in code if cell.source.startswith("assert")]
        assert all("remove-cell" in cell.metadata.tags for cell in hidden), path.name
