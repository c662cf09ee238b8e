"""Recorded traffic through the ETL: counts, numbers and books as plain Python finds them."""

from __future__ import annotations

import json
from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from fluxforge.segments import Envelope, open_segment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import LakeFolder

GOLDEN = {
    "five-channels": {
        "lines": 1030,
        "connections": 1,
        "rows": {"candles": 204, "orderbook": 74193, "ticker": 160, "trades": 279},
    },
    "reconnect": {"lines": 1839, "connections": 2, "rows": {"orderbook": 99947}},
}


class Loaded:
    def __init__(self, lake: LakeFolder, name: str, content: bytes) -> None:
        self.lake, self.name, self.content = lake, name, content
        lake.put(content)
        self.report = lake.etl()

    def envelopes(self) -> Iterator[tuple[Envelope, dict[str, Any]]]:
        for line in self.content.splitlines():
            envelope = Envelope.parse(line)
            yield envelope, json.loads(envelope.frame)


@pytest.fixture(scope="module", params=list(GOLDEN))
def loaded(
    request: pytest.FixtureRequest,
    captures: Path,
    tmp_path_factory: pytest.TempPathFactory,
    lake_at: Any,
) -> Loaded:
    with open_segment(captures / "coinbase" / f"{request.param}.ndjson.zst") as file:
        content = file.read()
    return Loaded(lake_at(tmp_path_factory.mktemp(request.param)), request.param, content)


def test_the_counts_are_golden(loaded: Loaded) -> None:
    golden = GOLDEN[loaded.name]
    report = loaded.report
    assert (report.segments, report.lines_read, report.lines_taken, report.lines_quarantined) == (
        1, golden["lines"], golden["lines"], 0,
    )  # fmt: skip
    assert report.rows == golden["rows"]
    assert report.unknown_fields == {}
    assert {name: loaded.lake.count(name) for name in report.rows} == golden["rows"]
    loaded.lake.assert_accounts()
    assert loaded.lake.parquet() == loaded.lake.committed()
    assert loaded.lake.files("ready") == loaded.lake.files("processing") == []


def test_trades_are_distinct_and_candles_repeat(loaded: Loaded) -> None:
    if "trades" not in loaded.report.rows:
        pytest.skip("this recording has none")
    trades, candles = loaded.lake.rows("trades"), loaded.lake.rows("candles")
    assert trades.select("symbol", "trade_id").n_unique() == 279
    assert not trades["is_repeat"].any()
    assert candles.select("symbol", "start").n_unique() == 200


def test_no_sequence_number_is_missing(loaded: Loaded) -> None:
    runs = loaded.lake.rows("sequences")
    golden = GOLDEN[loaded.name]
    assert runs.height == runs["conn"].n_unique() == golden["connections"]
    assert runs["seq"].to_list() == [0] * golden["connections"]
    assert runs["frames"].sum() == golden["lines"]
    assert ((runs["last_seq"] + 1) == runs["frames"]).all()


def test_every_number_equals_the_venues_text_as_a_decimal(loaded: Loaded) -> None:
    """Match rows and frames by connection, number and position, and compare every number."""
    fields = {
        "orderbook": ("l2_data", "updates", {"price": "price_level", "size": "new_quantity"}),
        "trades": ("market_trades", "trades", {"price": "price", "size": "size"}),
        "ticker": (
            "ticker",
            "tickers",
            {
                "price": "price",
                "best_bid": "best_bid",
                "best_ask_size": "best_ask_quantity",
                "volume_24h": "volume_24_h",
                "change_24h_percent": "price_percent_chg_24_h",
            },
        ),
        "candles": ("candles", "candles", {"open": "open", "low": "low", "volume": "volume"}),
    }
    for table, (channel, items, columns) in fields.items():
        expected: dict[tuple[str, int, str], list[tuple[Decimal, ...]]] = defaultdict(list)
        for envelope, message in loaded.envelopes():
            if message["channel"] != channel:
                continue
            for event in message["events"]:
                for item in event[items]:
                    symbol = item.get("product_id") or event["product_id"]
                    numbers = tuple(Decimal(item[name]) for name in columns.values())
                    expected[envelope.conn, message["sequence_num"], symbol].append(numbers)
        found: dict[tuple[str, int, str], list[tuple[Decimal, ...]]] = defaultdict(list)
        rows = loaded.lake.rows(table)
        for row in rows.iter_rows(named=True) if rows.height else ():
            # repr is the shortest text that reads back as the same double
            numbers = tuple(Decimal(repr(row[name])) for name in columns)
            found[row["conn"], row["seq"], row["symbol"]].append(numbers)
        assert found.keys() == expected.keys()
        for key, numbers in expected.items():
            assert sorted(found[key]) == sorted(numbers), (table, key)


def test_times_and_sides_are_the_venues(loaded: Loaded) -> None:
    if "trades" not in loaded.report.rows:
        pytest.skip("this recording has none")
    by_id = {}
    for _, message in loaded.envelopes():
        if message["channel"] == "market_trades":
            for event in message["events"]:
                by_id |= {(t["product_id"], int(t["trade_id"])): t for t in event["trades"]}
    for row in loaded.lake.rows("trades").iter_rows(named=True):
        trade = by_id[row["symbol"], row["trade_id"]]
        assert row["side"] == {"SELL": "buy", "BUY": "sell"}[trade["side"]]  # the aggressor
        assert row["ts_event"].isoformat(timespec="microseconds").replace("+00:00", "Z") == (
            trade["time"].rstrip("Z").ljust(26, "0")[:26] + "Z"
        )


def test_the_replayed_book_never_crosses(loaded: Loaded) -> None:
    """Read the tables as an analyst would, connection by connection, and keep the book."""
    book_rows = (
        loaded.lake.rows("orderbook")
        .filter(pl.col("symbol") == "BTC-USD")
        .sort("conn", "seq", maintain_order=True)
    )
    checked = 0
    for (conn,), part in book_rows.group_by(["conn"], maintain_order=True):
        book: dict[str, dict[float, float]] = {"bid": {}, "ask": {}}
        for (seq,), frame in part.group_by(["seq"], maintain_order=True):
            if frame["is_snapshot"][0]:
                book = {"bid": {}, "ask": {}}
            for side, price, size in frame.select("side", "price", "size").iter_rows():
                if size == 0:
                    book[side].pop(price, None)
                else:
                    book[side][price] = size
            if book["bid"] and book["ask"]:
                checked += 1
                assert max(book["bid"]) < min(book["ask"]), (conn, seq)
    assert checked == book_rows.select("conn", "seq").n_unique()  # a book after every frame


def test_files_are_sorted_by_symbol_and_time(loaded: Loaded) -> None:
    for key in loaded.lake.committed():
        if "/orderbook/" in key or "/trades/" in key:
            frame = pl.read_parquet(loaded.lake.root / key, glob=False, hive_partitioning=False)
            assert frame.select("symbol", "ts_recv").equals(
                frame.select("symbol", "ts_recv").sort("symbol", "ts_recv", maintain_order=True)
            )


def test_the_second_time_nothing_is_added(loaded: Loaded) -> None:
    before = loaded.lake.committed()
    loaded.lake.put(loaded.content, number=77)
    report = loaded.lake.etl()
    assert (report.segments, report.repeated, report.rows) == (0, 1, {})
    assert loaded.lake.committed() == before
    loaded.lake.assert_files()
    assert loaded.lake.files("ready") == loaded.lake.files("processing") == []
