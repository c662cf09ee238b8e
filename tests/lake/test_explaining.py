"""An empty answer says why it is empty."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pytest

from fluxforge import Lake
from fluxforge.errors import (
    EmptyAnswerWarning,
    NoBookError,
    UnknownSymbolError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LINE = (
    b'{"capture_ns":1786309548000000000,"conn":"A","data":{"channel":"market_trades",'
    b'"timestamp":"2026-08-09T21:05:48Z","sequence_num":0,"events":[{"type":"update","trades":['
    b'{"product_id":"BTC-USD","trade_id":"7","price":"1","size":"1","side":"BUY",'
    b'"time":"2026-08-09T21:05:48Z"}]}]}}\n'
)

ASK: dict[str, Callable[[Lake], Any]] = {
    "scan": lambda lake: lake.scan("coinbase", "trades").collect(),
    "tail": lambda lake: lake.tail("coinbase", "trades", live=False),
    "sql": lambda lake: lake.sql("SELECT * FROM coinbase.trades").pl(),
    "bars": lambda lake: lake.bars("coinbase", "BTC-USD"),
}


def put(lake: Lake, state: str, number: int = 1) -> None:
    folder = lake.layout.state(state, "coinbase")  # type: ignore[arg-type]
    lake.storage.write_bytes(f"{folder}/segment_20260809T21_0000{number}_9f86d081.ndjson", LINE)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(path=tmp_path)


@pytest.mark.parametrize("ask", ASK.values(), ids=ASK)
def test_what_waits_is_said(lake: Lake, ask: Callable[[Lake], Any]) -> None:
    with pytest.warns(EmptyAnswerWarning, match=r"nothing of coinbase has been captured: lake.cap"):
        ask(lake)
    put(lake, "active")
    with pytest.warns(EmptyAnswerWarning, match=r"1 segment \(0.0 MB\) of a capture that ended "
                      r"waits: lake.recover\(\)") as caught:  # fmt: skip
        ask(lake)
    assert caught[0].filename == __file__
    assert "of a capture that ended waits: lake.recover()" in repr(lake)
    assert "waits: lake.recover()" in repr(lake.etl())
    assert lake.status().filter(state="active")["next"].to_list() == ["lake.recover()"]
    lake.recover()
    put(lake, "ready", 2)
    assert lake.status().filter(state="ready")["next"].to_list() == ["lake.etl()"]
    with pytest.warns(EmptyAnswerWarning, match=r"2 segments \(0.0 MB\) wait: lake.etl\(\), or"):
        ask(lake)
    assert "2 segments (0.0 MB) wait: lake.etl()" in repr(lake)
    lake.etl()
    assert "lake.etl()" not in repr(lake)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not ask(lake).is_empty()


def test_a_running_capture_is_said_and_live_rows_need_no_word(lake: Lake) -> None:
    with lake.writer("coinbase") as writer:
        writer.write(LINE[LINE.index(b'"data":') + 7 : -2], conn="A")
        writer.flush()
        with pytest.warns(EmptyAnswerWarning, match="is being written: live=True shows"):
            lake.scan("coinbase", "trades")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert lake.tail("coinbase", "trades").height == 1
        with pytest.warns(EmptyAnswerWarning, match="coinbase.ticker has no rows"):
            lake.scan("coinbase", "ticker", live=True)


def test_wrong_questions_are_errors(lake: Lake) -> None:
    put(lake, "ready")
    lake.etl()
    with pytest.raises(UnknownSymbolError, match=r"no symbol 'BTCUSD': did you mean 'BTC-USD'\?"):
        lake.scan("coinbase", "trades", symbols=["BTCUSD"])
    with pytest.raises(UnknownSymbolError, match="no instrument 'XYZ': there are: BTC-USD"):
        lake.tail("coinbase", "trades", instruments=["XYZ"])
    with pytest.raises(UsageError, match="is not before end"):
        lake.scan("coinbase", "trades", start="2026-08-10", end="2026-08-09")
    with pytest.raises(UsageError, match="is not before end"):
        lake.bars("coinbase", "BTC-USD", start="2026-08-09", end="2026-08-09")
    with pytest.warns(EmptyAnswerWarning, match="from 2026-08-09T21:05:48 to 2026-08-09T21:05:48"):
        lake.scan("coinbase", "trades", start="2026-08-10")
    with pytest.warns(EmptyAnswerWarning, match="nothing that was captured is of this table"):
        lake.scan("coinbase", "ticker")
    # It is captured, and no trade of it has been seen yet.
    with pytest.warns(EmptyAnswerWarning, match="and none of these"):
        assert lake.scan("coinbase", "trades", symbols=["ETH-USD"]).collect().is_empty()


def test_no_book_says_what_waits(lake: Lake) -> None:
    put(lake, "ready")
    with (
        pytest.warns(EmptyAnswerWarning, match=r"1 segment \(0.0 MB\) waits: lake.etl\(\)"),
        pytest.raises(NoBookError),
    ):
        lake.book("coinbase", "BTC-USD")
