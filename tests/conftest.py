"""Fixtures that every test folder may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def captures() -> Path:
    """Return the folder of recorded venue traffic, which is not part of the repository."""
    chosen = os.environ.get("FLUXFORGE_CAPTURES")
    folder = Path(chosen) if chosen else REPOSITORY.parent / "shared" / "captures"
    if not (folder / "INDEX.md").is_file():
        pytest.skip("no recorded traffic: set FLUXFORGE_CAPTURES to its folder")
    return folder
