"""The four venues, and a fifth in a folder of its own, pass the suite that ships."""

# ruff: noqa: E501, RUF012

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING

import pytest

import fluxforge.sources as registry
from fluxforge.sources import get_source, source_names
from fluxforge.testing import SourceConformance

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class TestCoinbase(SourceConformance):
    source = get_source("coinbase")
    head = b'"timestamp":"2026-08-09T21:05:48.1Z","sequence_num":0,"events":[{"type":"update",'
    samples = {
        "trades": b'{"channel":"market_trades",' + head + b'"trades":[{"product_id":"BTC-USD",'
        b'"trade_id":"1","price":"1","size":"2","time":"2026-08-09T21:05:48Z","side":"SELL"}]}]}',
        "orderbook": b'{"channel":"l2_data",' + head + b'"product_id":"BTC-USD","updates":[{"side":'
        b'"offer","event_time":"2026-08-09T21:05:48Z","price_level":"1","new_quantity":"2"}]}]}',
        "ticker": b'{"channel":"ticker",' + head + b'"tickers":[{"type":"ticker","product_id":'
        b'"BTC-USD","price":"1","best_bid":"1"}]}]}',
        "candles": b'{"channel":"candles",' + head + b'"candles":[{"start":"1786309500","high":"3",'
        b'"low":"1","open":"1","close":"2","volume":"9","product_id":"BTC-USD"}]}]}',
        "status": b'{"channel":"status",' + head + b'"products":[{"id":"BTC-USD","status":"x"}]}]}',
    }


class TestKraken(SourceConformance):
    source = get_source("kraken")
    moment = b'"timestamp":"2026-08-09T21:05:48Z"}]}'
    samples = {
        "trades": b'{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"buy",'
        b'"price":1.0,"qty":2.0,"ord_type":"limit","trade_id":1,' + moment,
        "orderbook": b'{"channel":"book","type":"snapshot","data":[{"symbol":"BTC/USD","bids":[],'
        b'"asks":[{"price":1.0,"qty":2.0}],"checksum":7,' + moment,
        "ticker": b'{"channel":"ticker","type":"update","data":[{"symbol":"BTC/USD","bid":1.0,'
        + moment,
        "candles": b'{"channel":"ohlc","type":"update",' + moment[:-3] + b',"data":[{"symbol":'
        b'"BTC/USD","open":1,"high":3,"low":1,"close":2,"interval_begin":"2026-08-09T21:05:00Z",'
        b'"interval":1,"trades":2,"volume":3.0,"vwap":1.5,' + moment,
        "status": b'{"channel":"instrument","type":"update","data":{"assets":[],"pairs":[{"symbol":'
        b'"BTC/USD","base":"BTC","quote":"USD","status":"online"}]}}',
    }


class TestBinance(SourceConformance):
    source = get_source("binance")
    samples = {
        "trades": (
            (
                b'{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","E":1786309548000,"s":"BTCUSDT",'
                b'"a":1,"p":"1","q":"2","f":1,"l":1,"T":1786309548000,"m":true,"M":true}}'
            ),
        ),
        "orderbook": (
            b'{"depth":"BTCUSDT","response":{"lastUpdateId":4,"bids":[["1","2"]],"asks":[]}}',
            (
                b'{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1786309548000,'
                b'"s":"BTCUSDT","U":5,"u":6,"b":[["1","0"]],"a":[["2","1"]]}}'
            ),
        ),
        "ticker": b'{"u":4,"s":"BTCUSDT","b":"1","B":"2","a":"3","A":"4"}',
        "candles": b'{"e":"kline","E":1786309548000,"s":"BTCUSDT","k":{"t":1786309500000,"s":'
        b'"BTCUSDT","i":"1m","o":"1","c":"2","h":"3","l":"1","v":"9","x":false}}',
    }

    def test_a_granted_request_is_no_sign_of_life_of_a_channel(self) -> None:
        [plan] = self.source.plan([self.product()], ["kline"])
        session = self.source.session(plan)
        session.read(b'{"result":null,"id":1}')
        session.overdue(1.0)
        assert session.ages() == {}


class TestBybit(SourceConformance):
    source = get_source("bybit")
    samples = {
        "trades": b'{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1786309548000,"data":[{"T":'
        b'1786309548000,"s":"BTCUSDT","S":"Sell","v":"2","p":"1","i":"22900","BT":false}]}',
        "orderbook": b'{"topic":"orderbook.200.BTCUSDT","type":"snapshot","ts":1786309548000,"data":'
        b'{"s":"BTCUSDT","b":[["1","2"]],"a":[],"u":5,"seq":7},"cts":1786309548000}',
        "ticker": b'{"topic":"tickers.BTCUSDT","type":"snapshot","cs":1,"ts":1786309548000,"data":'
        b'{"symbol":"BTCUSDT","lastPrice":"1"}}',
        "candles": b'{"topic":"kline.1.BTCUSDT","type":"snapshot","ts":1786309548000,"data":[{"start":'
        b'1786309500000,"end":1786309559999,"interval":"1","open":"1","close":"2","high":"3",'
        b'"low":"1","volume":"9","turnover":"9","confirm":false,"timestamp":1786309548000}]}',
    }


FIFTH = {
    "__init__.py": "",
    "protocol.py": """
import json
import re

from fluxforge.sources.base import Source, VenueLimits
from fluxforge.sources.session import NumberCheck, Session


class Fifth(Source):
    name = "fifth"
    limits = VenueLimits(
        connections_per_second=1, messages_per_second=5, silence_seconds=30, products_per_socket=20
    )
    channels = ("trades",)
    product = re.compile("[A-Z]+-[A-Z]+")
    example = "BTC-USD"
    rest_url = "https://api.fifth.example"

    def session(self, subscription):
        return FifthSession(self, subscription)


class FifthSession(Session):
    def __init__(self, source, subscription):
        super().__init__(source, subscription)
        self._numbers = NumberCheck()

    def request(self, method, channels, products):
        return [json.dumps({"do": method, "on": list(channels), "of": list(products)})]

    def read(self, frame):
        try:
            trade = json.loads(frame)
            return self._numbers.follow("trades", trade["pair"], int(trade["id"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            return []
""",
    "frames.sql": """
-- control: answer
-- fields: pair, id, price, size, buy, at
-- instrument: symbol
-- market: 'spot'
SELECT
    *, CASE WHEN data ->> '$.pair' IS NOT NULL THEN 'trade' WHEN data ->> '$.do' IS NOT NULL THEN 'answer' END AS kind,
    whole_number(data ->> '$.id') AS seq, seq AS run_first, seq AS run_last,
    'trades' AS run_channel, data ->> '$.pair' AS run_symbol, false AS restarts,
    instant(data ->> '$.at') AS ts_sent
FROM lines
""",
    "trades.sql": """
-- takes: trade
-- rows: $
-- key: symbol, trade_id; first wins
SELECT
    line_no, ts_recv, seq, conn, run_symbol AS symbol, ts_sent AS ts_event, seq AS trade_id,
    number(data ->> '$.price') AS price, number(data ->> '$.size') AS size,
    CASE data ->> '$.buy' WHEN 'true' THEN 'buy' ELSE 'sell' END AS side, false AS is_snapshot
FROM frames WHERE kind = 'trade'
""",
}


class TestAFifth(SourceConformance):
    """A package with an entry point ``fluxforge.sources``: two files of SQL, and a protocol."""

    samples = {
        "trades": b'{"pair":"BTC-USD","id":1,"price":"1","size":"2","buy":true,'
        b'"at":"2026-08-09T21:05:48Z"}'
    }

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def installed(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        folder: Path = tmp_path_factory.mktemp("fifth")
        package = folder / "fifth_venue"
        package.mkdir()
        for name, text in FIFTH.items():
            (package / name).write_text(text.lstrip())
        point = EntryPoint("fifth", "fifth_venue.protocol:Fifth", "fluxforge.sources")
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(folder))
            patch.setattr(registry, "_plugins", lambda: {"fifth": point})
            yield
        for name in [name for name in sys.modules if name.startswith("fifth_venue")]:
            del sys.modules[name]

    @property
    def source(self):  # type: ignore[no-untyped-def]
        return get_source("fifth")

    def test_it_is_among_the_sources_and_small(self) -> None:
        assert "fifth" in source_names()
        assert sum(len(text.splitlines()) for text in FIFTH.values()) < 80
