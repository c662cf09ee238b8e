"""Binance's side of the socket, spot, and the REST calls that go with it.

It follows binance/binance-spot-api-docs (``web-socket-streams.md``, ``rest-api.md``) and recorded
traffic: combined or raw streams by path, the numbers ``U`` and ``u`` over the changes of a book,
whose beginning is a REST answer. A stream that is unknown is acknowledged like any other and stays
silent; only REST refuses the symbol.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from fluxforge.simulator.instrument import (
    SIZE_DECIMALS,
    Instrument,
    Style,
    all_products,
    product_of,
)
from fluxforge.simulator.venue import Session, Venue, dumps, large_book

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fluxforge.simulator.market import MarketTrade, PriceRange, ProductMarket, Step
    from fluxforge.simulator.venue import Topic

_SECONDS = {"1m": 60, "5m": 300, "15m": 900, "1h": 3_600, "4h": 14_400, "1d": 86_400}
_FIRST_UPDATE = 90_000_000_000
_TEXT = Style(decimals=8)
_price, _size, _cost, _levels = _TEXT.price, _TEXT.size, _TEXT.cost, _TEXT.levels
_LEVEL = '["20000000.00000000","1.50000000"],'
_MS = 1_000_000
_RECORDED_BOOK = re.compile(rb'\{"depth": ?"([^"]+)", ?"response": ?')
_INVALID_SYMBOL = 400, '{"code":-1121,"msg":"Invalid symbol."}'


class BinanceSession(Session):
    """The venue's side of one connection; its outbox holds whole frames."""

    streamed: ClassVar[tuple[str, ...]] = (
        "trade", "aggTrade", "depth", "depth@100ms", "bookTicker",
    )  # fmt: skip

    def __init__(self, venue: Venue, path: str = "") -> None:
        super().__init__(venue, path)
        called = urlsplit(path)
        self._combined = not called.path.startswith("/ws")
        self._silent: list[str] = []
        streams = parse_qs(called.query).get("streams", [called.path.removeprefix("/ws")])[0]
        if "@" in streams:
            self._subscribe(streams.strip("/").split("/"))

    @property
    def subscribed(self) -> bool:
        """Whether the client is subscribed to anything, known or not."""
        return bool(self.topics or self._silent)

    def receive(self, message: str | bytes) -> None:
        try:
            request = json.loads(message)
            method, streams, number = request["method"], request.get("params", []), request["id"]
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
            return self._answer(error={"code": 2, "msg": "Invalid request: malformed"}, id=None)
        match method:
            case "SUBSCRIBE":
                self._subscribe(streams)
            case "UNSUBSCRIBE":
                for channel, product in map(_topic_of, streams):
                    self.close_topic(channel, product)
                self._silent = [stream for stream in self._silent if stream not in streams]
            case "LIST_SUBSCRIPTIONS":
                listed = [_stream_of(topic) for topic in self.topics.values()]
                return self._answer(result=listed + self._silent, id=number)
            case _:
                problem = f"Invalid request: unknown variant {method}"
                return self._answer(error={"code": 2, "msg": problem}, id=number)
        return self._answer(result=None, id=number)

    def _answer(self, **content: Any) -> None:
        self.outbox.append(dumps(content))

    def _subscribe(self, streams: Iterable[str]) -> None:
        for stream in streams:
            channel, product = _topic_of(stream)
            timed = channel == "ticker" or channel.removeprefix("kline_") in _SECONDS
            if not product or not (timed or channel in self.streamed):
                self._silent.append(stream)
                continue
            self.open_topic(channel, product, 1 if timed else 0).state = self.market(product).steps

    def _send(self, topic: Topic, data: str) -> None:
        framed = f'{{"stream":"{_stream_of(topic)}","data":{data}}}' if self._combined else data
        self.outbox.append(framed)

    def on_step(self, topic: Topic, step: Step) -> None:
        item = self.market(topic.product).instrument
        now = step.time_ns // _MS
        match topic.channel:
            case "trade" | "aggTrade" as kind:
                for trade in step.trades:
                    event = f'"e":"{kind}","E":{now},"s":"{item.joined}",'
                    self._send(topic, f'{{{event}{_trade(item, trade, kind)},"M":true}}')
            case "bookTicker" if step.quote:
                quote = step.quote
                self._send(
                    topic,
                    f'{{"u":{_FIRST_UPDATE + step.number},"s":"{item.joined}",'
                    f'"b":"{_price(item, quote.bid)}","B":"{_size(quote.bid_size)}",'
                    f'"a":"{_price(item, quote.ask)}","A":"{_size(quote.ask_size)}"}}',
                )
            case "depth" | "depth@100ms" if step.bids or step.asks:
                first, last = _FIRST_UPDATE + topic.state, _FIRST_UPDATE + step.number
                topic.state = step.number + 1
                self._send(
                    topic,
                    f'{{"e":"depthUpdate","E":{now},"s":"{item.joined}","U":{first},"u":{last},'
                    f'"b":{_levels(item, step.bids)},"a":{_levels(item, step.asks)}}}',
                )

    def on_time(self, topic: Topic, due: int) -> None:
        market = self.idle_market(topic.product)
        item, now = market.instrument, due // _MS
        if topic.channel == "ticker":
            return self._send(topic, _ticker(market, now))
        name = topic.channel.removeprefix("kline_")
        span = market.candles(_SECONDS[name])[-1]
        row = _candle(item, span, _SECONDS[name])
        names = ("t", "o", "h", "l", "c", "v", "T", "q", "n", "V", "Q", "B")
        content = dict(zip(names, row, strict=True))
        content |= {"s": item.joined, "i": name, "f": 0, "L": 0, "x": row[6] < now}
        event = {"e": "kline", "E": now, "s": item.joined, "k": content}
        return self._send(topic, dumps(event))

    def wants(self, frame: bytes) -> bool:
        head = frame[:80].decode(errors="replace").partition('{"stream":"')[2].partition('"')[0]
        return not head or _topic_of(head) in self.topics

    def odd_item(self, kind: str, amount: float) -> Any:
        if kind == "unknown":
            return '{"stream":"largeusdt@weather","data":{"e":"weather","outlook":"changeable"}}'
        item, sides = Instrument("LARGE-USDT", 1, 2, 1), large_book(amount, _LEVEL)
        bids, asks = (_levels(item, side) for side in sides)
        return (
            '{"stream":"largeusdt@depth@100ms","data":{"e":"depthUpdate",'
            f'"E":{self.clock() // _MS},"s":"LARGEUSDT","U":1,"u":1,"b":{bids},"a":{asks}}}}}'
        )


class BinanceVenue(Venue):
    """One running local Binance."""

    session = BinanceSession
    path: ClassVar[str] = "/stream"
    listing: ClassVar[str] = "/api/v3/exchangeInfo"

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, str]:
        call = path.removeprefix("/api/v3/")
        if call == "exchangeInfo":
            return 200, dumps({"symbols": [_listed(name) for name in all_products()]})
        product = product_of(query.get("symbol", ""))
        if product is None and path.startswith("/api/"):
            return _INVALID_SYMBOL
        if product is None:
            return super().answer(path, query)
        market, item = self.market.product(product), Instrument.named(product)
        limit = min(int(query.get("limit", 500)), 5_000 if call == "depth" else 1_000)
        begin, end = int(query.get("startTime", 0)), int(query.get("endTime", 1 << 62))
        match call:
            case "depth":
                bids, asks = (
                    _levels(item, list(side.levels())[:limit])
                    for side in (market.bids, market.asks)
                )
                number = _FIRST_UPDATE + market.steps - 1
                return 200, f'{{"lastUpdateId":{number},"bids":{bids},"asks":{asks}}}'
            case "aggTrades":
                first = int(query.get("fromId", 0))
                trades = [
                    trade
                    for trade in market.trades
                    if trade.trade_id >= first and begin <= trade.time_ns // _MS <= end
                ]
                from_start = first or "startTime" in query
                page = trades[:limit] if from_start else trades[-limit:]
                rows = (f'{{{_trade(item, trade, "aggTrade")},"M":true}}' for trade in page)
                return 200, f"[{','.join(rows)}]"
            case "klines" if query.get("interval") in _SECONDS:
                seconds = _SECONDS[query["interval"]]
                spans = [s for s in market.candles(seconds) if begin <= s.start * 1_000 <= end]
                page_ = spans[:limit] if "startTime" in query else spans[-limit:]
                return 200, dumps([_candle(item, span, seconds) for span in page_])
        return super().answer(path, query)

    def recorded_answer(self, frame: bytes) -> tuple[str, str] | None:
        """Return symbol and text of the answer with which a recorded book begins."""
        found = _RECORDED_BOOK.match(frame)
        return (found[1].decode(), frame[found.end() : -1].decode()) if found else None

    def recorded_key(self, path: str, query: dict[str, str]) -> str:
        return query.get("symbol", path)


VENUE = BinanceVenue


def _topic_of(stream: str) -> tuple[str, str]:
    symbol, _, channel = stream.partition("@")
    return channel, product_of(symbol.upper()) or ""


def _stream_of(topic: Topic) -> str:
    return f"{topic.product.replace('-', '').lower()}@{topic.channel}"


def _trade(item: Instrument, trade: MarketTrade, kind: str) -> str:
    """Write the fields of a trade; an aggregate is of one trade here, and shares its number."""
    number = trade.trade_id
    ids = f'"t":{number}' if kind == "trade" else f'"a":{number},"f":{number},"l":{number}'
    return (
        f'{ids},"p":"{_price(item, trade.price)}","q":"{_size(trade.size)}",'
        f'"T":{trade.time_ns // _MS},"m":{"false" if trade.buys else "true"}'
    )


def _candle(item: Instrument, span: PriceRange, seconds: int) -> list[Any]:
    """Return a candle in the order of the REST answer."""
    prices = [_price(item, ticks) for ticks in (span.open, span.high, span.low, span.close)]
    cost = _cost(item, span.close, span.volume)
    half, half_cost = _size(span.volume // 2), _cost(item, span.close, span.volume // 2)
    end = (span.start + seconds) * 1_000 - 1
    return [
        span.start * 1_000, *prices, _size(span.volume), end, cost, 1 + span.volume % 50,
        half, half_cost, "0",
    ]  # fmt: skip


def _ticker(market: ProductMarket, now: int) -> str:
    item, quote = market.instrument, market.quote()
    day = quote.day
    change = (quote.price - day.open) / 10**item.decimals
    last_id = market.trades[-1].trade_id
    return dumps({
        "e": "24hrTicker", "E": now, "s": item.joined, "p": f"{change:.8f}",
        "P": f"{(quote.price - day.open) / day.open * 100:.3f}",
        "w": _price(item, (day.high + day.low) // 2), "x": _price(item, day.open),
        "c": _price(item, quote.price), "Q": _size(market.trades[-1].size),
        "b": _price(item, quote.bid), "B": _size(quote.bid_size),
        "a": _price(item, quote.ask), "A": _size(quote.ask_size),
        "o": _price(item, day.open), "h": _price(item, day.high), "l": _price(item, day.low),
        "v": _size(day.volume), "q": _cost(item, quote.price, day.volume),
        "O": now - 86_400_000, "C": now, "F": last_id - 1_000, "L": last_id, "n": 1_001,
    })  # fmt: skip


def _listed(product: str) -> dict[str, Any]:
    item = Instrument.named(product)
    step = _price(item, 1)
    return {
        "symbol": item.joined, "status": "TRADING", "baseAsset": item.base,
        "baseAssetPrecision": SIZE_DECIMALS, "quoteAsset": item.quote,
        "quoteAssetPrecision": SIZE_DECIMALS,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": step, "maxPrice": "1000000.00000000",
             "tickSize": step},
            {"filterType": "LOT_SIZE", "minQty": _size(1), "maxQty": "9000.00000000",
             "stepSize": _size(1)},
        ],
    }  # fmt: skip
