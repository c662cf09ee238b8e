"""Bars against an implementation that looks at one trade at a time."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxforge import Lake
from fluxforge.analytics.bars import make_bars
from fluxforge.errors import UsageError
from fluxforge.segments import read_segment

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = (
    "open", "high", "low", "close", "volume", "buy_volume", "sell_volume", "vwap", "trades",
)  # fmt: skip
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
    # A bar of time begins at a multiple of its length since 1970, here since the full hour.
    offset = START.timestamp() % number if kind == "time" else 0.0
    expected = one_by_one([(r[0] + offset, *r[1:]) for r in rows], number, kind)
    assert bars.select(COLUMNS).rows() == expected


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


def recorded_trades(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return trades of each symbol, each once: ``seconds, price, size, side, id``, in order."""
    found: dict[str, dict[str, tuple[Any, ...]]] = {}
    for envelope in read_segment(path):
        frame = json.loads(envelope.frame)
        for event in frame["events"] if frame.get("channel") == "market_trades" else ():
            for trade in reversed(event["trades"]):
                at = datetime.fromisoformat(trade["time"]).timestamp()
                side = "sell" if trade["side"] == "BUY" else "buy"  # it prints the maker's
                row = (
                    at,
                    float(trade["price"]),
                    float(trade["size"]),
                    side,
                    int(trade["trade_id"]),
                )
                if event["type"] != "snapshot" or at >= envelope.capture_ns / 1e9:
                    found.setdefault(trade["product_id"], {}).setdefault(trade["trade_id"], row)
    return {
        symbol: sorted(rows.values(), key=lambda row: (row[0], row[4]))
        for symbol, rows in found.items()
    }


def test_bars_of_recorded_trades(captures: Path, tmp_path: Path) -> None:
    recording = captures / "coinbase" / "five-channels.ndjson.zst"
    lake = Lake(path=tmp_path)
    ready = tmp_path / lake.layout.ready("coinbase")
    ready.mkdir(parents=True)
    lines = b"".join(envelope.line() for envelope in read_segment(recording))
    (ready / "segment_20260809T21_00001.ndjson").write_bytes(lines)
    lake.etl("coinbase")
    trades = recorded_trades(recording)
    assert set(trades) == {"BTC-USD", "ETH-USD"}
    for kind, every, number in (
        ("time", "1s", 1.0), ("tick", 7, 7.0), ("volume", 0.5, 0.5), ("dollar", 5e3, 5e3),
    ):  # fmt: skip
        bars = lake.bars("coinbase", sorted(trades), every, kind)  # type: ignore[arg-type]
        for symbol, rows in trades.items():
            expected = one_by_one([row[:4] for row in rows], number, kind)
            assert bars.filter(symbol=symbol).select(COLUMNS).rows() == expected
        whole = bars.filter("complete")
        assert whole.height > 0
        assert whole["ts_end"].max() < lake.coverage("coinbase")["end"].max()
    every_trade = lake.bars("coinbase", "BTC-USD", "1d", snapshots=True)["trades"].sum()
    assert every_trade == lake.scan("coinbase", "trades", symbols=["BTC-USD"]).collect().height
