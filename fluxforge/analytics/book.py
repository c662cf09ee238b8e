"""An order book at one moment."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from datetime import datetime

SHOWN = "%Y-%m-%d %H:%M:%S.%f"


@dataclass(frozen=True)
class Book:
    """An order book at one moment.

    Attributes
    ----------
    source, symbol
        Whose book it is.
    bids, asks
        Frames of ``price, size`` (base currency), best first.
    ts_event
        The venue's time of the last frame in it, UTC.
    conn
        The connection that it came over.
    snapshot_at
        The venue's time of the snapshot that it began with, UTC.
    complete
        Whether nothing is missing between that snapshot and the moment that was asked for, as far
        as the venue lets one know: Kraken's checksum covers the ten best levels of each side.
    """

    source: str
    symbol: str
    bids: pl.DataFrame = field(repr=False)
    asks: pl.DataFrame = field(repr=False)
    ts_event: datetime
    conn: str
    snapshot_at: datetime
    complete: bool

    @property
    def spread(self) -> float | None:
        """The best ask less the best bid, in the quote currency; None if a side is empty."""
        return None if self._best is None else self._best[2] - self._best[0]

    @property
    def mid(self) -> float | None:
        """The middle between the best bid and the best ask; None if a side is empty."""
        return None if self._best is None else (self._best[0] + self._best[2]) / 2

    @property
    def microprice(self) -> float | None:
        """The mid weighted by the size on the other side; None if a side is empty."""
        if self._best is None:
            return None
        bid, bid_size, ask, ask_size = self._best
        return (bid * ask_size + ask * bid_size) / (bid_size + ask_size)

    @property
    def imbalance(self) -> float | None:
        """``(bid size - ask size) / (bid size + ask size)`` over all levels held; -1 to 1."""
        bid, ask = float(self.bids["size"].sum()), float(self.asks["size"].sum())
        return (bid - ask) / (bid + ask) if bid + ask else None

    @property
    def _best(self) -> tuple[float, float, float, float] | None:
        if self.bids.is_empty() or self.asks.is_empty():
            return None
        return (*self.bids.row(0), *self.asks.row(0))

    def __repr__(self) -> str:
        best = self._best
        quote = (
            "one side is empty"
            if best is None
            else "{} x {} / {} x {}".format(*(f"{Decimal(repr(one)):f}" for one in best))
        )
        doubt = "" if self.complete else ", incomplete"
        when = f"{self.ts_event:{SHOWN}} UTC"
        return f"<Book {self.source} {self.symbol} {when}: {quote}{doubt}>"

    def _repr_html_(self) -> str:
        rows = pl.concat(
            [
                self.bids.select(pl.col("size").alias("bid size"), pl.col("price").alias("bid")),
                self.asks.select(pl.col("price").alias("ask"), pl.col("size").alias("ask size")),
            ],
            how="horizontal",
        )
        return f"<p>{self.__repr__()[1:-1]}</p>{rows._repr_html_()}"
