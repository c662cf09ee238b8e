"""Pictures of prices: in a terminal, and in a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fluxforge.errors import MissingExtraError

if TYPE_CHECKING:
    import polars as pl

_WIDTH, _HEIGHT = 78, 18
_POINTS = 400


def terminal_chart(frame: pl.DataFrame, *, title: str, width: int = _WIDTH) -> str:
    """Draw prices over time as text.

    Parameters
    ----------
    frame
        ``ts_event`` and ``price`` of one symbol.
    title
        What stands above it.
    width
        In characters.
    """
    import plotext

    points = frame.drop_nulls(["ts_event", "price"]).sort("ts_event")
    if points.is_empty():
        return f"{title}: no prices"
    points = points.gather_every(max(1, points.height // _POINTS))
    first = points["ts_event"][0]
    seconds = (points["ts_event"] - first).dt.total_milliseconds() / 1000
    figure = plotext.figure.clear()
    figure.plot_size(width, _HEIGHT)
    figure.title(title)
    figure.label(f"seconds after {first:%Y-%m-%d %H:%M:%S} UTC")
    figure.draw(figure.signal(seconds.to_list(), points["price"].to_list(), marker="braille"))
    return str(plotext.uncolorize(figure.build()))


def price_chart(frame: pl.DataFrame | pl.LazyFrame, *, title: str = "") -> Any:
    """Return an Altair chart of prices over time, one line a symbol.

    Parameters
    ----------
    frame
        ``symbol, ts_event, price``.

    Raises
    ------
    MissingExtraError
        If Altair is not installed.
    """
    try:
        import altair as alt
    except ImportError as exc:
        raise MissingExtraError("a chart in a notebook", "altair") from exc
    data = frame.lazy().select("symbol", "ts_event", "price").drop_nulls().collect()
    data = data.gather_every(max(1, data.height // 4000))
    return (
        alt.Chart(data, title=title, width=640, height=240)
        .mark_line(interpolate="step-after", strokeWidth=1)
        .encode(
            x=alt.X("ts_event:T", title="time (UTC)"),
            y=alt.Y("price:Q", scale=alt.Scale(zero=False)),
            color=alt.Color("symbol:N", title=None),
        )
    )
