"""The facts of a venue: what it is called, what it allows, how its books are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Mapping, Sequence

    import polars as pl


@dataclass(frozen=True)
class Subscription:
    """What one socket subscribes to; products are in the venue's spelling, without the market."""

    products: tuple[str, ...]
    channels: tuple[str, ...]
    market: str = "spot"


@dataclass(frozen=True)
class VenueLimits:
    """What the venue allows, which the collector keeps below, and what to expect of it."""

    connections_per_second: float
    messages_per_second: float
    silence_seconds: float  # how long a healthy connection may be without a single frame
    products_per_socket: int
    first_sequence: int | None = None  # of a connection; None where frames are not numbered
    ping_seconds: float | None = None  # how often to send the venue's own ping; None: it has none
    rest_per_second: float = 5.0
    snapshots_at_once: int = 10  # of books that begin with a REST answer
    snapshots_per_second: float = 5.0  # after those
    channel_silence: Mapping[str, float] = field(default_factory=dict)
    """How many seconds a channel of one product may be silent before a new snapshot is asked for;
    channels that are not named may be silent for ever."""


@dataclass(frozen=True)
class BookRules:
    """How the rows of a venue's table ``orderbook`` make a book."""

    depths: tuple[int, ...] = ()
    """Where a level that falls below the subscribed depth is gone without a removal: the depths."""
    by_number: bool = False
    """Whether a snapshot takes its place among the changes by its number: it comes by another way
    than they do, and may be older than changes that were received before it."""
    runs: Callable[[pl.DataFrame], pl.DataFrame] | None = None
    """Where books have checksums: what finds, from rows, the times in which they are right."""

    def depth_of(self, levels: int) -> int | None:
        """Return the depth to which a book is cut whose snapshot has so many levels a side."""
        return next((d for d in self.depths if d >= levels), levels) if self.depths else None


class Venue:
    """What a :class:`~fluxforge.sources.Source` declares."""

    name: ClassVar[str]
    limits: ClassVar[VenueLimits]
    book: ClassVar[BookRules] = BookRules()
    channels: ClassVar[tuple[str, ...]]
    other_names: ClassVar[Mapping[str, str]] = MappingProxyType({})  # of channels, elsewhere
    product: ClassVar[re.Pattern[str]]  # the form of its symbols
    example: ClassVar[str]
    markets: ClassVar[tuple[str, ...]] = ("spot",)  # of several, a product is ``linear:BTCUSDT``
    url: ClassVar[str] = ""  # of its WebSocket, where the configuration says none
    rest_url: ClassVar[str]
    candle_interval: ClassVar[str] = "1m"  # of its channel


def in_parts(items: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """Divide items into parts of at most `size`."""
    return [tuple(items[start : start + size]) for start in range(0, len(items), size)]
