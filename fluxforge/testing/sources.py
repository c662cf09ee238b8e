"""The conformance suite of sources: what a venue's folder must do, seen without a network."""

# ruff: noqa: D102  (a test's name says what it shows)

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import pytest

from fluxforge.errors import ConfigError
from fluxforge.segments import Envelope
from fluxforge.sources.session import Fetch, Send, Silent
from fluxforge.transform.transform import transform_segments

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from fluxforge.sources import Source
    from fluxforge.sources.base import Subscription
    from fluxforge.transform.accounts import Account

JUNK = (b"", b"junk", b"[]", b"[" * 100_000, b"\xff\xfe", b"null", b"7", b"{}", b'{"data":[{}]}')
START_NS = 1_786_309_548_000_000_000


class SourceConformance(ABC):
    """The tests; a subclass names its source, and has a frame for each of its tables.

    Examples
    --------
    The whole of a test module for a venue of one's own::

        class TestMine(SourceConformance):
            source = get_source("mine")
            samples = {"trades": b'{"kind":"trade","pair":"BTC-USD","price":"1"}'}
    """

    @property
    @abstractmethod
    def source(self) -> Source:
        """The source."""

    @property
    @abstractmethod
    def samples(self) -> Mapping[str, bytes | Sequence[bytes]]:
        """One frame, or several, for each table, as the venue sends them."""

    @property
    def connection(self) -> str:
        """A name as a connection to the first market has it."""
        return f"{self.source.markets[0]}-1"

    def product(self, market: str | None = None) -> str:
        example = self.source.example.rpartition(":")[2]
        return f"{market or self.source.markets[0]}:{example}"

    @pytest.fixture
    def subscription(self) -> Subscription:
        [plan] = self.source.plan([self.product()], self.source.channels[-1:])
        return plan

    def transform(self, folder: Path, *frames: bytes) -> tuple[Account, dict[str, list[Any]]]:
        path = folder / "segment.ndjson"
        lines = [
            Envelope(START_NS + 1_000_000 * n, self.connection, frame).line()
            for n, frame in enumerate(frames)
        ]
        path.write_bytes(b"".join(lines))
        with transform_segments([path], self.source.tables, folder) as rows:
            found = {}
            for name in self.source.tables.channels:
                made = rows.database.sql(f'SELECT * FROM "rows_{name}"')
                found[name] = [dict(zip(made.columns, row, strict=True)) for row in made.fetchall()]
            [account] = rows.accounts()
            return account, found

    # What is planned

    def test_every_product_is_on_one_socket_with_all_channels(self) -> None:
        for market in self.source.markets:
            products = [self.product(market)] * 2
            [plan] = self.source.plan(products, [self.source.channels[0]] * 2)
            assert plan.products == (self.source.split(products[0])[1],)
            assert plan.market == market
            assert self.source.channels[0] in plan.channels
            assert self.source.room(plan) >= 0

    def test_no_socket_has_more_products_than_the_venue_takes(self) -> None:
        channels = self.source.channels[:1]
        most = self.source.products_per_socket(channels)
        assert 1 <= most <= self.source.limits.products_per_socket

    def test_wrong_settings_are_refused_and_the_nearest_names_told(self) -> None:
        good, channel = [self.product()], self.source.channels[0]
        with pytest.raises(ConfigError, match=channel):
            self.source.plan(good, [f"{channel}x"])
        for products, channels in (([], [channel]), (good, []), (["?"], [channel])):
            with pytest.raises(ConfigError):
                self.source.plan(products, channels)

    # What is said

    def test_requests_are_text_and_within_the_socket(self, subscription: Subscription) -> None:
        session = self.source.session(subscription)
        messages = session.opening()
        assert messages
        for message in [*messages, *([ping] if (ping := session.ping()) else [])]:
            assert isinstance(json.loads(message), dict)

    def test_products_come_and_go_on_an_open_socket(self, subscription: Subscription) -> None:
        session, [product] = self.source.session(subscription), subscription.products
        session.opening()
        assert session.subscribe([product]) == []
        assert session.unsubscribe([product])
        assert session.subscription.products == ()
        assert session.unsubscribe([product]) == []
        assert session.subscribe([product])
        assert session.subscription == subscription

    def test_a_new_snapshot_can_be_asked_for(self, subscription: Subscription) -> None:
        session = self.source.session(subscription)
        for channel in subscription.channels:
            events = session.resubscribe(channel, *subscription.products)
            assert all(isinstance(event, Send | Fetch) for event in events)

    def test_a_silent_channel_is_asked_for_again(self) -> None:
        for channel, seconds in self.source.limits.channel_silence.items():
            [plan] = self.source.plan([self.product()], [channel])
            session, [symbol] = self.source.session(plan), plan.products
            assert session.overdue(0.0) == session.overdue(seconds / 2) == []
            silent, *requests = session.overdue(seconds)
            assert silent == Silent(channel, symbol, seconds)
            assert requests
            session.heard(channel, symbol)
            assert session.overdue(2 * seconds) == []

    # What is heard

    @pytest.mark.parametrize("frame", JUNK, ids=range(len(JUNK)))
    def test_what_is_no_frame_is_survived(self, subscription: Subscription, frame: bytes) -> None:
        assert isinstance(self.source.session(subscription).read(frame), list)

    def test_samples_are_no_surprise(self, subscription: Subscription) -> None:
        for frames in self.samples.values():
            for frame in [frames] if isinstance(frames, bytes) else frames:
                assert isinstance(self.source.session(subscription).read(frame), list)

    # What becomes of it

    def test_there_is_a_sample_for_each_table(self) -> None:
        assert set(self.samples) == set(self.source.tables.channels)

    def test_samples_become_rows_of_their_table(self, tmp_path: Path) -> None:
        for table, frames in self.samples.items():
            sample = [frames] if isinstance(frames, bytes) else list(frames)
            account, rows = self.transform(tmp_path, *sample)
            assert (account.quarantined, account.unknown_fields) == (0, {})
            assert rows[table]
            assert not any(made for name, made in rows.items() if name != table)
            for row in rows[table]:
                assert row["symbol"]
                assert "-" in row["instrument"]
                assert row["market"] in self.source.markets
                assert row["conn"] == self.connection
                assert row["ts_recv"].timestamp() == pytest.approx(START_NS / 1e9, abs=1)
                if table == "trades":
                    assert row["side"] in ("buy", "sell")
                    assert row["trade_id"] is not None
                if table == "orderbook":
                    assert row["side"] in ("bid", "ask")
                    assert row["position"] >= 0
                if table == "candles":
                    assert row["ts_event"] == row["start"]
                    assert row["interval"]

    def test_what_no_table_takes_is_refused_and_counted(self, tmp_path: Path) -> None:
        account, _ = self.transform(tmp_path, *JUNK)
        assert account.read == len(JUNK)
        assert account.taken + account.quarantined == account.read
        assert account.quarantined >= len(JUNK) - 1

    def test_no_kind_of_frame_is_taken_twice(self) -> None:
        tables = self.source.tables
        taken = [kind for channel in tables.channels.values() for kind in channel.takes]
        assert len({*taken, *tables.control}) == len(taken) + len(tables.control)
