"""A whole S3 run, and every way in which it can fail, says nothing of its credentials."""

from __future__ import annotations

import io
import logging
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from omegaconf import OmegaConf

from fluxforge.errors import FluxForgeError
from fluxforge.etl.job import ETLJob
from fluxforge.ingestion.orchestrators import IngestionPipeline
from fluxforge.ingestion.writers import LogWriter
from fluxforge.tables import Table
from tests.support.fault_proxy import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fluxforge import Lake
    from fluxforge.testing.s3_server import S3Server
    from tests.s3.conftest import Place
    from tests.support.fault_proxy import FaultProxy

pytestmark = pytest.mark.s3

FRAMES = 100
TOKEN = "a-session-token-that-nobody-gave"
WRONG = {
    "key": {"aws_access_key_id": "AKIAWRONGKEYWRONGKEY"},
    "secret": {"aws_secret_access_key": "wrong/secret+wrong/secret+wrong/secret+w"},
    "token": {"aws_session_token": TOKEN},
}
SECRETS = [text for wrong in WRONG.values() for text in wrong.values()]


class Scanner:
    """Takes in text and tells which secrets it holds."""

    def __init__(self, *secrets: str) -> None:
        self._secrets = secrets
        self.texts: list[str] = []

    def take(self, *values: object) -> None:
        self.texts += [str(value) for value in values]

    def show(self, *values: Any) -> None:
        """Take in what a person, a log and a notebook would see of each value."""
        for value in values:
            self.take(repr(value), value, f"{value}")
            for way in ("_repr_html_", "_repr_mimebundle_"):
                if hasattr(type(value), way):
                    self.take(getattr(value, way)())

    def check(self) -> None:
        found = {text[:300] for text in self.texts for secret in self._secrets if secret in text}
        assert found == set()


@pytest.fixture
def scanner(s3_server: S3Server) -> Scanner:
    return Scanner(s3_server.secret_key, s3_server.access_key, *SECRETS)


@contextmanager
def everything_logged() -> Iterator[io.StringIO]:
    """Record what all loggers say, those of other libraries too."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s %(args)s"))
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield text
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


def whole_run(place: Place, lake: Lake, scanner: Scanner) -> None:
    scanner.show(lake.ingest_sync("coinbase", frames=FRAMES), lake.etl("coinbase"))
    frame = lake.scan("coinbase", "ticker", symbols=["BTC-USD"])
    relation = lake.sql("SELECT symbol, avg(price) FROM coinbase.ticker GROUP BY 1")
    scanner.show(frame, frame.collect(), relation, relation.pl(), lake.tables(), lake.verify())
    scanner.take(frame.explain(), relation.explain(), relation.sql_query())
    scanner.show(lake.gaps("coinbase"), lake.status(), lake.optimize(), lake.vacuum(dry_run=True))
    with lake.connect() as database:
        scanner.take(database.sql("FROM duckdb_views()").fetchall())
        scanner.take(database.sql("FROM duckdb_settings()").fetchall())
        scanner.take(database.sql("FROM duckdb_secrets()").fetchall())


def test_logs_and_results_of_a_whole_run(
    place: Place, proxy: FaultProxy, market: Callable[..., Any], scanner: Scanner
) -> None:
    proxy.inject(Fault("status"), share=0.05)  # so that it has something to log
    proxy.inject(Fault("cut_response", after=50), share=0.03)
    with everything_logged() as log, market() as served:
        whole_run(place, place.through(proxy).watching(served.url).lake(), scanner)
    logged = log.getvalue()
    assert "fluxforge" in logged
    assert "s3fs" in logged or "botocore" in logged
    scanner.take(logged)
    for file in place.storage().list_entries():
        scanner.take(place.storage().read_bytes(file.key).decode("latin-1"))
    scanner.check()


def test_what_objects_show_of_themselves(
    place: Place, market: Callable[..., Any], s3_server: S3Server, scanner: Scanner
) -> None:
    with market() as served:
        place = place.watching(served.url)
        lake = place.lake()
        lake.ingest_sync("coinbase", frames=FRAMES)
    lake.etl("coinbase")
    storage = lake.storage
    table = Table(storage, "processed/coinbase/ticker")
    paths = {"input_path": "raw/ready/coinbase", "output_path": "processed/coinbase"}
    writer = {"active_path": "raw/active/coinbase", "ready_path": "raw/ready/coinbase"}
    scanner.show(
        lake,
        lake.config,
        lake.layout,
        lake.storage,
        lake.sources,
        s3_server,
        storage.get_filesystem(),
        storage.acquire_lease("raw/processing/coinbase/one"),
        table,
        table.snapshot(),
        IngestionPipeline(lake.config, "coinbase"),
        ETLJob(storage=storage, **paths),
        LogWriter(storage=storage, source_name="coinbase", **writer),
    )
    scanner.take(OmegaConf.to_yaml(lake.config), vars(storage), vars(lake))
    scanner.check()


@pytest.mark.parametrize("wrong", sorted(WRONG))
def test_errors_their_causes_and_their_logs(
    place: Place, scanner: Scanner, wrong: str, market: Callable[..., Any]
) -> None:
    with market() as served, everything_logged() as log:
        access = [f"storage.s3.{key}={value}" for key, value in WRONG[wrong].items()]
        lake = place.watching(served.url).having(*access).lake()
        operations: list[Callable[[], object]] = [
            lambda: lake.ingest_sync("coinbase", frames=1),
            lambda: lake.etl("coinbase"),
            lambda: lake.sql("SELECT * FROM coinbase.ticker").fetchall(),
            lambda: lake.scan("coinbase", "ticker").collect(),
            lambda: lake.storage.read_bytes("raw/none"),
            lambda: lake.storage.write_bytes("raw/none", b""),
            lambda: Table(lake.storage, "processed/coinbase/ticker").snapshot(),
            lake.tables,
            lake.status,
        ]
        for operation in operations:
            with pytest.raises(FluxForgeError) as caught:
                operation()
            assert "\n" not in str(caught.value)
            scanner.show(caught.value)
            scanner.take("".join(traceback.format_exception(caught.value)))
        report = lake.verify()
    assert len(report.problems) == 1
    scanner.show(report)
    scanner.take(log.getvalue())
    scanner.check()


def test_output_of_commands(place: Place, market: Callable[..., Any], scanner: Scanner) -> None:
    with market() as served:
        place = place.watching(served.url)
        commands = [
            ("--verbose", "ingest", "coinbase", "--frames", str(FRAMES)),
            ("--verbose", "etl"),
            ("sql", "SELECT count(*) FROM coinbase.ticker"),
            ("sql", "SELECT nothing FROM coinbase.ticker"),
            ("config", "show"),
        ]
        for words in commands:
            done = place.run(*words)
            assert done.returncode == (2 if "nothing" in words[-1] else 0), done.stderr
            scanner.take(done.stdout, done.stderr)
    assert any("***" in text for text in scanner.texts)
    scanner.check()
