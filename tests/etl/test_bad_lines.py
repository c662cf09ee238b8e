"""One bad line of each kind beside a thousand good ones: none of those is lost, and no count."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fluxforge import Lake
from fluxforge.sources import get_source
from fluxforge.transform.parts import sieve, split
from fluxforge.transform.transform import transform_segments

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Frames, LakeFolder

NS = 1_786_309_548_000_000_000
GOOD = 1000


def envelope(data: bytes, *, capture_ns: bytes = b"%d" % NS, conn: bytes = b'"A"') -> bytes:
    return b'{"capture_ns":' + capture_ns + b',"conn":' + conn + b',"data":' + data + b"}"


def ticker(fields: bytes = b'"product_id":"ETH-USD","price":"1"', seq: bytes = b"1") -> bytes:
    return (
        b'{"channel":"ticker","timestamp":"2026-08-09T21:05:48Z","sequence_num":' + seq
        + b',"events":[{"type":"update","tickers":[{' + fields + b"}]}]}"
    )  # fmt: skip


TICKER = envelope(ticker())

REFUSED: dict[str, bytes] = {
    "torn": TICKER[:70],
    "torn in the frame": TICKER[:-3],
    "not JSON": b"hello",
    "only a brace": b"{",
    "an array": b"[1,2]",
    "a number": b"5",
    "a text": b'"x"',
    "null": b"null",
    "an empty object": b"{}",
    "another object": b'{"foo":1}',
    "single quotes": TICKER.replace(b'"', b"'"),
    "a comment": b"/* x */ " + TICKER,
    "two objects": TICKER + TICKER,
    "two objects and a space": TICKER + b" " + TICKER,
    "one brace too many": TICKER + b"}",
    "an open text": b'{"capture_ns":1,"conn":"A","data":{"a":"',
    "a backslash at the end": b'{"a":"\\',
    "invalid UTF-8": envelope(b'{"channel":"tick\xff\xfeer"}'),
    "UTF-16": TICKER.decode().encode("utf-16-le").replace(b"\n", b""),
    "a cut character": envelope(b'{"channel":"x\xf0\x9f\x98"}'),
    "NUL bytes": b"\x00" * 40,
    "a NUL before": b"\x00" + TICKER,
    "a NUL inside": envelope(b'{"channel":"a\x00b"}'),
    "a NUL after": TICKER + b"\x00",
    "a control character": envelope(b'{"channel":"a\x01b"}'),
    "a bad escape": envelope(b'{"channel":"\\x"}'),
    "a BOM": b"\xef\xbb\xbf" + TICKER,
    "a lone surrogate": envelope(ticker(b'"product_id":"\\ud800","price":"1"')),
    "a lone surrogate in conn": envelope(ticker(), conn=b'"\\udfff"'),
    "no-break space": b"\xc2\xa0",
    "a line separator": b"\xe2\x80\xa8",
    "a next-line character": b"\xc2\x85",
    "a file separator": b"\x1c",
    "a carriage return between": TICKER + b"\r" + TICKER,
    "deep nesting": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "200 KB that are not JSON": b"x" * 200_000,
    "200 KB of channel": envelope(b'{"channel":"' + b"x" * 200_000 + b'"}'),
    "capture_ns is text": envelope(ticker(), capture_ns=b'"abc"'),
    "capture_ns is null": envelope(ticker(), capture_ns=b"null"),
    "capture_ns is an object": envelope(ticker(), capture_ns=b"{}"),
    "capture_ns is 0": envelope(ticker(), capture_ns=b"0"),
    "capture_ns is negative": envelope(ticker(), capture_ns=b"-5"),
    "capture_ns is huge": envelope(ticker(), capture_ns=b"99999999999999999999999999"),
    "capture_ns is past all calendars": envelope(ticker(), capture_ns=b"9223372036854775807"),
    "capture_ns is 1e300": envelope(ticker(), capture_ns=b"1e300"),
    "capture_ns is NaN": envelope(ticker(), capture_ns=b"NaN"),
    "no capture_ns": b'{"conn":"A","data":' + ticker() + b"}",
    "conn is null": envelope(ticker(), conn=b"null"),
    "no conn": b'{"capture_ns":1,"data":' + ticker() + b"}",
    "raw": b'{"capture_ns":%d,"conn":"A","raw":"hello"}' % NS,
    "empty raw": b'{"capture_ns":%d,"conn":"A","raw":""}' % NS,
    "raw_base64": b'{"capture_ns":%d,"conn":"A","raw_base64":"//4="}' % NS,
    "data is null": envelope(b"null"),
    "data is text": envelope(b'"x"'),
    "data is a number": envelope(b"5"),
    "data is an array": envelope(b"[]"),
    "data is empty": envelope(b"{}"),
    "no data": b'{"capture_ns":%d,"conn":"A"}' % NS,
    "unknown channel": envelope(b'{"channel":"futures","sequence_num":1,"events":[]}'),
    "empty channel": envelope(b'{"channel":"","events":[]}'),
    "channel is a number": envelope(b'{"channel":5,"events":[]}'),
    "channel is an object": envelope(b'{"channel":{"a":1},"events":[]}'),
    "channel is null": envelope(b'{"channel":null,"events":[]}'),
    "no events": envelope(b'{"channel":"ticker"}'),
    "events is null": envelope(b'{"channel":"ticker","events":null}'),
    "events is text": envelope(b'{"channel":"ticker","events":"x"}'),
    "events is an object": envelope(b'{"channel":"ticker","events":{"tickers":[]}}'),
    "an event is a number": envelope(b'{"channel":"ticker","events":[1]}'),
    "an event is null": envelope(b'{"channel":"ticker","events":[null]}'),
    "an event is an array": envelope(b'{"channel":"ticker","events":[[]]}'),
    "an event lacks its list": envelope(b'{"channel":"ticker","events":[{"type":"update"}]}'),
    "one event of two lacks its list": envelope(
        b'{"channel":"ticker","events":[{"tickers":[]},{}]}'
    ),
    "a list is an object": envelope(b'{"channel":"ticker","events":[{"tickers":{}}]}'),
    "a list is null": envelope(b'{"channel":"ticker","events":[{"tickers":null}]}'),
    "a row is a number": envelope(b'{"channel":"ticker","events":[{"tickers":[1]}]}'),
    "a row is null": envelope(b'{"channel":"ticker","events":[{"tickers":[null]}]}'),
    "no product_id": envelope(ticker(b'"price":"1"')),
    "product_id is null": envelope(ticker(b'"product_id":null,"price":"1"')),
    "product_id is empty": envelope(ticker(b'"product_id":"","price":"1"')),
    "no product_id for a book": envelope(
        b'{"channel":"l2_data","events":[{"updates":[{"side":"bid","price_level":"1"}]}]}'
    ),
    "a good row beside one without product_id": envelope(
        b'{"channel":"market_trades","events":[{"trades":[{"product_id":"X","trade_id":"1"},{}]}]}'
    ),
}

PRICE_NULL: dict[str, bytes] = {
    "text where a number belongs": b'"abc"',
    "an empty text": b'""',
    "a blank": b'" "',
    "null": b"null",
    "the text NaN": b'"NaN"',
    "the text Infinity": b'"-Infinity"',
    "NaN": b"NaN",
    "Infinity": b"Infinity",
    "true": b"true",
    "an object": b'{"a":1}',
    "an array": b"[1]",
    "too large": b'"1e400"',
    "a comma": b'"1,5"',
    "digits in groups": b'"1_000"',
    "hexadecimal": b'"0x10"',
    "two numbers": b'"1 2"',
    "400 digits": b'"' + b"9" * 400 + b'"',
    "a NUL": b'"1\\u0000"',
    "deep nesting": b"[" * 5000 + b"]" * 5000,
}

PRICE_KEPT: dict[str, tuple[bytes, float]] = {
    "a number instead of text": (b"65086.18", 65086.18),
    "an integer": (b"5", 5.0),
    "many digits": (b'"0.1234567890123456789"', 0.12345678901234568),
    "an exponent": (b'"1e5"', 1e5),
    "zero": (b'"0"', 0.0),
    "a small one": (b'"0.00000001"', 1e-8),
}


@pytest.fixture(scope="module")
def thousand() -> list[bytes]:
    lines = []
    for number in range(GOOD):
        frame = ticker(b'"product_id":"BTC-USD","price":"%d"' % number, seq=b"%d" % number)
        lines.append(envelope(frame) + b"\n")
    return lines


def among(thousand: list[bytes], *bad: bytes) -> bytes:
    return b"".join([*thousand[:500], *(line + b"\n" for line in bad), *thousand[500:]])


def prices(lake: LakeFolder) -> list[float | None]:
    rows = lake.rows("ticker")
    return sorted(rows.filter(rows["symbol"] == "BTC-USD")["price"].to_list())


def test_every_kind_beside_a_thousand_good_ones(lake: LakeFolder, thousand: list[bytes]) -> None:
    lake.put(among(thousand, *REFUSED.values()))
    report = lake.etl()
    assert report.lines_read == GOOD + len(REFUSED)
    refused = {content for _, _, content in lake.quarantined()}
    assert {name for name, line in REFUSED.items() if line not in refused} == set()
    assert (report.lines_taken, report.lines_quarantined) == (GOOD, len(REFUSED))
    assert all(0 < len(reason) < 200 for _, reason, _ in lake.quarantined())
    assert [line for line, _, _ in lake.quarantined()] == [501 + n for n in range(len(REFUSED))]
    assert [content for _, _, content in lake.quarantined()] == list(REFUSED.values())
    assert prices(lake) == [float(number) for number in range(GOOD)]
    lake.assert_accounts()


REASONS = {
    "torn": "not a JSON object",
    "not JSON": "not a JSON object",
    "capture_ns is text": "no capture time",
    "conn is null": "no connection",
    "raw": "not a JSON object on one line",
    "data is null": "no frame",
    "data is empty": "names no channel",
    "unknown channel": "unknown channel: futures",
    "no events": "no tickers in a frame of ticker",
    "no product_id": "a row for ticker has no symbol",
    "no product_id for a book": "a row for orderbook has no symbol",
}


def test_the_reason_says_what_is_wrong(lake: LakeFolder) -> None:
    lake.put(b"\n".join(REFUSED[kind] for kind in REASONS))
    lake.etl()
    for (kind, words), (_, reason, _) in zip(REASONS.items(), lake.quarantined(), strict=True):
        assert words in reason, kind


def test_an_unreadable_number_is_null_and_its_frame_is_taken(
    lake: LakeFolder, thousand: list[bytes]
) -> None:
    bad = [
        envelope(ticker(b'"product_id":"NULL-%d","price":%s' % (number, text)))
        for number, text in enumerate(PRICE_NULL.values())
    ]
    kept = [
        envelope(ticker(b'"product_id":"KEPT-%d","price":%s' % (number, text)))
        for number, (text, _) in enumerate(PRICE_KEPT.values())
    ]
    lake.put(among(thousand, *bad, *kept))
    report = lake.etl()
    assert (report.lines_taken, report.lines_quarantined) == (GOOD + len(bad) + len(kept), 0)
    found = dict(lake.rows("ticker").select("symbol", "price").rows())
    for number, kind in enumerate(PRICE_NULL):
        assert found[f"NULL-{number}"] is None, kind
    for number, (kind, (_, value)) in enumerate(PRICE_KEPT.items()):
        assert found[f"KEPT-{number}"] == value, kind
    assert prices(lake) == [float(number) for number in range(GOOD)]


TIMES = ["null", '""', '"yesterday"', '"now"', '"2026-02-30T00:00:00Z"', '"infinity"',
         '"290000-01-01"', '"44-03-15 (BC)"', "5", '"1763844318"', "{}"]  # fmt: skip


def test_a_time_that_no_calendar_has_is_null(lake: LakeFolder) -> None:
    lake.put(
        b"\n".join(
            envelope(
                b'{"channel":"market_trades","sequence_num":1,"timestamp":%s,"events":[{"trades":'
                b'[{"product_id":"X","trade_id":"%d","time":%s}]}]}'
                % (text.encode(), number, text.encode())
            )
            for number, text in enumerate(TIMES)
        )
    )
    assert lake.etl().rows == {"trades": len(TIMES)}
    rows = lake.rows("trades")
    assert rows["ts_event"].to_list() == [None] * len(TIMES)
    assert rows["ts_recv"].null_count() == 0
    assert {path.rpartition("/")[0] for path in lake.parquet() if "/trades/" in path} == {
        "processed/coinbase/trades/date=2026-08-09"
    }


FIELDS = [("trade_id", '"x"'), ("trade_id", '"1.5"'), ("trade_id", '"0x10"'), ("trade_id", '""'),
          ("trade_id", '"99999999999999999999"'), ("side", '"HOLD"'), ("side", "null"),
          ("side", "5")]  # fmt: skip


def test_an_unreadable_field_of_a_trade_is_null(lake: LakeFolder) -> None:
    frames = []
    for number, (column, text) in enumerate(FIELDS):
        fields = {"product_id": f'"X-{number}"', "trade_id": '"1"', "side": '"SELL"', column: text}
        row = ",".join(f'"{name}":{value}' for name, value in fields.items())
        frames.append(f'{{"channel":"market_trades","events":[{{"trades":[{{{row}}}]}}]}}')
    lake.put(b"\n".join(envelope(frame.encode()) for frame in frames))
    assert lake.etl().rows == {"trades": len(FIELDS)}
    found = {row["symbol"]: row for row in lake.rows("trades").iter_rows(named=True)}
    for number, (column, text) in enumerate(FIELDS):
        assert found[f"X-{number}"][column] is None, (column, text)


SEQUENCES = ["-9223372036854775808", "9223372036854775807", "-1", "1e3", "null", '"7"', '"x"',
             "99999999999999999999999", "1.5", "{}"]  # fmt: skip
STARTS = ["9223372036854775807", "-9223372036854775808", "99999999999999", "x", "1.5", ""]


def test_numbers_beyond_all_range_stop_no_segment(lake: LakeFolder) -> None:
    frames = [
        f'{{"channel":"candles","sequence_num":{seq},"events":[{{"candles":'
        f'[{{"product_id":"X","start":"{start}"}}]}}]}}'
        for seq in SEQUENCES
        for start in STARTS
    ]
    lake.put(b"\n".join([*(envelope(frame.encode()) for frame in frames), TICKER]))
    assert lake.etl().lines_taken == len(frames) + 1
    assert lake.rows("candles")["start"].to_list() == [None] * len(frames)
    reader = Lake(path=lake.root)  # no key to share: each is a row of its own
    assert reader.scan("coinbase", "candles").collect().height == len(frames)
    counted = reader.sql("SELECT count(*) FROM coinbase.candles").fetchall()
    assert counted == [(len(frames),)]
    runs = lake.rows("sequences").sort("seq").select("seq", "last_seq", "frames").rows()
    assert runs == [
        (1, 1, 1),
        (7, 7, len(STARTS)),
        (2**63 - 1, 2**63 - 1, len(STARTS)),
    ]


def test_blank_lines_are_no_lines(lake: LakeFolder, frames: Frames) -> None:
    lines = [frames.ticker() for _ in range(9)]
    blanks = [b"", b" ", b"\t", b"\r", b"\x0b", b"\x0c", b" \t\r\x0b\x0c", b"\r\r"]
    lake.put(
        [
            b"\n",
            *(line + blank + b"\n" for line, blank in zip(lines, [*blanks, b""], strict=True)),
            b" ",
        ]
    )
    report = lake.etl()
    assert (report.lines_read, report.lines_taken) == (9, 9)


def test_lines_may_end_as_windows_ends_them(lake: LakeFolder, frames: Frames) -> None:
    lake.put([frames.ticker()[:-1] + b"\r\n", frames.ticker()[:-1] + b"\r\n", b"bad\r\n"])
    report = lake.etl()
    assert (report.lines_taken, report.lines_quarantined) == (2, 1)
    assert lake.quarantined()[0][2] == b"bad\r"


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"\n\n \n", b"\r\n"], ids=["nothing", "newline", "blank", "windows"]
)
def test_a_segment_without_a_line_is_done(lake: LakeFolder, content: bytes) -> None:
    lake.put(content)
    report = lake.etl()
    assert (report.segments, report.lines_read) == (1, 0)
    assert lake.files("ready") == lake.files("processing") == lake.files("quarantine") == []
    assert lake.rows("segments")["lines_read"].to_list() == [0]


def test_a_segment_of_nothing_but_bad_lines_is_done(lake: LakeFolder) -> None:
    lake.put(b"x\n" * 50 + b"y")
    report = lake.etl()
    assert (report.lines_read, report.lines_taken, report.lines_quarantined) == (51, 0, 51)
    assert [content for _, _, content in lake.quarantined()] == [b"x"] * 50 + [b"y"]
    assert lake.tables() == ["segments", "sequences"]


def test_the_last_line_needs_no_newline(lake: LakeFolder, frames: Frames) -> None:
    lake.put([frames.ticker(), frames.ticker()[:-1]])
    assert lake.etl().rows == {"ticker": 2}


def test_unknown_fields_are_counted_and_stop_nothing(lake: LakeFolder) -> None:
    lake.put(
        [
            envelope(ticker(b'"product_id":"X","price":"1","funding":"2"')), b"\n",
            envelope(ticker(b'"product_id":"X","price":"1","funding":"2"')), b"\n",
            envelope(b'{"channel":"ticker","region":1,"events":[{"tickers":[],"note":1}]}'), b"\n",
            envelope(b'{"channel":"heartbeats","whatever":1,"events":[]}'), b"\n",
        ]
    )  # fmt: skip
    report = lake.etl()
    assert report.unknown_fields == {"ticker.funding": 2, "ticker.note": 1, "ticker.region": 1}
    assert report.lines_taken == 4
    (entry,) = lake.rows("segments").iter_rows(named=True)
    assert json.loads(entry["unknown_fields"]) == report.unknown_fields
    assert json.loads(entry["frames"]) == {"heartbeats": 1, "ticker": 3}


def test_control_frames_make_no_rows_and_are_counted(lake: LakeFolder, frames: Frames) -> None:
    lake.put([frames.ack(), frames.heartbeat(), frames.ticker(), frames.heartbeat(),
              envelope(b'{"type":"error","message":"authentication failure"}'), b"\n"])  # fmt: skip
    report = lake.etl()
    assert (report.lines_taken, report.rows) == (5, {"ticker": 1})
    (run,) = lake.rows("sequences").iter_rows(named=True)
    assert (run["seq"], run["last_seq"], run["frames"]) == (0, 3, 4)


def test_quarantined_frames_count_in_the_venues_numbers(lake: LakeFolder, frames: Frames) -> None:
    lake.put([frames.ticker(), frames._line("futures", []), frames.ticker()])
    assert lake.etl().lines_quarantined == 1
    (run,) = lake.rows("sequences").iter_rows(named=True)
    assert (run["seq"], run["last_seq"], run["frames"]) == (0, 2, 3)


def test_lost_repeated_and_reconnected_frames_show_in_the_runs(
    lake: LakeFolder, frames: Frames
) -> None:
    lines = [frames.heartbeat(seq=n) for n in (0, 1, 4, 5, 5, 9)]
    lines += [frames.heartbeat(seq=n, conn="B") for n in (1, 0, 2)]
    lake.put(lines)
    lake.etl()
    runs = lake.rows("sequences").sort("conn", "seq").select("conn", "seq", "last_seq", "frames")
    assert runs.rows() == [
        ("A", 0, 1, 2), ("A", 4, 5, 3), ("A", 9, 9, 1), ("B", 0, 2, 3),
    ]  # fmt: skip


LINES = st.lists(
    st.sampled_from([line for line in REFUSED.values() if len(line) < 1000])
    | st.binary(max_size=60).map(lambda content: content.replace(b"\n", b""))
    | st.just(TICKER),
    max_size=30,
)


@given(LINES, st.sampled_from([b"\n", b"\r\n"]), st.sampled_from([100, 1000, 1 << 20]))
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_mixture_adds_up_and_restores(
    tmp_path: Path, monkeypatch: Any, lines: list[bytes], end: bytes, part: int
) -> None:
    monkeypatch.setattr("fluxforge.transform.transform._PART_BYTES", part)
    path = tmp_path / "segment.ndjson"
    path.write_bytes(b"".join(line + end for line in lines))
    counted = [line for line in lines if line.strip()]
    with transform_segments([path], get_source("coinbase").tables, tmp_path, threads=1) as rows:
        (account,) = rows.accounts()
        assert account.read == len(counted)
        assert account.rows.get("ticker", 0) >= counted.count(TICKER)
        for refused in rows.quarantined(0):
            assert refused.content == counted[refused.line - 1] + end[:-1]
            assert refused.content.strip() != TICKER


def test_lines_keep_their_numbers_over_many_buffers(tmp_path: Path) -> None:
    """Forty megabytes: more than one part, and more than one buffer of the JSON reader."""
    path = tmp_path / "segment.ndjson"
    expected = []
    with path.open("wb") as file:
        for number in range(1, 20_001):
            if number % 997 == 0:
                line = b"bad %d " % number + b"x" * (number % 4000)
                expected.append((number, line))
            else:
                pad = b'"product_id":"BTC-USD","price":"%d","pad":"%s"' % (number, b"y" * 1900)
                line = envelope(ticker(pad, seq=b"%d" % number))
            file.write(line + b"\n")
    with transform_segments([path], get_source("coinbase").tables, tmp_path) as rows:
        (account,) = rows.accounts()
        assert (account.read, account.quarantined) == (20_000, len(expected))
        assert [(line.line, line.content) for line in rows.quarantined(0)] == expected
        found = rows.database.execute(
            "SELECT count(*), count(*) FILTER (price = seq) FROM rows_ticker"
        ).fetchone()
        assert found == (20_000 - len(expected), 20_000 - len(expected))


class TestParts:
    def test_every_line_is_in_one_part_in_order(self, tmp_path: Path) -> None:
        path = tmp_path / "segment.ndjson"
        lines = [b"%d" % number * (number % 7 + 1) + b"\n" for number in range(200)]
        path.write_bytes(b"\n \n".join(lines))
        found: list[bytes] = []
        for part in split(path, tmp_path, 64):
            assert part.before == len(found)
            content = part.path.read_bytes().splitlines(keepends=True)
            assert (part.lines, part.longest) == (len(content), max(map(len, content)))
            assert len(content) == 1 or sum(map(len, content)) <= 64
            found += content
        assert found == lines

    def test_a_line_longer_than_a_part_is_a_part(self, tmp_path: Path) -> None:
        path = tmp_path / "segment.ndjson"
        path.write_bytes(b"a\n" + b"b" * 500 + b"\nc\n")
        assert [part.lines for part in split(path, tmp_path, 10)] == [1, 1, 1]

    def test_the_sieve_keeps_numbers_and_readable_lines(self, tmp_path: Path) -> None:
        path = tmp_path / "segment.ndjson"
        bad = [
            REFUSED[kind] for kind in ("torn", "invalid UTF-8", "UTF-16", "deep nesting", "null")
        ]
        path.write_bytes(b"\n".join([TICKER, *bad, TICKER]) + b"\n")
        (part,) = split(path, tmp_path, 1 << 20)
        clean, too_long = sieve(part, 1 << 20)
        assert clean.path.read_bytes().splitlines() == [TICKER, *[b"{}"] * len(bad), TICKER]
        assert (clean.lines, clean.before, too_long) == (part.lines, 0, [])
