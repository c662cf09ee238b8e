from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from fluxforge.plot.terminal import terminal_chart

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
