"""What a notebook shows of mistakes: one message, and the user's own line."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from fluxforge import Lake
from fluxforge.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def ipython(folder: Path, code: str) -> str:
    pytest.importorskip("IPython")
    words = ["--colors=NoColor", "--no-banner", "--no-confirm-exit", "--simple-prompt"]
    done = subprocess.run(
        [sys.executable, "-m", "IPython", *words],
        input=f"from fluxforge import Lake\nlake = Lake(path={str(folder)!r})\n{code}\n",
        cwd=folder,
        env={**os.environ, "IPYTHONDIR": str(folder / "ipython")},
        capture_output=True,
        text=True,
    )
    return done.stdout


def test_an_error_is_its_message_and_the_users_own_line(tmp_path: Path) -> None:
    shown = ipython(tmp_path, "rows = lake.scan('coinbase', 'trade')")
    message = "UnknownTableError: coinbase has no table 'trade': did you mean 'trades'?"
    start = shown.index(message)
    assert shown[start:].splitlines()[1] == "  line 1: rows = lake.scan('coinbase', 'trade')"
    assert "Traceback" not in shown
    whole = ipython(tmp_path, "lake.scan('coinbase', 'trade')\n%tb Verbose")
    assert "Traceback" in whole
    assert "catalog.py" in whole


def test_a_coroutine_that_was_not_awaited_says_so(tmp_path: Path) -> None:
    lake = Lake(path=tmp_path)
    with pytest.warns(RuntimeWarning, match=r"'await lake.ingest\(…\)'' was never awaited"):
        assert "lake.ingest(…), which begins with 'await lake.ingest(…)'" in repr(
            lake.ingest("coinbase")
        )
    with pytest.raises(ConfigError, match="not a duration"):
        asyncio.run(lake.ingest("coinbase", duration="soon"))

    async def in_a_task() -> None:
        await asyncio.create_task(lake.ingest("coinbase", duration="soon"))

    with pytest.raises(ConfigError, match="not a duration"):
        asyncio.run(in_a_task())
