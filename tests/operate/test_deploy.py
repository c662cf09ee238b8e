"""What ``deploy/`` holds, as far as a machine without Docker can try it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fluxforge.config import load_config

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
UNIT, IMAGE = ((DEPLOY / name).read_text() for name in ("fluxforge.service", "Dockerfile"))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    program = tmp_path / "fluxforge"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = UNIT.replace("/opt/fluxforge/bin/fluxforge", str(program))
    (tmp_path / "fluxforge.service").write_text(unit)
    done = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / "fluxforge.service"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("file", "command", "variables"),
    [(UNIT, r"^ExecStart=\S+ (.*)", r"^Environment=(.*)"), (IMAGE, r"^CMD (.*)", r"^ENV (.*)")],
    ids=["unit", "image"],
)
def test_what_they_start_finds_its_lake(
    tmp_path: Path, file: str, command: str, variables: str
) -> None:
    """In a folder in the place of the root, with the files that they copy and the settings."""
    shutil.copytree(ROOT / "conf", tmp_path / "etc" / "fluxforge")
    (said,), (words,) = re.findall(variables, file, re.M), re.findall(command, file, re.M)
    own = {name: f"{tmp_path}{path}" for name, path in (one.split("=") for one in said.split())}
    command = words.translate(str.maketrans(dict.fromkeys('[]",'))).replace(
        "/etc", f"{tmp_path}/etc"
    )
    done = subprocess.run(
        [sys.executable, "-m", "fluxforge", *command.split(), "--check"], env={**os.environ, **own},
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert f"into tables in {own['FLUXFORGE_DIR']}, every" in done.stdout


def test_the_composed_lake_is_on_the_server_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    ours = services["fluxforge"]
    for name, value in ours["environment"].items():
        monkeypatch.setenv(name, value)
    assert ours["command"][-2:] == ours["healthcheck"]["test"][-2:] == ["-c", "s3"]
    config = load_config("s3")
    assert (config.storage.backend, config.storage.base_dir) == ("s3", "lake")
    assert config.storage.s3.endpoint_url == "http://s3:8333"
    assert "-bucket=lake" in services["s3"]["command"]
