"""What a person sees in JupyterLab, with the network cut: panels, charts, reports."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest

from tests.plot.test_charts import CHARTS as DRAWN

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.browser.conftest import Lab

LIVE = """
import fluxforge
box = fluxforge.sandbox(seed=7, rate=150, sources=["coinbase"])
lake = box.lake
"""
PANELS = (
    "capture = lake.capture('coinbase')\nlake.panel.monitor(capture)",
    "lake.panel.ladder('coinbase', 'BTC-USD', depth=8)",
    "lake.panel.candles('coinbase', 'BTC-USD')",
)
FILLED = """
import fluxforge
box = fluxforge.sandbox(seed=7, sources=["coinbase"], faults="skip@2000:3")
lake = box.lake
await lake.ingest("coinbase", frames=4000)
lake.etl()
"""
CHARTS = (
    "lake.plot.price('coinbase')",
    "lake.plot.price('coinbase', many='rows')",
    "lake.plot.candles('coinbase', 'BTC-USD', '500ms')",
    "lake.plot.book('coinbase', 'BTC-USD', lake.books('coinbase', 'BTC-USD')['ts'][1])",
    "lake.plot.spread('coinbase', 'BTC-USD')",
    "lake.plot.volume('coinbase', 'BTC-USD', '500ms')",
)
PAINTED = (
    "() => { const all = [...document.querySelectorAll('.vega-embed canvas')];"
    f" return all.length >= {len(CHARTS)} && all.every(one => one.clientWidth > 300) }}"
)


def test_a_capture_is_watched_and_stopped(lab: Lab) -> None:
    lab.run("live", LIVE, *PANELS)
    frames = "document.querySelector('.fluxforge .monitor tr:last-child td:nth-child(2)')"
    lab.see(".fluxforge .dot.on")
    lab.until(f"() => {frames} !== null")
    first = lab.page.evaluate(f"() => {frames}.textContent")
    lab.until(f"() => {frames}.textContent !== {first!r}")

    price = "document.querySelector('.fluxforge .ladder tr[data-level=bid1] td').textContent"
    lab.see(".fluxforge .ladder tr[data-level=bid1]")
    lab.until(f"() => Number({price}) > 0")
    best = lab.page.evaluate(f"() => {price}")
    lab.until(f"() => {price} !== {best!r}")
    lab.see(".fluxforge .chart canvas")
    lab.until("() => Number(document.querySelector('.fluxforge .chart').dataset.bars) >= 3")
    assert lab.see(".fluxforge .credit").first.get_attribute("href").endswith("tradingview.com/")
    assert not lab.page.locator(".fluxforge-saved").first.is_visible()
    lab.screenshot("live")

    lab.page.locator(".fluxforge .stop").first.click()
    lab.until("() => document.querySelector('.fluxforge .title').textContent.includes('stopped')")
    lab.screenshot("live-stopped")


def test_charts_and_reports_are_visible_without_a_network(lab: Lab) -> None:
    lab.run(
        "charts", FILLED, *CHARTS, "lake.verify()", "lake.book('coinbase', 'ETH-USD', depth=3)",
        "lake.panel.explorer()",
    )  # fmt: skip
    lab.see("table:has-text('looked at')")
    lab.see("p:has-text('Book coinbase ETH-USD')")
    lab.until(PAINTED)
    assert not lab.page.locator("text=Error loading script").count()
    lab.screenshot("charts-light")
    lab.use_theme("JupyterLab Dark")
    lab.screenshot("charts-dark")
    lab.use_theme("JupyterLab Light")
    explore(lab)


def explore(lab: Lab) -> None:
    """The explorer gives a chart, and the line that gives its frame."""
    lab.see(".widget-html svg path")
    code = "document.querySelector('.widget-html pre').textContent"
    lab.page.locator(".widget-select-multiple select").select_option("ETH-USD")
    lab.until(f"() => {code}.includes(\"symbols=['ETH-USD']\")")
    lab.screenshot("explorer")
    lab.page.locator(".widget-dropdown select").nth(1).select_option("orderbook")
    lab.until(f"() => {code}.includes('orderbook')")
    lab.see(".widget-html svg path")
    lab.screenshot("explorer-book")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_charts_show_in_the_page_of_a_saved_notebook(
    theme: str, browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporters = pytest.importorskip("nbconvert", reason="no nbconvert: pip install papermill")
    # Where packages come from another environment, their templates lie in it, too.
    shared = Path(exporters.__file__).parents[4] / "share" / "jupyter"
    monkeypatch.setenv("JUPYTER_PATH", str(shared))
    v4 = nbformat.v4
    cells = [
        v4.new_code_cell(name, outputs=[v4.new_output("display_data", chart._repr_mimebundle_())])
        for name, chart in DRAWN.items()
    ]
    html, _ = exporters.HTMLExporter(theme=theme).from_notebook_node(v4.new_notebook(cells=cells))
    (tmp_path / "page.html").write_text(html)
    page = browser.new_page()
    page.goto((tmp_path / "page.html").as_uri(), wait_until="domcontentloaded")
    charts = page.locator(".jp-OutputArea-output svg, .jp-OutputArea-output img")
    assert charts.count() == len(DRAWN)
    assert all(chart.bounding_box()["width"] > 300 for chart in charts.all())
    page.close()


MARIMO = """
import marimo
app = marimo.App()
@app.cell
def _():
    from tests.plot.test_charts import CHARTS
    CHARTS["price"]
if __name__ == "__main__":
    app.run()
"""


def test_a_chart_shows_in_marimo(browser: Any, serve: Callable[..., str], tmp_path: Path) -> None:
    pytest.importorskip("marimo", reason="no marimo: pip install marimo")
    app = tmp_path / "app.py"
    app.write_text(MARIMO)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    page = browser.new_page()
    page.goto(serve("marimo", "run", app, "--headless", "--no-token", env=environment))
    chart = page.wait_for_selector(".vega-embed canvas", timeout=120_000)
    assert chart.bounding_box()["width"] > 300
    page.close()
