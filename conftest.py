"""How the tests are spread over processes; fixtures are in ``tests/conftest.py``."""

from __future__ import annotations

import compileall
import gc
import os
import signal
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fluxforge.testing.s3_server import S3Server

# Begun first, so that no process is left alone with one of them at the end.
SLOW = (
    "tests/kill/",
    "tests/s3/test_killed_collectors.py",
    "tests/s3/test_two_workers.py",
    "tests/browser/",
    "tests/operate/",
    "notebooks/",
    "tests/s3/",
    "tests/etl/test_crashes.py",
    "tests/sync/",
    "tests/notebooks/",
    "tests/ingestion/test_load.py",
    "tests/test_places.py",
    "tests/test_cli.py",
    "tests/test_lake.py",
)

_servers: list[S3Server] = []


def pytest_configure() -> None:
    # Where the parent ignores Ctrl-C, as `nohup … &` does, the commands under test would, too.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Kernels and commands start in half the time where they find compiled modules.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    if "PYTEST_XDIST_WORKER" not in os.environ:  # once, and not by each of them at the same time
        compileall.compile_dir(Path(__file__).with_name("fluxforge"), quiet=2)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return how many processes run the tests: they wait for sockets and disks half of the time.

    Whoever names files or tests gets them in this process.
    """
    if config.args_source != pytest.Config.ArgsSource.TESTPATHS:
        return 0
    return min(8, 2 * (os.cpu_count() or 1))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give all processes one S3 server; each makes a bucket of its own."""
    from fluxforge.errors import FluxForgeError
    from fluxforge.testing.s3_server import start_s3_server

    if not _servers:
        try:
            _servers.append(start_s3_server())
        except FluxForgeError:
            return  # the tests that need it say so
    server = _servers[0]
    node.workerinput["s3_server"] = {
        "endpoint_url": server.endpoint_url,
        "access_key": server.access_key,
        "secret_key": server.secret_key,
    }


def pytest_unconfigure() -> None:
    while _servers:
        _servers.pop().stop()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each test to the next process that is free; keep what belongs together together."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file if _belongs_together(config.rootpath / file) else nodeid

    return Scheduling(config, log)


@cache
def _belongs_together(file: Path) -> bool:
    """Tell whether the tests of a file share a notebook, or a fixture that takes its time."""
    return file.suffix == ".ipynb" or 'scope="module"' in file.read_text(encoding="utf-8")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        return next((n for n, slow in enumerate(SLOW) if item.nodeid.startswith(slow)), len(SLOW))

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """Keep what was imported and collected out of every later search for garbage."""
    gc.collect()
    gc.freeze()
