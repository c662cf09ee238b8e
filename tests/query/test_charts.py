from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from fluxforge.query.charts import price_chart, terminal_chart

START = datetime(2026, 8, 9, 21, 5, tzinfo=UTC)


def prices(count: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "symbol": ["BTC-USD"] * count,
            "ts_event": [START + timedelta(seconds=i) for i in range(count)],
            "price": [65_000.0 + i % 50 for i in range(count)],
        },
        schema={"symbol": pl.String, "ts_event": pl.Datetime("us", "UTC"), "price": pl.Float64},
    )


@pytest.mark.parametrize("count", [1, 2, 5000])
def test_prices_in_a_terminal(count: int) -> None:
    picture = terminal_chart(prices(count), title="BTC-USD", width=60)
    assert "BTC-USD" in picture
    assert "2026-08-09 21:05:00 UTC" in picture
    assert "\x1b" not in picture
    assert max(len(line) for line in picture.splitlines()) <= 60


def test_nothing_to_draw() -> None:
    assert terminal_chart(prices(0), title="BTC-USD") == "BTC-USD: no prices"


def test_prices_in_a_notebook() -> None:
    spec = price_chart(prices(10_000).lazy(), title="BTC-USD").to_dict()
    [points] = spec["datasets"].values()
    assert len(points) <= 5000  # a browser has to draw them
    assert spec["mark"]["type"] == "line"


def test_without_altair_the_message_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['altair'] = None\n"
        "import polars as pl\n"
        "from fluxforge.errors import MissingExtraError\n"
        "from fluxforge.query.charts import price_chart\n"
        "try:\n    price_chart(pl.DataFrame())\n"
        "except MissingExtraError as exc:\n    print(exc)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stderr == ""
    assert "pip install altair" in run.stdout
