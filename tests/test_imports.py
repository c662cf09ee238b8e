from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "altair",
    "deltalake",
    "duckdb",
    "fsspec",
    "IPython",
    "ipywidgets",
    "numpy",
    "omegaconf",
    "pandas",
    "plotext",
    "polars",
    "pyarrow",
    "s3fs",
    "websockets",
}

LAKE_ONLY = HEAVY - {"omegaconf"}
LOCAL_WORK = {"altair", "IPython", "ipywidgets", "pandas", "plotext", "s3fs"}


def loaded_by(program: str) -> set[str]:
    """Run a program in a fresh interpreter and return the packages it has loaded."""
    report = (
        "import json, sys; print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    )
    run = subprocess.run(
        [sys.executable, "-c", f"{program}\n{report}"], capture_output=True, text=True, check=True
    )
    return set(json.loads(run.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    ("program", "unwanted"),
    [
        ("import fluxforge", HEAVY),
        ("import fluxforge.cli", HEAVY),
        ("from fluxforge import Lake", LAKE_ONLY),
        ("import fluxforge.widgets", LAKE_ONLY),
        (
            "import sys; sys.argv = ['fluxforge', '--help']\n"
            "import fluxforge.cli\n"
            "try:\n    fluxforge.cli.main()\n"
            "except SystemExit as end:\n    assert not end.code",
            HEAVY,
        ),
        # A lake on a local disk never loads what only object stores or notebooks need.
        (
            "import tempfile\n"
            "from fluxforge import Lake\n"
            "lake = Lake(overrides=[f'storage.base_dir={tempfile.mkdtemp()}'])\n"
            "lake.etl(); lake.tables(); lake.sql('SELECT 1'); lake.status()",
            LOCAL_WORK,
        ),
    ],
    ids=["package", "command line", "lake", "widgets", "help", "local lake"],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(program: str, unwanted: set[str]) -> None:
    assert not loaded_by(program) & unwanted
