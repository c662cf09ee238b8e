from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from deltalake import write_deltalake

from fluxforge import Lake
from fluxforge.errors import TableError, UnknownSourceError, UnknownSymbolError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

AT = datetime(2026, 8, 9, 23, 59, 59, tzinfo=UTC)
MIDNIGHT: dict[str, Any] = {"hour": 0, "minute": 0, "second": 0}
FRAME = pl.DataFrame(
    {
        "symbol": ["B", "A", "A"],
        "ts_event": [AT, AT, datetime(2026, 8, 10, tzinfo=UTC)],
        "price": [1.0, 2.0, None],
        "count": pl.Series([1, 2, 3], dtype=pl.UInt32),
    }
)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(path=tmp_path)


def test_a_frame_is_written_once(lake: Lake) -> None:
    first = lake.write("mine", "signals", FRAME)
    assert (first.table, first.rows, first.written) == ("mine.signals", 3, True)
    assert not lake.write("mine", "signals", FRAME.rechunk()).written
    assert lake.write("mine", "signals", FRAME.head(1)).written
    assert lake.write("mine", "signals", FRAME, identity="again").written
    assert not lake.write("mine", "signals", FRAME.tail(1), identity="again").written
    rows = lake.scan("mine", "signals").collect()
    assert rows.height == 7
    assert set(rows["date"]) == {date(2026, 8, 9), date(2026, 8, 10)}


def test_files_of_a_table_without_capture_times_are_joined(lake: Lake) -> None:
    for count in (1, 2):
        lake.write("mine", "signals", FRAME.head(count))
    assert lake.optimize()
    assert lake.scan("mine", "signals").collect().height == 3


def test_a_table_that_others_overwrote_with_other_columns_is_read(lake: Lake) -> None:
    path = lake.storage.get_full_path("processed/mine/signals")
    rows = pl.DataFrame({"symbol": ["A"], "old": [1], "date": [AT.date()]}).to_arrow()
    write_deltalake(path, rows, partition_by=["date"])
    write_deltalake(path, rows.drop_columns(["old"]), mode="overwrite", schema_mode="overwrite")
    assert lake.scan("mine", "signals").collect().rows() == [("A", AT.date())]
    assert lake.tables().height == 1


def test_a_table_of_ones_own_is_read_as_others_are(lake: Lake) -> None:
    lake.write("mine", "signals", FRAME)
    assert lake.tables().select("source", "channel", "rows").rows() == [("mine", "signals", 3)]
    query = "SELECT symbol, count FROM mine.signals WHERE price > 1"
    assert lake.sql(query).fetchall() == [("A", 2)]
    assert lake.sql(query, live=True).fetchall() == [("A", 2)]
    assert lake.scan("mine", "signals", symbols=["B"], live=True).collect()["count"].to_list() == [
        1
    ]
    assert lake.scan("mine", "signals", start="2026-08-10").collect().height == 1
    assert lake.tail("mine", "signals", n=1)["ts_event"].to_list() == [
        datetime(2026, 8, 10, tzinfo=UTC)
    ]
    assert lake.verify().ok
    [report] = lake.optimize("mine")
    assert report.table == "mine.signals"
    assert lake.scan("mine", "signals").collect().height == 3
    with pytest.raises(UnknownSourceError):
        lake.scan("yours", "signals")
    lake.write("mine", "nameless", FRAME.drop("symbol"))
    with pytest.raises(UnknownSymbolError, match="has no symbol 'A'"):
        lake.scan("mine", "nameless", symbols=["A"])


def test_symbols_of_ones_own_may_have_a_colon_and_markets(lake: Lake) -> None:
    frame = FRAME.with_columns(symbol=pl.lit("X:") + pl.col("symbol"), market=pl.lit("dark"))
    lake.write("mine", "trades", frame)
    assert lake.scan("mine", "trades", symbols=["X:A"]).collect().height == 2
    assert lake.scan(["mine", "coinbase"], "trades", symbols=["X:A"]).collect().height == 2
    with pytest.raises(UnknownSymbolError, match="X:A"):
        lake.scan("mine", "trades", symbols=["A"])
    with pytest.raises(UsageError, match="venues"):
        lake.bars("mine")
    assert lake.bars("*").is_empty()


@pytest.mark.parametrize("form", ["lazy", "arrow", "pandas"])
def test_frames_of_other_libraries(lake: Lake, form: str) -> None:
    if form == "pandas":
        pytest.importorskip("pandas")
    frame: Any = {
        "lazy": FRAME.lazy,
        "arrow": FRAME.to_arrow,
        "pandas": lambda: FRAME.to_pandas(),
    }[form]()
    lake.write("mine", "signals", FRAME)
    lake.write("mine", "signals", frame, identity=form)
    both = lake.scan("mine", "signals").collect()
    assert both.height == 6
    assert both.unique(["symbol", "ts_event", "count"]).height == 3


def test_capture_times_choose_the_date(lake: Lake) -> None:
    late = FRAME.with_columns(ts_recv=pl.lit(datetime(2026, 8, 11)))
    lake.write("mine", "signals", late)
    rows = lake.scan("mine", "signals").collect()
    assert set(rows["date"]) == {date(2026, 8, 11)}
    assert rows.schema["ts_recv"] == pl.Datetime("us", "UTC")


def test_dates_are_their_midnights_in_utc(lake: Lake) -> None:
    days = pl.DataFrame({"symbol": ["A"], "ts_event": [date(2026, 8, 9)]})
    lake.write("mine", "days", days)
    assert lake.scan("mine", "days").collect()["ts_event"].to_list() == [AT.replace(**MIDNIGHT)]
    assert lake.tables().height == 1


def test_what_cannot_be_written_says_why(lake: Lake) -> None:
    for source in ("coinbase", "market"):
        with pytest.raises(UsageError, match="choose another name"):
            lake.write(source, "trades", FRAME)
    with pytest.raises(UsageError, match="no column ts_recv or ts_event"):
        lake.write("mine", "signals", FRAME.drop("ts_event"))
    with pytest.raises(UsageError, match="ts_event of the frame is VARCHAR"):
        lake.write("mine", "signals", FRAME.with_columns(ts_event=pl.lit("2026-08-09T00:00")))
    for name in ("a b", "a%20b", "date=2020", "_delta_log", "a/b", ".a", ""):
        with pytest.raises(UsageError, match="not the name of a table"):
            lake.write(name, "signals", FRAME)
        with pytest.raises(UsageError, match="not the name of a table"):
            lake.write("mine", name, FRAME)
    with pytest.raises(UsageError, match="1 rows of the frame have no time"):
        lake.write(
            "mine",
            "signals",
            FRAME.with_columns(
                ts_event=pl.col("ts_event")
                .replace({AT: None})
                .fill_null(strategy="backward", limit=1)
            ),
        )
    with pytest.raises(UsageError, match="list is no frame"):
        lake.write("mine", "signals", [1, 2])
    lake.write("mine", "signals", FRAME)
    with pytest.raises(TableError, match="column 'price' is double, not string"):
        lake.write("mine", "signals", FRAME.with_columns(price=pl.lit("x")))
    assert lake.scan("mine", "signals").collect().height == 3


def test_frames_of_a_venue_by_hand(lake: Lake) -> None:
    with lake.writer("coinbase") as writer:
        writer.write(b'{"channel":"heartbeats","sequence_num":1}', conn="A")
    assert lake.etl("coinbase").lines_taken == 1
    with pytest.raises(UnknownSourceError, match="did you mean 'coinbase'"):
        lake.writer("coinbsae")
