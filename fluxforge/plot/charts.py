"""Charts of frames: prices, candles, order books, spreads and volumes.

Times are UTC on axes of 24 hours. A long frame is thinned to the extremes of each stretch of
time, so that no spike is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from fluxforge.errors import UsageError
from fluxforge.plot.chart import Chart

if TYPE_CHECKING:
    from collections.abc import Sequence

_POINTS = 2_000
_WIDTH, _HEIGHT = 680, 280
_UP, _DOWN, _SHADE = "#26a69a", "#ef5350", "#808080"
_CLOCK = "%Y-%m-%d %H:%M:%S%.3f"

Many = Literal["rebased", "rows"]


def price(
    frame: pl.DataFrame | pl.LazyFrame,
    *,
    title: str = "price",
    many: Many = "rebased",
    gaps: pl.DataFrame | None = None,
) -> Chart:
    """Draw prices over time.

    Parameters
    ----------
    frame
        ``ts_event, price``, and ``symbol`` (or ``source``) to tell series apart.
    many
        Several series: ``"rebased"`` draws each as its change from its first price, in percent;
        ``"rows"`` gives each a row and an axis of its own.
    gaps
        ``start, end``: times to shade, in which data is missing.

    Raises
    ------
    UsageError
        If the frame lacks a column or has no rows.
    """
    data = _series(_needs(frame, "ts_event", "price"), "price")
    several = data["series"].n_unique() > 1
    if several and many == "rebased":
        first = pl.col("price").first().over("series")
        data = data.with_columns(((pl.col("price") / first - 1) * 100).alias("value"))
        label, tip = "change (%)", ["price", "value"]
    else:
        data, label, tip = data.with_columns(value="price"), "price", ["price"]
    line = {
        "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 1.2},
        "encoding": {
            "x": _time(),
            "y": _number("value", label),
            **_color(several, rows=many == "rows"),
        },
    }
    layers = [*_shades(gaps, data), line, *_hover("value", tip)]
    if several and many == "rows":
        return _chart(title, data, layers, rows="series")
    return _chart(title, data, layers)


def candles(
    bars: pl.DataFrame | pl.LazyFrame, *, title: str = "candles", gaps: pl.DataFrame | None = None
) -> Chart:
    """Draw candles with their volume below, each symbol in rows of its own.

    Parameters
    ----------
    bars
        What :meth:`fluxforge.Lake.bars` returns, or a table ``candles``.
    gaps
        ``start, end``: times to shade.

    Raises
    ------
    UsageError
        If the frame lacks a column or has no rows.
    """
    data = _needs(bars, "open", "high", "low", "close", "volume")
    start = "ts_start" if "ts_start" in data.columns else "ts_event"
    data = _named(data.with_columns(at=pl.col(start)))
    data = data.with_columns(rising=pl.col("close") >= pl.col("open"), clock=_clock("at"))
    color = {
        "condition": {"test": "datum.rising", "value": _UP},
        "value": _DOWN,
    }
    tip = _tips(["open", "high", "low", "close", "volume"])
    wick = {
        "mark": "rule",
        "encoding": {
            "x": _time(),
            "y": _number("low", "price"),
            "y2": {"field": "high"},
            "color": color,
        },
    }
    body = {
        "mark": {"type": "bar", "size": max(1.0, min(12.0, 0.7 * _WIDTH / max(1, data.height)))},
        "encoding": {
            "x": _time(),
            "y": _number("open", "price"),
            "y2": {"field": "close"},
            "color": color,
            "tooltip": tip,
        },
    }
    volume_bars = {
        "height": _HEIGHT // 4,
        "mark": {"type": "bar", "opacity": 0.6},
        "encoding": {
            "x": _time(),
            "y": _number("volume", "volume", zero=True),
            "color": color,
            "tooltip": tip,
        },
    }
    names = data["series"].unique(maintain_order=True).to_list()
    rows: list[dict[str, Any]] = []
    for name in names:
        test = {"transform": [{"filter": {"field": "series", "equal": name}}]}
        rows.append(
            {"title": name, "height": _HEIGHT, **test, "layer": [*_shades(gaps, data), wick, body]}
        )
        rows.append({**volume_bars, **test})
    for row in rows:
        row["width"] = _WIDTH
    return Chart({"title": title, "data": {"values": _values(data)}, "vconcat": rows})


def book(bids: pl.DataFrame, asks: pl.DataFrame, *, title: str = "order book") -> Chart:
    """Draw how much a book holds up to each price.

    Parameters
    ----------
    bids, asks
        ``price, size``, best first, as :class:`~fluxforge.analytics.book.Book` has them.
    """
    sides = [
        _needs(side, "price", "size").select(
            "price", "size", depth=pl.col("size").cum_sum(), side=pl.lit(name)
        )
        for name, side in (("bid", bids), ("ask", asks))
        if not side.is_empty()
    ]
    if not sides:
        raise UsageError("nothing to draw: the book is empty")
    data = pl.concat(sides)
    area = {
        "mark": {"type": "area", "interpolate": "step", "opacity": 0.5},
        "encoding": {
            "x": _number("price", "price") | {"title": "price"},
            "y": _number("depth", "size up to this price", zero=True),
            "color": {
                "field": "side",
                "type": "nominal",
                "title": None,
                "scale": {"domain": ["bid", "ask"], "range": [_UP, _DOWN]},
            },
            "tooltip": [{"field": name} for name in ("side", "price", "size", "depth")],
        },
    }
    return _chart(title, data, [area])


def spread(
    frame: pl.DataFrame | pl.LazyFrame, *, title: str = "spread", gaps: pl.DataFrame | None = None
) -> Chart:
    """Draw the best ask less the best bid over time.

    Parameters
    ----------
    frame
        ``ts_event`` with ``spread``, or with ``best_bid, best_ask`` (a ticker).
    gaps
        ``start, end``: times to shade.
    """
    data = frame.lazy().collect()
    if "spread" not in data.columns:
        data = _needs(data, "ts_event", "best_bid", "best_ask").with_columns(
            spread=pl.col("best_ask") - pl.col("best_bid")
        )
    data = _series(_needs(data, "ts_event", "spread"), "spread")
    several = data["series"].n_unique() > 1
    line = {
        "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 1.2},
        "encoding": {
            "x": _time(),
            "y": _number("spread", "spread", zero=True),
            **_color(several, rows=True),
        },
    }
    rows = "series" if several else None
    return _chart(
        title, data, [*_shades(gaps, data), line, *_hover("spread", ["spread"])], rows=rows
    )


def volume(bars: pl.DataFrame | pl.LazyFrame, *, title: str = "volume") -> Chart:
    """Draw the volume of bars, bought and sold.

    Parameters
    ----------
    bars
        ``ts_start, buy_volume, sell_volume``, as :meth:`fluxforge.Lake.bars` returns them.
    """
    data = _named(_needs(bars, "ts_start", "buy_volume", "sell_volume").with_columns(at="ts_start"))
    data = data.unpivot(
        ["buy_volume", "sell_volume"],
        index=["at", "series"],
        variable_name="side",
        value_name="size",
    ).with_columns(pl.col("side").str.strip_suffix("_volume"), clock=_clock("at"))
    bar = {
        "mark": {"type": "bar"},
        "encoding": {
            "x": _time(),
            "y": _number("size", "volume", zero=True),
            "color": {
                "field": "side",
                "type": "nominal",
                "title": None,
                "scale": {"domain": ["buy", "sell"], "range": [_UP, _DOWN]},
            },
            "tooltip": _tips(["side", "size"]),
        },
    }
    return _chart(title, data, [bar], rows="series" if data["series"].n_unique() > 1 else None)


def _needs(frame: pl.DataFrame | pl.LazyFrame, *columns: str) -> pl.DataFrame:
    """Collect a frame that has these columns and rows in which none of them is null."""
    data = frame.lazy().collect()
    missing = [name for name in columns if name not in data.columns]
    if missing:
        raise UsageError(
            f"this chart needs the column {missing[0]!r}; there are: {', '.join(data.columns)}"
        )
    data = data.drop_nulls(columns)
    if data.is_empty():
        raise UsageError("nothing to draw: the frame has no rows")
    return data


def _named(data: pl.DataFrame) -> pl.DataFrame:
    """Add what tells series apart: the symbol, the source, or both where both vary."""
    varying = [n for n in ("source", "symbol") if n in data.columns and data[n].n_unique() > 1]
    shown = varying or [name for name in ("symbol",) if name in data.columns]
    return data.with_columns(
        pl.concat_str(shown, separator=" ").alias("series") if shown else pl.lit("").alias("series")
    )


def _series(data: pl.DataFrame, value: str) -> pl.DataFrame:
    """Return the series in order of time, thinned, with the time as text beside them."""
    data = _named(data).select("series", pl.col(value), at="ts_event").sort("series", "at")
    kept = [_thinned(part, value) for part in data.partition_by("series", maintain_order=True)]
    return pl.concat(kept).with_columns(clock=_clock("at"))


def _thinned(part: pl.DataFrame, value: str) -> pl.DataFrame:
    """Keep the first, last, least and greatest of each stretch of rows."""
    if part.height <= _POINTS:
        return part
    row, rows = pl.col("row"), part.with_row_index("row")
    kept = rows.group_by(row * (_POINTS // 4) // part.height).agg(
        row.first().alias("first"),
        row.last().alias("last"),
        row.sort_by(value).first().alias("least"),
        row.sort_by(value).last().alias("greatest"),
    )
    chosen = pl.concat([kept[name] for name in ("first", "last", "least", "greatest")])
    return part[chosen.unique().sort()]


def _clock(column: str) -> pl.Expr:
    return pl.col(column).dt.strftime(_CLOCK) + " UTC"


def _values(data: pl.DataFrame) -> list[dict[str, Any]]:
    """Return rows as JSON has them: times in milliseconds since 1970, UTC."""
    times = [name for name, kind in data.schema.items() if isinstance(kind, pl.Datetime)]
    return data.with_columns(pl.col(times).dt.epoch("ms")).fill_nan(None).to_dicts()


def _time() -> dict[str, Any]:
    """Return a time axis in UTC: the hour of the day, and the date where a day begins."""
    midnight = "utchours(datum.value) + utcminutes(datum.value) + utcseconds(datum.value) == 0"
    return {
        "field": "at",
        "type": "temporal",
        "scale": {"type": "utc"},
        "title": "time (UTC)",
        "axis": {
            "labelExpr": f"utcFormat(datum.value, {midnight} ? '%b %d' : '%H:%M:%S')",
            "labelSeparation": 14,
            "tickCount": 8,
        },
    }


def _number(field: str, title: str, *, zero: bool = False) -> dict[str, Any]:
    return {"field": field, "type": "quantitative", "title": title, "scale": {"zero": zero}}


def _color(several: bool, *, rows: bool) -> dict[str, Any]:
    """Return a colour for each series, and where each has a row of its own, no legend."""
    color = {"field": "series", "type": "nominal", "title": None} | (
        {"legend": None} if rows else {}
    )
    return {"color": color} if several else {}


def _tips(fields: Sequence[str]) -> list[dict[str, Any]]:
    return [{"field": "series", "title": "symbol"}, {"field": "clock", "title": "time"}] + [
        {"field": name} for name in fields
    ]


def _hover(value: str, tips: Sequence[str]) -> list[dict[str, Any]]:
    """Return an invisible layer of points that shows a tooltip for the one nearest the pointer."""
    return [
        {
            "mark": {"type": "point", "filled": True, "size": 40},
            "encoding": {
                "x": _time(),
                "y": _number(value, ""),
                "opacity": {
                    "condition": {"param": "hover", "empty": False, "value": 1},
                    "value": 0,
                },
                "tooltip": _tips(tips),
            },
            "params": [
                {"name": "hover", "select": {"type": "point", "nearest": True, "on": "mouseover"}},
                {
                    "name": "zoom",
                    "select": {"type": "interval", "encodings": ["x"]},
                    "bind": "scales",
                },
            ],
        }
    ]


def _shades(gaps: pl.DataFrame | None, data: pl.DataFrame) -> list[dict[str, Any]]:
    """Return a layer that shades the times in which data is missing."""
    if gaps is None:
        return []
    first, last = data.select(pl.col("at").min(), last=pl.col("at").max()).row(0)
    seen = gaps.filter((pl.col("end") >= first) & (pl.col("start") <= last))
    if seen.is_empty():
        return []
    spans = seen.select(
        at=pl.col("start").clip(lower_bound=first), to=pl.col("end").clip(upper_bound=last)
    )
    return [
        {
            "data": {"values": _values(spans)},
            "mark": {"type": "rect", "color": _SHADE, "opacity": 0.25},
            "encoding": {"x": _time(), "x2": {"field": "to"}},
        }
    ]


def _chart(
    title: str, data: pl.DataFrame, layers: list[dict[str, Any]], rows: str | None = None
) -> Chart:
    """Return layers over one another, or where `rows` names a column, once for each value of it."""
    body: dict[str, Any] = {"width": _WIDTH, "height": _HEIGHT, "layer": layers}
    spec: dict[str, Any] = {"title": title, "data": {"values": _values(data)}}
    if rows is None:
        return Chart(spec | body)
    facet = {"row": {"field": rows, "type": "nominal", "title": None}}
    return Chart(spec | {"facet": facet, "spec": body, "resolve": {"scale": {"y": "independent"}}})
