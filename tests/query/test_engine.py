"""SQL over tables: which files it opens, what it may do, and how long its answers hold."""

from __future__ import annotations

import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from fluxforge import Lake
from fluxforge.errors import QueryError, UnknownTableError, UsageError
from fluxforge.query.engine import fetch

if TYPE_CHECKING:
    from collections.abc import Callable

    from fluxforge.tables import TableFile

DAY = datetime(2026, 8, 9, tzinfo=UTC)
SYMBOLS = {"coinbase": ("BTC-USD", "ETH-USD"), "kraken": ("BTC/USD", "ETH/USD")}


def add(
    lake: Lake, source: str, *, symbol: str, hour: int, rows: int = 3, work: Lake | None = None
) -> TableFile:
    """Commit a file with trades of one symbol in one hour."""
    from fluxforge.etl.writers import ParquetWriter
    from fluxforge.tables import Table
    from fluxforge.transform.database import open_database
    from fluxforge.transform.schema import table_schemas

    start = DAY + timedelta(hours=hour)
    schema = table_schemas(source)["trades"]
    is_text = schema.field("trade_id").type == "string"
    frame = pl.DataFrame(
        [
            {
                "symbol": symbol,
                "instrument": symbol.replace("/", "-"),
                "ts_event": start + timedelta(minutes=i),
                "ts_recv": start + timedelta(minutes=i),
                "seq": i,
                "conn": "c",
                "trade_id": str(i) if is_text else i,
                "price": 100.0 + hour,
                "size": 1.0,
                "is_snapshot": False,
                "is_repeat": False,
                "date": start.date(),
            }
            for i in range(rows)
        ]
    )
    empty = pl.DataFrame(pl.from_arrow(schema.empty_table()))
    data = pl.concat([empty, frame.cast({"date": pl.Date})], how="diagonal_relaxed").to_arrow()
    data = data.cast(schema)
    table = Table(lake.storage, lake.layout.table(source, "trades"))
    folder = Path((work or lake).storage.get_full_path("work"))
    folder.mkdir(parents=True, exist_ok=True)
    with open_database(folder) as database:
        database.register("data", data)
        database.execute("CREATE TABLE trades AS FROM data")
        snapshot = table.ensure(schema)
        [file] = ParquetWriter(table.storage, table.path, folder).write(database, "trades")
    assert table.commit(snapshot, [file], [f"segment_{source}-{symbol}-{hour}"], {})
    return file


@pytest.fixture
def two_venues(tmp_path: Path, once: Callable[[str, Callable[[Path], None]], Path]) -> Lake:
    """Return a lake of two venues, two symbols each, and two hours, each in a file of its own."""

    def fill(folder: Path) -> None:
        for source, symbols in SYMBOLS.items():
            for symbol in symbols:
                for hour in (1, 5):
                    add(Lake(path=folder), source, symbol=symbol, hour=hour)

    shutil.copytree(once("two venues", fill), tmp_path / "lake")
    return Lake(path=tmp_path / "lake")


def spoil(lake: Lake, source: str, keep: Callable[[TableFile], bool]) -> int:
    """Overwrite the files of a table, but those that a query may open; return how many."""
    version = lake.catalog.open(source, "trades")
    others = [file for file in version.files if not keep(file)]
    for path in version.locate(others):
        Path(path).write_bytes(b"spoilt")
    return len(others)


def is_bitcoin(file: TableFile) -> bool:
    return bool(file.least["instrument"] == "BTC-USD")


COUNT = "SELECT source, count(*) FROM market.trades WHERE {} GROUP BY ALL ORDER BY ALL"


def test_a_query_whose_files_are_gone_does_not_harm_the_next(two_venues: Lake) -> None:
    for path in Path(two_venues.storage.get_full_path("processed/kraken/trades")).rglob(
        "*.parquet"
    ):
        path.unlink()
    for _ in range(2):
        with pytest.raises(QueryError):
            two_venues.sql("SELECT sum(price) FROM kraken.trades").fetchall()
        assert two_venues.sql("SELECT count(*) FROM coinbase.trades").fetchall() == [(12,)]


@pytest.mark.parametrize(
    "condition",
    [
        "source = 'kraken' AND symbol = 'BTC/USD'",
        "source IN ('kraken') AND symbol IN ('BTC/USD', 'DOGE/USD')",
        "source = 'kraken' AND instrument = 'BTC-USD'",
        "instrument = 'BTC-USD' AND symbol LIKE 'BTC/%' AND source <> 'coinbase'",
        "(source = 'kraken' AND symbol = 'BTC/USD') OR (source = 'kraken' AND symbol = 'NONE')",
    ],
)
def test_files_of_other_venues_and_symbols_are_not_opened(two_venues: Lake, condition: str) -> None:
    assert spoil(two_venues, "coinbase", keep=lambda file: False) == 4
    assert spoil(two_venues, "kraken", keep=is_bitcoin) == 2
    assert two_venues.sql(COUNT.format(condition)).fetchall() == [("kraken", 6)]
    with pytest.raises(QueryError, match="Parquet"):
        two_venues.sql("SELECT sum(price) FROM market.trades").fetchall()


@pytest.mark.parametrize(
    "condition",
    [
        "ts_event >= '2026-08-09T04:00' AND ts_event < '2026-08-09T06:00'",
        "ts_event BETWEEN TIMESTAMPTZ '2026-08-09 04:00Z' AND TIMESTAMPTZ '2026-08-09 06:00Z'",
        "ts_recv > '2026-08-09 03:59:00+00'",
    ],
)
def test_files_of_another_time_are_not_opened(two_venues: Lake, condition: str) -> None:
    assert spoil(two_venues, "coinbase", lambda file: file.least["ts_event"].hour == 5) == 2
    query = f"SELECT count(*) FROM coinbase.trades WHERE {condition}"
    assert two_venues.sql(query).fetchall() == [(6,)]


def test_scans_over_venues_open_only_what_they_ask_for(two_venues: Lake) -> None:
    for source in SYMBOLS:
        assert spoil(two_venues, source, keep=is_bitcoin) == 2
    for sources in ("*", ["coinbase", "kraken"]):
        frame = two_venues.scan(sources, "trades", instruments=["BTC-USD"]).collect()
        assert frame["source"].unique().sort().to_list() == ["coinbase", "kraken"]
        assert frame.height == 12
        assert frame["trade_id"].dtype == pl.String


QUERIES = (
    "SELECT * FROM coinbase.trades WHERE symbol = 'BTC-USD' AND NOT (price > 103)",
    (
        "SELECT a.* FROM coinbase.trades a ASOF JOIN kraken.trades b ON a.ts_event >= b.ts_event "
        "WHERE a.symbol = 'BTC-USD'"
    ),
    (
        "SELECT * FROM coinbase.trades a LEFT JOIN kraken.trades b "
        "ON a.instrument = b.instrument AND b.ts_event >= '2026-08-09T05:00'"
    ),
    (
        "WITH t AS (FROM market.trades WHERE instrument = 'ETH-USD') SELECT source, sum(size) "
        "FROM t GROUP BY 1 HAVING sum(size) > "
        "(SELECT count(*) FROM coinbase.trades WHERE symbol = 'none')"
    ),
    "SELECT * FROM coinbase.trades WHERE ts_event > (SELECT min(ts_event) FROM kraken.trades)",
    (
        "SELECT * FROM coinbase.trades WHERE symbol IN (SELECT symbol FROM coinbase.trades_raw "
        "WHERE ts_event < '2026-08-09T02:00') ORDER BY ts_event DESC LIMIT 4"
    ),
    (
        "SELECT *, lag(price) OVER (PARTITION BY symbol ORDER BY ts_event) FROM coinbase.trades "
        "WHERE symbol = 'ETH-USD' OR ts_event = '2026-08-09T05:01'"
    ),
    (
        "SELECT count(*) FROM coinbase.trades WHERE ts_event < now() AND ts_event > now() "
        "- INTERVAL '100 years' AND date = '2026-08-09'"
    ),
    (
        "FROM coinbase.trades WHERE symbol = 'BTC-USD' UNION ALL FROM coinbase.trades "
        "WHERE symbol = 'ETH-USD' AND ts_event > '2026-08-09T02:00'"
    ),
    "SELECT count(*) FILTER (symbol = 'BTC-USD'), count(*) FROM coinbase.trades",
)


@pytest.mark.parametrize("query", QUERIES)
def test_leaving_files_out_changes_no_answer(two_venues: Lake, query: str) -> None:
    with two_venues.connect() as database:  # whose views have all files
        expected = database.sql(query).pl()
    assert_frame_equal(two_venues.sql(query).pl(), expected, check_row_order=False)


def test_each_commit_is_seen_and_an_earlier_relation_stays(two_venues: Lake) -> None:
    query = "SELECT count(*) FROM coinbase.trades"
    before = two_venues.sql(query)
    other = Lake(path=two_venues.storage.base_path)
    for number in range(1, 25):  # over the checkpoint and the tens of versions
        add(other, "coinbase", symbol="SOL-USD", hour=number % 24)
        assert two_venues.sql(query).fetchall() == [(12 + 3 * number,)]
        assert two_venues.scan("coinbase", "trades").collect().height == 12 + 3 * number
    assert before.fetchall() == [(12,)]
    assert [file.path for file in two_venues.catalog.open("coinbase", "trades").files] == [
        file.path for file in other.catalog.open("coinbase", "trades").files
    ]
    other.optimize()
    assert two_venues.sql(query).fetchall() == [(84,)]
    assert len(two_venues.catalog.open("coinbase", "trades").files) == 1
    assert before.fetchall() == [(12,)]


def test_a_table_that_was_made_anew_is_opened_anew(two_venues: Lake) -> None:
    assert two_venues.scan("coinbase", "trades").collect().height == 12
    shutil.rmtree(two_venues.storage.get_full_path("processed/coinbase"))
    for hour in range(4):
        add(Lake(path=two_venues.storage.base_path), "coinbase", symbol="SOL-USD", hour=hour)
    assert two_venues.scan("coinbase", "trades").collect()["symbol"].unique().to_list() == [
        "SOL-USD"
    ]


def test_time_travel(two_venues: Lake) -> None:
    history = two_venues.history("coinbase", "trades").sort("version")
    assert history["rows"].to_list() == [0, 3, 3, 3, 3]
    assert history["segments"].to_list() == [0, 1, 1, 1, 1]
    assert history["operation"].to_list() == ["create table", *["write"] * 4]
    for version, at in history.select("version", "time").iter_rows():
        by_number = two_venues.scan("coinbase", "trades", version=version).collect()
        assert by_number.height == 3 * version
        # Commits of the same millisecond cannot be told apart: it is the last of them.
        last = history.filter(pl.col("time") == at)["version"].max()
        assert two_venues.scan("coinbase", "trades", as_of=at).collect().height == 3 * last
        with two_venues.connect(as_of=at) as database:
            assert database.sql("SELECT count(*) FROM coinbase.trades").fetchall() == [(3 * last,)]
    assert two_venues.scan("coinbase", "trades", as_of="2020-01-01").collect().is_empty()
    with pytest.raises(UsageError, match="one of version, as_of and live"):
        two_venues.scan("coinbase", "trades", version=1, as_of=DAY)
    two_venues.optimize()
    newest = two_venues.history("coinbase", "trades").row(0, named=True)
    assert (newest["operation"], newest["files"], newest["removed"]) == ("optimize", 1, 4)


def test_several_statements() -> None:
    lake = Lake(path="absent")
    assert lake.sql("CREATE TABLE t AS SELECT 7 AS x; FROM t").fetchall() == [(7,)]
    with pytest.raises(QueryError, match="only the last statement may be a query"):
        lake.sql("SELECT 1; SELECT 2")


def test_what_there_is_to_query(two_venues: Lake) -> None:
    names = two_venues.sql("SHOW TABLES").pl()["name"].to_list()
    assert {"coinbase.trades", "kraken.ticker", "market.trades", "market.candles"} < set(names)
    for name in names:
        two_venues.sql(f"SELECT count(*) FROM {name}").fetchall()


def test_values_of_every_kind(two_venues: Lake) -> None:
    query = (
        "SELECT INTERVAL '1 month 3 days -5 seconds' AS i, 170141183460469231731687303715884105727 "
        "AS h, 2::UHUGEINT AS u, sum(3::BIGINT) AS s, [INTERVAL 1 day] AS l, 1 AS u, "
        "NULL::INTERVAL AS n"
    )
    [row] = fetch(two_venues.catalog, query).to_dicts()
    assert row == {
        "i": "P1M3DT-5S", "h": 2**127 - 1, "u": 2, "s": 3, "l": "[1 day]", "u_1": 1, "n": None,
    }  # fmt: skip
    lag = two_venues.sql("SELECT ts_recv - ts_event AS lag FROM coinbase.trades").pl()
    assert lag["lag"].struct.field("nanoseconds").dtype == pl.Duration("ns")


ATTACKS = (
    "FROM read_csv('{path}')",
    "FROM read_text('{path}')",
    "FROM read_blob('{path}')",
    "FROM read_json('{path}')",
    "FROM read_parquet('{path}')",
    "FROM parquet_metadata('{path}')",
    "FROM sniff_csv('{path}')",
    "FROM '{path}'",
    "FROM glob('/*')",
    "FROM read_parquet('{own}')",
    "COPY (SELECT 1) TO '{path}'",
    "COPY coinbase.trades TO '{own}' (FORMAT parquet)",
    "EXPORT DATABASE '{path}'",
    "IMPORT DATABASE '{path}'",
    "ATTACH '{path}'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{path}'",
    "SET enable_external_access = true",
    "RESET enable_external_access",
    "SET lock_configuration = false",
    "SET threads = 64",
    "SET memory_limit = '1TB'",
    "PRAGMA enable_profiling",
    "CREATE PERSISTENT SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "FROM duckdb_secrets()",
    "SELECT getenv('HOME')",
    "CREATE MACRO f(x) AS TABLE FROM read_text(x); FROM f('{path}')",
    "FROM query('FROM read_text(''{path}'')')",
    "FROM arrow_scan(1, 2, 3)",
    "FROM database",
    "FROM two_venues",
)


def test_statements_of_others_reach_the_tables_alone(two_venues: Lake) -> None:
    secret = Path(two_venues.storage.get_full_path("secret.csv"))
    secret.write_text("a secret\n")
    version = two_venues.catalog.open("coinbase", "trades")
    [own, *_] = version.locate(version.files)
    before = Path(own).read_bytes()
    with two_venues.connect(read_only=True) as database:
        for attack in ATTACKS:
            statement = attack.format(path=secret, own=own)
            with pytest.raises(duckdb.Error):
                database.sql(statement).fetchall()
            assert database.sql("SELECT count(*) FROM market.trades").fetchall() == [(24,)]
            assert secret.read_text() == "a secret\n", attack
            assert Path(own).read_bytes() == before, attack


@pytest.mark.parametrize(
    "statement",
    [
        "ATTACH ':memory:' AS m",
        "CREATE TABLE t AS SELECT 1",
        "SELECT 1; SELECT 2",
        "COPY coinbase.trades TO 'x.csv'",
    ],
)
def test_safe_takes_one_query_and_nothing_else(two_venues: Lake, statement: str) -> None:
    with pytest.raises(QueryError, match="only one statement that reads"):
        fetch(two_venues.catalog, statement, safe=True)
    query = "SELECT count(*) FROM market.trades WHERE instrument = 'BTC-USD'"
    assert fetch(two_venues.catalog, query, safe=True).rows == [(12,)]
    with pytest.raises((QueryError, UnknownTableError)):
        fetch(two_venues.catalog, f"FROM read_text('{__file__}')", safe=True)


def test_a_suggestion_names_each_table_once(two_venues: Lake) -> None:
    with pytest.raises(UnknownTableError) as raised:
        fetch(two_venues.catalog, "FROM market.segments")
    names = re.findall(r"\w+\.segments", str(raised.value).partition("Did you mean")[2])
    assert len(names) == len(set(names)) > 0
