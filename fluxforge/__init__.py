"""FluxForge: a market-data lake for people who work in notebooks.

:class:`Lake` is the whole of it. Importing it is cheap: the heavy libraries load when they are
first needed. To read the package, begin at the bottom; each layer imports only those above it in
this list:

==========================  ======================================================================
``errors``                  every error in one tree
``layout``                  pure: paths, names of segments, states
``logs retry signals``      lines of the log; retries with backoff; Ctrl-C and SIGTERM
``report``                  what all results can do, in a notebook, as text and as JSON
``config``                  the typed configuration, from files and overrides
``storage``                 one contract for local disks, S3 and fsspec; leases
``segments``                what a segment is, and its life from open to archived
``tables``                  Delta tables: commit, snapshot, compact, vacuum
``sources``                 one folder per venue: its protocol, without I/O, and one .sql per table
``transform``               from the bytes of segments to typed rows, in DuckDB
``etl``                     from waiting segments to tables, exactly once
``ingestion``               from sockets to segments
``simulator``               the local exchange: a real WebSocket server for demos and tests
``query verify sync``       readers; checks; copies from lake to lake
``analytics``, ``plot``     bars, books and coverage from frames; charts
``lake``                    ``Lake``, a thin face over all of it
``panels``                  live views for notebooks
``operate``                 ``fluxforge run``: supervised processes, metrics, health
``demo``, ``cli``           the demonstration; the command line
==========================  ======================================================================

``testing`` is for the authors of new storages: the conformance suite of the storage contract.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fluxforge.lake import Lake
    from fluxforge.lake.sandbox import sandbox

__version__ = "0.1.0"
__all__ = ["Lake", "__version__", "sandbox"]


def __getattr__(name: str) -> Any:
    if name == "Lake":
        from fluxforge.lake import Lake

        return Lake
    if name == "sandbox":
        from fluxforge.lake.sandbox import sandbox

        return sandbox
    if name == "plot":
        from importlib import import_module

        return import_module("fluxforge.plot")
    raise AttributeError(f"module 'fluxforge' has no attribute {name!r}")
