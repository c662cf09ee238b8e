"""Settings that cannot work: one clear line that says what to change, from every command."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from fluxforge import Lake
from fluxforge.errors import FluxForgeError
from fluxforge.simulator import local_exchange
from fluxforge.tables import Table

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from fluxforge.testing.s3_server import S3Server
    from tests.s3.conftest import Place

pytestmark = pytest.mark.s3

QUERY = "SELECT count(*) FROM coinbase.ticker"
INGEST, ETL, TABLES, SQL = (
    ("ingest", "coinbase", "--frames", "1"),
    ("etl",),
    ("tables",),
    ("sql", QUERY),
)
COMMANDS = {
    "key id": (INGEST, TABLES),
    "secret": (ETL, SQL),
    "bucket": (INGEST, ETL),
    "endpoint": (TABLES, SQL),
}


def wrong_settings(case: str) -> tuple[list[str], str]:
    """Return settings and what the error says of them."""
    match case:
        case "key id":
            return ["storage.s3.aws_access_key_id=nobody"], "storage.s3.aws_access_key_id"
        case "secret":
            return ["storage.s3.aws_secret_access_key=x"], "storage.s3.aws_secret_access_key"
        case "bucket":
            return ["storage.base_dir=no-such-bucket/lake"], "no bucket 'no-such-bucket'"
        case _:
            with socket.create_server(("127.0.0.1", 0)) as server:
                url = f"http://127.0.0.1:{server.getsockname()[1]}"
            return [f"storage.s3.endpoint_url={url}"], f"cannot reach {url}: check"


@pytest.mark.parametrize("case", COMMANDS)
def test_every_way_into_a_lake(place: Place, market: Callable[..., Any], case: str) -> None:
    settings, words = wrong_settings(case)
    with market() as served:
        lake = place.watching(served.url).having(*settings).lake()
        ways: dict[str, Callable[[], object]] = {
            "ingest": lambda: lake.ingest_sync("coinbase", frames=1),
            "etl": lake.etl,
            "tables": lake.tables,
            "status": lake.status,
            "optimize": lake.optimize,
            "vacuum": lake.vacuum,
            "scan": lambda: lake.scan("coinbase", "ticker"),
            "sql": lambda: lake.sql(QUERY),
            "connect": lake.connect,
            "gaps": lambda: lake.gaps("coinbase"),
            "one table": lambda: Table(lake.storage, "processed/coinbase/ticker").snapshot(),
        }

        def error(way: Callable[[], object]) -> Exception | None:
            try:
                way()
            except FluxForgeError as exc:
                return exc
            return None

        with ThreadPoolExecutor(len(ways)) as pool:
            errors = dict(zip(ways, pool.map(error, ways.values()), strict=True))
    assert [way for way, exc in errors.items() if words not in str(exc)] == []
    assert [way for way, exc in errors.items() if "\n" in str(exc)] == []
    [problem] = lake.verify().problems
    assert words in problem.message


@pytest.mark.parametrize("case", COMMANDS)
def test_the_command(place: Place, market: Callable[..., Any], case: str) -> None:
    settings, words = wrong_settings(case)
    with market() as served, ThreadPoolExecutor(2) as pool:
        wrong = place.watching(served.url).having(*settings)
        runs = list(pool.map(lambda command: wrong.run(*command), COMMANDS[case]))
    for command, done in zip(COMMANDS[case], runs, strict=True):
        check_one_line(command, done, words)


def check_one_line(
    command: tuple[str, ...], done: subprocess.CompletedProcess[str], words: str
) -> None:
    assert done.returncode in (1, 2), (command, done.stderr)
    assert done.stdout == "", command
    assert done.stderr.startswith("fluxforge: "), (command, done.stderr)
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1, (command, done.stderr)


def test_a_server_named_by_the_environment_alone(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    with local_exchange("coinbase", seed=3, rate=0) as exchange:
        lake = Lake(
            overrides=[
                "storage.backend=s3",
                f"storage.base_dir={s3_server.bucket}/by the environment",
                f"ingestion.spool_dir={tmp_path}",
                f"ingestion.sources.coinbase.url={exchange.url}",
            ]
        )
        lake.ingest_sync("coinbase", frames=100)
    assert lake.etl().lines_taken == 100
    assert lake.scan("coinbase", "ticker").collect().height > 0
