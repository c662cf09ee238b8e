"""What to say to Coinbase Advanced Trade, and how to read what it says. No I/O here."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from fluxforge.errors import ConfigError
from fluxforge.sources.base import Source, Subscription, VenueLimits
from fluxforge.sources.rest import Instrument, decimals_of
from fluxforge.sources.session import Lost, Refused, Session, dumps
from fluxforge.sources.tokens import Signer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fluxforge.sources.rest import Calls, Past
    from fluxforge.sources.session import Event, Method

_HEARTBEATS, _BOOK = "heartbeats", "level2"
_REST, _PAGE = "/api/v3/brokerage/market/products", 1000
_GRANULARITIES = {
    "1m": "ONE_MINUTE", "5m": "FIVE_MINUTE", "15m": "FIFTEEN_MINUTE", "30m": "THIRTY_MINUTE",
    "1h": "ONE_HOUR", "2h": "TWO_HOUR", "6h": "SIX_HOUR", "1d": "ONE_DAY",
}  # fmt: skip
_PRIVATE = ("user", "futures_balance_summary")

# The venue states no limit. Thirty is what others run with. Each subscription to a book begins
# with a snapshot of up to 5 MB: ten of them keep the burst after a connect near 50 MB, which is
# read in seconds, and a lost connection costs ten books and not all of them.
_PRODUCTS_PER_SOCKET, _BOOKS_PER_SOCKET = 30, 10
_CHANNELS = (_HEARTBEATS, "ticker", "ticker_batch", _BOOK, "market_trades", "candles", "status")
_DATA = {name.encode(): name for name in _CHANNELS} | {b"l2_data": _BOOK}

_HEAD = re.compile(
    rb'\{"channel":"([A-Za-z0-9_]+)",(?:"client_id":"[^"\\]*",)?'
    rb'"timestamp":"[^"\\]*","sequence_num":(0|[1-9][0-9]{0,17}),"events":'
    rb'(?:\[\{"type":"\w+","product_id":"([^"\\]+)")?'
)


class Coinbase(Source):
    """Coinbase Advanced Trade, market data."""

    name: ClassVar[str] = "coinbase"
    limits: ClassVar[VenueLimits] = VenueLimits(
        connections_per_second=8.0,
        messages_per_second=8.0,
        silence_seconds=15.0,  # heartbeats come every second
        products_per_socket=_PRODUCTS_PER_SOCKET,
        first_sequence=0,
        channel_silence={_BOOK: 120.0},
    )
    channels = _CHANNELS
    other_names = {"l2_data": _BOOK, "orderbook": _BOOK, "trades": "market_trades"}  # noqa: RUF012
    product = re.compile(r"[A-Z0-9]+(?:-[A-Z0-9]+)+")
    example = "BTC-USD"
    url = "wss://advanced-trade-ws.coinbase.com"
    rest_url = "https://api.coinbase.com"
    candle_interval = "5m"

    def session(self, subscription: Subscription) -> CoinbaseSession:
        return CoinbaseSession(self, subscription)

    def check_channels(self, channels: Sequence[str]) -> tuple[str, ...]:
        """Return the channels, and heartbeats: they prove that a connection lives."""
        for name in channels:
            if name in _PRIVATE:
                raise ConfigError(f"coinbase: channel {name!r} is about an account; leave it out")
        return tuple(dict.fromkeys((_HEARTBEATS, *super().check_channels(channels))))

    def products_per_socket(self, channels: Sequence[str]) -> int:
        return _BOOKS_PER_SOCKET if _BOOK in channels else _PRODUCTS_PER_SOCKET

    def listing(self) -> Calls[list[Instrument]]:
        answer = yield f"{_REST}?product_type=SPOT"
        return [
            Instrument(
                one["product_id"], one["product_id"], "spot",
                one["base_currency_id"], one["quote_currency_id"],
                decimals_of(one.get("price_increment")), decimals_of(one.get("base_increment")),
                one.get("status", "online") == "online",
            )
            for one in answer["products"]
        ]  # fmt: skip

    def past(self, wanted: Past) -> Calls[bool]:
        """Return calls for trades, from the newest back, or for candles."""
        start, end = wanted.seconds
        path = f"{_REST}/{wanted.symbol}"
        if wanted.table == "candles":
            size = wanted.word(_GRANULARITIES)
            yield f"{path}/candles?start={start}&end={end}&granularity={size}&limit=350"
            return True
        while start < end:
            answer = yield f"{path}/ticker?limit={_PAGE}&start={start}&end={end}"
            times = [datetime.fromisoformat(trade["time"]) for trade in answer["trades"]]
            if len(times) < _PAGE:
                break
            # The second that a page ends in may have more trades than the page had room for.
            end = min(end - 1, int(min(times).timestamp()) + 1)
        return True


class CoinbaseSession(Session):
    """One connection to Coinbase: all its frames are numbered together, from 0, without a hole."""

    def __init__(self, source: Coinbase, subscription: Subscription) -> None:
        super().__init__(source, subscription)
        self._expected = 0
        self._unanswered = 0

    def request(
        self, method: Method, channels: Sequence[str], products: Sequence[str]
    ) -> list[str]:
        """Return one message a channel, heartbeats first; they stay, and each has its own token."""
        signer = Signer.from_environment("COINBASE_API", issuer="cdp")
        messages = []
        for channel in sorted(channels, key=lambda channel: channel != _HEARTBEATS):
            if channel == _HEARTBEATS and method == "unsubscribe":
                continue
            ids = {} if channel == _HEARTBEATS else {"product_ids": list(products)}
            token = {"jwt": signer.token()} if signer else {}
            messages.append(dumps({"type": method, **ids, "channel": channel, **token}))
        self._unanswered += len(messages)
        return messages

    def read(self, frame: bytes) -> list[Event]:
        head = _HEAD.match(frame)
        if head is None:
            return super().read(frame)
        if head[1] in _DATA:
            self.heard(_DATA[head[1]], head[3].decode(errors="replace") if head[3] else "")
        if int(head[2]) == self._expected and head[1] != b"subscriptions":
            self._expected += 1  # nearly all of them
            return []
        lost = self._follow(int(head[2]))
        return lost + (super().read(frame) if head[1] == b"subscriptions" else [])

    def note(self, content: Any) -> list[Event]:
        if content.get("type") == "error":
            # "authentication failure" is the answer to a refused token and to a channel that the
            # venue does not have: both stay wrong.
            self._unanswered -= self._unanswered > 0
            said = content.get("message")
            message = said if isinstance(said, str) else "an error without a message"
            return [Refused(message, fatal="authentication" in message.lower())]
        number = content.get("sequence_num")
        numbered = type(number) is int and 0 <= number < 1 << 63
        acknowledges = content.get("channel") == "subscriptions"
        self._unanswered -= acknowledges and self._unanswered > 0
        refused = self._unacknowledged(content) if acknowledges and not self._unanswered else []
        return [*(self._follow(number) if numbered else []), *refused]

    def _follow(self, number: int) -> list[Event]:
        # After a gap every book of the connection is in doubt: new snapshots are asked for. What is
        # late or repeated has a number below the expected one: it neither opens nor fills a gap.
        expected, self._expected = self._expected, max(self._expected, number + 1)
        if number <= expected:
            return []
        lost = Lost("number", first=expected, last=number - 1)
        books = _BOOK in self.subscription.channels
        return [lost, *(self.resubscribe(_BOOK, *self.subscription.products) if books else [])]

    def overdue(self, now: float) -> list[Event]:
        """Return what follows from silences; a book has two names."""
        self._heard |= {(channel, f"{symbol}C") for channel, symbol in self._heard}
        return super().overdue(now)

    def _unacknowledged(self, content: Any) -> list[Event]:
        """Return the products that the acknowledged channels are without."""
        listed = {
            _book_of(product)
            for channel, products in content["events"][0]["subscriptions"].items()
            if channel in self.subscription.channels and channel != _HEARTBEATS
            for product in products
        }
        missing = [p for p in self.subscription.products if listed and _book_of(p) not in listed]
        return [e for one in missing for e in self.refused("it is not among the acknowledged", one)]


def _book_of(product: str) -> str:
    """Return the product under which the venue answers: the books against USDC are those in USD."""
    return product.removesuffix("C") if product.endswith("-USDC") else product


SOURCE = Coinbase()
