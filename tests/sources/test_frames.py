"""Frames as the venues document them: what becomes of each, beyond what the recordings hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fluxforge import Lake
from fluxforge.segments import Envelope

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

START_NS = 1_786_309_548_000_000_000


@pytest.fixture
def process(tmp_path: Path) -> Callable[..., Lake]:
    """Return what makes a lake of frames, each a text or a pair of connection and text."""

    def run(source: str, frames: Sequence[str | tuple[str, str]]) -> Lake:
        lake = Lake(path=tmp_path)
        ready = tmp_path / lake.layout.ready(source)
        ready.mkdir(parents=True)
        pairs = [("one", frame) if isinstance(frame, str) else frame for frame in frames]
        lines = [
            Envelope(START_NS + index * 1_000_000, conn, frame.encode()).line()
            for index, (conn, frame) in enumerate(pairs)
        ]
        (ready / "segment_20260809T21_00001.ndjson").write_bytes(b"".join(lines))
        lake.etl(source)
        return lake

    return run


def account(lake: Lake, source: str) -> tuple[int, int, str]:
    [row] = lake.scan(source, "segments").collect().to_dicts()
    return row["lines_taken"], row["lines_quarantined"], row["unknown_fields"]


def rows(lake: Lake, source: str, table: str, *columns: str) -> list[tuple[Any, ...]]:
    return sorted(lake.scan(source, table, raw=True).select(columns).collect().rows(), key=repr)


def test_coinbase(process: Callable[..., Lake]) -> None:
    head = '"client_id":"","timestamp":"2023-02-09T20:30:37.1Z"'
    lake = process(
        "coinbase",
        [
            (
                f'{{"channel":"ticker_batch",{head},"sequence_num":0,"events":[{{"type":"snapshot",'
                '"tickers":[{"type":"ticker","product_id":"BTC-USD","price":"21932.98"},'
                '{"type":"ticker","product_id":"THIN-USD","price":""}]}]}'
            ),
            (
                f'{{"channel":"status",{head},"sequence_num":1,"events":[{{"type":"snapshot",'
                '"products":[{"id":"BTC-USD","status":"online","status_message":""}]}]}'
            ),
            '{"type":"error","message":"failure to subscribe"}',
            (
                f'{{"channel":"l2_data",{head},"sequence_num":2,"events":[{{"type":"snapshot",'
                '"product_id":"BTC-USD","updates":[{"side":"bid","event_time":"1970-01-01T00:00:00Z",'
                '"price_level":"21921.73","new_quantity":"0.06"},{"side":"offer",'
                '"event_time":"0001-01-01T00:00:00Z","price_level":"21921.75","new_quantity":"1"}]}]}'
            ),
            f'{{"channel":"user",{head},"sequence_num":3,"events":[{{"type":"snapshot"}}]}}',
            (
                f'{{"channel":"heartbeats",{head},"sequence_num":4,"events":[{{"current_time":"2023",'
                '"heartbeat_counter":"3049"}]}'
            ),
            (
                '{"history":"trades","symbol":"BTC-USD","response":{"trades":[{"trade_id":"34",'
                '"product_id":"BTC-USD","price":"140.91","size":"4","side":"BUY",'
                '"time":"2021-05-31T09:59:59.000Z"}],"best_bid":"1","best_ask":"2"}}'
            ),
            (
                '{"history":"candles","symbol":"BTC-USD","interval":"1h","response":{"candles":['
                '{"start":"1639508400","low":"1","high":"2","open":"1","close":"2","volume":"9"}]}}'
            ),
        ],
    )
    assert account(lake, "coinbase")[:2] == (7, 1)  # an account's channel has no table
    assert rows(lake, "coinbase", "ticker", "symbol", "price", "best_bid") == [
        ("BTC-USD", 21932.98, None),
        ("THIN-USD", None, None),
    ]
    book = rows(lake, "coinbase", "orderbook", "side", "price", "ts_event", "is_snapshot")
    assert book == [("ask", 21921.75, None, True), ("bid", 21921.73, None, True)]
    assert rows(lake, "coinbase", "trades", "trade_id", "side", "is_snapshot") == [
        (34, "sell", False)
    ]
    assert rows(lake, "coinbase", "candles", "symbol", "interval", "high") == [
        ("BTC-USD", "1h", 2.0)
    ]
    assert rows(lake, "coinbase", "status", "symbol", "status", "status_message") == [
        ("BTC-USD", "online", None)
    ]
    assert lake.gaps("coinbase").is_empty()  # also what is in quarantine was received


def test_kraken(process: Callable[..., Lake]) -> None:
    lake = process(
        "kraken",
        [
            '{"channel":"status","type":"update","data":[{"connection_id":12393906104898154338}]}',
            (
                '{"channel":"ticker","type":"snapshot","data":[{"symbol":"ALGO/USD","bid":0.10025,'
                '"bid_qty":740.0,"ask":0.10036,"ask_qty":1361.44813783,"last":0.10035,"low":0.09979}]}'
            ),
            '{"channel":"ticker","type":"update","data":[{"symbol":"ALGO/USD","last":null}]}',
            (
                '{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"sell",'
                '"price":0.00005100,"qty":40.0,"ord_type":"market","trade_id":7,'
                '"timestamp":"2023-09-25T07:49:37.708706Z"},{"symbol":"BTC/USD","side":"buy",'
                '"price":0.5118,"qty":41.0,"ord_type":"limit","trade_id":8,'
                '"timestamp":"2023-09-25T07:49:37.708706Z"}]}'
            ),
            (
                '{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"sell",'
                '"price":0.5,"qty":40.0,"ord_type":"market","trade_id":11,'
                '"timestamp":"2023-09-25T07:49:38Z"}]}'
            ),
            (
                '{"channel":"ohlc","type":"update","timestamp":"2023-10-04T16:26:30.5Z","data":['
                '{"symbol":"BTC/USD","open":1,"high":4.0,"low":1.0,"close":2.0,"trades":1,'
                '"volume":3.0,"vwap":1.5,"interval_begin":"2023-10-04T16:00:00Z","interval":60,'
                '"timestamp":"2023-10-04T17:00:00Z"}]}'
            ),
            (
                '{"channel":"instrument","type":"snapshot","data":{"assets":[],"pairs":[{"symbol":'
                '"EUR/USD","base":"EUR","quote":"USD","status":"online","qty_increment":0.01,'
                '"price_increment":0.00001,"cost_min":0.5}]}}'
            ),
            '{"error":"Currency pair not supported X/Y","method":"subscribe","success":false}',
            '{"error":"Malformed request","success":false}',
            '{"method":"pong","time_in":"2023-09-25T09:04:31.742599Z"}',
            (
                '{"history":"trades","symbol":"BTC/USD","response":{"error":[],"result":{"XXBTZUSD":'
                '[["30243.4","0.34",1688669597.8277369,"b","m","",10]],"last":"16"}}}'
            ),
            (
                '{"history":"candles","symbol":"BTC/USD","interval":"1m","response":{"error":[],'
                '"result":{"XXBTZUSD":[[1688671200,"1","4","1","2","1.5","3",23]],"last":16}}}'
            ),
        ],
    )
    assert account(lake, "kraken") == (12, 0, "{}")
    assert rows(lake, "kraken", "ticker", "price", "best_bid_size") == [
        (0.10035, 740.0),
        (None, None),
    ]
    assert rows(lake, "kraken", "trades", "trade_id", "price", "side", "instrument") == [
        (10, 30243.4, "buy", "BTC-USD"),
        (11, 0.5, "sell", "BTC-USD"),
        (7, 5.1e-05, "sell", "BTC-USD"),
        (8, 0.5118, "buy", "BTC-USD"),
    ]
    assert rows(lake, "kraken", "candles", "interval", "volume") == [("1h", 3.0), ("1m", 3.0)]
    assert rows(lake, "kraken", "status", "instrument", "quote_increment") == [("EUR-USD", 0.00001)]
    [gap] = lake.gaps("kraken").to_dicts()
    assert (gap["channel"], gap["symbol"], gap["known_by"]) == ("trades", "BTC/USD", "number")
    assert (gap["first_missing"], gap["last_missing"], gap["repaired"]) == (9, 10, [])


def test_binance(process: Callable[..., Lake]) -> None:
    mini = (
        '{"e":"24hrMiniTicker","E":1672515782136,"s":"BNBBTC","c":"0.0025","o":"0.0010",'
        '"h":"0.0025","l":"0.0010","v":"10000","q":"18"}'
    )
    trade = '"p":"0.001","q":"100","T":1672515782136,"m":true,"M":true}'
    lake = process(
        "binance",
        [
            f'{{"e":"aggTrade","E":1672515782136,"s":"BNBBTC","a":12,"f":100,"l":105,{trade}',
            f'{{"stream":"bnbbtc@aggTrade","data":{{"e":"aggTrade","E":1,"s":"BNBBTC","a":13,{trade}}}',
            f'{{"e":"trade","E":1672515782136,"s":"BTCUSDT","t":5,"b":88,"a":50,{trade}',
            '{"u":400900217,"s":"BNBUSDT","b":"25.35","B":"31.21","a":"25.36","A":"40.66"}',
            (
                '{"stream":"bnbusdt@bookTicker","data":{"u":400900218,"s":"BNBUSDT","b":"25.35",'
                '"B":"31.21","a":"25.36","A":"40.66"}}'
            ),
            mini,
            f'{{"stream":"!miniTicker@arr","data":[{mini}]}}',
            (
                '{"e":"kline","E":1,"s":"BNBBTC","k":{"t":1672515780000,"T":1672515839999,"s":"BNBBTC",'
                '"i":"1M","o":"1","c":"2","h":"4","l":"1","v":"3","x":false}}'
            ),
            (
                '{"stream":"btcusdt@depth5@100ms","data":{"lastUpdateId":160,"bids":[["0.0024","10"]],'
                '"asks":[["0.0026","100"]]}}'
            ),
            (
                '{"e":"depthUpdate","E":1672515782136,"s":"BNBBTC","U":157,"u":160,'
                '"b":[["0.0024","10"]],"a":[]}'
            ),
            '{"result":null,"id":1}',
            '{"error":{"code":2,"msg":"Invalid request"},"id":2}',
            '{"code":2,"msg":"Invalid request"}',
            '{"e":"serverShutdown","E":1770123456789}',
            '{"depth":"NOPEUSDT","response":{"code":-1121,"msg":"Invalid symbol."}}',
            (
                '{"history":"trades","symbol":"BNBBTC","response":[{"a":11,"p":"0.01","q":"4.7","f":1,'
                '"l":1,"T":1498793709153,"m":false,"M":true}]}'
            ),
            (
                '{"history":"candles","symbol":"BNBBTC","interval":"1m","response":[[1499040000000,'
                '"1","4","1","2","3",1499644799999,"2",308,"1","2","0"]]}'
            ),
        ],
    )
    assert account(lake, "binance") == (17, 0, "{}")
    assert rows(lake, "binance", "trades", "symbol", "trade_id", "side") == [
        ("BNBBTC", 11, "buy"),
        ("BNBBTC", 12, "sell"),
        ("BNBBTC", 13, "sell"),
        ("BTCUSDT", 5, "sell"),
    ]
    assert rows(lake, "binance", "ticker", "symbol", "price", "best_ask") == [
        *[("BNBBTC", 0.0025, None)] * 2,
        *[("BNBUSDT", None, 25.36)] * 2,
    ]
    assert rows(lake, "binance", "orderbook", "symbol", "side", "is_snapshot", "seq") == [
        ("BNBBTC", "bid", False, 160),
        ("BTCUSDT", "ask", True, 160),
        ("BTCUSDT", "bid", True, 160),
    ]
    assert rows(lake, "binance", "candles", "interval", "volume") == [("1M", 3.0), ("1m", 3.0)]
    assert lake.gaps("binance").is_empty()


def test_bybit(process: Callable[..., Lake]) -> None:
    inverse, linear, spot = (f"bybit-{market}-1" for market in ("inverse", "linear", "spot"))

    def book(depth: int, symbol: str, kind: str, number: int, bid: str) -> str:
        return (
            f'{{"topic":"orderbook.{depth}.{symbol}","type":"{kind}","ts":1672304484978,"data":'
            f'{{"s":"{symbol}","b":[["{bid}","1"]],"a":[["9","1"]],"u":{number},"seq":7}},'
            '"cts":1672304484976}'
        )

    lake = process(
        "bybit",
        [
            (inverse, book(50, "BTCUSD", "snapshot", 500, "1")),
            (inverse, book(50, "BTCUSD", "delta", 501, "2")),
            (inverse, book(50, "BTCUSD", "delta", 1, "3")),  # the venue began anew
            (inverse, book(50, "BTCUSD", "delta", 2, "4")),
            (linear, book(50, "ETHUSDT", "snapshot", 10, "1")),
            (linear, book(50, "ETHUSDT", "delta", 13, "2")),
            (spot, book(1, "BTCUSDT", "snapshot", 7, "1")),
            (spot, book(1, "BTCUSDT", "snapshot", 7, "2")),
            (inverse, ('{"topic":"tickers.BTCUSD","type":"delta","cs":1,"ts":1673272861686,"data":'
                      '{"symbol":"BTCUSD","bid1Price":"1.5"}}')),
            (linear, ('{"topic":"tickers.BTCPERP","type":"snapshot","cs":1,"ts":1673272861686,'
                     '"data":{"symbol":"BTCPERP","lastPrice":"17216","price24hPcnt":"0.017"}}')),
            (linear, ('{"topic":"kline.D.BTCUSDT-26SEP25","data":[{"start":1672324800000,"end":1,'
                     '"interval":"D","open":"1","close":"2","high":"4","low":"1","volume":"3",'
                     '"turnover":"6","confirm":false,"timestamp":1}],"ts":1,"type":"snapshot"}')),
            (linear, ('{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1,"data":[{"T":16723,'
                     '"s":"BTCUSDT","S":"Buy","v":"0.001","p":"16578.5","L":"PlusTick",'
                     '"i":"20f43950-d8dd","BT":false}]}')),
            (linear, '{"success":true,"ret_msg":"","conn_id":"d9fd","req_id":"","op":"subscribe"}'),
            (linear, '{"req_id":"1","op":"pong","args":["1675418560633"],"conn_id":"cfcb"}'),
            (linear, '{"topic":"allLiquidation.ROSEUSDT","type":"snapshot","ts":1,"data":[]}'),
            ("rest-linear-1", ('{"history":"trades","symbol":"BTCUSDT","response":{"retCode":0,'
                              '"result":{"list":[{"execId":"21","symbol":"BTCUSDT","price":"1",'
                              '"size":"2","side":"Sell","time":"1672052955758"}]}}}')),
            ("rest-linear-1", ('{"history":"candles","symbol":"BTCUSDT","interval":"1h","response":'
                              '{"retCode":0,"result":{"list":[["1670608800000","1","4","1","2",'
                              '"3","6"]]}}}')),
        ],
    )  # fmt: skip
    assert account(lake, "bybit") == (16, 1, "{}")  # liquidations have no table
    assert rows(lake, "bybit", "ticker", "instrument", "price", "best_bid") == [
        ("BTC-USD-PERP", None, 1.5),
        ("BTC-USDC-PERP", 17216.0, None),
    ]
    assert rows(lake, "bybit", "candles", "instrument", "interval", "volume") == [
        ("BTC-USDT-26SEP25", "1d", 3.0),
        ("BTC-USDT-PERP", "1h", 3.0),
    ]
    assert rows(lake, "bybit", "trades", "trade_id", "side", "market") == [
        ("20f43950-d8dd", "buy", "linear"),
        ("21", "sell", "linear"),
    ]
    assert lake.book("bybit", "inverse:BTCUSD").bids["price"].to_list() == [4.0, 3.0]
    assert lake.book("bybit", "spot:BTCUSDT").bids["price"].to_list() == [2.0]
    [gap] = lake.gaps("bybit").to_dicts()
    assert (gap["symbol"], gap["first_missing"], gap["last_missing"]) == ("ETHUSDT", 11, 12)
