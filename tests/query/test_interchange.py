"""Others read the same tables, and notebooks' own tools read a lake."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import duckdb
import polars as pl
import pytest
from deltalake import DeltaTable

from fluxforge import Lake

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TABLE = "orderbook"
QUERY = "SELECT symbol, count(*), sum(size), max(ts_event) FROM {} GROUP BY 1 ORDER BY 1"
Rows = list[tuple[object, ...]]


def summed(frame: pl.DataFrame) -> Rows:
    size, event = pl.col("size"), pl.col("ts_event")
    grouped = frame.group_by("symbol").agg(pl.len(), size.sum(), event.max()).sort("symbol")
    return [(*row[:2], pytest.approx(row[2]), row[3]) for row in grouped.rows()]


def by_polars(path: str) -> pl.DataFrame:
    return pl.scan_delta(path).collect()


def by_arrow(path: str) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(DeltaTable(path).to_pyarrow_table()))


def by_duckdb(path: str) -> pl.DataFrame:
    with duckdb.connect(config={"autoinstall_known_extensions": False}) as database:
        try:
            database.execute("LOAD delta")
        except duckdb.Error:
            pytest.skip("DuckDB's extension delta is not installed")
        return database.sql(f"FROM delta_scan('{path}')").pl()


def by_spark(path: str) -> pl.DataFrame:
    server = pytest.importorskip("pysail.spark").SparkConnectServer()
    session = pytest.importorskip("pyspark.sql").SparkSession
    server.start()
    try:
        host, port = server.listening_address
        spark = session.builder.remote(f"sc://{host}:{port}").getOrCreate()
        return pl.DataFrame(pl.from_arrow(spark.read.format("delta").load(path).toArrow()))
    finally:
        server.stop()


@pytest.mark.parametrize("read", [by_polars, by_arrow, by_duckdb, by_spark])
def test_others_read_the_same_rows(
    filled_lake: Lake, tmp_path: Path, read: Callable[[str], pl.DataFrame]
) -> None:
    shutil.copytree(str(filled_lake.config.storage.base_dir), tmp_path, dirs_exist_ok=True)
    lake = Lake(path=tmp_path)
    path = lake.catalog.open("coinbase", TABLE).table.uri
    ours = lake.scan("coinbase", TABLE, raw=True).collect()
    assert ours.height > 1000
    assert summed(read(path)) == summed(ours)
    assert lake.optimize()
    lake.vacuum(keep="1h")
    assert summed(read(path)) == summed(ours)


def test_a_lake_in_pandas(filled_lake: Lake) -> None:
    pytest.importorskip("pandas")
    frame = filled_lake.sql(QUERY.format("coinbase.trades")).df()
    assert list(frame["symbol"]) == ["BTC-USD", "ETH-USD"]
    assert str(frame.dtypes.iloc[-1]) == "datetime64[us, UTC]"
    assert filled_lake.scan("coinbase", "ticker").collect().to_pandas().shape[0] > 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_jupysql(filled_lake: Lake) -> None:
    pytest.importorskip("sql.magic")
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    try:
        shell.user_ns["database"] = filled_lake.connect()
        for line in (
            "%load_ext sql",
            "%config SqlMagic.feedback = 0",
            "%config SqlMagic.displaycon = False",
            "%sql database --alias lake",
            "answer = %sql SELECT symbol, count(*) AS n FROM coinbase.ticker GROUP BY 1 ORDER BY 1",
        ):
            shell.run_cell(line).raise_error()
        rows = [tuple(row) for row in shell.user_ns["answer"]]
    finally:
        shell.user_ns["database"].close()
        InteractiveShell.clear_instance()
    assert (
        rows
        == filled_lake.sql(
            "SELECT symbol, count(*) FROM coinbase.ticker GROUP BY 1 ORDER BY 1"
        ).fetchall()
    )


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".arrow"])
def test_exported_rows_are_the_same(filled_lake: Lake, tmp_path: Path, ending: str) -> None:
    path = filled_lake.export("coinbase", "ticker", tmp_path / f"x{ending}", symbols=["BTC-USD"])
    read = {".parquet": pl.read_parquet, ".csv": pl.read_csv, ".arrow": pl.read_ipc}[ending]
    expected = filled_lake.scan("coinbase", "ticker", symbols=["BTC-USD"]).collect()
    found = read(path)
    assert found.height == expected.height > 0
    assert found["price"].to_list() == expected["price"].to_list()


def test_names_are_completed_in_ipython(filled_lake: Lake) -> None:
    from IPython.core.completer import provisionalcompleter
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    try:
        shell.user_ns["lake"] = filled_lake
        with provisionalcompleter():
            tables = {one.text for one in shell.Completer.completions('lake["coinbase.', 15)}
            symbols = {
                one.text for one in shell.Completer.completions('lake["coinbase.ticker", "', 25)
            }
    finally:
        InteractiveShell.clear_instance()
    assert {"ticker", "trades", "orderbook"} <= {text.rpartition(".")[2] for text in tables}
    assert symbols == {"BTC-USD", "ETH-USD"}
    one = filled_lake["coinbase.ticker", "BTC-USD"].collect()
    assert one.height == filled_lake.scan("coinbase", "ticker", symbols="BTC-USD").collect().height
    assert filled_lake["coinbase.ticker"].collect().height > one.height
