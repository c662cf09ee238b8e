"""Prices over time as text, for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
