"""The source contract: what an exchange's folder under ``sources/`` has to say.

A source is a folder (or a package with a ``fluxforge.sources`` entry point) that holds

- ``protocol.py``: what to send and how to read what comes, without any I/O;
- ``frames.sql``: how to read the kind, sequence number and time of a frame;
- ``<table>.sql``: one file a table, which says in its head which frames it takes.
"""

from __future__ import annotations

import difflib
import re
from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fluxforge.errors import ConfigError, UsageError
from fluxforge.sources.tables import SourceTables
from fluxforge.sources.venue import BookRules, Subscription, Venue, VenueLimits, in_parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fluxforge.sources.rest import Calls, Instrument, Past
    from fluxforge.sources.session import Session

__all__ = ["BookRules", "Source", "Subscription", "VenueLimits"]


class Source(Venue, ABC):
    """One exchange. Stateless: what belongs to a connection lives with the connection."""

    @cached_property
    def tables(self) -> SourceTables:
        """The source's SQL files."""
        return SourceTables.from_package(type(self).__module__.rpartition(".protocol")[0])

    @abstractmethod
    def session(self, subscription: Subscription) -> Session:
        """Return the conversation over a new connection."""

    def plan(self, products: Sequence[str], channels: Sequence[str]) -> list[Subscription]:
        """Spread products over as many sockets as the venue needs, each with all channels.

        A ConfigError says which is not one of the venue's, with the nearest right name.
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

    def past(self, wanted: Past) -> Calls[bool]:
        """Return the calls for a part of the past; they end in whether the venue gave all of it."""
        raise UsageError(f"{self.name} gives nothing of its past")

    def check_past(self, tables: Sequence[str], channels: Sequence[str]) -> None:
        """Refuse what would be other rows than those that `channels` bring."""

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
        """Return the channels, each once; a ConfigError where one is not the venue's."""
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

        A ConfigError has the right form, where it can be guessed.
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
