"""Bars from trades: by time, by number of trades, by volume, by value.

The kinds are those of López de Prado, "Advances in Financial Machine Learning" (2018), section
2.3: a bar of kind ``tick``, ``volume`` or ``dollar`` ends with the trade that brings the number of
trades, the base volume or the quote value traded since the last bar to the threshold. A trade is
never divided between two bars.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import polars as pl

from fluxforge.analytics.coverage import LATEST
from fluxforge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BarKind = Literal["time", "tick", "volume", "dollar"]

_EPOCH = pl.lit(0).cast(pl.Datetime("us"))
_NO_LENGTH = "is not a length of time: write '1s', '5m', '1h' or '1d'"
_GROUP = ("source", "symbol", "instrument")
_AMOUNTS = {
    "tick": pl.lit(1.0),
    "volume": pl.col("size"),
    "dollar": pl.col("price") * pl.col("size"),
}


def make_bars(
    trades: pl.DataFrame,
    coverage: pl.DataFrame,
    every: str | float,
    kind: BarKind = "time",
    *,
    empty: bool = False,
) -> pl.DataFrame:
    """Return bars; see :meth:`fluxforge.Lake.bars`.

    Parameters
    ----------
    trades
        ``source, symbol, instrument, ts_event, ts_recv, trade_id, price, size, side``, each trade
        once.
    coverage
        ``source, symbol, start, end``: where no trade is missing.

    Raises
    ------
    UsageError
        If the kind is unknown, or `every` is not of the kind.
    """
    step = _check(every, kind)
    trades = trades.drop_nulls(["ts_event", "price", "size"]).sort(
        *_GROUP, "ts_event", pl.col("trade_id").cast(pl.Int64, strict=False), "ts_recv",
        maintain_order=True,
    )  # fmt: skip
    if isinstance(step, str):
        start = pl.col("ts_event").dt.truncate(step)
        numbered = trades.with_columns(
            bar=start, ts_start=start, ts_end=start.dt.offset_by(step), ended=pl.lit(value=True)
        )
    else:
        numbered = _number(trades, _AMOUNTS[kind], step).with_columns(
            ts_start="ts_event", ts_end="ts_event"
        )
    bars = numbered.group_by(*_GROUP, "bar", maintain_order=True).agg(
        pl.col("ts_start").first(),
        pl.col("ts_end").last(),
        pl.col("price").first().alias("open"),
        pl.col("price").max().alias("high"),
        pl.col("price").min().alias("low"),
        pl.col("price").last().alias("close"),
        pl.col("size").sum().alias("volume"),
        pl.col("size").filter(pl.col("side") == "buy").sum().alias("buy_volume"),
        pl.col("size").filter(pl.col("side") == "sell").sum().alias("sell_volume"),
        (pl.col("price") * pl.col("size")).sum().truediv(pl.col("size").sum()).alias("vwap"),
        pl.len().cast(pl.Int64).alias("trades"),
        pl.col("ended").last(),
    )
    if isinstance(step, str) and empty:
        bars = _with_empty(bars, step)
    return _with_complete(bars, coverage).drop("bar")


def _check(every: str | float, kind: str) -> str | float:
    if kind not in get_args(BarKind):
        raise UsageError(f"unknown kind of bar {kind!r}: there are {', '.join(get_args(BarKind))}")
    if kind == "time":
        return check_length(every)
    if not isinstance(every, int | float) or not 0 < every < float("inf"):
        raise UsageError(f"every={every!r}: bars of kind {kind!r} need a number above 0")
    return float(every)


def check_length(every: object) -> str:
    """Return a length of time as Polars writes it.

    Raises
    ------
    UsageError
        If it is none, or none above 0.
    """
    try:
        if isinstance(every, str) and pl.select(_EPOCH.dt.offset_by(every) > _EPOCH).item():
            return every
    except pl.exceptions.PolarsError as exc:
        raise UsageError(f"every={every!r} {_NO_LENGTH}") from exc
    raise UsageError(f"every={every!r} {_NO_LENGTH}")


def _number(trades: pl.DataFrame, amount: pl.Expr, threshold: float) -> pl.DataFrame:
    """Add the number of each trade's bar, and whether the trade is the one that ends it."""
    amounts = trades.select(*_GROUP, amount.alias("amount"))
    numbers: list[tuple[int, bool]] = []
    for group in amounts.partition_by(*_GROUP, maintain_order=True):
        numbers.extend(_accumulate(group["amount"].to_list(), threshold))
    schema = {"bar": pl.Int64, "ended": pl.Boolean}
    return trades.hstack(pl.DataFrame(numbers, schema=schema, orient="row"))


def _accumulate(amounts: Iterable[float], threshold: float) -> Iterator[tuple[int, bool]]:
    number, held = 0, 0.0
    for amount in amounts:
        held += amount
        if ended := held >= threshold:
            held = 0.0
        yield number, ended
        number += ended


def _with_empty(bars: pl.DataFrame, every: str) -> pl.DataFrame:
    """Add the bars without a trade between a symbol's first and last: null prices, volume 0."""
    grid = (
        bars.group_by(_GROUP, maintain_order=True)
        .agg(
            pl.datetime_ranges(pl.col("ts_start").min(), pl.col("ts_start").max(), every)
            .first()
            .alias("ts_start")
        )
        .explode("ts_start")
        .with_columns(ts_end=pl.col("ts_start").dt.offset_by(every))
    )
    amounts = ("volume", "buy_volume", "sell_volume", "trades")
    return (
        grid.join(bars.drop("ts_end"), on=[*_GROUP, "ts_start"], how="left", nulls_equal=True)
        .with_columns(pl.col(amounts).fill_null(0), pl.col("ended").fill_null(value=True))
        .select(bars.columns)
    )


def _with_complete(bars: pl.DataFrame, coverage: pl.DataFrame) -> pl.DataFrame:
    """Tell which bars have ended and lie inside one span without a gap."""
    spans = coverage.select("source", "symbol", "start", "end").sort("start")
    return (
        bars.sort("ts_start", maintain_order=True)
        .join_asof(
            spans,
            left_on="ts_start",
            right_on="start",
            by=["source", "symbol"],
            check_sortedness=False,
        )
        .with_columns(
            complete=(pl.col("ended") & (pl.col("ts_end") + LATEST <= pl.col("end"))).fill_null(
                value=False
            )
        )
        .drop("ended", "start", "end")
        .sort(*_GROUP, "ts_start", maintain_order=True)
    )
