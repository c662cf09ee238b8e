"""``Lake``: the whole of FluxForge behind one object. It only delegates.

To read, bottom up: ``reading`` (rows), ``analysis`` (what is computed from them), ``plots``,
``lake``.
"""

from fluxforge.lake.lake import Lake

__all__ = ["Lake"]
