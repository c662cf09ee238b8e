"""Bars against an implementation that looks at one trade at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxforge.analytics.bars import make_bars
from fluxforge.errors import UsageError

START = datetime(2026, 8, 9, 21, tzinfo=UTC)
COVERED = pl.DataFrame(
    {
        "source": ["x"],
        "symbol": ["A"],
        "start": [START],
        "end": [START + timedelta(hours=1)],
    },
    schema_overrides={name: pl.Datetime("us", "UTC") for name in ("start", "end")},
)


def trades_of(rows: list[tuple[float, float, float, str]]) -> pl.DataFrame:
    """Return trades of one symbol from ``seconds, price, size, side``."""
    times = [START + timedelta(seconds=second) for second, *_ in rows]
    return pl.DataFrame(
        {
            "source": "x",
            "symbol": "A",
            "instrument": "A",
            "ts_event": times,
            "ts_recv": times,
            "trade_id": [str(number) for number in range(len(rows))],
            "price": [row[1] for row in rows],
            "size": [row[2] for row in rows],
            "side": [row[3] for row in rows],
        },
        schema_overrides={name: pl.Datetime("us", "UTC") for name in ("ts_event", "ts_recv")}
        | dict.fromkeys(("source", "symbol", "instrument", "side", "trade_id"), pl.String)
        | {"price": pl.Float64, "size": pl.Float64},
    )


def one_by_one(rows: list[tuple[float, float, float, str]], every: float, kind: str) -> list[Any]:
    bars: list[list[tuple[float, float, float, str]]] = []
    held, current = 0.0, None
    for row in rows:
        second, price, size, _ = row
        if kind == "time":
            if second // every != current:
                bars.append([])
            current = second // every
        elif current is None:
            bars.append([])
            held, current = 0.0, 1.0
        bars[-1].append(row)
        held += {"tick": 1.0, "volume": size, "dollar": price * size}.get(kind, 0.0)
        if kind != "time" and held >= every:
            current = None
    return [
        (
            bar[0][1],
            max(row[1] for row in bar),
            min(row[1] for row in bar),
            bar[-1][1],
            pytest.approx(sum(row[2] for row in bar)),
            pytest.approx(sum(row[2] for row in bar if row[3] == "buy")),
            pytest.approx(sum(row[2] for row in bar if row[3] == "sell")),
            pytest.approx(sum(row[1] * row[2] for row in bar) / sum(row[2] for row in bar)),
            len(bar),
        )
        for bar in bars
    ]


ROWS = st.lists(
    st.tuples(
        st.integers(0, 600).map(float),
        st.integers(1, 50).map(float),
        st.sampled_from([0.25, 1.0, 3.0]),
        st.sampled_from(["buy", "sell"]),
    ),
    min_size=1,
    max_size=60,
).map(lambda rows: sorted(rows, key=lambda row: row[0]))


@given(
    ROWS,
    st.sampled_from(
        [("time", "7s", 7.0), ("tick", 4, 4.0), ("volume", 2.5, 2.5), ("dollar", 60.0, 60.0)]
    ),
)
@settings(deadline=None, max_examples=80)
def test_bars_of_each_kind(
    rows: list[tuple[float, float, float, str]], asked: tuple[str, Any, float]
) -> None:
    kind, every, number = asked
    bars = make_bars(trades_of(rows), COVERED, every, kind)  # type: ignore[arg-type]
    columns = (
        "open",
        "high",
        "low",
        "close",
        "volume",
        "buy_volume",
        "sell_volume",
        "vwap",
        "trades",
    )
    # A bar of time begins at a multiple of its length since 1970, here since the full hour.
    offset = START.timestamp() % number if kind == "time" else 0.0
    expected = one_by_one([(r[0] + offset, *r[1:]) for r in rows], number, kind)
    assert bars.select(columns).rows() == expected


def test_a_bar_is_complete_inside_a_span_and_once_it_has_ended() -> None:
    rows = [(float(second), 1.0, 1.0, "buy") for second in range(0, 50, 10)]
    spans = COVERED.with_columns(
        start=pl.lit(START + timedelta(seconds=5)), end=pl.lit(START + timedelta(seconds=35))
    )
    bars = make_bars(trades_of(rows), spans, "10s")
    assert bars["complete"].to_list() == [False, True, True, False, False]


def test_empty_bars_fill_the_quiet_times() -> None:
    rows = [(0.0, 5.0, 1.0, "buy"), (30.0, 6.0, 2.0, "sell")]
    bars = make_bars(trades_of(rows), COVERED, "10s", empty=True)
    assert bars["trades"].to_list() == [1, 0, 0, 1]
    assert bars["open"].to_list() == [5.0, None, None, 6.0]
    assert bars["complete"].all()


@pytest.mark.parametrize(
    ("every", "kind"), [("1m", "volume"), (5, "time"), ("soon", "time"), (0, "tick"), (1, "weight")]
)
def test_wrong_wishes_are_refused_in_one_line(every: Any, kind: Any) -> None:
    with pytest.raises(UsageError) as caught:
        make_bars(trades_of([]), COVERED, every, kind)
    assert "\n" not in str(caught.value)
