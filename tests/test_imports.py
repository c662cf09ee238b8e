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

LOCAL_WORK = {"altair", "IPython", "ipywidgets", "pandas", "plotext", "s3fs"}

SHOW_HELP = """
import sys
import fluxforge.cli
sys.argv = ["fluxforge", "--help"]
try:
    fluxforge.cli.main()
except SystemExit as end:
    assert not end.code
"""

WORK_LOCALLY = """
import sys, tempfile
class WithoutPandas:  # which PyArrow loads where it is installed
    def find_spec(self, name, path=None, target=None):
        if name == "pandas":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, WithoutPandas())
from fluxforge import Lake
with tempfile.TemporaryDirectory() as folder:
    lake = Lake(overrides=[f"storage.base_dir={folder}"])
    lake.storage.mkdir("raw")
    lake.etl(); lake.tables(); lake.sql("SELECT 1"); lake.status()
"""

REPORT = """
import json, sys
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def loaded_by(program: str) -> set[str]:
    """Run a program in a fresh interpreter and return the packages it has loaded."""
    run = subprocess.run(
        [sys.executable, "-c", program + REPORT], capture_output=True, text=True, check=True
    )
    return set(json.loads(run.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    ("program", "unwanted"),
    [
        ("import fluxforge", HEAVY),
        ("import fluxforge.cli", HEAVY),
        (SHOW_HELP, HEAVY),
        ("from fluxforge import Lake", HEAVY - {"omegaconf"}),
        (WORK_LOCALLY, LOCAL_WORK),
    ],
    ids=["package", "command line", "help", "lake", "local lake"],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(program: str, unwanted: set[str]) -> None:
    assert not loaded_by(program) & unwanted
