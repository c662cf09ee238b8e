"""From segments to tables, against DuckDB by hand and against the usual loop over rows."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from benchmarks.data import segments
from benchmarks.measure import compare, repeat
from fluxforge import Lake
from fluxforge.sources import get_source
from fluxforge.transform.database import literal, literals, open_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.measure import Line

_SHAPE = (
    'STRUCT(channel VARCHAR, "timestamp" VARCHAR, sequence_num BIGINT, events STRUCT('
    '"type" VARCHAR, product_id VARCHAR, updates STRUCT(side VARCHAR, event_time VARCHAR, '
    "price_level VARCHAR, new_quantity VARCHAR)[], trades STRUCT(product_id VARCHAR, trade_id "
    'VARCHAR, price VARCHAR, size VARCHAR, "time" VARCHAR, side VARCHAR)[], tickers STRUCT('
    "product_id VARCHAR, price VARCHAR, best_bid VARCHAR, best_ask VARCHAR)[], candles STRUCT("
    'product_id VARCHAR, "start" VARCHAR, open VARCHAR, high VARCHAR, low VARCHAR, '
    '"close" VARCHAR, volume VARCHAR)[])[])'
)
_LISTS = {"orderbook": "updates", "trades": "trades", "ticker": "tickers", "candles": "candles"}


def waiting(paths: list[Path], folder: Path, threads: int = 0) -> Lake:
    """Return a lake in which copies of segments wait."""
    lake = Lake(path=folder, overrides=[f"etl.threads={threads}"])
    ready = Path(lake.storage.get_full_path(lake.layout.ready("coinbase")))
    ready.mkdir(parents=True, exist_ok=True)
    for path in paths:
        shutil.copy(path, ready)
    return lake


def run_etl(lake: Lake) -> None:
    """Commit what waits."""
    if lake.etl("coinbase").lines_quarantined:
        raise SystemExit("the benchmark's own segments have bad lines")


def run_floor(paths: list[Path]) -> None:
    """Read the same lines typed, and write each channel sorted, with no promise at all."""
    tables = get_source("coinbase").tables
    with tempfile.TemporaryDirectory() as name, open_database(Path(name)) as database:
        database.execute(
            "CREATE TABLE lines AS SELECT * FROM read_json("
            f"{literals(map(str, paths))}, format = 'newline_delimited', ignore_errors = true, "
            f"columns = {{capture_ns: 'BIGINT', conn: 'VARCHAR', data: {literal(_SHAPE)}}}, "
            "maximum_object_size = 67108864)"
        )
        for channel, items in _LISTS.items():
            kinds = ", ".join(literal(kind) for kind in tables.channels[channel].takes)
            database.execute(
                f"COPY (SELECT capture_ns, conn, event.product_id AS symbol, unnest(event.{items}, "
                "recursive := true) FROM (SELECT capture_ns, conn, unnest(data.events) AS event "
                f"FROM lines WHERE data.channel IN ({kinds})) ORDER BY 3, 1) "
                f"TO {literal(str(Path(name) / f'{channel}.parquet'))} "
                "(FORMAT parquet, COMPRESSION zstd)"
            )


def run_rows(paths: list[Path]) -> None:
    """Do as many do: a loop of json.loads, lists of dictionaries, a frame, Parquet."""
    rows: dict[str, list[dict[str, object]]] = {items: [] for items in _LISTS.values()}
    for path in paths:
        for line in path.open("rb"):
            record = json.loads(line)
            for event in record["data"].get("events", []):
                for items, found in rows.items():
                    found += [{"ts": record["capture_ns"], **row} for row in event.get(items, [])]
    with tempfile.TemporaryDirectory() as name:
        for items, found in rows.items():
            pl.DataFrame(found).write_parquet(Path(name) / f"{items}.parquet")


def lines(megabytes: float, runs: int) -> Iterator[Line]:
    """Yield the lines of large and of small segments."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = ((1, megabytes, 2, 1.6), (9, megabytes / 3, 8, 1.35), (8, megabytes / 7.5, 2, 1.35))
        for count, size, products, limit in cases:
            paths = segments(folder / f"{count}", size, count, products)
            lakes = (waiting(paths, folder / f"lake-{count}-{n}") for n in range(2 * runs + 2))
            ready = iter(list(lakes))
            work = lambda ready=ready: run_etl(next(ready))
            title = f"ETL of {count} x {size:.0f} MB"
            yield from compare(
                title,
                f"{limit} x DuckDB by hand",
                work,
                lambda paths=paths: run_floor(paths),
                limit,
                runs=runs,
                rounds=1,
            )
            if count == 1:
                loop = lambda paths=paths: run_rows(paths)
                yield from compare(title, "1 x json.loads by row", work, loop, 1, runs=1, rounds=1)


def small(count: int, runs: int) -> Iterator[Line]:
    """Yield what a small segment costs in a batch, into an empty lake and into a full one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        [segment] = segments(folder / "one", 1.0)
        lines_of = segment.read_bytes().splitlines(keepends=True)

        def batch(first: int) -> float:
            paths = []
            for number in range(first, first + count):
                path = (
                    folder / f"segment_20260809T{number // 1000 % 24:02}_{number % 1000:05}.ndjson"
                )
                path.write_bytes(b"".join(lines_of[number % 20 * 50 :][:50]))
                paths.append(path)
            started = time.perf_counter()
            run_etl(waiting(paths, folder / "lake"))
            return 1000 * (time.perf_counter() - started) / count

        numbers = iter(range(0, 10**6, count))
        yield from repeat(
            f"ETL of {count} small segments, each", "10 ms", lambda: batch(next(numbers)), 10, "ms",
            runs=runs, note="the last into a lake that holds the others",
        )  # fmt: skip
