"""Coinbase's side of the socket, for the local exchange.

It follows the feed as it was measured: one numbering per connection from 0 over all frames,
snapshots on subscribing and before the acknowledgement, heartbeats every second, no authentication
for market data, and an error frame outside the envelope for whatever is refused.
"""

from __future__ import annotations

import json
import re
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fluxforge.sources.coinbase import wire
from fluxforge.sources.feed import ExchangeFeed, FeedSession
from fluxforge.sources.market import Market, MarketReader, ProductMarket
from fluxforge.sources.market_parts import Instrument, Step

if TYPE_CHECKING:
    from fluxforge.sources.feed import ExchangeOptions, ExtraKind

_STREAMED = ("market_trades", "level2", "ticker")
_PERIODS = {"heartbeats": 1, "candles": 5, "ticker_batch": 5, "status": 30}
_CHANNELS = (*_STREAMED, *_PERIODS)
_WITHOUT_PRODUCT = ("heartbeats", "status")
_DATA_NAMES = {"level2": "l2_data"}
_SUBSCRIBED_NAMES = {"l2_data": "level2"}

_PRODUCT = re.compile(r"[A-Z0-9]+(?:-[A-Z0-9]+)+")
_OWN_USDC_BOOKS = ("USDT-USDC", "EURC-USDC")
_CHANNEL_IN_FRAME = re.compile(rb'\{"channel":"([^"]+)"')
_PRODUCT_IN_FRAME = re.compile(rb'"product_id":"([^"]+)"')

_UPTIME_SECONDS = 40_000
_IDLE_STEPS = 25
_NEVER = 1 << 63


def _canonical(product: str) -> str:
    """Return the book behind a product: those against USDC are the ones against USD."""
    if product.endswith("-USDC") and product not in _OWN_USDC_BOOKS:
        return product.removesuffix("C")
    return product


@dataclass(slots=True)
class _Stream:
    """What a connection reads of one product, and the step from which each channel is sent."""

    market: ProductMarket
    reader: MarketReader
    since: dict[str, int] = field(default_factory=dict)


class CoinbaseFeed(ExchangeFeed):
    """One running local Coinbase: a market, and what all its connections share."""

    subscribe_seconds = 5.0

    def __init__(self, options: ExchangeOptions) -> None:
        self.market = Market(options.seed, options.clock)
        self.started_ns = options.clock() - _UPTIME_SECONDS * wire.SECOND

    def open_session(self) -> CoinbaseSession:
        """Return the venue's side of a new connection."""
        return CoinbaseSession(self)


class CoinbaseSession(FeedSession):
    """The venue's side of one connection."""

    def __init__(self, feed: CoinbaseFeed) -> None:
        self._feed = feed
        self._clock = feed.market.clock
        self._channels: dict[str, dict[str, None]] = {}
        self._streams: dict[str, _Stream] = {}
        self._flowing: list[_Stream] = []
        self._turn = 0
        self._timers: dict[tuple[str, str], int] = {}
        self._due = _NEVER
        self._last_sent: dict[tuple[str, str], str] = {}
        self._outbox: deque[tuple[str | None, str]] = deque()
        self._sequence = 0

    # What the client says

    @property
    def subscribed(self) -> bool:
        """Whether the client is subscribed to anything."""
        return bool(self._channels)

    def receive(self, message: str | bytes) -> None:
        """Take a client's message; what it causes comes out of :meth:`next_frame`."""
        try:
            request = json.loads(message)
        except (ValueError, RecursionError):
            self._refuse("failure to parse message")
            return
        kind = request.get("type") if isinstance(request, dict) else None
        if kind not in ("subscribe", "unsubscribe"):
            self._refuse("unknown message type")
            return
        channel = request.get("channel")
        if channel not in _CHANNELS:
            # The venue gives this answer to names it does not know, too.
            self._refuse("authentication failure")
            return
        products = self._products(request, channel)
        if products is None:
            self._refuse("failure to subscribe")
            return
        if kind == "subscribe":
            self._subscribe(channel, products)
        else:
            self._unsubscribe(channel, products)
        self._due = min(self._timers.values(), default=_NEVER)
        self._flowing = list(self._streams.values())
        listed = {name: list(names) for name, names in self._channels.items()}
        self._outbox.append(("subscriptions", wire.subscriptions(listed)))

    def _refuse(self, message: str) -> None:
        self._outbox.append((None, json.dumps({"type": "error", "message": message})))

    @staticmethod
    def _products(request: dict[str, Any], channel: str) -> list[str] | None:
        """Return the products of a request, None if they are not what they should be."""
        if channel == "heartbeats":
            return ["heartbeats"]
        names = request.get("product_ids", [])
        if not isinstance(names, list) or (request["type"] == "subscribe" and not names):
            return None
        if not all(isinstance(name, str) and _PRODUCT.fullmatch(name) for name in names):
            return None
        return list(dict.fromkeys(_canonical(name) for name in names))

    def _subscribe(self, channel: str, products: list[str]) -> None:
        now = self._clock()
        self._channels.setdefault(channel, {}).update(dict.fromkeys(products))
        if channel in _PERIODS:
            for key in [""] if channel in _WITHOUT_PRODUCT else products:
                self._timers[channel, key] = now + _PERIODS[channel] * wire.SECOND
        if channel in _STREAMED:
            for product in products:
                self._open_stream(product).since[channel] = self._market(product).steps
        if channel == "status":
            self._send(channel, self._status("snapshot"))
        elif channel != "heartbeats":
            for product in products:
                self._send(channel, _snapshot(channel, self._market(product), now))

    def _unsubscribe(self, channel: str, products: list[str]) -> None:
        subscribed = self._channels.get(channel, {})
        for product in products or list(subscribed):
            subscribed.pop(product, None)
            self._timers.pop((channel, product), None)
            stream = self._streams.get(product)
            if stream is not None and stream.since.pop(channel, None) is not None:
                self._close_if_idle(product, stream)
        if not subscribed:
            self._channels.pop(channel, None)
            self._timers.pop((channel, ""), None)

    def _market(self, product: str) -> ProductMarket:
        return self._feed.market.product(product)

    def _open_stream(self, product: str) -> _Stream:
        if product not in self._streams:
            market = self._market(product)
            self._streams[product] = _Stream(market, market.reader())
        return self._streams[product]

    def _close_if_idle(self, product: str, stream: _Stream) -> None:
        if not stream.since:
            stream.reader.close()
            del self._streams[product]

    def close(self) -> None:
        """Let the market forget this connection."""
        for stream in self._streams.values():
            stream.reader.close()

    # What the venue sends

    def next_frame(self) -> str | None:
        """Return the next frame of this connection, None if there is nothing to say just now."""
        if self._clock() >= self._due:
            self._run_timer()
        while not self._outbox:
            if not self._pull():
                return None
        channel, text = self._outbox.popleft()
        return text if channel is None else self._numbered(channel, text)

    def _numbered(self, channel: str, event: str) -> str:
        sequence = self._sequence
        self._sequence += 1
        moment = wire.timestamp(self._clock())
        return (
            f'{{"channel":"{channel}","timestamp":"{moment}","sequence_num":{sequence},'
            f'"events":[{event}]}}'
        )

    def _send(self, channel: str, event: str) -> None:
        self._outbox.append((_DATA_NAMES.get(channel, channel), event))

    def _pull(self) -> bool:
        """Read steps of one product after the other until one makes a frame."""
        streams = self._flowing
        held_up = 0
        while held_up < len(streams):
            self._turn = (self._turn + 1) % len(streams)
            stream = streams[self._turn]
            step = stream.reader.next_step()
            if step is None:
                held_up += 1
                continue
            held_up = 0
            self._send_step(stream, step)
            if self._outbox:
                return True
        return False

    def _send_step(self, stream: _Stream, step: Step) -> None:
        """Queue the frames of a step that the client is subscribed to."""
        for channel, content in (
            ("market_trades", step.trades),
            ("level2", step.bids or step.asks),
            ("ticker", step.quote),
        ):
            if content and stream.since.get(channel, _NEVER) <= step.number:
                text = step.texts.get(channel)
                if text is None:
                    text = step.texts[channel] = _step_text(channel, stream.market.instrument, step)
                self._send(channel, text)

    def _run_timer(self) -> None:
        """Queue what is sent at regular times and is due first."""
        (channel, product), due = min(self._timers.items(), key=lambda timer: timer[1])
        self._timers[channel, product] = due + _PERIODS[channel] * wire.SECOND
        self._due = min(self._timers.values())
        match channel:
            case "heartbeats":
                counter = (due - self._feed.started_ns) // wire.SECOND
                self._send(channel, wire.heartbeat(due, counter))
                return
            case "status":
                self._send(channel, self._status("update"))
                return
        market = self._market(product)
        if product not in self._streams:
            for _ in range(_IDLE_STEPS):
                market.advance()
        item = market.instrument
        if channel == "candles":
            event = wire.candles(item, "update", [market.candles[-1]])
        else:
            event = wire.ticker(item, "update", market.quote(), top_of_book=False)
        if self._last_sent.get((channel, product)) != event:
            self._last_sent[channel, product] = event
            self._send(channel, event)

    def _status(self, kind: str) -> str:
        return wire.status([Instrument.named(name) for name in self._channels["status"]], kind)

    # For the exchange's own purposes

    def wants(self, frame: bytes) -> bool:
        """Tell whether a recorded frame is one that the client subscribed to."""
        found = _CHANNEL_IN_FRAME.match(frame)
        if found is None:
            return True
        name = found[1].decode()
        if name == "subscriptions":
            return True
        products = self._channels.get(_SUBSCRIBED_NAMES.get(name, name))
        if products is None:
            return False
        named = {product.decode() for product in _PRODUCT_IN_FRAME.findall(frame)}
        return not named or not named.isdisjoint(products)

    def extra_frame(self, kind: ExtraKind, amount: float, *, numbered: bool) -> str:
        """Make a frame that no market caused; see :mod:`fluxforge.sources.faults`."""
        now = self._clock()
        match kind:
            case "malformed":
                moment = wire.timestamp(now)
                return f'{{"channel":"ticker","timestamp":"{moment}","events":[{{"type":"update"}}'
            case "unknown":
                channel, event = "weather", '{"type":"update","outlook":"changeable"}'
            case "large":
                channel = "l2_data"
                event = wire.large_snapshot("LARGE-USD", amount, now)
        if numbered:
            return self._numbered(channel, event)
        moment = wire.timestamp(now)
        return f'{{"channel":"{channel}","timestamp":"{moment}","events":[{event}]}}'


def _snapshot(channel: str, market: ProductMarket, now: int) -> str:
    """Write what a new subscriber to a product is told first."""
    item = market.instrument
    match channel:
        case "level2":
            return wire.book_snapshot(market, now)
        case "market_trades":
            return wire.trades(item, "snapshot", market.trades)
        case "candles":
            return wire.candles(item, "snapshot", market.candles)
        case "ticker":
            return wire.ticker(item, "snapshot", market.quote())
        case _:
            return wire.ticker(item, "snapshot", market.quote(), top_of_book=False)


def _step_text(channel: str, item: Instrument, step: Step) -> str:
    """Write what a step means for a channel."""
    if channel == "level2":
        return wire.levels(
            item.product, "update", step.time_ns, item.decimals, step.bids, step.asks
        )
    if channel == "ticker" and step.quote is not None:
        return wire.ticker(item, "update", step.quote)
    return wire.trades(item, "update", step.trades)
