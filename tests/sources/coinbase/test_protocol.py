from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fluxforge.errors import ConfigError
from fluxforge.segments import read_segment
from fluxforge.sources import get_source
from fluxforge.sources.base import Subscription
from fluxforge.sources.coinbase import SOURCE, Coinbase
from fluxforge.sources.session import Lost, Refused, Send

if TYPE_CHECKING:
    from pathlib import Path


def test_it_is_found_by_name() -> None:
    assert get_source("coinbase") is SOURCE
    assert isinstance(SOURCE, Coinbase)
    assert SOURCE.limits.first_sequence == 0


class TestPlan:
    def test_heartbeats_are_always_there_and_nothing_is_there_twice(self) -> None:
        products, channels = ["BTC-USD", "ETH-USD", "BTC-USD"], ["ticker", "level2", "ticker"]
        assert SOURCE.plan(products, channels) == [
            Subscription(("BTC-USD", "ETH-USD"), ("heartbeats", "ticker", "level2"))
        ]
        assert SOURCE.plan(["BTC-USD"], ["heartbeats"]) == [
            Subscription(("BTC-USD",), ("heartbeats",))
        ]

    @pytest.mark.parametrize(("channel", "most"), [("ticker", 30), ("level2", 10)])
    def test_many_products_are_spread_over_sockets(self, channel: str, most: int) -> None:
        products = [f"P{number}-USD" for number in range(65)]
        plan = SOURCE.plan(products, [channel, "candles"])
        assert [name for part in plan for name in part.products] == products
        assert {len(part.products) for part in plan[:-1]} == {most}
        assert all(part.channels == ("heartbeats", channel, "candles") for part in plan)

    @pytest.mark.parametrize(
        ("products", "channels", "says"),
        [
            (["BTC-USD"], ["tickers"], "unknown channel 'tickers': did you mean 'ticker'?"),
            (["BTC-USD"], ["l2_data"], "did you mean 'level2'?"),
            (["BTC-USD"], ["trades"], "did you mean 'market_trades'?"),
            (["BTC-USD"], ["zzz"], "there are: heartbeats, ticker"),
            (["BTC-USD"], ["user"], "channel 'user' is about an account"),
            (["BTC-USD"], ["futures_balance_summary"], "is about an account"),
            (["BTC-USD"], [], "no channels"),
            ([], ["ticker"], "no products"),
            (["btc/usd"], ["ticker"], "did you mean 'BTC-USD'?"),
            (["BTC"], ["ticker"], "'BTC' is not a product"),
        ],
    )
    def test_wrong_settings_are_refused(
        self, products: list[str], channels: list[str], says: str
    ) -> None:
        with pytest.raises(ConfigError) as error:
            SOURCE.plan(products, channels)
        assert says in str(error.value)


def test_one_message_a_channel_with_heartbeats_first(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("COINBASE_")]:
        monkeypatch.delenv(name)
    subscription = Subscription(("BTC-USD", "ETH-USD"), ("level2", "heartbeats", "market_trades"))
    assert SOURCE.session(subscription).opening() == [
        '{"type":"subscribe","channel":"heartbeats"}',
        '{"type":"subscribe","product_ids":["BTC-USD","ETH-USD"],"channel":"level2"}',
        '{"type":"subscribe","product_ids":["BTC-USD","ETH-USD"],"channel":"market_trades"}',
    ]


# Machines that run these tests may be busy with others.
relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
frames = st.fixed_dictionaries(
    {},
    optional={
        "channel": st.sampled_from(["ticker", "l2_data", "heartbeats"]) | json_values,
        "client_id": st.just("") | json_values,
        "timestamp": st.just("2026-08-09T21:05:48Z") | json_values,
        "sequence_num": st.integers(0, 10**9) | json_values,
        "events": json_values,
        "type": st.just("error") | json_values,
        "message": json_values,
        "extra": json_values,
    },
)


def number_in(frame: bytes) -> int | None:
    """Return the number that a session reads from its first frame."""
    session = SOURCE.session(Subscription(("BTC-USD",), ("ticker",)))
    for event in session.read(frame):
        if isinstance(event, Lost):
            assert (event.first, event.last) != (None, None)
            return event.last + 1
    return None if session.read(frame_numbered(1)) else 0


def frame_numbered(number: int) -> bytes:
    return json.dumps({"channel": "ticker", "sequence_num": number, "events": []}).encode()


class TestNumbers:
    @staticmethod
    def expected(content: Any) -> int | None:
        if not isinstance(content, dict) or content.get("type") == "error":
            return None
        number = content.get("sequence_num")
        plain = isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 2**63
        return number if plain else None

    @relaxed
    @given(content=frames, compact=st.booleans(), ascii_only=st.booleans())
    def test_it_agrees_with_a_parser(
        self, content: dict[str, Any], compact: bool, ascii_only: bool
    ) -> None:
        separators = (",", ":") if compact else (", ", ": ")
        text = json.dumps(content, separators=separators, ensure_ascii=ascii_only)
        frame = text.encode(errors="surrogatepass")
        try:
            frame.decode()
        except UnicodeDecodeError:
            return
        assert number_in(frame) == self.expected(json.loads(text))

    @relaxed
    @given(
        channel=st.sampled_from(["ticker", "l2_data", "subscriptions"]),
        number=st.integers(0, 10**12),
        events=json_values,
        torn_at=st.integers(0, 40),
    )
    def test_a_usual_frame_is_read_even_if_torn(
        self, channel: str, number: int, events: Any, torn_at: int
    ) -> None:
        head = (
            f'{{"channel":"{channel}","timestamp":"2026-08-09T21:05:48.1Z",'
            f'"sequence_num":{number},"events":'
        )
        frame = head + f"{json.dumps(events)}}}"[:torn_at]
        assert number_in(frame.encode()) == number

    @relaxed
    @given(st.binary(max_size=200))
    def test_any_bytes_are_survived(self, frame: bytes) -> None:
        assert number_in(frame) is None

    @pytest.mark.parametrize(
        "frame",
        [b"", b"hello", b"[" * 200_000, b'{"channel":', b"\xff\xfe", b"[1]", b"1", b"9" * 10_000],
    )
    def test_what_is_no_frame_has_no_number(self, frame: bytes) -> None:
        assert number_in(frame) is None

    def test_an_inner_number_is_not_taken_for_the_frames_own(self) -> None:
        frame = b'{"channel":"x","events":[{"sequence_num":5}],"timestamp":"","sequence_num":7}'
        assert number_in(frame) == 7

    def test_the_older_head_with_a_client_id_is_read(self) -> None:
        frame = b'{"channel":"ticker","client_id":"","timestamp":"t","sequence_num":3,"events":[]}'
        assert number_in(frame) == 3

    def test_every_recorded_frame_is_read_as_a_parser_reads_it(self, captures: Path) -> None:
        for name in ("five-channels", "reconnect"):
            for envelope in read_segment(captures / "coinbase" / f"{name}.ndjson.zst"):
                parsed = json.loads(envelope.frame)
                assert number_in(envelope.frame) == parsed["sequence_num"]


@pytest.mark.parametrize(
    ("frame", "fatal"),
    [
        (b'{"type":"error","message":"authentication failure"}', True),
        (b'{"type":"error","message":"failure to subscribe"}', False),
        (b'{"type":"error"}', False),
        (b'{"channel":"authentication","timestamp":"","sequence_num":0,"events":[]}', False),
        (b"authentication failure", False),
    ],
)
def test_only_a_refusal_for_good_is_fatal(frame: bytes, fatal: bool) -> None:
    events = SOURCE.session(Subscription(("BTC-USD",), ("ticker",))).read(frame)
    assert any(isinstance(event, Refused) and event.fatal for event in events) is fatal


def test_a_hole_in_the_numbers_is_a_loss_and_asks_for_new_books() -> None:
    session = SOURCE.session(Subscription(("BTC-USD",), ("ticker", "level2")))
    assert [session.read(frame_numbered(number)) for number in (0, 1, 1, 0)] == [[], [], [], []]
    lost, send = session.read(frame_numbered(4))
    assert lost == Lost("number", first=2, last=3)
    assert isinstance(send, Send)
    assert [json.loads(message)["type"] for message in send.messages] == [
        "unsubscribe",
        "subscribe",
    ]
    assert session.read(frame_numbered(5)) == []
    without_books = SOURCE.session(Subscription(("BTC-USD",), ("ticker",)))
    assert without_books.read(frame_numbered(3)) == [Lost("number", first=0, last=2)]
