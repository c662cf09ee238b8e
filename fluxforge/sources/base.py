"""The source contract: what an exchange's folder under ``sources/`` has to say.

A source is a folder (or a package with a ``fluxforge.sources`` entry point) that holds

- ``protocol.py``: what to send and how to read what comes, without any I/O;
- ``frames.sql``: how to read the kind, sequence number and time of a frame;
- ``<table>.sql``: one file a table, which says in its head which frames it takes.
"""

from __future__ import annotations

import difflib
import json
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import urlsplit

from fluxforge.errors import ConfigError, TableError, UsageError
from fluxforge.sources.columns import LEADING, MARKET, TABLES, parse_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import polars as pl

    from fluxforge.sources.rest import Calls, Instrument, Past
    from fluxforge.sources.session import Session

_HEAD = re.compile(r"^-- (\w+): *(.*)$", re.MULTILINE)
_FRAMES_SHAPE = re.compile(r"^-- shape:(.*)$", re.MULTILINE)
_PATH = re.compile(r"'\$(?:[\w.\[\]*]*\.)?(\w+)(?:\[\*\])?'")
_SHAPE = re.compile(r"'\s*([\[{]\s*[\"\[{][^']*)'")


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


@dataclass(frozen=True)
class Channel:
    """One table of a source, as its ``.sql`` file declares it.

    The head of the file holds lines of the form ``-- word: value``:

    ``takes``
        the kinds of frame it reads, separated by commas;
    ``rows``
        the JSON path of what its rows come from, or several with ``|`` between them: a frame
        that has none of them goes to quarantine;
    ``key``
        optional: ``symbol, trade_id; first wins`` or ``…; last wins``;
    ``unused``
        optional: fields that the venue sends and no column needs;
    ``columns``
        optional for the tables of :mod:`fluxforge.sources.columns`: ``name TYPE, …`` of further
        columns, or of those whose type is another here.

    The SQL reads the view ``frames`` (``line_no, ts_recv, conn, kind, seq, ts_sent, data``) and
    hands ``line_no`` on. Columns that it does not select are null. ``data`` is JSON, or of the
    type that ``frames.sql`` gives it.
    """

    name: str
    sql: str
    takes: tuple[str, ...]
    rows: str
    columns: dict[str, str] = field(repr=False)
    unused: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    keep: Literal["first", "last"] | None = None

    @classmethod
    def from_sql(cls, name: str, sql: str) -> Channel:
        """Read a channel from its file's text.

        Raises
        ------
        TableError
            If the head lacks ``takes``, ``rows`` or the columns of a table that no other venue
            has, or if the key names no winner.
        """
        head = dict(_HEAD.findall(sql))
        missing = [word for word in ("takes", "rows") if not head.get(word)]
        if missing:
            raise TableError(f"{name}.sql lacks a line '-- {missing[0]}: …' at its head")
        columns = TABLES.get(name, {}) | parse_columns(head.get("columns", ""))
        if not columns:
            raise TableError(f"{name}.sql lacks a line '-- columns: name TYPE, …' at its head")
        key, _, winner = head.get("key", "").partition(";")
        keep: Literal["first", "last"] | None = None
        if key:
            match winner.strip():
                case "first wins":
                    keep = "first"
                case "last wins":
                    keep = "last"
                case other:
                    raise TableError(f"{name}.sql: key needs 'first wins' or 'last wins': {other}")
        return cls(
            name=name,
            sql=sql,
            takes=_words(head["takes"]),
            rows=head["rows"].strip(),
            unused=_words(head.get("unused", "")),
            columns={**LEADING, **MARKET, **columns},
            key=_words(key),
            keep=keep,
        )

    @property
    def places(self) -> tuple[str, ...]:
        """The JSON paths of what the rows come from: a frame has one of them."""
        return tuple(place.strip() for place in self.rows.split("|"))

    @cached_property
    def known_fields(self) -> frozenset[str]:
        """Every field name that the SQL reads, by a shape or by a path, or declares unused."""
        names = {*self.unused, *_PATH.findall(self.sql)}

        def collect(shape: object) -> None:
            if isinstance(shape, dict):
                names.update(shape)
                for value in shape.values():
                    collect(value)
            elif isinstance(shape, list):
                for value in shape:
                    collect(value)

        for text in _SHAPE.findall(self.sql):
            collect(json.loads(text))
        return frozenset(names)


@dataclass(frozen=True)
class Subscription:
    """What one socket subscribes to; products are in the venue's spelling, without the market."""

    products: tuple[str, ...]
    channels: tuple[str, ...]
    market: str = "spot"


@dataclass(frozen=True)
class VenueLimits:
    """What the venue allows and what to expect of it.

    Attributes
    ----------
    connections_per_second, messages_per_second
        Rates that the collector keeps below.
    silence_seconds
        How long a healthy connection may be without a single frame.
    products_per_socket
        How many products share a connection.
    first_sequence
        The number of the first frame of a connection; None where frames are not numbered.
    ping_seconds
        How often to send the venue's own ping; None: it has none.
    rest_per_second
        How many REST calls to make at most.
    channel_silence
        How many seconds a channel of one product may be silent before a new snapshot is asked
        for; channels that are not named may be silent for ever.
    """

    connections_per_second: float
    messages_per_second: float
    silence_seconds: float
    products_per_socket: int
    first_sequence: int | None = None
    ping_seconds: float | None = None
    rest_per_second: float = 5.0
    channel_silence: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class BookRules:
    """How the rows of a venue's table ``orderbook`` make a book.

    Attributes
    ----------
    depths
        Where a level that falls below the subscribed depth is gone without a removal: the depths
        that can be subscribed to.
    by_number
        Whether a snapshot takes its place among the changes by its number: it comes by another
        way than they do, and may be older than changes that were received before it.
    runs
        Where books have checksums: what finds, from rows, the times in which they are right.
    """

    depths: tuple[int, ...] = ()
    by_number: bool = False
    runs: Callable[[pl.DataFrame], pl.DataFrame] | None = None

    def depth_of(self, levels: int) -> int | None:
        """Return the depth to which a book is cut whose snapshot has so many levels a side."""
        return next((d for d in self.depths if d >= levels), levels) if self.depths else None


@dataclass(frozen=True)
class SourceTables:
    """The SQL of a source: how to read a frame, and its channels.

    The head of ``frames.sql`` holds ``-- control:``, the kinds of frame that make no rows,
    ``-- fields:``, the fields that every frame may have, and ``-- instrument:`` and
    ``-- market:``, what gives these columns of a row of any table. Where it holds
    ``-- shape:`` too, on any number of lines, that is the shape of all frames as ``from_json``
    takes it: ``data`` has this type then, and is read several times as fast. Fields whose names
    differ by case alone, and those whose type is not always the same, need JSON.
    """

    frames_sql: str
    control: tuple[str, ...]
    fields: tuple[str, ...]
    channels: dict[str, Channel] = field(default_factory=dict)
    frame: dict[str, Any] | None = None

    @classmethod
    def from_package(cls, package: str) -> SourceTables:
        """Read ``frames.sql`` and every ``<table>.sql`` that lies in a package."""
        files = {
            entry.name.removesuffix(".sql"): entry.read_text(encoding="utf-8")
            for entry in resources.files(package).iterdir()
            if entry.name.endswith(".sql")
        }
        frames = files.pop("frames", None)
        if frames is None:
            raise TableError(f"{package} has no frames.sql")
        head = dict(_HEAD.findall(frames))
        named = ", ".join(f"{head.get(name, 'NULL')} AS {name}" for name in MARKET)
        return cls(
            frames_sql=frames,
            control=_words(head.get("control", "")),
            fields=_words(head.get("fields", "")),
            channels={
                name: replace(channel, sql=f"SELECT *, {named} FROM (\n{sql}\n)")
                for name, sql in sorted(files.items())
                for channel in [Channel.from_sql(name, sql)]
            },
            frame=json.loads("".join(_FRAMES_SHAPE.findall(frames)) or "null"),
        )

    def known_fields(self, channel: Channel) -> frozenset[str]:
        """Return the names of the fields that the frames of a channel are known to have."""
        names = channel.known_fields | set(self.fields)
        shape: Any = self.frame or {}
        for step in ["", *channel.places[0].removeprefix("$.").split(".")]:
            shape = shape.get(step.removesuffix("[*]"), {}) if step else shape
            shape = shape[0] if isinstance(shape, list) else shape
            names |= set(shape)
        return names

    def channel_of(self, kind: str) -> Channel | None:
        """Return the channel that takes frames of this kind."""
        return next((c for c in self.channels.values() if kind in c.takes), None)


class Source(ABC):
    """One exchange. Stateless: what belongs to a connection lives with the connection.

    Attributes
    ----------
    name, limits, book
        What it is called, what it allows, and how its books are made.
    channels, other_names
        Its channels, and what some of them are called elsewhere.
    product, example
        The form of its symbols, and one of them.
    markets
        Its markets; where there are several, a product is written ``linear:BTCUSDT``.
    rest_url, candle_interval
        Where its public REST calls are answered, and how long its channel's candles are.
    """

    name: ClassVar[str]
    limits: ClassVar[VenueLimits]
    book: ClassVar[BookRules] = BookRules()
    channels: ClassVar[tuple[str, ...]]
    other_names: ClassVar[Mapping[str, str]] = MappingProxyType({})
    product: ClassVar[re.Pattern[str]]
    example: ClassVar[str]
    markets: ClassVar[tuple[str, ...]] = ("spot",)
    rest_url: ClassVar[str]
    candle_interval: ClassVar[str] = "1m"

    @cached_property
    def tables(self) -> SourceTables:
        """The source's SQL files."""
        return SourceTables.from_package(type(self).__module__.rpartition(".protocol")[0])

    @abstractmethod
    def session(self, subscription: Subscription) -> Session:
        """Return the conversation over a new connection."""

    def plan(self, products: Sequence[str], channels: Sequence[str]) -> list[Subscription]:
        """Spread products over as many sockets as the venue needs, each with all channels.

        Raises
        ------
        ConfigError
            If a channel or a product is not one of the venue's, with the nearest right name.
        """
        wanted = self.check_channels(channels)
        if not products:
            raise ConfigError(f"{self.name}: no products; name at least one, as {self.example}")
        split = dict.fromkeys(self.split(product) for product in products)
        return [
            Subscription(part, wanted, market)
            for market in self.markets
            for part in in_parts(
                [symbol for place, symbol in split if place == market],
                self.products_per_socket(wanted),
            )
        ]

    def products_per_socket(self, channels: Sequence[str]) -> int:
        """Return how many products may share a connection with these channels."""
        return self.limits.products_per_socket

    def room(self, subscription: Subscription) -> int:
        """Return how many products more a connection may take."""
        return self.products_per_socket(subscription.channels) - len(subscription.products)

    def listing(self) -> Calls[list[Instrument]]:
        """Return the calls that end in the venue's instruments."""
        raise UsageError(f"{self.name} has no list of its instruments")

    def past(self, wanted: Past) -> Calls[None]:
        """Return the calls whose answers hold a part of the past.

        Raises
        ------
        UsageError
            If the venue does not give it.
        """
        raise UsageError(f"{self.name} gives nothing of its past")

    def complaint(self, answer: Any) -> str | None:
        """Return the venue's words where an answer is a refusal all the same."""
        return None

    def address(self, url: str, subscription: Subscription) -> str:
        """Return where to connect for a subscription; by default the configured address."""
        return url

    def rest_address(self, url: str, rest_url: str | None = None) -> str:
        """Return where REST calls go.

        That is `rest_url` where it is configured; the WebSocket's host and port where `url` is
        on this machine, as the local exchange serves both; and else the venue's own.
        """
        parts = urlsplit(url)
        if rest_url is None and parts.hostname in ("127.0.0.1", "localhost", "::1"):
            return f"http://{parts.netloc}"
        return (rest_url or self.rest_url).rstrip("/")

    def is_own(self, url: str, rest_address: str) -> bool:
        """Tell whether the REST address belongs to the WebSocket's: the venue's, or one's own."""
        domain = ".".join((urlsplit(self.rest_url).hostname or "").split(".")[-2:])
        host = urlsplit(url).hostname or ""
        return rest_address != self.rest_url or host == domain or host.endswith(f".{domain}")

    def check_channels(self, channels: Sequence[str]) -> tuple[str, ...]:
        """Return the channels, each once, if all of them are the venue's.

        Raises
        ------
        ConfigError
            If there is none, or one that the venue does not have; with the nearest right name.
        """
        known = ", ".join(self.channels)
        if not channels:
            raise ConfigError(f"{self.name}: no channels; there are: {known}")
        for name in channels:
            if name not in self.channels:
                near = [self.other_names[name]] if name in self.other_names else []
                near += difflib.get_close_matches(name, self.channels, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are: {known}"
                raise ConfigError(f"{self.name}: unknown channel {name!r}: {hint}")
        return tuple(dict.fromkeys(channels))

    def split(self, product: str) -> tuple[str, str]:
        """Return the market and the symbol of a product: ``linear:BTCUSDT``, or ``BTC-USD``.

        Raises
        ------
        ConfigError
            If it is not written as the venue writes it, with the right form where it can be
            guessed; or lacks its market where the venue has several.
        """
        market, _, symbol = product.rpartition(":")
        if self.product.fullmatch(symbol) and market in (*self.markets, ""):
            if market or len(self.markets) == 1:
                return market or self.markets[0], symbol
            choice = ", ".join(f"{market}:{symbol}" for market in self.markets)
            raise ConfigError(f"{self.name}: {product!r} may be in several markets: write {choice}")
        separator = "".join(re.findall(r"[^A-Za-z0-9]", self.example.rpartition(":")[2]))
        right = re.sub(r"[^A-Z0-9]+", separator, symbol.upper()).strip(separator)
        hint = f"as {self.example}"
        if self.product.fullmatch(right) and market in (*self.markets, ""):
            hint = f"did you mean {f'{market}:{right}' if market else right!r}?"
        raise ConfigError(f"{self.name}: {product!r} is not a product of this venue: {hint}")


def in_parts(items: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """Divide items into parts of at most `size`."""
    return [tuple(items[start : start + size]) for start in range(0, len(items), size)]
