"""Rows of a key that were there before: flagged, so that readers filter on one column.

Venues repeat their last trades after each subscribe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl


def flag_repeats(
    rows: pl.DataFrame, keys: Sequence[str], known: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Set ``is_repeat``, among the rows and against the keys that are `known`.

    The first by ``ts_recv`` and ``seq`` is none; rows whose key has a null are never repeats.
    """
    import polars as pl

    keyed = pl.all_horizontal(pl.col(keys).is_not_null())
    numbered = rows.with_row_index("at")
    first = (
        numbered.lazy()
        .filter(keyed)
        .select("at", *dict.fromkeys(("ts_recv", "seq", *keys)))
        .sort("ts_recv", "seq", "at", nulls_last=True)
        .unique(keys, keep="first", maintain_order=True)
    )
    if known is not None:
        first = first.join(known.lazy(), on=keys, how="anti")
    is_first = pl.col("at").is_in(first.select("at").collect()["at"].implode())
    return numbered.lazy().with_columns(is_repeat=keyed & ~is_first).drop("at").collect()
