"""Order books: at a moment, on a grid of times, and features of each change.

A book begins at a snapshot of its connection. The frames that follow are applied whole, in the
order in which they were received, for as long as nothing is missing: what lies between a gap (or
a reconnect) and the next snapshot belongs to no book.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from fluxforge.analytics.book import SHOWN, Book
from fluxforge.analytics.coverage import LATEST
from fluxforge.analytics.levels import Ladder, cut_to_depth, ladder
from fluxforge.errors import NoBookError
from fluxforge.sources.base import BookRules

if TYPE_CHECKING:
    from datetime import datetime

    from fluxforge.analytics.levels import Floats, Integers

_TIME = pl.Datetime("us", "UTC")


@dataclass(frozen=True)
class Epoch:
    """A snapshot and the frames that follow it without a gap, over one connection."""

    conn: str
    changes: pl.DataFrame
    """Level changes in order, with the number of their ``frame``, from 0, which is the snapshot."""
    times: pl.DataFrame
    """Per frame: ``ts`` (the venue's time, never falling), ``ts_event``, ``ts_recv`` and
    ``seq``."""
    snapshot_at: datetime  # the venue's time of the snapshot
    until: datetime
    """Up to when the book is known to hold: its last frame, or where its connection went on without
    a change of it, shortly before the end of that."""
    gap: bool  # whether its connection went on after that with frames missing between
    resumed: bool  # whether any connection went on after that

    def frame_at(self, moment: datetime) -> int:
        """Return the last frame not later than a moment; -1 where all are."""
        return int(self.times["ts"].search_sorted(moment, side="right")) - 1

    def ladder(self, *, bids: bool, depth: int, after: Integers | None = None) -> Ladder:
        """Return the best levels of one side after each frame, or after some, ascending."""
        side = self._side(bids)
        frames, count = side["frame"].to_numpy(), self.times.height
        if after is not None:  # all that comes between two of them is one frame
            side = side.filter(pl.col("frame") <= after[-1])
            frames, count = np.searchsorted(after, side["frame"].to_numpy()), len(after)
        prices, sizes = side["price"].to_numpy(), side["size"].to_numpy()
        return ladder(frames, prices, sizes, count=count, depth=depth, bids=bids)

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

    def keyframe(self, frame: int) -> pl.DataFrame:
        """Return the book after a frame as rows of ``orderbook``: a book may begin there too."""
        sides = {"bid": True, "ask": False}
        rows = [
            self.levels(frame, bids=bids, depth=None).select(pl.lit(side).alias("side"), pl.all())
            for side, bids in sides.items()
        ]
        ts, ts_recv, seq = self.times.select("ts", "ts_recv", "seq").row(frame)
        return pl.concat(rows).select(
            *(pl.lit(ts, _TIME).alias("ts_event"), pl.lit(ts_recv, _TIME).alias("ts_recv")),
            *(pl.lit(seq, pl.Int64).alias("seq"), pl.lit(self.conn).alias("conn")),
            *("side", "price", "size"),
            pl.int_range(pl.len(), dtype=pl.Int32).alias("position"),
            pl.lit(value=True).alias("is_snapshot"),
            pl.lit(self.snapshot_at, _TIME).alias("snapshot_at"),
        )

    def _side(self, bids: bool) -> pl.DataFrame:
        return self.changes.filter(pl.col("side") == ("bid" if bids else "ask"))


def epochs(rows: pl.DataFrame, runs: pl.DataFrame, rules: BookRules | None = None) -> list[Epoch]:
    """Divide the level changes of one symbol into books without a gap, oldest first.

    Parameters
    ----------
    rows
        Rows of the table ``orderbook``, of one symbol; where a keyframe is among them, also with
        ``snapshot_at``.
    runs
        ``conn, start, end, first_seq``: in which times of capture nothing of it is missing.
    rules
        How the venue's rows make a book; None: snapshots and changes, in order of capture.
    """
    rules = rules or BookRules()
    order = ("seq", "is_snapshot") if rules.by_number else ("ts_recv", "seq")
    named = pl.struct("conn", "ts_recv", "seq")
    first_row = (pl.col("position") == 0).fill_null(value=False) | named.ne_missing(named.shift())
    rows = (
        rows.sort("conn", *order, maintain_order=True)
        .with_columns(frame=first_row.cum_sum().cast(pl.Int64))
        .drop_nulls(["side", "price", "size"])
    )
    begun = pl.col("snapshot_at") if "snapshot_at" in rows.columns else pl.lit(None, _TIME)
    frames = (
        rows.group_by("frame", maintain_order=True)
        .agg(
            pl.col("conn", "ts_recv", "seq").first(),
            pl.col("is_snapshot").any(),
            pl.col("ts_event").max(),
            pl.coalesce("ts_event", "ts_recv").max().alias("ts"),
            begun.first().alias("begun"),
        )
        .sort("ts_recv", maintain_order=True)
        .join_asof(
            runs.sort("start").with_row_index("run"),
            left_on="ts_recv",
            right_on="start",
            by="conn",
            check_sortedness=False,
        )
        .sort("frame")
    )
    # A snapshot that was received before the first number of its run belongs to it.
    run, conn = pl.col("run"), pl.col("conn")
    other = (run != run.shift()) | (run.is_null() & run.shift().is_not_null())
    begins = pl.col("is_snapshot") | other | (conn != conn.shift())
    parts = frames.with_columns(begins.fill_null(value=False).cum_sum().alias("epoch"))
    divided = parts.partition_by("epoch", maintain_order=True)
    found = []
    for part, after in zip(divided, [*divided[1:], None], strict=False):  # maybe none
        whole, seq, first_seq = part.select("is_snapshot", "seq", "first_seq").row(0)
        if not whole or (rules.by_number and seq + 1 < (first_seq or 0)):
            continue  # it follows a gap, and no snapshot: it belongs to no book
        times = part.select(pl.col("ts").cum_max(), "ts_event", "ts_recv", "seq")
        conn_name, until, run_end = part["conn"][0], times["ts"][-1], part["end"][-1]
        if run_end is not None:
            late = times["ts_recv"][-1] - until
            if timedelta() <= late <= LATEST:
                late = timedelta()  # else the clocks differ, as a replay's do
            until = max(until, run_end - late - LATEST)
        later = runs.filter(pl.col("start") > (run_end or part["ts_recv"][-1]))
        gap = conn_name in later["conn"]
        if after is not None and after["conn"][0] == conn_name:
            gap = bool(after["run"][0] != part["run"][-1])
            if not gap:  # the next snapshot takes over
                until = max(times["ts"][-1], after["ts"][0])
        changes = rows.filter(pl.col("frame").is_between(part["frame"][0], part["frame"][-1]))
        changes = changes.select(pl.col("frame") - part["frame"][0], "side", "price", "size")
        found.append(
            Epoch(
                conn=conn_name,
                changes=_within_depth(changes, rules),
                times=times,
                snapshot_at=part["begun"][0] or times["ts"][0],
                until=until,
                gap=gap,
                resumed=gap or not later.is_empty(),
            )
        )
    return sorted(found, key=lambda epoch: epoch.times["ts_recv"][0])


def _within_depth(changes: pl.DataFrame, rules: BookRules) -> pl.DataFrame:
    """Add the removals that the venue leaves out, at the end of the frames that cause them."""
    snapshot = changes.filter(pl.col("frame") == 0)
    depth = rules.depth_of(max(snapshot.group_by("side").len()["len"].to_list(), default=0))
    if depth is None:
        return changes
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
    """Return the book of a symbol at a moment; see :meth:`fluxforge.Lake.book`."""
    if not found:
        raise NoBookError(f"there is no snapshot of the order book of {symbol} in {source}")
    moment = found[-1].times["ts"][-1] if at is None else at
    begun = [epoch for epoch in found if epoch.snapshot_at <= moment]
    if not begun:
        first = found[0].snapshot_at
        raise NoBookError(f"the first book of {source} {symbol} is of {first:{SHOWN}} UTC")
    holding = [epoch for epoch in begun if moment <= epoch.until]
    epoch = (holding or begun)[-1]
    if (at is None and epoch.gap) or (not holding and epoch.resumed):
        raise NoBookError(
            f"frames of {source} {symbol} are missing after {epoch.until:{SHOWN}} UTC: the book "
            "is unknown from there to the next snapshot"
        )
    frame = epoch.frame_at(moment)
    return Book(
        source=source,
        symbol=symbol,
        bids=epoch.levels(frame, bids=True, depth=depth),
        asks=epoch.levels(frame, bids=False, depth=depth),
        ts_event=epoch.times["ts"][frame],
        conn=epoch.conn,
        snapshot_at=epoch.snapshot_at,
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
    pieces = [empty.with_columns(epoch=pl.lit(0))]
    for number, epoch in enumerate(found):
        times = epoch.times.with_row_index("frame").select("ts", "frame").unique("ts", keep="last")
        held = grid.filter(pl.col("ts").is_between(epoch.times["ts"][0], epoch.until))
        if held.is_empty():
            continue
        chosen = held.join_asof(times.sort("ts"), on="ts")
        frames = chosen["frame"].to_numpy()
        values = {}
        for side, bids in (("bid", True), ("ask", False)):
            best = epoch.ladder(bids=bids, depth=depth, after=frames)
            for level in range(depth):
                values[f"{side}_price_{level + 1}"] = best.prices[:, level]
                values[f"{side}_size_{level + 1}"] = best.sizes[:, level]
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
