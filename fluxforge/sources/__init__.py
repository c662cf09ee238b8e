"""Exchanges: one folder each, found by name.

Built-in sources are the folders beside this file; others come from packages that declare a
``fluxforge.sources`` entry point whose name is the source's::

    [project.entry-points."fluxforge.sources"]
    mine = "mine.protocol:Mine"

The package holds ``protocol.py`` with a :class:`Source` and its
:class:`~fluxforge.sources.session.Session`, ``frames.sql``, which reads the kind, number and time
of a frame, and one ``<table>.sql`` per table (:mod:`fluxforge.sources.tables` has their heads). It
passes :class:`fluxforge.testing.SourceConformance`. A venue with one table takes some 60 lines.
"""

from __future__ import annotations

import difflib
import pkgutil
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from fluxforge.errors import UnknownSourceError
from fluxforge.sources.base import Source

__all__ = ["Source", "get_source", "is_source", "source_names"]


def source_names() -> list[str]:
    """Return the names of all installed sources, sorted.

    Examples
    --------
    >>> "coinbase" in source_names()
    True
    """
    return sorted(_built_in() | _plugins().keys())


def is_source(name: str) -> bool:
    """Tell whether a source has this name; installed packages are looked at only if they must.

    Examples
    --------
    >>> is_source("coinbase"), is_source("coinbsae")
    (True, False)
    """
    return name in _built_in() or name in _plugins()


def get_source(name: str) -> Source:
    """Return a source by name.

    Raises
    ------
    UnknownSourceError
        If there is none; the message has the nearest right name.

    Examples
    --------
    >>> get_source("coinbase").name
    'coinbase'
    >>> get_source("coinbsae")
    Traceback (most recent call last):
    ...
    fluxforge.errors.UnknownSourceError: unknown source 'coinbsae': did you mean 'coinbase'?
    """
    name = name if isinstance(name, str) else repr(name)
    if name in _built_in():
        source: Source = import_module(f"fluxforge.sources.{name}").SOURCE
        return source
    if point := _plugins().get(name):
        loaded: Source | type[Source] = point.load()
        loaded = getattr(loaded, "SOURCE", loaded)  # of a folder as ours are
        return loaded() if isinstance(loaded, type) else loaded
    near = difflib.get_close_matches(name, source_names(), 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(source_names())}"
    raise UnknownSourceError(f"unknown source {name!r}: {hint}")


@cache  # all installed packages are looked through
def _plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group="fluxforge.sources")}


@cache
def _built_in() -> frozenset[str]:
    return frozenset(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg)
