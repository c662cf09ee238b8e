"""Kraken's side of the socket, WebSocket v2.

It follows docs.kraken.com, "Spot WebSocket v2", and recorded traffic: one acknowledgement a symbol,
heartbeats each second in which nothing else is sent, numbers as JSON numbers of fixed decimals, and
books of limited depth with the venue's checksum. A level that falls below the depth is not removed.
"""

from __future__ import annotations

import json
import re
import zlib
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

from fluxforge.simulator.book import DepthView
from fluxforge.simulator.instrument import (
    SIZE_DECIMALS,
    Instrument,
    Style,
    all_products,
    is_known,
    product_of,
)
from fluxforge.simulator.venue import SECOND, Session, Venue, dumps, large_book, utc_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fluxforge.simulator.market import MarketTrade, PriceRange, Quote, Step
    from fluxforge.simulator.venue import Topic

_DEPTHS = (10, 25, 100, 500, 1000)
_CHANNELS = ("book", "trade", "ticker", "ohlc", "instrument")
_HEAD = re.compile(rb'\{"channel":"([a-z]+)"')
_SYMBOL_IN_FRAME = re.compile(rb'"symbol":"([^"]+)"')
_INTERVALS = (1, 5, 15, 30, 60, 240, 1440, 10080, 21600)
_TEXT = Style()
_price, _size = _TEXT.price, _TEXT.size
_LEVEL = '{"price":20000000.00,"qty":1.50000000},'
_CHECKED = 10
_SNAPSHOT_TRADES = 50
_SNAPSHOT_CANDLES = 10
_CONNECTION_ID = 7_204_881_492_680_171_915


class KrakenSession(Session):
    """The venue's side of one connection; its outbox holds whole frames."""

    streamed: ClassVar[tuple[str, ...]] = ("trade", "book", "ticker", "ohlc")

    def __init__(self, venue: Venue, path: str = "") -> None:
        super().__init__(venue, path)
        self._last_sent = 0

    def greet(self) -> None:
        state = {"version": "2.0.10", "system": "online", "api_version": "v2"}
        data = [state | {"connection_id": _CONNECTION_ID}]
        self.outbox.append(dumps({"channel": "status", "type": "update", "data": data}))

    def receive(self, message: str | bytes) -> None:
        """Take a request; each of its symbols has an acknowledgement or a refusal of its own."""
        received = self.clock()
        try:
            request = json.loads(message)
            method, params = request["method"], request.get("params") or {}
            symbols = params.get("symbol") or [""]
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
            return self._answer(received, error="Malformed request", success=False)
        if method == "ping":
            return self._answer(received, method="pong")
        for symbol in symbols:
            error = _objection(method, params, symbol)
            if error:
                named = {"symbol": symbol} if symbol else {}
                self._answer(received, error=error, method=method, success=False, **named)
                continue
            result = {"channel": params["channel"], "depth": params.get("depth", 10)}
            result = result if params["channel"] == "book" else {"channel": params["channel"]}
            if method == "subscribe":
                result["snapshot"] = params.get("snapshot", True)
            result |= {"symbol": symbol} if symbol else {}
            self._answer(received, method=method, result=result, success=True)
            if method == "subscribe":
                self._subscribe(params, symbol.replace("/", "-"))
            else:
                self.close_topic(params["channel"], symbol.replace("/", "-"))
        return None

    def _answer(self, received: int, **content: Any) -> None:
        times = {"time_in": _moment(received), "time_out": _moment(self.clock())}
        self.outbox.append(dumps(content | times))

    def _subscribe(self, params: dict[str, Any], product: str) -> None:
        channel = params["channel"]
        self.open_topic("heartbeat", "", 1)
        topic = self.open_topic(channel, product)
        if channel == "instrument":
            pairs = (_pair(Instrument.named(name)) for name in all_products())
            data = f'{{"assets":[],"pairs":[{",".join(pairs)}]}}'
            self.outbox.append(f'{{"channel":"instrument","type":"snapshot","data":{data}}}')
            return
        market, now = self.market(product), self.clock()
        item = market.instrument
        match channel:
            case "book":
                depth = params.get("depth", 10)
                topic.state = DepthView(market.bids, depth), DepthView(market.asks, depth)
                self._book(topic, "snapshot", now, *(view.levels for view in topic.state))
            case "trade" if params.get("snapshot"):
                recent = list(market.trades)[-_SNAPSHOT_TRADES:]
                self._data("trade", "snapshot", (_trade(item, trade) for trade in recent))
            case "ticker":
                self._data("ticker", "snapshot", [_ticker(item, market.quote(), now)])
            case "ohlc":
                topic.state = params.get("interval", 1)
                spans = market.candles(60 * topic.state)[-_SNAPSHOT_CANDLES:]
                rows = (_candle(item, span, topic.state) for span in spans)
                self._data("ohlc", "snapshot", rows, now)

    def _data(self, channel: str, kind: str, rows: Iterable[str], moment: int = 0) -> None:
        stamp = f'"timestamp":"{_moment(moment)}",' if moment else ""
        head = f'{{"channel":"{channel}","type":"{kind}",{stamp}'
        self.outbox.append(f'{head}"data":[{",".join(rows)}]}}')

    def _book(self, topic: Topic, kind: str, moment: int, *sides: dict[int, int]) -> None:
        item = self.market(topic.product).instrument
        bids, asks = (_levels(item, side) for side in sides)
        row = (
            f'{{"symbol":"{_symbol(item)}","bids":{bids},"asks":{asks},'
            f'"checksum":{_checksum(*topic.state)},"timestamp":"{_moment(moment)}"}}'
        )
        self._data("book", kind, [row])

    def on_step(self, topic: Topic, step: Step) -> None:
        market = self.market(topic.product)
        item = market.instrument
        match topic.channel:
            case "book":
                views = zip(topic.state, (step.bids, step.asks), strict=True)
                # The venue does not tell of levels that have only fallen below the depth.
                sides = [
                    {p: s for p, s in view.apply(changes).items() if s or not view.holds(p)}
                    for view, changes in views
                ]
                if any(sides):
                    self._book(topic, "update", step.time_ns, *sides)
            case "trade" if step.trades:
                self._data("trade", "update", (_trade(item, trade) for trade in step.trades))
            case "ticker" if step.trades and step.quote:
                self._data("ticker", "update", [_ticker(item, step.quote, step.time_ns)])
            case "ohlc" if step.trades:
                row = _candle(item, market.candles(60 * topic.state)[-1], topic.state)
                self._data("ohlc", "update", [row], step.time_ns)

    def on_time(self, topic: Topic, due: int) -> None:
        """Queue a heartbeat, if nothing else was sent for a second."""
        if self.clock() - self._last_sent >= SECOND:
            self.outbox.append('{"channel":"heartbeat"}')

    def seal(self, item: Any, *, numbered: bool = True) -> str:
        self._last_sent = self.clock()
        return str(item)

    def wants(self, frame: bytes) -> bool:
        found = _HEAD.match(frame)
        if found is None or found[1] in (b"heartbeat", b"status"):
            return True
        symbols = (symbol.decode() for symbol in _SYMBOL_IN_FRAME.findall(frame))
        return any((found[1].decode(), name.replace("/", "-")) in self.topics for name in symbols)

    def odd_item(self, kind: str, amount: float) -> Any:
        if kind == "unknown":
            return '{"channel":"weather","type":"update","data":[{"outlook":"changeable"}]}'
        item, sides = Instrument("LARGE-USD", 1, 2, 1), large_book(amount, _LEVEL)
        bids, asks = (_levels(item, dict(side)) for side in sides)
        data = f'{{"symbol":"LARGE/USD","bids":{bids},"asks":{asks},"checksum":0}}'
        return f'{{"channel":"book","type":"snapshot","data":[{data}]}}'


class KrakenVenue(Venue):
    """One running local Kraken."""

    session = KrakenSession
    path: ClassVar[str] = "/v2"
    listing: ClassVar[str] = "/0/public/AssetPairs"

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, str]:
        call, pair = path.removeprefix("/0/public/"), query.get("pair", "")
        if call == "AssetPairs":
            items = map(Instrument.named, all_products())
            return 200, _result({_rest_name(item): _asset_pair(item) for item in items})
        product = product_of(pair.replace("XBT", "BTC").replace("XDG", "DOGE"))
        if call not in ("Trades", "OHLC"):
            return super().answer(path, query)
        if product is None:
            return 200, '{"error":["EQuery:Unknown asset pair"]}'
        source, since = self.market.product(product), int(query.get("since", 0))
        item = source.instrument
        if call == "Trades":
            trades = [trade for trade in source.trades if trade.time_ns > since]
            page = trades[: int(query.get("count", 1000))]
            last = str(page[-1].time_ns if page else since)
            return 200, _result(
                {_rest_name(item): [_past_trade(item, t) for t in page], "last": last}
            )
        minutes = int(query.get("interval", 1))
        spans = [span for span in source.candles(60 * minutes) if span.start > since][-720:]
        rows = [_past_candle(item, span) for span in spans]
        return 200, _result({_rest_name(item): rows, "last": spans[-1].start if spans else since})


VENUE = KrakenVenue


def _objection(method: str, params: dict[str, Any], symbol: str) -> str:
    """Return the venue's words against a request for one symbol, "" where it has none."""
    channel = params.get("channel")
    if method not in ("subscribe", "unsubscribe"):
        return "Invalid method"
    if channel not in _CHANNELS:
        return f"Channel not supported {channel}"
    if channel == "book" and params.get("depth", 10) not in _DEPTHS:
        return "Depth not supported"
    if channel == "ohlc" and params.get("interval", 1) not in _INTERVALS:
        return "Interval not supported"
    if channel == "instrument":
        return ""
    if not isinstance(symbol, str) or not is_known(symbol.replace("/", "-")):
        return f"Currency pair not supported {symbol}"
    return ""


def _moment(time_ns: int) -> str:
    return f"{utc_text(time_ns, 6)}Z"


def _symbol(item: Instrument) -> str:
    return item.product.replace("-", "/")


def _levels(item: Instrument, levels: dict[int, int]) -> str:
    rows = (
        f'{{"price":{_price(item, price)},"qty":{_size(units)}}}' for price, units in levels.items()
    )
    return f"[{','.join(rows)}]"


def _checksum(bids: DepthView, asks: DepthView) -> int:
    """Return the CRC32 over the digits of the ten best asks, then bids, leading zeros removed."""
    best = [level for view in (asks, bids) for level in islice(view.levels.items(), _CHECKED)]
    return zlib.crc32("".join(f"{price}{units}" for price, units in best).encode())


def _trade(item: Instrument, trade: MarketTrade) -> str:
    return (
        f'{{"symbol":"{_symbol(item)}","side":"{"buy" if trade.buys else "sell"}",'
        f'"price":{_price(item, trade.price)},"qty":{_size(trade.size)},'
        f'"ord_type":"market","trade_id":{trade.trade_id},"timestamp":"{_moment(trade.time_ns)}"}}'
    )


def _ticker(item: Instrument, quote: Quote, moment: int) -> str:
    day, up, digits = quote.day, quote.price - quote.day.open, item.decimals
    return (
        f'{{"symbol":"{_symbol(item)}","bid":{_price(item, quote.bid)},'
        f'"bid_qty":{_size(quote.bid_size)},"ask":{_price(item, quote.ask)},'
        f'"ask_qty":{_size(quote.ask_size)},"last":{_price(item, quote.price)},'
        f'"volume":{_size(day.volume)},"vwap":{_price(item, (day.low + day.high) // 2)},'
        f'"low":{_price(item, day.low)},"high":{_price(item, day.high)},'
        f'"change":{up / 10**digits:.{digits}f},"change_pct":{up / day.open * 100:.2f},'
        f'"timestamp":"{_moment(moment)}"}}'
    )


def _candle(item: Instrument, span: PriceRange, minutes: int) -> str:
    end = (span.start + 60 * minutes) * SECOND
    return (
        f'{{"symbol":"{_symbol(item)}","open":{_price(item, span.open)},'
        f'"high":{_price(item, span.high)},"low":{_price(item, span.low)},'
        f'"close":{_price(item, span.close)},"trades":{1 + span.volume % 50},'
        f'"volume":{_size(span.volume)},"vwap":{_price(item, (span.low + span.high) // 2)},'
        f'"interval_begin":"{utc_text(span.start * SECOND)}Z","interval":{minutes},'
        f'"timestamp":"{_moment(end)}"}}'
    )


def _result(result: dict[str, Any]) -> str:
    return dumps({"error": [], "result": result})


def _rest_name(item: Instrument) -> str:
    return f"{item.base.replace('BTC', 'XBT').replace('DOGE', 'XDG')}{item.quote}"


def _asset_pair(item: Instrument) -> dict[str, Any]:
    base = item.base.replace("BTC", "XBT").replace("DOGE", "XDG")
    return {
        "altname": _rest_name(item), "wsname": f"{base}/{item.quote}", "base": base,
        "quote": item.quote, "pair_decimals": item.decimals, "lot_decimals": SIZE_DECIMALS,
        "status": "online",
    }  # fmt: skip


def _past_trade(item: Instrument, trade: MarketTrade) -> list[Any]:
    price, size = _price(item, trade.price), _size(trade.size)
    moment = round(trade.time_ns / 1e9, 7)
    return [price, size, moment, "b" if trade.buys else "s", "m", "", trade.trade_id]


def _past_candle(item: Instrument, span: PriceRange) -> list[Any]:
    prices = (span.open, span.high, span.low, span.close, (span.low + span.high) // 2)
    texts = [_price(item, price) for price in prices]
    return [span.start, *texts, _size(span.volume), 1 + span.volume % 50]


def _pair(item: Instrument) -> str:
    return (
        f'{{"symbol":"{_symbol(item)}","base":"{item.base}","quote":"{item.quote}",'
        f'"status":"online","qty_precision":{SIZE_DECIMALS},"qty_increment":{_size(1)},"qty_min":{_size(1)},'
        f'"price_precision":{item.decimals},"price_increment":{_price(item, 1)},'
        '"cost_precision":5,"cost_min":"0.5","marginable":false,"has_index":false}'
    )
