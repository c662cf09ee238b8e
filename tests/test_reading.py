"""Books, bars, coverage, charts and exports of a lake that a local exchange has filled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest

from fluxforge import Lake
from fluxforge.errors import EmptyAnswerWarning, UnknownTableError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

SYMBOL = "BTC-USD"


def test_the_last_rows_come_in_the_order_of_time(filled_lake: Lake) -> None:
    rows = filled_lake.tail("coinbase", "trades", n=5, symbols=[SYMBOL])
    every = filled_lake.scan("coinbase", "trades", symbols=[SYMBOL]).collect()
    assert rows.height == 5
    assert rows["ts_event"].is_sorted()
    assert rows["ts_event"].max() == every["ts_event"].max()


def test_bars_hold_every_trade_of_the_capture(filled_lake: Lake) -> None:
    trades = filled_lake.scan("coinbase", "trades").collect()
    bars = filled_lake.bars("coinbase", every="1s")
    covered = filled_lake.coverage("coinbase").filter(pl.col("table") == "trades")
    began = covered.group_by("symbol").agg(pl.col("start").min())
    inside = trades.join(began, on="symbol").filter(
        ~pl.col("is_snapshot") | (pl.col("ts_event") >= pl.col("start"))
    )
    assert bars["trades"].sum() == inside.height
    assert bars["volume"].sum() == pytest.approx(inside["size"].sum())
    assert set(bars["symbol"]) == set(inside["symbol"])
    one = filled_lake.bars("coinbase", SYMBOL, every=7, kind="tick")
    assert set(one["symbol"]) == {SYMBOL}


def test_a_book_is_never_crossed_where_it_is_complete(filled_lake: Lake) -> None:
    book = filled_lake.book("coinbase", SYMBOL)
    assert book.complete
    assert book.spread is not None
    assert book.spread > 0
    assert book.bids["price"].is_sorted(descending=True)
    assert book.asks["price"].is_sorted()
    grid = filled_lake.books("coinbase", SYMBOL, every="100ms", depth=3).filter("complete")
    assert (grid["ask_price_1"] > grid["bid_price_1"]).all()
    features = filled_lake.book_features("coinbase", SYMBOL)
    assert (features["spread"] > 0).all()
    last = features.row(-1, named=True)
    assert (last["bid"], last["ask"]) == (book.bids["price"][0], book.asks["price"][0])


def test_charts_of_a_lake(filled_lake: Lake) -> None:
    plot = filled_lake.plot
    charts = [
        plot.price("coinbase", SYMBOL),
        plot.price("coinbase", ["BTC-USD", "ETH-USD"]),
        plot.candles("coinbase", SYMBOL, every="1s"),
        plot.volume("coinbase", SYMBOL, every="1s"),
        plot.book("coinbase", SYMBOL),
        plot.spread("coinbase"),
    ]
    assert all("<path" in chart.svg for chart in charts)


@pytest.mark.parametrize("ending", ["parquet", "csv", "arrow"])
def test_what_is_exported_is_what_was_asked_for(
    filled_lake: Lake, tmp_path: Path, ending: str
) -> None:
    target = tmp_path / f"trades.{ending}"
    assert filled_lake.export("coinbase", "trades", target, symbols=[SYMBOL]) == target
    read = {"parquet": pl.read_parquet, "csv": pl.read_csv, "arrow": pl.read_ipc}[ending]
    expected = filled_lake.scan("coinbase", "trades", symbols=[SYMBOL]).collect()
    assert read(target).height == expected.height
    with pytest.raises(UsageError, match=r"\.xlsx"):
        filled_lake.export("coinbase", "trades", tmp_path / "trades.xlsx")


def test_several_sources_are_one_frame(filled_lake: Lake) -> None:
    one = filled_lake.scan("coinbase", "trades", instruments=[SYMBOL]).collect()
    several = filled_lake.scan(["coinbase", "kraken"], "trades", instruments=[SYMBOL]).collect()
    assert several.height == one.height > 0
    assert set(several["source"]) == {"coinbase"}
    assert several.schema["trade_id"] == pl.String
    assert filled_lake.scan("*", "trades").collect()["source"].unique().to_list() == ["coinbase"]
    with pytest.raises(UnknownTableError):
        filled_lake.scan("*", "nonsense")


def test_names_may_come_from_a_generator(filled_lake: Lake) -> None:
    rows = filled_lake.scan("coinbase", "trades", (name for name in [SYMBOL])).collect()
    assert rows.height == filled_lake.scan("coinbase", "trades", [SYMBOL]).collect().height > 0
    assert filled_lake.tail("coinbase", "trades", 3, (name for name in [SYMBOL])).height == 3


def test_a_path_that_cannot_be_written_is_one_line(filled_lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot write .*out\.csv: "):
        filled_lake.export("coinbase", "trades", tmp_path / "nowhere" / "out.csv")


def test_no_lake_is_no_empty_answer(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    lake = Lake(path=tmp_path)
    for ask in (lake.tables, lake.gaps, lake.optimize, lake.vacuum, lake.quarantine, lake.recover):
        with pytest.warns(EmptyAnswerWarning, match="there is no lake in"):
            ask()


def test_a_source_that_is_named_twice_is_read_once(filled_lake: Lake) -> None:
    once, twice = (
        filled_lake.scan(names, "trades").collect().height
        for names in (["coinbase"], ["coinbase", "coinbase"])
    )
    assert once == twice > 0
    assert filled_lake.scan(["*", "coinbase"], "trades").collect().height == once
    with pytest.raises(UsageError, match="no source is named"):
        filled_lake.scan([], "trades")
