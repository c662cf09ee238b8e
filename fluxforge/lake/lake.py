"""``Lake``: capture, tables and care; it only delegates."""

from __future__ import annotations

import warnings
from functools import cached_property
from html import escape
from importlib import import_module
from typing import Any

from fluxforge.errors import EmptyAnswerWarning
from fluxforge.lake.analysis import Analysis
from fluxforge.lake.history import History
from fluxforge.lake.keeping import Keeping
from fluxforge.lake.plots import Plots


class Lake(History, Keeping, Analysis):
    """A market-data lake: capture, tables and queries over one configuration.

    Parameters
    ----------
    *overlays
        Names of overlays in the configuration folder (``"hybrid"``), or paths of YAML files.
    config_dir, overrides
        As :func:`fluxforge.config.load_config` takes them. By default the configuration is
        ``conf/`` in the working directory or the nearest of its parents that has one.
    path
        A folder of this machine: the whole lake lies there, whatever the configuration says.
    config
        A configuration that is loaded already, in place of overlays and overrides.

    Raises
    ------
    ConfigError
        If a setting is wrong; the message says which and where.

    Examples
    --------
    >>> import tempfile
    >>> lake = Lake(path=tempfile.mkdtemp())
    >>> lake.layout.ready("coinbase")
    'raw/ready/coinbase'
    >>> lake.scan("coinbase", "ticker", symbols=["BTC-USD"]).collect().height
    0
    """

    @cached_property
    def plot(self) -> Plots:
        """Charts: ``lake.plot.price("coinbase", "BTC-USD")`` and others."""
        return Plots(self)

    @cached_property
    def panel(self) -> Any:
        """Live panels for notebooks: ``lake.panel.ladder("coinbase", "BTC-USD")`` and others."""
        # By name: panels stand above the lake, and need packages that only notebooks have.
        return import_module("fluxforge.panels.lake").Panels(self)

    def _repr_html_(self) -> str:
        with warnings.catch_warnings():  # a lake that is to be is shown too
            warnings.simplefilter("ignore", EmptyAnswerWarning)
            return f"<b>{escape(repr(self))}</b>{self.tables()._repr_html_()}"
