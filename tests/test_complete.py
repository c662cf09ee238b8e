"""What a shell completes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("fluxforge tail cb", []),
        ("fluxforge tail co", ["coinbase"]),
        ("fluxforge tail coinbase t", ["ticker", "trades"]),
        ("fluxforge bars coinbase BTC", ["BTC-USD"]),
        ("fluxforge etl -c hy", ["hybrid"]),
    ],
)
def test_names_are_completed(words: str, expected: list[str]) -> None:
    asked = {
        "_FLUXFORGE_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    program = [sys.executable, "-c", "from fluxforge.cli import main; main()"]
    done = subprocess.run(program, env=os.environ | asked, capture_output=True, text=True)
    assert done.stdout.split() == expected
