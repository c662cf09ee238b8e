"""Count the requests that FluxForge sends to S3: ``python -m tests.benchmarks.s3_requests``.

Runs against a local S3 server, at the default settings, and prints requests by kind for a minute of
capture, the ETL of one segment, an idle round of the watcher, and a query.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from fluxforge import Lake
from fluxforge.simulator import local_exchange
from fluxforge.testing.s3_server import s3_server
from tests.support.fault_proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Callable

_FRAMES_PER_SECOND = 50


def main() -> None:
    """Print a line for each step."""
    exchange = local_exchange("coinbase", seed=3, rate=_FRAMES_PER_SECOND)
    with s3_server() as server, FaultProxy(server.host, server.port) as proxy, exchange as venue:
        access = {**server.settings(), "endpoint_url": proxy.url}
        lake = Lake(
            overrides=[
                "storage.backend=s3",
                f"storage.base_dir={server.bucket}/requests",
                *(f"storage.s3.{key}={value}" for key, value in access.items()),
                f"ingestion.sources.coinbase.url={venue.url}",
            ]
        )

        def count(what: str, work: Callable[[], object]) -> None:
            before = len(proxy.requests)
            work()
            kinds = Counter(
                "LIST" if "list-type=2" in request.path else request.method
                for request in proxy.requests[before:]
            )
            print(f"{what:32}", ", ".join(f"{kind} {n}" for kind, n in sorted(kinds.items())))

        count("capture, 1 s", lambda: lake.ingest_sync("coinbase", duration=1))
        count("capture, 61 s", lambda: lake.ingest_sync("coinbase", duration=61))
        count("etl, 2 segments, first tables", lambda: lake.etl("coinbase"))
        lake.ingest_sync("coinbase", duration=2)
        count("etl, 1 segment", lambda: lake.etl("coinbase"))
        count("etl, nothing waits", lambda: lake.etl("coinbase"))
        count("scan of ticker", lambda: lake.scan("coinbase", "ticker").collect())
        count(
            "sql over ticker", lambda: lake.sql("SELECT max(price) FROM coinbase.ticker").fetchall()
        )


if __name__ == "__main__":
    main()
