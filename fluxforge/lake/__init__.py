"""``Lake``: the whole of FluxForge behind one object. It only delegates.

To read, bottom up: ``places`` (what is where), ``capturing``, ``keeping`` (tables, checks, copies),
``reading`` (rows), ``analysis`` (what is computed from them), ``plots``, ``lake``.
"""

from fluxforge.lake.lake import Lake

__all__ = ["Lake"]
