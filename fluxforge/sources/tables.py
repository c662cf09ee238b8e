"""The tables of a source, as its ``.sql`` files declare them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import resources
from typing import Any, Literal

from fluxforge.errors import TableError

# The columns of the tables that every venue has, each with its type in DuckDB's words. A ``.sql``
# file selects by these names; what it leaves out is null. A table of a venue's own declares its
# columns at the head of its file, and so does one whose type differs here.
LEADING = {
    "symbol": "VARCHAR",  # in the venue's own spelling
    "ts_event": "TIMESTAMPTZ",  # the venue's time of the event
    "ts_recv": "TIMESTAMPTZ",  # when the frame was captured
    "seq": "BIGINT",  # the venue's number; null where it has none
    "conn": "VARCHAR",  # the socket
}
MARKET = {
    "instrument": "VARCHAR",  # in the common spelling: BASE-QUOTE for a spot pair
    "market": "VARCHAR",  # spot, linear, inverse
}
TABLES = {
    "trades": {
        "trade_id": "BIGINT",
        "price": "DOUBLE",
        "size": "DOUBLE",
        "side": "VARCHAR",  # the aggressor's: buy or sell
        "is_snapshot": "BOOLEAN",
    },
    "orderbook": {
        "side": "VARCHAR",  # bid or ask
        "price": "DOUBLE",
        "size": "DOUBLE",  # what now stands at the price; 0 removes the level
        "is_snapshot": "BOOLEAN",
        "position": "INTEGER",  # the level's place in its frame
        "checksum": "BIGINT",  # the venue's, of the book after this frame
    },
    "ticker": {
        "price": "DOUBLE",
        "best_bid": "DOUBLE",
        "best_bid_size": "DOUBLE",
        "best_ask": "DOUBLE",
        "best_ask_size": "DOUBLE",
        "volume_24h": "DOUBLE",
        "low_24h": "DOUBLE",
        "high_24h": "DOUBLE",
        "low_52w": "DOUBLE",
        "high_52w": "DOUBLE",
        "change_24h_percent": "DOUBLE",
        "is_snapshot": "BOOLEAN",
    },
    "candles": {
        "interval": "VARCHAR",  # 1m, 5m, 1h
        "start": "TIMESTAMPTZ",
        "open": "DOUBLE",
        "high": "DOUBLE",
        "low": "DOUBLE",
        "close": "DOUBLE",
        "volume": "DOUBLE",
    },
    "status": {
        "product_type": "VARCHAR",
        "base_currency": "VARCHAR",
        "quote_currency": "VARCHAR",
        "base_increment": "DOUBLE",
        "quote_increment": "DOUBLE",
        "display_name": "VARCHAR",
        "status": "VARCHAR",
        "status_message": "VARCHAR",
        "min_market_funds": "DOUBLE",
    },
}

_HEAD = re.compile(r"^-- (\w+): *(.*)$", re.MULTILINE)
_FRAMES_SHAPE = re.compile(r"^-- shape:(.*)$", re.MULTILINE)
_PATH = re.compile(r"'\$(?:[\w.\[\]*]*\.)?(\w+)(?:\[\*\])?'")
_SHAPE = re.compile(r"'\s*([\[{]\s*[\"\[{][^']*)'")


def parse_columns(text: str) -> dict[str, str]:
    """Read ``name TYPE, name TYPE``, as the head of a ``.sql`` file declares its columns.

    >>> parse_columns("trade_id VARCHAR, price DOUBLE")
    {'trade_id': 'VARCHAR', 'price': 'DOUBLE'}
    """
    pairs = (column.split() for column in text.split(",") if column.strip())
    return {name: kind.upper() for name, kind in pairs}


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _expanded(shape: Any) -> Any:
    """Return a shape with the fields that ``""`` lists, which are text."""
    if isinstance(shape, list):
        return [_expanded(one) for one in shape]
    if not isinstance(shape, dict):
        return shape
    named = dict.fromkeys(shape.get("", "").split(), "VARCHAR")
    return named | {name: _expanded(of) for name, of in shape.items() if name}


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
        optional for the tables of ``TABLES``: ``name TYPE, …`` of further
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
    words: tuple[str, ...] = ()

    @classmethod
    def from_sql(cls, name: str, sql: str) -> Channel:
        """Read a channel from its file's text; a TableError says what its head lacks."""
        head = dict(_HEAD.findall(sql))
        missing = [word for word in ("takes", "rows") if not head.get(word)]
        if missing:
            raise TableError(f"{name}.sql lacks a line '-- {missing[0]}: …' at its head")
        columns = TABLES.get(name, {}) | parse_columns(head.get("columns", ""))
        if not columns:
            raise TableError(f"{name}.sql lacks a line '-- columns: name TYPE, …' at its head")
        key, _, winner = head.get("key", "").partition(";")
        winners: dict[str, Literal["first", "last"]] = {"first wins": "first", "last wins": "last"}
        keep = winners.get(winner.strip())
        if key and keep is None:
            raise TableError(f"{name}.sql: key needs 'first wins' or 'last wins': {winner.strip()}")
        return cls(
            name=name,
            sql=sql,
            takes=_words(head["takes"]),
            rows=head["rows"].strip(),
            unused=_words(head.get("unused", "")),
            columns={**LEADING, **MARKET, **columns},
            key=_words(key),
            keep=keep,
            words=_words(head.get("words", "")),
        )

    @property
    def marks(self) -> tuple[str, ...]:
        """Of which one at least stands in every frame of the channel: its kinds, or ``words``."""
        kinds = ('"history"' if kind.startswith("history_") else kind for kind in self.takes)
        return tuple(dict.fromkeys((*kinds, *self.words)))

    @property
    def places(self) -> tuple[str, ...]:
        """The JSON paths of what the rows come from: a frame has one of them."""
        return tuple(place.strip() for place in self.rows.split("|"))

    @cached_property
    def known_fields(self) -> frozenset[str]:
        """Every field name that the SQL reads, by a shape or by a path, or declares unused."""
        shapes = _SHAPE.findall(self.sql)
        named = (name for text in shapes for name in re.findall(r'"([^"]*)" *:', text))
        return frozenset({*self.unused, *_PATH.findall(self.sql), *named})


@dataclass(frozen=True)
class SourceTables:
    """The SQL of a source: how to read a frame, and its channels.

    The head of ``frames.sql`` holds ``-- control:``, the kinds of frame that make no rows,
    ``-- fields:``, the fields that every frame may have, and ``-- instrument:`` and
    ``-- market:``, what gives these columns of a row of any table. Where it holds
    ``-- shape:`` too, on any number of lines, that is the shape of all frames as ``from_json``
    takes it: ``data`` has this type then, and is read several times as fast. The fields that a key
    ``""`` lists are text. Those whose names differ by case alone, and those whose type is not
    always the same, need JSON.
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
            frame=_expanded(json.loads("".join(_FRAMES_SHAPE.findall(frames)) or "null")),
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
