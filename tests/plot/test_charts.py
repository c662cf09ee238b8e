"""Charts: drawn without a network, in UTC, with nothing lost that matters."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest

from fluxforge import plot
from fluxforge.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

START = datetime(2026, 8, 9, 21, tzinfo=UTC)


def prices(symbol: str, count: int, first: float = 100.0) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "symbol": [symbol] * count,
            "ts_event": [START + timedelta(milliseconds=n) for n in range(count)],
            "price": [first + n % 7 for n in range(count)],
        },
        schema_overrides={"ts_event": pl.Datetime("us", "UTC")},
    )


BARS = pl.DataFrame(
    {
        "symbol": ["A"],
        "ts_start": [START],
        "open": [1.0],
        "high": [3.0],
        "low": [0.5],
        "close": [2.0],
        "volume": [5.0],
        "buy_volume": [4.0],
        "sell_volume": [1.0],
    },
    schema_overrides={"ts_start": pl.Datetime("us", "UTC")},
)
SIDE = pl.DataFrame({"price": [10.0, 9.0], "size": [1.0, 2.0]})

CHARTS = {
    "price": plot.price(prices("A", 50)),
    "two symbols": plot.price(pl.concat([prices("A", 50), prices("B", 50, 9.0)])),
    "rows": plot.price(pl.concat([prices("A", 5), prices("B", 5)]), many="rows"),
    "candles": plot.candles(BARS),
    "volume": plot.volume(BARS),
    "book": plot.book(SIDE, SIDE.with_columns(pl.col("price") + 2)),
    "spread": plot.spread(prices("A", 9).rename({"price": "spread"})),
}


@pytest.mark.parametrize("name", list(CHARTS))
def test_every_chart_is_drawn_and_saved_without_a_network(name: str, tmp_path: Path) -> None:
    chart = CHARTS[name]
    bundle = chart._repr_mimebundle_()
    assert set(bundle) == {"application/vnd.vegalite.v5+json", "image/svg+xml", "text/plain"}
    assert "<svg" in bundle["image/svg+xml"]
    assert "<path" in bundle["image/svg+xml"]
    assert "src=" not in bundle["image/svg+xml"]
    json.dumps(bundle["application/vnd.vegalite.v5+json"], allow_nan=False)
    assert chart.save(tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert chart.save(tmp_path / "x.svg").read_text().startswith("<svg")
    page = chart.save(tmp_path / "x.html").read_text()
    assert "<script src=" not in page


def test_times_are_those_of_utc_whatever_the_zone_of_the_viewer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    svg = plot.price(prices("A", 30_000)).svg
    assert "21:00:" in svg
    assert "time (UTC)" in svg


def test_thinning_keeps_every_spike() -> None:
    frame = prices("A", 50_000)
    spike = frame.with_columns(
        price=pl.when(pl.int_range(pl.len()) == 31_337).then(1e6).otherwise("price")
    )
    values = plot.price(spike).spec["data"]["values"]
    assert len(values) <= 2_100
    assert max(value["price"] for value in values) == 1e6


def test_several_symbols_are_rebased_to_their_first_price() -> None:
    values = CHARTS["two symbols"].spec["data"]["values"]
    first = {value["series"]: value["value"] for value in reversed(values)}
    assert first == {"A": 0.0, "B": 0.0}


def test_missing_times_are_shaded() -> None:
    gap = pl.DataFrame(
        {"start": [START], "end": [START + timedelta(milliseconds=10)]},
        schema_overrides=dict.fromkeys(("start", "end"), pl.Datetime("us", "UTC")),
    )
    shaded = plot.price(prices("A", 50), gaps=gap).svg
    assert shaded.count("mark-rect") > CHARTS["price"].svg.count("mark-rect")


def test_a_frame_that_cannot_be_drawn_says_why_in_one_line() -> None:
    with pytest.raises(UsageError, match="no rows"):
        plot.price(prices("A", 0))
    with pytest.raises(UsageError, match="needs the column 'price'"):
        plot.price(BARS.rename({"ts_start": "ts_event"}))
    with pytest.raises(UsageError, match=r"\.gif"):
        CHARTS["price"].save("x.gif")
