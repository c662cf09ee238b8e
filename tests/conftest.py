"""Fixtures that every test folder may use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fluxforge.testing.s3_server import S3Server

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def captures() -> Path:
    """Return the folder of recorded venue traffic, which is not part of the repository."""
    chosen = os.environ.get("FLUXFORGE_CAPTURES")
    folder = Path(chosen) if chosen else REPOSITORY.parent / "shared" / "captures"
    if not (folder / "INDEX.md").is_file():
        pytest.skip("no recorded traffic: set FLUXFORGE_CAPTURES to its folder")
    return folder


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """Run a real S3 server, shared by all tests: each uses a prefix of its own."""
    from fluxforge.testing.s3_server import s3_server as run

    with run() as server:
        yield server
