"""The explorer: choose rows of a lake, see them, and take the line of code that gives the same."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import polars as pl

from fluxforge.errors import FluxForgeError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fluxforge.lake.analysis import Analysis
    from fluxforge.plot import Chart

_PREVIEW = 8


@dataclass(frozen=True)
class Exploration:
    """What was chosen, and what there is of it."""

    code: str  # the line that gives the same frame
    counts: pl.DataFrame  # ``symbol, rows, first, last``; times are those of the venue, UTC
    preview: pl.DataFrame  # the last rows
    chart: Chart | None = None  # a picture of them, where the table has one
    note: str = ""  # what is wrong with the choice, or empty


def explore(
    lake: Analysis,
    source: str,
    table: str,
    symbols: Sequence[str] = (),
    start: str | None = None,
    end: str | None = None,
    *,
    live: bool = True,
) -> Exploration:
    """Look at a part of a table; errors of FluxForge become the note."""
    chosen: dict[str, Any] = {}
    if symbols:
        chosen["symbols"] = list(symbols)
    chosen |= {name: text for name, text in (("start", start), ("end", end)) if text}
    if live:
        chosen["live"] = True
    options = "".join(f", {name}={value!r}" for name, value in chosen.items())
    code = f"lake.scan({source!r}, {table!r}{options}).collect()"
    try:
        frame = lake.scan(source, table, **chosen)
        at = pl.col("ts_event")
        found = frame.group_by("symbol").agg(rows=pl.len(), first=at.min(), last=at.max())
        counts = found.sort("symbol").collect()
        preview = frame.top_k(_PREVIEW, by="ts_event").collect().sort("ts_event")
        chart = _picture(lake, source, table, frame, counts) if counts.height else None
        return Exploration(code, counts, preview, chart)
    except FluxForgeError as exc:
        return Exploration(code, pl.DataFrame(), pl.DataFrame(), note=str(exc))


def _picture(
    lake: Analysis, source: str, table: str, frame: pl.LazyFrame, counts: pl.DataFrame
) -> Chart | None:
    from fluxforge import plot

    title, symbol = f"{source} {table}", counts["symbol"][0]
    match table:
        case "trades" | "ticker":
            return plot.price(frame.select("symbol", "ts_event", "price"), title=title)
        case "candles":
            return plot.candles(frame.filter(pl.col("symbol") == symbol), title=title)
        case "orderbook":
            book = lake.book(source, symbol, counts["last"][0], 100, live=True)
            return plot.book(book.bids, book.asks, title=repr(book)[1:-1])
    return None


def explorer(lake: Analysis) -> Any:
    """Return the inputs and what they show; see :meth:`fluxforge.panels.lake.Panels.explorer`."""
    try:
        import ipywidgets as w
    except ImportError as exc:
        raise MissingExtraError("the explorer", "ipywidgets") from exc

    tables = lake.tables().select("source", "channel").rows() or [
        (name, "trades") for name in lake.names_of("*")
    ]
    names = list(dict.fromkeys(name for name, _ in tables))
    style, wide = {"description_width": "60px"}, w.Layout(width="300px")
    source = w.Dropdown(options=names, description="source", style=style, layout=wide)
    table = w.Dropdown(description="table", style=style, layout=wide)
    symbols = w.SelectMultiple(description="symbols", rows=4, style=style, layout=wide)
    hint = "2026-08-09T21:05"
    start = w.Text(description="start", placeholder=hint, style=style, layout=wide)
    end = w.Text(description="end", placeholder=hint, style=style, layout=wide)
    for text in (start, end):
        text.continuous_update = False
    again = w.Button(description="Read again", layout=w.Layout(width="300px"))
    shown = w.HTML(layout=w.Layout(width="100%"))
    state: dict[str, Any] = {"quiet": False}

    def choose_table(*_: object) -> None:
        """Offer the tables of the source; those for bookkeeping are left out."""
        kept = [name for of, name in tables if of == source.value and name not in _BOOKKEEPING]
        first = "trades" if "trades" in kept else next(iter(kept), None)
        state["quiet"] = True
        table.options, table.value = kept, first
        state["quiet"] = False
        choose_symbols()

    def choose_symbols(*_: object) -> None:
        if state["quiet"] or table.value is None:
            return
        frame = lake.scan(source.value, table.value, live=True).select("symbol").unique()
        state["quiet"] = True
        symbols.options = sorted(frame.collect()["symbol"].drop_nulls())
        symbols.value = ()
        state["quiet"] = False
        show()

    def show(*_: object) -> None:
        if state["quiet"]:
            return
        found = explore(lake, source.value, table.value, symbols.value, start.value, end.value)
        shown.value = as_html(found)

    source.observe(choose_table, "value")
    table.observe(choose_symbols, "value")
    for widget in (symbols, start, end):
        widget.observe(show, "value")
    again.on_click(show)
    choose_table()
    box = w.Layout(width="100%", gap="16px", flex_flow="row wrap")
    inputs = w.VBox([source, table, symbols, start, end, again])
    return w.HBox([inputs, w.VBox([shown], layout=w.Layout(flex="1 1 420px"))], layout=box)


_HIDDEN = ("seq", "conn", "ts_recv", "instrument", "market", "position", "checksum", "date")
"""Left out of the preview, so that what the table is about fits the page."""

_BOOKKEEPING = ("segments", "sequences", "losses", "keyframes")


def as_html(found: Exploration) -> str:
    """Return what an exploration shows."""
    parts = [f"<pre style='margin:0 0 8px'>{escape(found.code)}</pre>"]
    if found.note:
        parts.append(f"<p style='color:#c77700'>{escape(found.note)}</p>")
    elif found.preview.is_empty():
        parts.append("<p>no rows</p>")
    else:
        if found.chart is not None:
            parts.append(found.chart.as_html())
        tables = (
            found.counts._repr_html_() + found.preview.drop(_HIDDEN, strict=False)._repr_html_()
        )
        # JupyterLab's own class, so that tables look as they do in outputs.
        style = "overflow-x:auto;white-space:nowrap"
        parts.append(f"<div class='jp-RenderedHTMLCommon' style='{style}'>{tables}</div>")
    return "".join(parts)
