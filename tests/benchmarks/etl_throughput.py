"""Time the ETL against its floor: ``python tests/benchmarks/etl_throughput.py [MEGABYTES]``.

The floor is DuckDB alone: the same lines read once, typed, and each channel written to sorted zstd
Parquet, with no accounts, no quarantine, no commit and no digest. Both run in turn, in one process;
the ratio is what the promises cost.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from fluxforge.etl.job import ETLJob
from fluxforge.simulator import local_exchange
from fluxforge.sources import get_source
from fluxforge.storage.local import LocalStorage
from fluxforge.transform.database import literal, open_database

_ROUNDS = 3
_READY = "raw/ready/coinbase"


def make_segment(folder: Path, megabytes: float) -> Path:
    """Capture a segment of about this size from the market model, through a real socket."""
    from fluxforge import Lake

    with local_exchange("coinbase", seed=5, rate=0) as exchange:
        lake = Lake(
            overrides=[
                f"storage.base_dir={folder}",
                f"ingestion.sources.coinbase.url={exchange.url}",
                f"ingestion.segment_max_mb={megabytes * 2}",
            ]
        )
        frames = 2000
        while True:
            lake.ingest_sync("coinbase", frames=frames)
            segments = sorted((folder / _READY).glob("*.ndjson"))
            if sum(path.stat().st_size for path in segments) >= megabytes * 1e6:
                break
    whole = folder / "whole.ndjson"
    with whole.open("wb") as target:
        for path in segments:
            target.write(path.read_bytes())
    return whole


def run_etl(segment: Path) -> float:
    """Return the seconds of a whole ETL of one segment into an empty lake."""
    with tempfile.TemporaryDirectory() as name:
        storage = LocalStorage(name)
        storage.write_file(segment, f"{_READY}/segment_20260809T21_00001.ndjson")
        job = ETLJob(storage=storage, input_path=_READY, output_path="processed/coinbase")
        started = time.perf_counter()
        report = job.process_all_segments()
        seconds = time.perf_counter() - started
    if report.lines_quarantined:
        raise SystemExit("the benchmark's own segment has bad lines")
    return seconds


def run_floor(segment: Path) -> float:
    """Return the seconds of DuckDB alone, for the same rows."""
    tables = get_source("coinbase").tables
    shape = (
        'STRUCT(channel VARCHAR, "timestamp" VARCHAR, sequence_num BIGINT, events STRUCT('
        '"type" VARCHAR, product_id VARCHAR, updates STRUCT(side VARCHAR, event_time VARCHAR, '
        "price_level VARCHAR, new_quantity VARCHAR)[], trades STRUCT(product_id VARCHAR, trade_id "
        'VARCHAR, price VARCHAR, size VARCHAR, "time" VARCHAR, side VARCHAR)[], tickers STRUCT('
        "product_id VARCHAR, price VARCHAR, best_bid VARCHAR, best_ask VARCHAR)[], candles STRUCT("
        'product_id VARCHAR, "start" VARCHAR, open VARCHAR, high VARCHAR, low VARCHAR, '
        '"close" VARCHAR, volume VARCHAR)[])[])'
    )
    lists = {"orderbook": "updates", "trades": "trades", "ticker": "tickers", "candles": "candles"}
    with tempfile.TemporaryDirectory() as name, open_database(Path(name)) as database:
        started = time.perf_counter()
        database.execute(
            "CREATE TABLE lines AS SELECT * FROM read_json("
            f"{literal(str(segment))}, format = 'newline_delimited', ignore_errors = true, "
            f"columns = {{capture_ns: 'BIGINT', conn: 'VARCHAR', data: {literal(shape)}}}, "
            "maximum_object_size = 67108864)"
        )
        for channel, items in lists.items():
            kinds = ", ".join(literal(kind) for kind in tables.channels[channel].takes)
            database.execute(
                f"COPY (SELECT capture_ns, conn, event.product_id AS symbol, unnest(event.{items}, "
                "recursive := true) FROM (SELECT capture_ns, conn, unnest(data.events) AS event "
                f"FROM lines WHERE data.channel IN ({kinds})) ORDER BY 3, 1) "
                f"TO {literal(str(Path(name) / f'{channel}.parquet'))} "
                "(FORMAT parquet, COMPRESSION zstd)"
            )
        return time.perf_counter() - started


def main() -> None:
    """Print medians and the ratio."""
    megabytes = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    with tempfile.TemporaryDirectory() as name:
        segment = make_segment(Path(name), megabytes)
        size = segment.stat().st_size / 1e6
        pairs = [(run_etl(segment), run_floor(segment)) for _ in range(_ROUNDS)]
    etl = statistics.median(pair[0] for pair in pairs)
    floor = statistics.median(pair[1] for pair in pairs)
    ratio = statistics.median(pair[0] / pair[1] for pair in pairs)
    print(f"segment  {size:.0f} MB")
    print(f"etl      {size / etl:.0f} MB/s")
    print(f"floor    {size / floor:.0f} MB/s")
    print(f"ratio    {ratio:.2f} (etl time / floor time, median of {_ROUNDS} pairs)")


if __name__ == "__main__":
    main()
