"""Files whose rows repeat others, written again with their flags before they are committed.

It costs a look at the few files of the table whose times overlap with the new rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluxforge.etl.work import work_folder
from fluxforge.etl.writers.parquet_writer import ParquetWriter
from fluxforge.tables import table_error
from fluxforge.transform.database import literal, open_database
from fluxforge.transform.repeats import flag_repeats

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import polars as pl
    import pyarrow as pa

    from fluxforge.sources.tables import Channel
    from fluxforge.tables import Snapshot, Table, TableFile


def flag_files(
    table: Table,
    snapshot: Snapshot,
    channel: Channel,
    files: Sequence[TableFile],
    keys: Mapping[str, pa.Table],
) -> list[TableFile]:
    """Return the files to commit against a snapshot: those with repeats are written anew."""
    import polars as pl

    rows = pl.concat(
        [
            pl.DataFrame(pl.from_arrow(keys[file.path])).with_columns(file=pl.lit(number))
            for number, file in enumerate(files)
        ]
    )
    flagged = flag_repeats(rows, channel.key, _known_keys(table, snapshot, channel, rows))
    repeats = flagged.filter("is_repeat")
    committed = []
    for number, file in enumerate(files):
        places = repeats.filter(pl.col("file") == number)["place"]
        committed += [file] if places.is_empty() else _rewrite(table, file, places)
    return committed


def _rewrite(table: Table, file: TableFile, places: pl.Series) -> list[TableFile]:
    with work_folder() as work, open_database(work) as database:
        path: Path = table.storage.fetch(table.storage.join_path(table.path, file.path), work)
        database.register("repeats", places.to_frame().to_arrow())
        day = literal(file.date.isoformat())
        database.execute(
            "CREATE TEMP TABLE flagged AS SELECT * EXCLUDE (file_row_number) REPLACE "
            "(file_row_number IN (SELECT place FROM repeats) AS is_repeat), "
            f"DATE {day} AS date FROM read_parquet({literal(str(path))}, "
            "file_row_number = true, hive_partitioning = false) ORDER BY file_row_number"
        )
        return ParquetWriter(table.storage, table.path, work).write(database, "flagged")


def _known_keys(
    table: Table, snapshot: Snapshot, channel: Channel, rows: pl.DataFrame
) -> pl.DataFrame | None:
    """Read the keys that the table has in the times of the new rows, symbol by symbol.

    A repeated row tells of the same event: it has the same symbol and the same time.
    """
    import polars as pl

    spans = rows.group_by("symbol").agg(
        first=pl.col("ts_event").min(),
        last=pl.col("ts_event").max(),
        timeless=pl.col("ts_event").null_count() > 0,
    )
    overlapping = []
    for file in snapshot.files():
        for symbol, first, last, timeless in spans.iter_rows():
            low, high = (None, None) if timeless else (first, last)
            if file.may_hold("symbol", symbol, symbol) and file.may_hold("ts_event", low, high):
                overlapping.append(f"{table.path}/{file.path}")
                break
    if not overlapping:
        return None
    keys = (
        pl.scan_parquet(
            [table.storage.get_full_path(key) for key in overlapping],
            storage_options=table.storage.get_storage_options() or None,
            credential_provider=None,
            hive_partitioning=False,
            glob=False,
        )
        .filter(pl.col("symbol").is_in(spans["symbol"].implode()))
        .select(channel.key)
        .unique()
    )
    try:
        return keys.collect()
    except (pl.exceptions.PolarsError, OSError) as exc:
        raise table_error(table.uri, exc) from exc
