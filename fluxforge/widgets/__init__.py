"""Progress bars for notebooks: ipywidgets over plain state objects."""

from fluxforge.widgets.progress import EtlProgressBar, IngestProgressBar
from fluxforge.widgets.state import Progress

__all__ = ["EtlProgressBar", "IngestProgressBar", "Progress"]
