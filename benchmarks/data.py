"""What is measured on: tables of trades, and segments of the market model."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fluxforge import Lake
from fluxforge.etl.optimize import MANY_FILES, optimize_table
from fluxforge.etl.writers import ParquetWriter
from fluxforge.simulator import local_exchange
from fluxforge.tables import Table
from fluxforge.transform.database import open_database
from fluxforge.transform.schema import table_schemas

if TYPE_CHECKING:
    from collections.abc import Iterator

SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD", "XRP-USD", "ADA-USD", "DOGE-USD", "LTC-USD", "LINK-USD")
ONE = SYMBOLS[0]
SLICE = ("2026-08-09T08:18:20+00:00", "2026-08-09T08:19:18+00:00")
"""About a twentieth of the 20 minutes of a whole table."""

_TRADES = """
CREATE OR REPLACE TABLE trades AS
SELECT
    $symbols[1 + (i % 8)::INT] AS symbol,
    TIMESTAMPTZ '2026-08-09 08:10:00Z' + to_microseconds(i * 1000 + (hash(i) % 1000)::BIGINT)
        AS ts_event,
    TIMESTAMPTZ '2026-08-09 08:10:00Z' + to_microseconds(i * 1000 + 20_000) AS ts_recv,
    i // 5 AS seq, 'c' || i // 400_000 AS conn, symbol AS instrument, 'spot' AS market,
    i AS trade_id, round(60_000 + 500 * sin(i / 50_000) + hash(i + 1) % 1000 / 100.0, 2) AS price,
    round(hash(i + 2) % 100_000 / 1e5, 8)::DOUBLE AS size,
    CASE WHEN hash(i + 3) % 2 = 0 THEN 'buy' ELSE 'sell' END AS side,
    false AS is_snapshot, false AS is_repeat, DATE '2026-08-09' AS date
FROM range($first::BIGINT, $last::BIGINT) t(i)
"""


def fill_trades(lake: Lake, rows: int, commits: int = 1) -> None:
    """Commit trades of eight symbols to a lake, in so many commits, as the ETL would."""
    table = Table(
        lake.storage_for("etl_output"), lake.layout_for("etl_output").table("coinbase", "trades")
    )
    schema, step = table_schemas("coinbase")["trades"], rows // commits
    with tempfile.TemporaryDirectory() as work, open_database(Path(work)) as database:
        writer = ParquetWriter(table.storage, table.path, Path(work))
        for number in range(commits):
            span = {"first": number * step, "last": (number + 1) * step}
            database.execute(_TRADES, {"symbols": list(SYMBOLS), **span})
            files = writer.write(database, "trades", order=("symbol", "ts_recv"))
            table.commit(table.ensure(schema), files, [f"segment_{number}"], {})
            if number % MANY_FILES == 0:  # as an ETL looks after each commit
                optimize_table(table, "trades", least_files=MANY_FILES, most_batches=1)


_BOOK = """
CREATE OR REPLACE TABLE orderbook AS
SELECT
    'BTC-USD' AS symbol, TIMESTAMPTZ '2026-08-09 08:10:00Z' + to_microseconds(frame * 10_000)
        AS ts_event, ts_event + INTERVAL '20 ms' AS ts_recv, frame AS seq, 'c' AS conn,
    symbol AS instrument, 'spot' AS market, CASE WHEN i % 2 = 0 THEN 'bid' ELSE 'ask' END AS side,
    60_000 + (CASE WHEN side = 'bid' THEN -1 ELSE 1 END) * (1 + level) / 100.0 AS price,
    CASE WHEN frame > 0 AND hash(i + 1) % 4 = 0 THEN 0 ELSE 1 + hash(i + 2) % 1000 END / 100.0
        AS size,
    frame = 0 AS is_snapshot, position, DATE '2026-08-09' AS date
FROM (
    SELECT i, CASE WHEN i < 1000 THEN 0 ELSE 1 + (i - 1000) // 10 END AS frame,
        (CASE WHEN i < 1000 THEN i ELSE (i - 1000) % 10 END)::INTEGER AS position,
        CASE WHEN i < 1000 THEN i // 2 ELSE hash(i) % 500 END::INTEGER AS level
    FROM range($changes::BIGINT) t(i)
)
"""


def fill_book(lake: Lake, changes: int) -> None:
    """Commit a book of 500 levels a side and its changes: frames of ten, a hundred a second."""
    table = Table(lake.storage, lake.layout.table("coinbase", "orderbook"))
    with tempfile.TemporaryDirectory() as work, open_database(Path(work)) as database:
        database.execute(_BOOK, {"changes": changes})
        files = ParquetWriter(table.storage, table.path, Path(work)).write(database, "orderbook")
        table.commit(table.ensure(table_schemas("coinbase")["orderbook"]), files, ["segment"], {})


def segments(folder: Path, megabytes: float, count: int = 1, products: int = 2) -> list[Path]:
    """Return segments of the market model of about a size each, captured through a real socket."""
    with local_exchange("coinbase", seed=5, rate=0) as exchange:
        lake = Lake(
            path=folder,
            overrides=[
                f"ingestion.sources.coinbase.url={exchange.url}",
                f"ingestion.sources.coinbase.products=[{','.join(SYMBOLS[:products])}]",
                f"ingestion.segment_max_mb={megabytes}",
                "ingestion.segment_max_seconds=86400",
            ],
        )
        found: list[Path] = []
        while len(found) < count:
            lake.ingest_sync("coinbase", frames=20_000)
            ready = Path(lake.storage.get_full_path(lake.layout.ready("coinbase")))
            sized = (path.stat().st_size for path in ready.glob("*.ndjson"))
            if sum(sized) >= count * megabytes * 1e6:
                found = list(_joined(sorted(ready.glob("*.ndjson")), folder, megabytes, count))
    return found


def _joined(paths: list[Path], folder: Path, megabytes: float, count: int) -> Iterator[Path]:
    """Write the lines of all segments to files of the size that is wanted."""
    lines = (line for path in paths for line in path.open("rb"))
    for number in range(1, count + 1):
        target, size = folder / f"segment_20260809T21_{number:05}.ndjson", 0
        with target.open("wb") as file:
            while size < megabytes * 1e6 and (line := next(lines, b"")):
                size += file.write(line)
        yield target
