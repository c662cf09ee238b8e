"""What ``deploy/`` holds, as far as a machine without Docker can try it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from fluxforge.config import load_config

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    program = tmp_path / "fluxforge"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = (DEPLOY / "fluxforge.service").read_text()
    unit = unit.replace("/opt/fluxforge/bin/fluxforge", str(program))
    (tmp_path / "fluxforge.service").write_text(unit)
    done = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / "fluxforge.service"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_the_composed_lake_is_on_the_server_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    for name, value in services["fluxforge"]["environment"].items():
        monkeypatch.setenv(name, value)
    config = load_config("s3")
    assert (config.storage.backend, config.storage.base_dir) == ("s3", "lake")
    assert config.storage.s3.endpoint_url == "http://s3:8333"
    assert "-bucket=lake" in services["s3"]["command"]
