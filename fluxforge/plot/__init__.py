"""Charts of frames, shown without a network and saved as PNG, SVG or HTML."""

from fluxforge.plot.chart import Chart
from fluxforge.plot.charts import book, candles, price, spread, volume

__all__ = ["Chart", "book", "candles", "price", "spread", "volume"]
