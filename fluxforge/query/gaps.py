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

_REPAIRABLE = ("trades", "candles")


def find_gaps(catalog: Catalog, source: str) -> pl.DataFrame:
    """Return what the venue sent and no segment holds; see :meth:`fluxforge.Lake.gaps`."""
    import polars as pl

    venue, names = get_source(source), catalog.names(source)
    catalog.open(source, SEQUENCES)
    views = [SEQUENCES, *(name for name in _REPAIRABLE if name in names)]
    with connect(catalog, only=[(source, name) for name in views]) as database:
        database.execute(f'SET search_path = "{source}"')
        limits = venue.limits
        silence = min(limits.channel_silence.values(), default=None)
        params = {"first_sequence": limits.first_sequence, "silence": silence}
        gaps: pl.DataFrame = database.sql(_sql("gaps"), params=params).pl()
        if venue.book.runs is not None:
            gaps = pl.concat([gaps, _checked(catalog, venue)], how="diagonal_relaxed")
        gaps = gaps.sort("received_after", "conn", "first_missing").with_row_index("gap")
        repaired = pl.DataFrame(schema={"gap": pl.UInt32, "repaired": pl.List(pl.String)})
        if not gaps.is_empty() and len(views) > len(_REPAIRABLE):
            database.register("gaps", gaps.to_arrow())
            repaired = database.sql(_sql("repaired")).pl().cast({"gap": pl.UInt32})
    none = pl.lit([], pl.List(pl.String))
    gaps = gaps.join(repaired, on="gap", how="left", maintain_order="left").drop("gap")
    market = pl.col("conn").str.extract(f"({'|'.join(venue.markets)})").fill_null("spot")
    where = pl.lit(source).alias("source"), market.alias("market")
    return gaps.select(*where, pl.all().exclude("repaired"), pl.col("repaired").fill_null(none))


def _sql(name: str) -> str:
    file = resources.files("fluxforge.query.sql").joinpath(f"{name}.sql")
    return file.read_text(encoding="utf-8")


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
