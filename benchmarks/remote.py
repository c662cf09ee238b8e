"""What a lake on S3 asks of its server, and what the cache saves."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

from benchmarks.data import ONE, fill_trades
from benchmarks.measure import Line, repeat, seconds
from fluxforge import Lake
from fluxforge.simulator import local_exchange
from fluxforge.testing.s3_server import s3_server
from tests.support.fault_proxy import Fault, FaultProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_QUERY = f"SELECT count(*), sum(price) FROM coinbase.trades WHERE symbol = '{ONE}'"


def lines(rows: int, runs: int) -> Iterator[Line]:
    """Yield requests by kind of work, and a repeated query with 30 ms added to each request."""
    with (
        s3_server() as server,
        FaultProxy(server.host, server.port) as proxy,
        local_exchange("coinbase", seed=3, rate=200) as venue,
        tempfile.TemporaryDirectory() as folder,
    ):
        access = {**server.settings(), "endpoint_url": proxy.url}
        settings = [
            "storage.backend=s3",
            f"storage.base_dir={server.bucket}/benchmark",
            *(f"storage.s3.{key}={value}" for key, value in access.items()),
            f"ingestion.sources.coinbase.url={venue.url}",
            f"ingestion.spool_dir={folder}/spool",
            f"query.cache_dir={folder}/cache",
        ]
        lake = Lake(overrides=settings)
        fill_trades(lake, rows, commits=2)

        def requests(work: Callable[[], object]) -> float:
            before = len(proxy.requests)
            work()
            return float(len(proxy.requests) - before)

        def counted(name: str, work: Callable[[], object], limit: float) -> Iterator[Line]:
            yield from repeat(
                name, f"{limit:g} requests", lambda: requests(work), limit, "requests", runs=1
            )

        reader = Lake(overrides=settings)
        read = lambda: reader.sql(_QUERY).fetchall()
        yield from counted("S3, first read of a table of two files", read, 12)
        yield from counted("S3, second read", read, 1)
        local = Lake(path=f"{folder}/local")
        fill_trades(local, rows, commits=2)
        here = lambda: seconds(lambda: local.sql(_QUERY).fetchall())
        here()
        proxy.inject(Fault("stall", seconds=0.03))
        far = lambda: 1000 * (seconds(read) - here())
        yield from repeat(
            "S3 + 30 ms a request, a repeated query",
            "60 ms more than on disk",
            far,
            60,
            "ms",
            runs=runs,
        )
        proxy.heal()
        lake.ingest_sync("coinbase", frames=200)
        yield from counted(
            "S3, ETL of one segment, first tables", lambda: lake.etl("coinbase"), 140
        )
        lake.ingest_sync("coinbase", frames=200)
        yield from counted("S3, ETL of one segment", lambda: lake.etl("coinbase"), 46)
