"""Books from level changes: where one begins, where it ends, and what is in it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from fluxforge.analytics.book import Book
from fluxforge.analytics.books import book_at, book_features, book_snapshots, epochs
from fluxforge.errors import NoBookError
from fluxforge.sources.base import BookRules

START = datetime(2026, 8, 9, 21, tzinfo=UTC)
TIME = pl.Datetime("us", "UTC")

Frame = tuple[float, str, bool, list[tuple[str, float, float]]]


def moment(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def rows_of(frames: list[Frame]) -> pl.DataFrame:
    """Return level changes from frames: ``seconds, conn, is_snapshot, [(side, price, size)]``."""
    rows = [
        ("A", moment(second), moment(second + 0.1), number, conn, position, *level, snapshot)
        for number, (second, conn, snapshot, levels) in enumerate(frames)
        for position, level in enumerate(levels)
    ]
    names = ("symbol", "ts_event", "ts_recv", "seq", "conn", "position", "side", "price", "size")
    return pl.DataFrame(
        rows,
        schema=[*names, "is_snapshot"],
        schema_overrides={"ts_event": TIME, "ts_recv": TIME},
        orient="row",
    )


def runs_of(*runs: tuple[str, float, float]) -> pl.DataFrame:
    rows = [(conn, moment(start), moment(end), 0) for conn, start, end in runs]
    schema = {"conn": pl.String, "start": TIME, "end": TIME, "first_seq": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


WHOLE = [("bid", 99.0, 1.0), ("bid", 98.0, 2.0), ("ask", 101.0, 1.0), ("ask", 102.0, 4.0)]
FRAMES: list[Frame] = [
    (0, "one", True, WHOLE),
    (1, "one", False, [("bid", 100.0, 5.0)]),
    (2, "one", False, [("bid", 100.0, 0.0), ("ask", 101.0, 3.0)]),
    # A gap: what follows cannot be applied.
    (10, "one", False, [("bid", 150.0, 1.0)]),
    (20, "two", True, [("bid", 89.0, 1.0), ("ask", 91.0, 1.0)]),
    (21, "two", False, [("ask", 91.0, 0.0), ("ask", 92.0, 1.0)]),
]
RUNS = runs_of(("one", 0, 5), ("one", 10, 12), ("two", 20, 30))


def test_a_book_is_its_snapshot_and_the_frames_since() -> None:
    found = epochs(rows_of(FRAMES), RUNS)
    book = book_at(found, "x", "A", moment(1.5), None)
    assert book.bids.rows() == [(100.0, 5.0), (99.0, 1.0), (98.0, 2.0)]
    assert book.asks.rows() == [(101.0, 1.0), (102.0, 4.0)]
    assert (book.complete, book.conn, book.snapshot_at) == (True, "one", START)
    assert (book.spread, book.mid) == (1.0, 100.5)
    assert book.microprice == pytest.approx((100 * 1 + 101 * 5) / 6)
    assert book.imbalance == pytest.approx((8 - 5) / (8 + 5))


def test_a_book_never_crosses_a_gap_or_a_reconnect() -> None:
    found = epochs(rows_of(FRAMES), RUNS)
    with pytest.raises(NoBookError, match="missing after 2026-08-09 21:00:04"):
        book_at(found, "x", "A", moment(11), 5)
    after = book_at(found, "x", "A", moment(21), 5)
    assert after.bids.rows() == [(89.0, 1.0)]
    assert after.asks.rows() == [(92.0, 1.0)]
    with pytest.raises(NoBookError, match="the first book"):
        book_at(found, "x", "A", moment(-1), 5)
    with pytest.raises(NoBookError, match="no snapshot"):
        book_at([], "x", "A", None, 5)


def test_a_gap_in_a_replay_of_another_day_ends_the_book() -> None:
    later = timedelta(days=100)
    rows = rows_of(FRAMES).with_columns(pl.col("ts_recv") + later)
    runs = RUNS.with_columns(pl.col("start", "end") + later)
    with pytest.raises(NoBookError, match=r"missing after 2026-08-09 21:00:03\.9"):
        book_at(epochs(rows, runs), "x", "A", moment(11), 5)


def test_a_book_after_the_last_frame_is_old_and_says_so() -> None:
    found = epochs(rows_of(FRAMES), RUNS)
    assert book_at(found, "x", "A", moment(29), 5).complete
    late = book_at(found, "x", "A", moment(31), 5)
    assert not late.complete
    assert "incomplete" in repr(late)


def test_a_book_says_its_prices_and_sizes_digit_for_digit() -> None:
    side = pl.DataFrame({"price": [65083.71], "size": [0.00000123]})
    at = moment(1)
    book = Book("x", "A", side, side.with_columns(price=pl.lit(65084.06)), at, "c", at, True)
    assert "65083.71 x 0.00000123 / 65084.06 x 0.00000123" in repr(book)


def test_snapshots_on_a_grid_are_null_where_no_book_is_known() -> None:
    grid = book_snapshots(epochs(rows_of(FRAMES), RUNS), "1s", 1)
    known = dict(grid.select("ts", "bid_price_1").rows())
    assert known[moment(1)] == 100.0
    assert known[moment(2)] == 99.0
    assert known[moment(11)] is None
    assert known[moment(21)] == 89.0
    assert grid.filter("complete")["bid_price_1"].null_count() == 0


def test_features_follow_each_frame() -> None:
    features = book_features(epochs(rows_of(FRAMES), RUNS), 2, 2.0)
    assert features["spread"].to_list() == [2.0, 1.0, 2.0, 2.0, 3.0]
    # A better bid of 5 adds 5; its loss takes 5 away, and 2 more offered at the ask take 2.
    assert features["order_flow_imbalance"].to_list()[:3] == [0.0, 5.0, -7.0]
    assert features["buy_vwap"].to_list()[0] == pytest.approx((101 + 102) / 2)


def test_frames_of_one_price_hold_by_their_last_position() -> None:
    twice: list[Frame] = [
        (0, "one", True, WHOLE),
        (1, "one", False, [("bid", 99.0, 7.0), ("bid", 99.0, 0.0)]),
    ]
    book = book_at(epochs(rows_of(twice), RUNS), "x", "A", moment(1), None)
    assert book.bids.rows() == [(98.0, 2.0)]


def test_a_snapshot_from_elsewhere_takes_its_place_by_its_number() -> None:
    # Changes 5, 6 and 7 came first; the snapshot is of 6, so that only 7 changes it.
    frames: list[Frame] = [
        (1, "one", False, [("bid", 99.0, 50.0)]),
        (2, "one", False, [("bid", 98.0, 60.0)]),
        (3, "one", False, [("bid", 99.0, 70.0)]),
        (4, "one", True, WHOLE),
        (5, "one", False, [("ask", 101.0, 0.0)]),
    ]
    numbers = {0: 5, 1: 6, 2: 7, 3: 6, 4: 8}
    rows = rows_of(frames).with_columns(pl.col("seq").replace_strict(numbers))
    book = book_at(
        epochs(rows, runs_of(("one", 0, 12)), BookRules(by_number=True)), "x", "A", None, None
    )
    assert book.bids.rows() == [(99.0, 70.0), (98.0, 2.0)]
    assert book.asks.rows() == [(102.0, 4.0)]
