"""What a call cannot mean is FluxForge's own error, on one line, and never another library's."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from fluxforge.errors import FluxForgeError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fluxforge import Lake

SOURCE = "coinbase"


@pytest.mark.parametrize("version", [-1, 10**20, "x", 1.5, True])
def test_no_such_version(filled_lake: Lake, version: Any) -> None:
    with pytest.raises(UsageError, match="no version") as raised:
        filled_lake.scan(SOURCE, "ticker", version=version)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("at", [datetime.max, datetime.min, date.max, date.min, "9999-12-31"])
def test_times_at_the_edge_of_the_calendar(filled_lake: Lake, at: Any) -> None:
    everything = filled_lake.scan(SOURCE, "trades", raw=True).collect().height
    before = filled_lake.scan(SOURCE, "trades", raw=True, end=at).collect().height
    after = filled_lake.scan(SOURCE, "trades", raw=True, start=at).collect().height
    assert {before, after} == {0, everything}
    filled_lake.bars(SOURCE, ["BTC-USD"], start=at)
    aware = datetime(1, 1, 1, 1, tzinfo=UTC).astimezone(timezone(timedelta(hours=-1)))
    assert filled_lake.scan(SOURCE, "ticker", end=aware).collect().is_empty()


CALLS: dict[str, Callable[[Lake], object]] = {
    "a time that is a number": lambda lake: lake.scan(SOURCE, "ticker", start=10**30),  # type: ignore[arg-type]
    "a time that is text": lambda lake: lake.scan(SOURCE, "ticker", start="yesterday-ish"),
    "symbols=[5]": lambda lake: lake.scan(SOURCE, "ticker", symbols=[5]),  # type: ignore[list-item]
    "symbols=5": lambda lake: lake.tail(SOURCE, "ticker", symbols=5),  # type: ignore[arg-type]
    "instruments=[b'x']": lambda lake: lake.bars(SOURCE, instruments=[b"x"]),  # type: ignore[list-item]
    "n=-1": lambda lake: lake.tail(SOURCE, "ticker", n=-1),
    "n='x'": lambda lake: lake.tail(SOURCE, "ticker", n="x"),  # type: ignore[arg-type]
    "a source that is a number": lambda lake: lake.scan(5, "ticker"),  # type: ignore[arg-type]
    "a list with no source": lambda lake: lake.scan([SOURCE, 5], "ticker"),  # type: ignore[list-item]
    "a table that is a list": lambda lake: lake.scan(SOURCE, ["ticker"]),  # type: ignore[arg-type]
    "SQL that is a number": lambda lake: lake.sql(5),  # type: ignore[arg-type]
    "SQL that is a list": lambda lake: lake.sql(["SELECT 1"]),  # type: ignore[arg-type]
    "bars backwards": lambda lake: lake.bars(SOURCE, "BTC-USD", every="-1s"),
    "bars of no length": lambda lake: lake.bars(SOURCE, "BTC-USD", every="0s"),
    "bars of nothing": lambda lake: lake.bars(SOURCE, "BTC-USD", every=None),  # type: ignore[arg-type]
    "ticks of nothing": lambda lake: lake.bars(SOURCE, "BTC-USD", every=None, kind="tick"),  # type: ignore[arg-type]
    "books backwards": lambda lake: lake.books(SOURCE, "BTC-USD", every="-1s"),
    "books of every x": lambda lake: lake.books(SOURCE, "BTC-USD", every="x"),
    "gaps of a number": lambda lake: lake.gaps(5),  # type: ignore[arg-type]
    "etl of a list": lambda lake: lake.etl([SOURCE]),  # type: ignore[arg-type]
    "keep for ever": lambda lake: lake.vacuum(keep="99999999999d"),
    "keep nan": lambda lake: lake.vacuum(keep=float("nan")),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_arguments_of_the_wrong_kind(filled_lake: Lake, call: Callable[[Lake], object]) -> None:
    with pytest.raises(FluxForgeError) as raised:
        call(filled_lake)
    assert "\n" not in str(raised.value)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit")
def test_too_few_file_handles_are_one_line(filled_lake: Lake, tmp_path: Path) -> None:
    """The command holds all but a few handles itself, since libraries need some to begin with."""
    script = (
        "import os, resource, sys\n"
        "from fluxforge.cli import main\n"
        "import polars, deltalake, duckdb, pyarrow.dataset\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "held = [os.open(os.devnull, os.O_RDONLY) for _ in range(64 - 3 - 1)]\n"
        "main()\n"
    )
    root, refused = filled_lake.storage.get_full_path(), 0
    for command in (["tables"], ["verify"], ["sql", "SELECT count(*) FROM coinbase.ticker"]):
        done = subprocess.run(
            [sys.executable, "-c", script, *command, f"storage.base_dir={root}"],
            cwd=tmp_path, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert "Traceback" not in done.stdout + done.stderr
        if done.returncode == 0 and not done.stderr:
            continue  # one handle was enough
        assert done.returncode == 1, done
        assert "too many files are open" in done.stdout + done.stderr
        refused += 1
    assert refused
