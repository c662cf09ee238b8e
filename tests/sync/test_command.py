"""``fluxforge sync`` as people run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import fluxforge
from fluxforge import Lake
from fluxforge.cli import main
from tests.support import commands

if TYPE_CHECKING:
    from collections.abc import Callable

    Content = Callable[..., dict[str, bytes]]

READY = "raw/ready/coinbase/segment_20251203T14_00001.ndjson"


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return what runs the command in an empty folder."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(fluxforge.__file__).resolve().parent.parent),
        "PYTHONUTF8": "1",
    }

    def command(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return commands.run(
            [sys.executable, "-m", "fluxforge", "sync", *map(str, words)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            stdin=subprocess.DEVNULL,
            timeout=60,
        )

    return command


@pytest.fixture
def overlay(make_overlay: Callable[..., Path], segment: Callable[..., bytes]) -> Path:
    """Return the configuration of a lake with one segment."""
    path = make_overlay()
    Lake(path).storage.write_bytes(READY, segment("A"))
    return path


@pytest.mark.s3
def test_to_an_overlay_in_words_and_in_json(
    run: Any, overlay: Path, make_overlay: Callable[..., Path], content: Content
) -> None:
    there = make_overlay("s3")
    told = run("-c", overlay, "--to", there, "--dry-run")
    assert told.returncode == 0
    assert "1 file to be copied" in told.stdout
    assert f"would copy {READY}" in told.stdout
    assert content(Lake(there).storage) == {}

    done = run("-c", overlay, "--to", there, "--delete", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {
        "copied": [READY],
        "skipped": [],
        "deleted": [READY],
        "bytes": len(Lake(there).storage.read_bytes(READY)),
        "problems": [],
        "dry_run": False,
    }
    secret = Lake(there).config.storage.s3.aws_secret_access_key.reveal()
    assert secret not in told.stdout + told.stderr


def test_to_a_setting(run: Any, tmp_path: Path, segment: Callable[..., bytes]) -> None:
    Lake(overrides=[f"storage.base_dir={tmp_path}/data"]).storage.write_bytes(READY, segment("A"))
    done = run("storage.base_dir=data", "--to", "local", "--to", "storage.base_dir=backup")
    assert done.returncode == 0
    assert done.stdout.startswith("1 file copied (0.0 MB), 0 skipped, 0 deleted, 0 problems")
    assert "1 of 1 files" in done.stderr
    assert (tmp_path / "backup" / READY).read_bytes() == segment("A")


def test_problems_are_named_and_the_exit_code_says_so(
    run: Any, overlay: Path, make_overlay: Callable[..., Path]
) -> None:
    there = make_overlay()
    Lake(there).storage.write_bytes(READY, Lake(overlay).storage.read_bytes(READY)[:-9])
    done = run("-c", overlay, "--to", there)
    assert done.returncode == 1
    [problem] = [line for line in done.stdout.splitlines() if line.startswith("problem: ")]
    assert READY in problem


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--to"),
        (["--to", "locl"], "did you mean 'local'"),
        (["--to", "storage.base_dri=x"], "did you mean 'base_dir'"),
        (["--to", "storage.base_dir=./data"], "name another destination"),
        (["coinbase", "--to", "local"], "unexpected argument 'coinbase'"),
    ],
)
def test_wrong_use_is_one_clear_line(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fluxforge", "sync", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    [line] = shown.err.splitlines()
    assert message in line
