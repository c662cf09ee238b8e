"""Starting: what a new process waits for."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

from benchmarks.data import fill_trades
from benchmarks.measure import repeat, seconds
from fluxforge import Lake

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.measure import Line


def lines(runs: int) -> Iterator[Line]:
    """Yield the times of an import, of the help, and of the first answer."""

    def run(*words: str) -> float:
        done = lambda: subprocess.run([sys.executable, *words], capture_output=True, check=True)
        return 1000 * min(seconds(done) for _ in range(3))

    with tempfile.TemporaryDirectory() as folder:
        fill_trades(Lake(path=folder), 10_000)
        imported = lambda: run("-c", "import fluxforge") - run("-c", "pass")
        yield from repeat(
            "import fluxforge, over an empty program", "100 ms", imported, 100, "ms", runs=runs
        )
        shown = lambda: run("-m", "fluxforge", "--help")
        yield from repeat("fluxforge --help", "300 ms", shown, 300, "ms", runs=runs)
        query = "SELECT count(*) FROM coinbase.trades"
        asked = lambda: run("-m", "fluxforge", "sql", query, f"storage.base_dir={folder}")
        yield from repeat("first answer of fluxforge sql", "600 ms", asked, 600, "ms", runs=runs)
