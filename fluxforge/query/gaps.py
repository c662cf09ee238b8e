"""Telling a lost frame from a quiet market, by the venue's own numbers."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from fluxforge.query.views import connect
from fluxforge.sources import get_source
from fluxforge.transform.schema import SEQUENCES

if TYPE_CHECKING:
    import polars as pl

    from fluxforge.query.catalog import Catalog


def find_gaps(catalog: Catalog, source: str) -> pl.DataFrame:
    """Return the frames that the venue numbered and that no segment holds.

    See :meth:`fluxforge.Lake.gaps`.
    """
    first = get_source(source).limits.first_sequence
    query = resources.files("fluxforge.query.sql").joinpath("gaps.sql").read_text(encoding="utf-8")
    catalog.open(source, SEQUENCES)
    with connect(catalog, only=[f"{source}.{SEQUENCES}"]) as database:
        database.execute(f'SET search_path = "{source}"')
        frame: pl.DataFrame = database.sql(query, params={"first_sequence": first}).pl()
        return frame
