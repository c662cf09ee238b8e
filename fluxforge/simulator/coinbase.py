"""Coinbase Advanced Trade's side of the socket.

It follows the feed as it was measured: one numbering per connection from 0 over all frames,
snapshots on subscribing and before the acknowledgement, heartbeats every second, no authentication
for market data, and an error frame outside the envelope for whatever is refused. All numbers are
strings, without trailing zeros.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, ClassVar

from fluxforge.simulator.instrument import Instrument, Style, all_products, is_known
from fluxforge.simulator.venue import SECOND, Session, Venue, dumps, large_book, utc_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fluxforge.simulator.market import MarketTrade, PriceRange, ProductMarket, Quote, Step
    from fluxforge.simulator.venue import Topic

_STREAMED = ("market_trades", "level2", "ticker")
_SECONDS = {"heartbeats": 1, "candles": 5, "ticker_batch": 5, "status": 30}
_CHANNELS = (*_STREAMED, *_SECONDS)
_DATA_NAMES = {"level2": "l2_data"}
_SUBSCRIBED_NAMES = {"l2_data": "level2"}
_PRODUCT = re.compile(r"[A-Z0-9]+(?:-[A-Z0-9]+)+")
_OWN_USDC_BOOKS = ("USDT-USDC", "EURC-USDC")
_CHANNEL_IN_FRAME = re.compile(rb'\{"channel":"([^"]+)"')
_PRODUCT_IN_FRAME = re.compile(rb'"product_id":"([^"]+)"')
_REST = "/api/v3/brokerage/market/products"
_GRANULARITIES = {"ONE_MINUTE": 60, "FIVE_MINUTE": 300, "ONE_HOUR": 3_600, "ONE_DAY": 86_400}
_UPTIME_SECONDS = 40_000
_CANDLE_SECONDS = 300
_SNAPSHOT = 100
_TEXT = Style(trim_prices=True, trim_sizes=True)
_price, _size = _TEXT.price, _TEXT.size
_LEVEL = '{"side":"bid","event_time":"","price_level":"20000000.0","new_quantity":"1.5"},'


class CoinbaseSession(Session):
    """The venue's side of one connection; its outbox holds pairs of a frame's name and event."""

    streamed: ClassVar[tuple[str, ...]] = _STREAMED

    def __init__(self, venue: Venue, path: str = "") -> None:
        super().__init__(venue, path)
        self._sequence = 0

    def receive(self, message: str | bytes) -> None:
        refusal = self._carry_out(message)
        if refusal:
            self._refuse(refusal)
            return
        listed = {name: self._subscribed_to(name) for name, _ in self.topics}
        self.outbox.append(("subscriptions", dumps({"subscriptions": listed})))

    def _refuse(self, message: str) -> None:
        self.outbox.append(("", json.dumps({"type": "error", "message": message})))

    def _carry_out(self, message: str | bytes) -> str:
        """Do what a message asks for; return the venue's words where it is refused."""
        try:
            request = json.loads(message)
        except (ValueError, RecursionError):
            return "failure to parse message"
        kind = request.get("type") if isinstance(request, dict) else None
        if kind not in ("subscribe", "unsubscribe"):
            return "unknown message type"
        channel = request.get("channel")
        if channel not in _CHANNELS:
            # The venue gives this answer to names it does not know, too.
            return "authentication failure"
        products = _products(request, channel)
        if products is None:
            return "failure to subscribe"
        if kind == "subscribe":
            known = [name for name in products if channel == "heartbeats" or is_known(name)]
            self._subscribe(channel, known)
            if known != products:
                self._refuse("failure to subscribe")
        else:
            for product in products or self._subscribed_to(channel):
                self.close_topic(channel, product)
        return ""

    def _subscribed_to(self, channel: str) -> list[str]:
        return [product for name, product in self.topics if name == channel]

    def _subscribe(self, channel: str, products: list[str]) -> None:
        for product in products:
            self.open_topic(channel, product, _SECONDS.get(channel, 0))
            if channel not in ("heartbeats", "status"):
                self._send(channel, _snapshot(channel, self.market(product), self.clock()))
        if channel == "status":
            self._send(channel, _status(self._subscribed_to(channel), "snapshot"))

    def _send(self, channel: str, event: str) -> None:
        self.outbox.append((_DATA_NAMES.get(channel, channel), event))

    def on_step(self, topic: Topic, step: Step) -> None:
        channel = topic.channel
        text = step.texts.get(channel)
        if text is None:
            text = step.texts[channel] = _update(channel, self.market(topic.product), step)
        if text:
            self._send(channel, text)

    def on_time(self, topic: Topic, due: int) -> None:
        channel, product = topic.channel, topic.product
        match channel:
            case "heartbeats":
                counter = _UPTIME_SECONDS + (due - self.venue.started_ns) // SECOND
                event = _heartbeat(due, counter)
            case "status":
                products = self._subscribed_to(channel)
                if product != products[0]:
                    return
                event = _status(products, "update")
            case "candles":
                market = self.idle_market(product)
                event = _candles(market.instrument, "update", market.candles(_CANDLE_SECONDS)[-1:])
            case _:
                market = self.idle_market(product)
                event = _ticker(market.instrument, "update", market.quote(), top_of_book=False)
        if channel == "status" or event != topic.state:
            topic.state = event
            self._send(channel, event)

    def seal(self, item: Any, *, numbered: bool = True) -> str:
        """Put an event into the venue's envelope; a refusal has none."""
        channel, event = item
        if not channel:
            return str(event)
        number = ""
        if numbered:
            number = f'"sequence_num":{self._sequence},'
            self._sequence += 1
        moment = _trimmed(utc_text(self.clock()))
        return f'{{"channel":"{channel}","timestamp":"{moment}",{number}"events":[{event}]}}'

    def wants(self, frame: bytes) -> bool:
        found = _CHANNEL_IN_FRAME.match(frame)
        name = found[1].decode() if found else "subscriptions"
        if name == "subscriptions":
            return True
        products = self._subscribed_to(_SUBSCRIBED_NAMES.get(name, name))
        named = {product.decode() for product in _PRODUCT_IN_FRAME.findall(frame)}
        return bool(products) and (not named or not named.isdisjoint(products))

    def odd_item(self, kind: str, amount: float) -> Any:
        if kind == "unknown":
            return "weather", '{"type":"update","outlook":"changeable"}'
        now = self.clock()
        bids, asks = large_book(amount, _LEVEL + _event_time(now))
        return "l2_data", _levels(Instrument("LARGE-USD", 1, 2, 1), "snapshot", now, bids, asks)


class CoinbaseVenue(Venue):
    """One running local Coinbase."""

    session = CoinbaseSession
    listing: ClassVar[str] = _REST
    subscribe_seconds: ClassVar[float] = 5.0

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, str]:
        product, _, call = path.removeprefix(_REST).strip("/").partition("/")
        if path == _REST:
            items = map(Instrument.named, all_products())
            return 200, dumps({"products": [_listed(item) for item in items]})
        if not path.startswith(_REST) or call not in ("ticker", "candles"):
            return super().answer(path, query)
        if not is_known(product):
            return 404, '{"error":"NOT_FOUND","message":"valid product_id is required"}'
        source = self.market.product(product)
        begin, end = int(query.get("start", 0)), int(query.get("end", 1 << 40))
        if call == "candles":
            size = _GRANULARITIES.get(query.get("granularity", ""), _CANDLE_SECONDS)
            spans = [span for span in source.candles(size) if begin <= span.start <= end][-350:]
            event = json.loads(_candles(source.instrument, "", reversed(spans)))
            return 200, dumps({"candles": event["candles"]})
        inside = [t for t in source.trades if begin <= t.time_ns // SECOND <= end]
        event = json.loads(_trades(source.instrument, "", inside[-int(query["limit"]) :]))
        return 200, dumps({"trades": event["trades"]})


VENUE = CoinbaseVenue


def _listed(item: Instrument) -> dict[str, Any]:
    return {
        "product_id": item.product, "base_currency_id": item.base,
        "quote_currency_id": item.quote, "base_increment": _size(1), "product_type": "SPOT",
        "price_increment": _price(item, 1), "status": "online",
    }  # fmt: skip


def _products(request: dict[str, Any], channel: str) -> list[str] | None:
    """Return the products of a request, None if they are not what they should be."""
    if channel == "heartbeats":
        return ["heartbeats"]
    names = request.get("product_ids", [])
    if not isinstance(names, list) or (request["type"] == "subscribe" and not names):
        return None
    if not all(isinstance(name, str) and _PRODUCT.fullmatch(name) for name in names):
        return None
    # The books against USDC are those against USD.
    return list(
        dict.fromkeys(
            name.removesuffix("C")
            if name.endswith("-USDC") and name not in _OWN_USDC_BOOKS
            else name
            for name in names
        )
    )


def _snapshot(channel: str, market: ProductMarket, now: int) -> str:
    """Write what a new subscriber to a product is told first."""
    item = market.instrument
    match channel:
        case "level2":
            return _levels(item, "snapshot", now, market.bids.levels(), market.asks.levels())
        case "market_trades":
            return _trades(item, "snapshot", list(market.trades)[-_SNAPSHOT:])
        case "candles":
            return _candles(item, "snapshot", market.candles(_CANDLE_SECONDS)[-_SNAPSHOT:])
        case _:
            return _ticker(item, "snapshot", market.quote(), top_of_book=channel == "ticker")


def _update(channel: str, market: ProductMarket, step: Step) -> str:
    """Write what a step means for a channel; empty where it means nothing."""
    item = market.instrument
    match channel:
        case "level2" if step.bids or step.asks:
            return _levels(item, "update", step.time_ns, step.bids, step.asks)
        case "market_trades" if step.trades:
            return _trades(item, "update", step.trades)
        case "ticker" if step.quote:
            return _ticker(item, "update", step.quote)
        case _:
            return ""


def _trimmed(moment: str) -> str:
    return moment.rstrip("0").rstrip(".") + "Z"


def _event_time(time_ns: int) -> str:
    return _trimmed(utc_text(time_ns, 6))


def _heartbeat(time_ns: int, counter: int) -> str:
    """Write a heartbeat; its time has the form that Go gives it."""
    now = _trimmed(utc_text(time_ns)).replace("T", " ").removesuffix("Z")
    uptime = f"m=+{counter}.{time_ns % SECOND:09d}"
    return f'{{"current_time":"{now} +0000 UTC {uptime}","heartbeat_counter":{counter}}}'


def _levels(
    item: Instrument,
    kind: str,
    moment: int,
    bids: Iterable[tuple[int, int]],
    asks: Iterable[tuple[int, int]],
) -> str:
    """Write a book or its changes: all bids from the best down, then all offers."""
    head = f'","event_time":"{_event_time(moment)}","price_level":"'
    rows = [
        f'{{"side":"{side}{head}{_price(item, price)}","new_quantity":"{_size(units)}"}}'
        for side, levels in (("bid", bids), ("offer", asks))
        for price, units in levels
    ]
    return f'{{"type":"{kind}","product_id":"{item.product}","updates":[{",".join(rows)}]}}'


def _trades(item: Instrument, kind: str, prints: Sequence[MarketTrade]) -> str:
    """Write trades, newest first; the side is the maker's."""
    rows = (
        f'{{"product_id":"{item.product}","trade_id":"{trade.trade_id}",'
        f'"price":"{_price(item, trade.price)}","size":"{_size(trade.size)}",'
        f'"time":"{_event_time(trade.time_ns)}","side":"{"SELL" if trade.buys else "BUY"}"}}'
        for trade in reversed(prints)
    )
    return f'{{"type":"{kind}","trades":[{",".join(rows)}]}}'


def _ticker(item: Instrument, kind: str, quote: Quote, *, top_of_book: bool = True) -> str:
    """Write a ticker; batched ones come without the top of the book."""
    day = quote.day
    change = f"{(quote.price - day.open) / day.open * 100:.14f}".rstrip("0").rstrip(".")
    values = {
        "type": "ticker", "product_id": item.product, "price": _price(item, quote.price),
        "volume_24_h": _size(day.volume),
        "low_24_h": _price(item, day.low), "high_24_h": _price(item, day.high),
        "low_52_w": _price(item, min(day.low, item.price * 7 // 10)),
        "high_52_w": _price(item, max(day.high, item.price * 19 // 10)),
        "price_percent_chg_24_h": change,
    }  # fmt: skip
    if top_of_book:
        values |= {
            "best_bid": _price(item, quote.bid), "best_ask": _price(item, quote.ask),
            "best_bid_quantity": _size(quote.bid_size), "best_ask_quantity": _size(quote.ask_size),
        }  # fmt: skip
    return f'{{"type":"{kind}","tickers":[{dumps(values)}]}}'


def _candles(item: Instrument, kind: str, spans: Iterable[PriceRange]) -> str:
    """Write candles, oldest first."""
    rows = (
        f'{{"start":"{span.start}","high":"{_price(item, span.high)}",'
        f'"low":"{_price(item, span.low)}","open":"{_price(item, span.open)}",'
        f'"close":"{_price(item, span.close)}","volume":"{_size(span.volume)}",'
        f'"product_id":"{item.product}"}}'
        for span in spans
    )
    return f'{{"type":"{kind}","candles":[{",".join(rows)}]}}'


def _status(products: Sequence[str], kind: str) -> str:
    """Write the state of some products."""
    rows = (
        dumps({
            "product_type": "SPOT", "id": item.product, "base_currency": item.base,
            "quote_currency": item.quote, "base_increment": _size(1),
            "quote_increment": _price(item, 1), "display_name": f"{item.base}/{item.quote}",
            "status": "online", "status_message": "", "min_market_funds": "1",
        })
        for item in map(Instrument.named, products)
    )  # fmt: skip
    return f'{{"type":"{kind}","products":[{",".join(rows)}]}}'
