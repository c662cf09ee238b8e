"""Bybit's side of the socket, v5 public: one address a market, spot, linear and inverse.

It follows bybit-exchange.github.io/docs/v5 and recorded traffic: one answer a request, the books of
each topic numbered without a hole from a whole one on, tickers of derivatives as deltas, and a ping
of the venue's own. A request with a topic that the venue does not have is refused as a whole.
"""

from __future__ import annotations

import json
import re
import uuid
from typing import TYPE_CHECKING, Any, ClassVar

from fluxforge.simulator.book import DepthView
from fluxforge.simulator.instrument import Instrument, Style, all_products, product_of
from fluxforge.simulator.venue import Session, Venue, dumps, large_book

if TYPE_CHECKING:
    from fluxforge.simulator.market import MarketTrade, PriceRange, Quote, Step
    from fluxforge.simulator.venue import Topic

_DEPTHS = (1, 50, 200, 1000)
_INTERVALS = (*map(str, (1, 3, 5, 15, 30, 60, 120, 240, 360, 720)), "D")
_TOPIC = re.compile(r"(?:orderbook\.(\d+)|kline\.(\w+)|publicTrade|tickers)\.([A-Z0-9]+)")
_TOPIC_IN_FRAME = re.compile(rb'"topic":"([^"]+)"')
_SPOT_ARGS = 10
_MS = 1_000_000
_TEXT = Style(trim_sizes=True)
_price, _size, _cost, _levels = _TEXT.price, _TEXT.size, _TEXT.cost, _TEXT.levels
_LEVEL = '["20000000.00","1.5"],'
# In what each market's products are paid.
_MARKETS = {"spot": ("USDT", "USDC", "BTC"), "linear": ("USDT", "USDC"), "inverse": ("USD",)}


class BybitSession(Session):
    """The venue's side of one connection; its outbox holds whole frames."""

    streamed: ClassVar[tuple[str, ...]] = (
        "publicTrade", *(f"orderbook.{depth}" for depth in _DEPTHS), "tickers",
    )  # fmt: skip

    def __init__(self, venue: Venue, path: str = "") -> None:
        super().__init__(venue, path)
        market = path.partition("?")[0].rpartition("/")[2]
        self._market = market if market in _MARKETS else "spot"
        self._id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{path}{self.clock()}"))

    def fits(self, conn: str) -> bool:
        return self._market in conn or not any(market in conn for market in _MARKETS)

    def receive(self, message: str | bytes) -> None:
        try:
            request = json.loads(message)
            op, topics = request["op"], request.get("args", [])
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
            return self._answer("", "error:malformed request", success=False)
        if op == "ping":
            return self._answer("ping", "pong")
        if op not in ("subscribe", "unsubscribe"):
            return self._answer(op, "error:unknown op", success=False)
        if self._market == "spot" and len(topics) > _SPOT_ARGS:
            return self._answer(op, f"args size >{_SPOT_ARGS}", success=False)
        for topic in topics:
            if self._key(topic) is None:
                problem = f"error:handler not found,topic:{topic}"
                return self._answer(op, problem, success=False)
        self._answer(op, "subscribe" if self._market == "spot" else "")
        for channel, product in filter(None, map(self._key, topics)):
            if op == "subscribe":
                self._subscribe(channel, product)
            else:
                self.close_topic(channel, product)
        return None

    def _answer(self, op: str, message: str, *, success: bool = True) -> None:
        content = {"success": success, "ret_msg": message, "conn_id": self._id, "op": op}
        self.outbox.append(dumps(content))

    def _key(self, topic: str) -> tuple[str, str] | None:
        """Return channel and product of a topic; None if the venue does not have it."""
        found = _TOPIC.fullmatch(topic) if isinstance(topic, str) else None
        if found is None or (found[1] and int(found[1]) not in _DEPTHS):
            return None
        product = _product(found[3], self._market)
        if product is None or (found[2] and found[2] not in _INTERVALS):
            return None
        return topic.rpartition(".")[0], product

    def _subscribe(self, channel: str, product: str) -> None:
        name = channel.partition(".")[0]
        market, now = self.market(product), self.clock()
        item = market.instrument
        topic = self.open_topic(channel, product, 1 if name == "kline" else 0)
        if name == "orderbook":
            depth = int(channel.partition(".")[2])
            views = DepthView(market.bids, depth), DepthView(market.asks, depth)
            topic.state = [*views, market.steps]
            self._book(topic, "snapshot", now, *(view.levels for view in topic.state[:2]))
        elif name == "tickers":
            topic.state = _ticker(item, market.quote(), self._market)
            self._send(topic, "snapshot", now, dumps(topic.state))

    def _send(self, topic: Topic, kind: str, moment: int, data: str, more: str = "") -> None:
        name = f"{topic.channel}.{Instrument.named(topic.product).joined}"
        self.outbox.append(
            f'{{"topic":"{name}","type":"{kind}","ts":{moment // _MS},"data":{data}{more}}}'
        )

    def _book(self, topic: Topic, kind: str, moment: int, *sides: dict[int, int]) -> None:
        item = Instrument.named(topic.product)
        bids, asks = (_levels(item, side.items()) for side in sides)
        topic.state[2] += 1
        number = topic.state[2]
        data = f'{{"s":"{item.joined}","b":{bids},"a":{asks},"u":{number},"seq":{number * 3}}}'
        self._send(topic, kind, moment, data, f',"cts":{moment // _MS}')

    def on_step(self, topic: Topic, step: Step) -> None:
        item = self.market(topic.product).instrument
        match topic.channel.partition(".")[0]:
            case "publicTrade" if step.trades:
                rows = (_trade(item, trade, self._market) for trade in step.trades)
                self._send(topic, "snapshot", step.time_ns, f"[{','.join(rows)}]")
            case "orderbook":
                views = zip(topic.state[:2], (step.bids, step.asks), strict=True)
                sides = [view.apply(changes) for view, changes in views]
                if any(sides):
                    self._book(topic, "delta", step.time_ns, *sides)
            case "tickers" if step.quote:
                before, topic.state = topic.state, _ticker(item, step.quote, self._market)
                changed = {name: text for name, text in topic.state.items() if before[name] != text}
                if self._market == "spot":
                    self._send(topic, "snapshot", step.time_ns, dumps(topic.state))
                elif changed:
                    changed = {"symbol": item.joined, **changed}
                    self._send(topic, "delta", step.time_ns, dumps(changed))

    def on_time(self, topic: Topic, due: int) -> None:
        market, interval = self.idle_market(topic.product), topic.channel.partition(".")[2]
        seconds = _seconds(interval)
        row = _candle(market.instrument, market.candles(seconds)[-1])
        names = ("start", "open", "high", "low", "close", "volume", "turnover")
        content = dict(zip(names, row, strict=True))
        end = row[0] + seconds * 1_000 - 1
        content |= {"end": end, "interval": interval, "confirm": False, "timestamp": due // _MS}
        self._send(topic, "snapshot", due, dumps([content]))

    def wants(self, frame: bytes) -> bool:
        found = _TOPIC_IN_FRAME.search(frame)
        return found is None or self._key(found[1].decode()) in self.topics

    def odd_item(self, kind: str, amount: float) -> Any:
        moment = self.clock() // _MS
        if kind == "unknown":
            return f'{{"topic":"weather.X","ts":{moment},"data":{{"outlook":"changeable"}}}}'
        item, sides = Instrument("LARGE-USDT", 1, 2, 1), large_book(amount, _LEVEL)
        bids, asks = (_levels(item, side) for side in sides)
        data = f'{{"s":"LARGEUSDT","b":{bids},"a":{asks},"u":1,"seq":1}}'
        head = f'"topic":"orderbook.200.LARGEUSDT","type":"snapshot","ts":{moment}'
        return f'{{{head},"data":{data},"cts":{moment}}}'


class BybitVenue(Venue):
    """One running local Bybit."""

    session = BybitSession
    path: ClassVar[str] = "/v5/public"
    listing: ClassVar[str] = "/v5/market/instruments-info"

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, str]:
        call, market = path.removeprefix("/v5/market/"), query.get("category", "")
        if market not in _MARKETS:
            return 200, _result(10001, "Illegal category")
        if call == "instruments-info":
            suffix = "" if market == "spot" else "-PERP"
            names = [f"{name}{suffix}" for name in all_products(*_MARKETS[market])]
            return 200, _result(0, "OK", {"category": market, "list": [_listed(n) for n in names]})
        product = _product(query.get("symbol", ""), market)
        if product is None:
            return 200, _result(10001, "params error: symbol invalid")
        source, limit = self.market.product(product), min(int(query.get("limit", 200)), 1_000)
        item = source.instrument
        found: dict[str, Any] = {"category": market, "symbol": item.joined}
        match call:
            case "recent-trade":
                recent = list(source.trades)[: -limit - 1 : -1]
                found["list"] = [_past_trade(item, trade, market) for trade in recent]
            case "kline" if query.get("interval") in _INTERVALS:
                seconds = _seconds(query["interval"])
                begin, end = int(query.get("start", 0)), int(query.get("end", 1 << 62))
                spans = [s for s in source.candles(seconds) if begin <= s.start * 1_000 <= end]
                rows = [map(str, _candle(item, span)) for span in reversed(spans[-limit:])]
                found["list"] = [list(row) for row in rows]
            case _:
                return super().answer(path, query)
        return 200, _result(0, "OK", found)


VENUE = BybitVenue


def _result(code: int, message: str, result: Any = None) -> str:
    return dumps({"retCode": code, "retMsg": message, "result": result or {}, "retExtInfo": {}})


def _product(symbol: str, market: str) -> str | None:
    """Return the product of a symbol in a market; None if the market does not have it."""
    product = product_of(symbol)
    if product is None or product.partition("-")[2] not in _MARKETS[market]:
        return None
    return product if market == "spot" else f"{product}-PERP"


def _seconds(interval: str) -> int:
    return 86_400 if interval == "D" else 60 * int(interval)


def _identity(trade: MarketTrade, market: str) -> str:
    """Return a trade's identity: digits on spot, a UUID elsewhere."""
    if market == "spot":
        return f"{2_290_000_000_000_000_000 + trade.trade_id}"
    return str(uuid.UUID(int=(0xA9188A0A << 96) + (4 << 76) + (2 << 62) + trade.trade_id))


def _trade(item: Instrument, trade: MarketTrade, market: str) -> str:
    return (
        f'{{"T":{trade.time_ns // _MS},"s":"{item.joined}","S":"{"Buy" if trade.buys else "Sell"}",'
        f'"v":"{_size(trade.size)}","p":"{_price(item, trade.price)}",'
        f'"i":"{_identity(trade, market)}","BT":false,"RPI":false,"seq":{trade.trade_id}}}'
    )


def _past_trade(item: Instrument, trade: MarketTrade, market: str) -> dict[str, Any]:
    return {
        "execId": _identity(trade, market), "symbol": item.joined,
        "price": _price(item, trade.price), "size": _size(trade.size),
        "side": "Buy" if trade.buys else "Sell", "time": str(trade.time_ns // _MS),
        "isBlockTrade": False, "isRPITrade": False, "seq": str(trade.trade_id),
    }  # fmt: skip


def _candle(item: Instrument, span: PriceRange) -> list[Any]:
    """Return a candle in the order of the REST answer."""
    prices = [_price(item, ticks) for ticks in (span.open, span.high, span.low, span.close)]
    return [
        span.start * 1_000, *prices, _size(span.volume), _cost(item, span.close, span.volume),
    ]  # fmt: skip


def _ticker(item: Instrument, quote: Quote, market: str) -> dict[str, str]:
    day = quote.day
    content = {
        "symbol": item.joined, "lastPrice": _price(item, quote.price),
        "highPrice24h": _price(item, day.high), "lowPrice24h": _price(item, day.low),
        "prevPrice24h": _price(item, day.open), "volume24h": _size(day.volume),
        "turnover24h": _cost(item, quote.price, day.volume),
        "price24hPcnt": f"{(quote.price - day.open) / day.open:.6f}",
    }  # fmt: skip
    if market == "spot":
        return content | {"usdIndexPrice": _price(item, quote.price)}
    return content | {
        "markPrice": _price(item, quote.price), "indexPrice": _price(item, quote.price),
        "openInterest": _size(day.volume // 3), "fundingRate": "0.0001",
        "bid1Price": _price(item, quote.bid), "bid1Size": _size(quote.bid_size),
        "ask1Price": _price(item, quote.ask), "ask1Size": _size(quote.ask_size),
    }  # fmt: skip


def _listed(product: str) -> dict[str, Any]:
    item = Instrument.named(product)
    kind = {"contractType": "LinearPerpetual"} if product.endswith("-PERP") else {}
    return kind | {
        "symbol": item.joined, "baseCoin": item.base, "quoteCoin": item.quote, "status": "Trading",
        "priceFilter": {"tickSize": _price(item, 1)},
        "lotSizeFilter": {"basePrecision": _size(1), "qtyStep": _size(1), "minOrderQty": _size(1)},
    }  # fmt: skip
