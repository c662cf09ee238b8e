"""Telling a lost frame from a quiet market, by the venue's own numbers."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from fluxforge.query.engine import connect
from fluxforge.query.scan import scan_table
from fluxforge.sources import get_source
from fluxforge.transform.schema import SEQUENCES

if TYPE_CHECKING:
    import polars as pl

    from fluxforge.query.catalog import Catalog
    from fluxforge.sources import Source


def find_gaps(catalog: Catalog, source: str) -> pl.DataFrame:
    """Return what the venue sent and no segment holds; see :meth:`fluxforge.Lake.gaps`."""
    import polars as pl

    venue = get_source(source)
    query = resources.files("fluxforge.query.sql").joinpath("gaps.sql").read_text(encoding="utf-8")
    catalog.open(source, SEQUENCES)
    with connect(catalog, only=[(source, SEQUENCES)]) as database:
        database.execute(f'SET search_path = "{source}"')
        limits = venue.limits
        silence = min(limits.channel_silence.values(), default=None)
        params = {"first_sequence": limits.first_sequence, "silence": silence}
        numbered: pl.DataFrame = database.sql(query, params=params).pl()
    if venue.book.runs is not None:
        numbered = pl.concat([numbered, _checked(catalog, venue)], how="diagonal_relaxed")
    return numbered.sort("received_after", "conn", "first_missing")


def _checked(catalog: Catalog, venue: Source) -> pl.DataFrame:
    """Return the gaps that show in the checksums of books, one symbol at a time."""
    import polars as pl

    rows = scan_table(catalog.open(venue.name, "orderbook"), raw=True)
    found = []
    for symbol in rows.select(pl.col("symbol").unique().sort()).collect()["symbol"]:
        runs = venue.book.runs(rows.filter(pl.col("symbol") == symbol).collect())  # type: ignore[misc]
        before = pl.col("end").shift().over("conn", "symbol")
        found.append(
            runs.with_columns(received_before=before)
            .filter(pl.col("known_by").is_not_null())
            .select(
                "conn",
                "channel",
                "symbol",
                "received_before",
                "known_by",
                received_after="start",
                missing=pl.lit(1, pl.Int64),
            )
        )
    return pl.concat(found) if found else pl.DataFrame()
