"""What to say to Kraken, and how to read what it says. No I/O here.

Facts are from docs.kraken.com, "Spot WebSocket v2", and from recorded traffic of 2026.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

from fluxforge.sources.base import BookRules, Source, Subscription, VenueLimits
from fluxforge.sources.checksum import DEPTHS, SILENCE_SECONDS, ChecksumBook, checked_runs, depth_of
from fluxforge.sources.rest import Instrument
from fluxforge.sources.session import Lost, NumberCheck, Session, dumps

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fluxforge.sources.rest import Calls, Past
    from fluxforge.sources.session import Event, Method

_REST_NAMES = {"XBT": "BTC", "XDG": "DOGE"}
_BOOK = "book"
_OPTIONS = {_BOOK: {"depth": 100}, "ohlc": {"interval": 1}}


class Kraken(Source):
    """Kraken, spot market data over WebSocket v2."""

    name: ClassVar[str] = "kraken"
    limits: ClassVar[VenueLimits] = VenueLimits(
        connections_per_second=1.0,
        messages_per_second=5.0,
        silence_seconds=15.0,  # heartbeats come every second
        products_per_socket=50,
        ping_seconds=30.0,
        rest_per_second=1.0,
        channel_silence={_BOOK: SILENCE_SECONDS},  # heartbeats go on when a book has died
    )
    book: ClassVar[BookRules] = BookRules(depths=DEPTHS, runs=checked_runs)
    channels = (_BOOK, "trade", "ticker", "ohlc", "instrument")
    other_names = {"orderbook": _BOOK, "trades": "trade", "candles": "ohlc"}  # noqa: RUF012
    product = re.compile(r"[A-Z0-9.]+/[A-Z0-9.]+")
    example = "BTC/USD"
    url = "wss://ws.kraken.com/v2"
    rest_url = "https://api.kraken.com"

    def session(self, subscription: Subscription) -> KrakenSession:
        return KrakenSession(self, subscription)

    def listing(self) -> Calls[list[Instrument]]:
        answer = yield "/0/public/AssetPairs"
        found = []
        for one in answer["result"].values():
            symbol = _renamed(one.get("wsname", ""), _REST_NAMES.items())
            base, _, quote = symbol.partition("/")
            found.append(
                Instrument(
                    symbol, f"{base}-{quote}", "spot", base, quote, one.get("pair_decimals"),
                    one.get("lot_decimals"), one.get("status", "online") == "online",
                )
            )  # fmt: skip
        return found

    def past(self, wanted: Past) -> Calls[bool]:
        """Return calls for trades, from the oldest on, or for candles: there are 720, to now."""
        back = [(new, old) for old, new in _REST_NAMES.items()]
        pair = _renamed(wanted.symbol, back).replace("/", "")
        (start, end), length = wanted.seconds, 60 * wanted.minutes
        if wanted.table == "candles":
            answer = yield f"/0/public/OHLC?pair={pair}&interval={wanted.minutes}&since={start - 1}"
            rows = next(rows for name, rows in answer["result"].items() if name != "last")
            first = -(-start // length) * length
            return bool(first >= end or len(rows) < 720 or rows[0][0] <= first)
        since, last = start * 10**9 - 1, start * 10**9
        while since < last < end * 10**9:
            since = last
            answer = yield f"/0/public/Trades?pair={pair}&since={since}&count=1000"
            last = int(answer["result"]["last"])
        return True

    def complaint(self, answer: Any) -> str | None:
        return ", ".join(answer.get("error") or ()) or None


def _renamed(symbol: str, names: Iterable[tuple[str, str]]) -> str:
    """Return a symbol by other names of its currencies: REST has older ones."""
    known = dict(names)
    return "/".join(known.get(part, part) for part in symbol.split("/"))


class KrakenSession(Session):
    """One connection to Kraken.

    A lost change of a book shows in the venue's checksum of the ten best levels; what lies below
    them is not covered. Trades are numbered without a hole per pair.
    """

    def __init__(self, source: Kraken, subscription: Subscription) -> None:
        super().__init__(source, subscription)
        self._books: dict[str, ChecksumBook] = {}
        self._silent: dict[str, ChecksumBook] = {}  # as they stood when they fell silent
        self._depths: dict[str, int] = {}
        self._trades = NumberCheck()

    def request(
        self, method: Method, channels: Sequence[str], products: Sequence[str]
    ) -> list[str]:
        messages = []
        for channel in channels:
            symbols = {} if channel == "instrument" else {"symbol": list(products)}
            params = {"channel": channel, **symbols, **_OPTIONS.get(channel, {})}
            messages.append(dumps({"method": method, "params": params}))
        return messages

    def note(self, content: Any) -> list[Event]:
        if "method" in content:
            return self._answer(content)
        events: list[Event] = []
        self.heard(str(content.get("channel")))
        for row in content.get("data", ()):
            match content.get("channel"):
                case "book":
                    events += self._book(content["type"], row)
                case "trade":
                    events += self._trades.follow("trades", row["symbol"], int(row["trade_id"]))
        return events

    def resubscribe(self, channel: str, *symbols: str) -> list[Event]:
        """Return what asks for new snapshots; what is on its way until then belongs to no book."""
        for symbol in symbols if channel == _BOOK else ():
            if symbol in self._books:
                self._silent[symbol] = self._books.pop(symbol)
        return super().resubscribe(channel, *symbols)

    def ping(self) -> str:
        return '{"method":"ping"}'

    def _answer(self, content: dict[str, Any]) -> list[Event]:
        if content["method"] != "subscribe":
            return []
        if not content["success"]:
            error = str(content.get("error"))
            return [] if "already" in error.lower() else self.refused(error, content.get("symbol"))
        if depth := content["result"].get("depth"):
            self._depths[content["result"]["symbol"]] = depth
        return []

    def _book(self, kind: str, data: dict[str, Any]) -> list[Event]:
        symbol = data["symbol"]
        bids, asks = (
            [(float(row["price"]), str(row["price"]), str(row["qty"])) for row in data[side]]
            for side in ("bids", "asks")
        )
        before = None
        if kind == "snapshot":
            before = self._silent.pop(symbol, None)
            most = max(len(bids), len(asks))
            self._books[symbol] = ChecksumBook(self._depths.get(symbol) or depth_of(most))
        book = self._books.get(symbol)
        if book is None:
            return []  # a change on its way while a new snapshot is awaited
        self.heard(_BOOK, symbol)
        book.apply(bids, asks)
        if book.checksum() != data["checksum"]:
            self._books.pop(symbol)
            return [Lost("checksum", "orderbook", symbol), *self.resubscribe(_BOOK, symbol)]
        if before is not None and before.checksum() != data["checksum"]:
            return [Lost("age", "orderbook", symbol)]
        return []


SOURCE = Kraken()
