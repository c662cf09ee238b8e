"""Order books: at a moment, on a grid of times, and features of each change.

A book begins at a snapshot of its connection. The frames that follow are applied whole, in the
order in which they were received, for as long as nothing is missing: what lies between a gap (or
a reconnect) and the next snapshot belongs to no book.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from fluxforge.analytics.levels import Ladder, cut_to_depth, ladder
from fluxforge.errors import NoBookError

if TYPE_CHECKING:
    from datetime import datetime

    from fluxforge.analytics.levels import Floats

_SHOWN = "%Y-%m-%d %H:%M:%S.%f"
_TIME = pl.Datetime("us", "UTC")


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
        Whether nothing is missing between that snapshot and the moment that was asked for.
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
            else f"{best[0]:g} x {best[1]:g} / {best[2]:g} x {best[3]:g}"
        )
        doubt = "" if self.complete else ", incomplete"
        when = f"{self.ts_event:{_SHOWN}} UTC"
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


@dataclass(frozen=True)
class Epoch:
    """A snapshot and the frames that follow it without a gap, over one connection.

    Attributes
    ----------
    changes
        Level changes in order, with the number of their ``frame``, from 0, which is the snapshot.
    times
        Per frame: ``ts`` (the venue's time, never falling), ``ts_event`` and ``ts_recv``.
    until
        Up to when the book is known to hold: its last frame, or where its connection went on
        without a change of it, the end of that.
    broken
        When the first frame came that cannot be applied, because others before it are missing.
    """

    conn: str
    changes: pl.DataFrame
    times: pl.DataFrame
    until: datetime
    broken: datetime | None

    def frame_at(self, moment: datetime) -> int:
        """Return the last frame not later than a moment; -1 where all are."""
        return int(self.times["ts"].search_sorted(moment, side="right")) - 1

    def ladder(self, *, bids: bool, depth: int) -> Ladder:
        """Return the best levels of one side after each frame."""
        rows = self._side(bids)
        return ladder(
            rows["frame"].to_numpy(),
            rows["price"].to_numpy(),
            rows["size"].to_numpy(),
            count=self.times.height,
            depth=depth,
            bids=bids,
        )

    def levels(self, frame: int, *, bids: bool, depth: int | None) -> pl.DataFrame:
        """Return one side as it stands after a frame, best first; None: all levels."""
        held = (
            self._side(bids)
            .filter(pl.col("frame") <= frame)
            .unique("price", keep="last", maintain_order=True)
            .filter(pl.col("size") > 0)
            .sort("price", descending=bids)
            .select("price", "size")
        )
        return held if depth is None else held.head(depth)

    def _side(self, bids: bool) -> pl.DataFrame:
        return self.changes.filter(pl.col("side") == ("bid" if bids else "ask"))


def epochs(
    rows: pl.DataFrame, runs: pl.DataFrame, *, cut: bool = False, by_number: bool = False
) -> list[Epoch]:
    """Divide the level changes of one symbol into books without a gap, oldest first.

    Parameters
    ----------
    rows
        Rows of the table ``orderbook``, of one symbol.
    runs
        ``conn, start, end``: in which times of capture nothing of this book is missing.
    cut
        Whether the venue sends no removal for a level that falls below the subscribed depth.
    by_number
        Whether a snapshot takes its place among the changes by its number: it came by another
        way than they did, and may be older than changes that were received before it.
    """
    order = ("seq", "is_snapshot", "position") if by_number else ("ts_recv", "seq", "position")
    rows = rows.drop_nulls(["side", "price", "size"]).sort("conn", *order, maintain_order=True)
    rows = rows.with_columns(frame=pl.struct("conn", "ts_recv", "seq").rle_id().cast(pl.Int64))
    frames = (
        rows.group_by("frame", maintain_order=True)
        .agg(
            pl.col("conn", "ts_recv").first(),
            pl.col("is_snapshot").any(),
            pl.col("ts_event").max(),
            pl.coalesce("ts_event", "ts_recv").max().alias("ts"),
        )
        .sort("ts_recv", maintain_order=True)
        .join_asof(
            runs.with_columns(pl.col("start", "end").cast(_TIME))
            .sort("start")
            .with_row_index("run"),
            left_on="ts_recv",
            right_on="start",
            by="conn",
            check_sortedness=False,
        )
        .sort("frame")
    )
    other_run = pl.col("run").ne_missing(pl.col("run").shift())
    other_conn = pl.col("conn") != pl.col("conn").shift()
    begins = pl.col("is_snapshot") | other_run | other_conn.fill_null(value=True)
    parts = frames.with_columns(begins.cum_sum().alias("epoch")).partition_by(
        "epoch", maintain_order=True
    )
    found = []
    for part, after in zip(parts, [*parts[1:], None], strict=True):
        if not part["is_snapshot"][0]:
            continue  # it follows a gap, and no snapshot: it belongs to no book
        first, last = part["frame"][0], part["frame"][-1]
        changes = rows.filter(pl.col("frame").is_between(first, last)).select(
            pl.col("frame") - first, "side", "price", "size"
        )
        times = part.select(pl.col("ts").cum_max(), "ts_event", "ts_recv")
        ends = [times["ts"][-1], *part["end"].drop_nulls()[-1:]]
        broken = None
        if after is not None and after["conn"][0] == part["conn"][0]:
            broken = after["ts"][0]
            if after["is_snapshot"][0]:
                ends, broken = [times["ts"][-1], broken], None
        found.append(
            Epoch(
                conn=part["conn"][0],
                changes=_within_depth(changes) if cut else changes,
                times=times,
                until=max(ends),
                broken=broken,
            )
        )
    return sorted(found, key=lambda epoch: epoch.times["ts_recv"][0])


def _within_depth(changes: pl.DataFrame) -> pl.DataFrame:
    """Add the removals that the venue leaves out, at the end of the frames that cause them."""
    snapshot = changes.filter(pl.col("frame") == 0)
    depth = max(snapshot.group_by("side").len()["len"].to_list(), default=0)
    dropped = cut_to_depth(
        changes["frame"].to_numpy(),
        (changes["side"] == "bid").to_numpy(),
        changes["price"].to_numpy(),
        changes["size"].to_numpy(),
        depth=depth,
    )
    removals = (
        changes.with_columns(pl.Series("frame", dropped), size=pl.lit(0.0))
        .filter(pl.col("frame") >= 0)
        .select(changes.columns)
    )
    return pl.concat([changes, removals]).sort("frame", maintain_order=True)


def book_at(
    found: list[Epoch], source: str, symbol: str, at: datetime | None, depth: int | None
) -> Book:
    """Return the book of a symbol at a moment; see :meth:`fluxforge.Lake.book`.

    Raises
    ------
    NoBookError
        If no snapshot of it came before, or frames are missing since.
    """
    if not found:
        raise NoBookError(f"there is no snapshot of the order book of {symbol} in {source}")
    moment = found[-1].times["ts"][-1] if at is None else at
    begun = [epoch for epoch in found if epoch.times["ts"][0] <= moment]
    if not begun:
        first = found[0].times["ts"][0]
        raise NoBookError(f"the first book of {source} {symbol} is of {first:{_SHOWN}} UTC")
    holding = [epoch for epoch in begun if moment <= epoch.until]
    epoch = (holding or begun)[-1]
    if not holding and epoch.broken is not None and epoch.broken <= moment:
        raise NoBookError(
            f"frames of {source} {symbol} are missing before {epoch.broken:{_SHOWN}} UTC: the "
            f"book is unknown from {epoch.until:%H:%M:%S.%f} to the next snapshot"
        )
    frame = epoch.frame_at(moment)
    return Book(
        source=source,
        symbol=symbol,
        bids=epoch.levels(frame, bids=True, depth=depth),
        asks=epoch.levels(frame, bids=False, depth=depth),
        ts_event=epoch.times["ts"][frame],
        conn=epoch.conn,
        snapshot_at=epoch.times["ts"][0],
        complete=bool(holding),
    )


def book_snapshots(found: list[Epoch], every: str, depth: int) -> pl.DataFrame:
    """Return the book at regular times; see :meth:`fluxforge.Lake.books`."""
    columns = [
        f"{side}_{what}_{level}"
        for side in ("bid", "ask")
        for level in range(1, depth + 1)
        for what in ("price", "size")
    ]
    schema: dict[str, Any] = {"ts": _TIME, "complete": pl.Boolean}
    empty = pl.DataFrame(schema=schema | dict.fromkeys(columns, pl.Float64))
    if not found:
        return empty
    first = min(epoch.times["ts"][0] for epoch in found)
    last = max(epoch.until for epoch in found)
    grid = pl.DataFrame(
        {"ts": pl.datetime_range(first, last, every, time_unit="us", eager=True).dt.truncate(every)}
    ).filter(pl.col("ts") >= first)
    pieces = []
    for number, epoch in enumerate(found):
        times = epoch.times.with_row_index("frame").select("ts", "frame").unique("ts", keep="last")
        held = grid.filter(pl.col("ts").is_between(epoch.times["ts"][0], epoch.until))
        chosen = held.join_asof(times.sort("ts"), on="ts")
        frames = chosen["frame"].to_numpy()
        values = {}
        for side, bids in (("bid", True), ("ask", False)):
            best = epoch.ladder(bids=bids, depth=depth)
            for level in range(depth):
                values[f"{side}_price_{level + 1}"] = best.prices[frames, level]
                values[f"{side}_size_{level + 1}"] = best.sizes[frames, level]
        rows = pl.DataFrame(values, schema=dict.fromkeys(columns, pl.Float64)).fill_nan(None)
        pieces.append(
            chosen.select("ts", complete=pl.lit(value=True))
            .hstack(rows)
            .with_columns(epoch=pl.lit(number))
        )
    known = pl.concat(pieces).sort("epoch").unique("ts", keep="last").drop("epoch")
    return (
        grid.join(known, on="ts", how="left")
        .with_columns(pl.col("complete").fill_null(value=False))
        .select(empty.columns)
    )


def book_features(found: list[Epoch], levels: int, size: float) -> pl.DataFrame:
    """Return features of the book after each frame; see :meth:`fluxforge.Lake.book_features`."""
    pieces = [_features(epoch, levels, size) for epoch in found]
    if not pieces:
        return (
            pl.DataFrame(schema=dict.fromkeys(_FEATURES, pl.Float64))
            .select(
                pl.lit(None, _TIME).alias("ts_event"),
                pl.lit(None, pl.String).alias("conn"),
                pl.all(),
            )
            .clear()
        )
    return pl.concat(pieces)


_FEATURES = (
    "bid", "bid_size", "ask", "ask_size", "spread", "mid", "microprice",
    "imbalance", "order_flow_imbalance", "buy_vwap", "sell_vwap",
)  # fmt: skip


def _features(epoch: Epoch, levels: int, size: float) -> pl.DataFrame:
    bids, asks = epoch.ladder(bids=True, depth=levels), epoch.ladder(bids=False, depth=levels)
    bid, bid_size = bids.prices[:, 0], bids.sizes[:, 0]
    ask, ask_size = asks.prices[:, 0], asks.sizes[:, 0]
    bid_depth, ask_depth = np.nansum(bids.sizes, axis=1), np.nansum(asks.sizes, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = {
            "bid": bid,
            "bid_size": bid_size,
            "ask": ask,
            "ask_size": ask_size,
            "spread": ask - bid,
            "mid": (bid + ask) / 2,
            "microprice": (bid * ask_size + ask * bid_size) / (bid_size + ask_size),
            "imbalance": (bid_depth - ask_depth) / (bid_depth + ask_depth),
            "order_flow_imbalance": _flow(bid, bid_size, sign=1) - _flow(ask, ask_size, sign=-1),
            "buy_vwap": _price_of(asks, size),
            "sell_vwap": _price_of(bids, size),
        }
    times = epoch.times.select(pl.col("ts").alias("ts_event"), conn=pl.lit(epoch.conn))
    return times.hstack(pl.DataFrame(values).fill_nan(None))


def _flow(price: Floats, size: Floats, *, sign: int) -> Floats:
    """Return what was added at the best price of a side less what was taken from it.

    Cont, Kukanov and Stoikov, "The Price Impact of Order Book Events" (2014), equation 4.
    """
    price, size = np.nan_to_num(price * sign, nan=-np.inf), np.nan_to_num(size)
    flow = np.zeros(len(price))
    flow[1:] = np.where(price[1:] >= price[:-1], size[1:], 0) - np.where(
        price[1:] <= price[:-1], size[:-1], 0
    )
    return flow


def _price_of(side: Ladder, size: float) -> Floats:
    """Return the average price of taking a size from one side; NaN where it holds less."""
    sizes = np.nan_to_num(side.sizes)
    before = np.cumsum(sizes, axis=1) - sizes
    taken = np.clip(size - before, 0, sizes)
    cost = np.sum(taken * np.nan_to_num(side.prices), axis=1)
    enough = np.sum(sizes, axis=1) >= size
    return np.where(enough, cost / size, np.nan)
