"""Frames of the venue, written by hand, and a lake to put them through."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from fluxforge.etl.job import ETLJob
from fluxforge.layout import Layout
from fluxforge.segments import Envelope
from fluxforge.storage.local import LocalStorage
from fluxforge.tables import Table, table_names

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from fluxforge.etl.report import EtlReport

START_NS = 1_786_309_548_000_000_000  # 2026-08-09 21:05:48 UTC
SENT = "2026-08-09T21:05:48.1Z"


class Frames:
    """Writes segment lines; numbers them by itself, from 0 on each connection."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}
        self._now = START_NS

    def line(self, frame: bytes, *, conn: str = "A", capture_ns: int | None = None) -> bytes:
        self._now += 1_000_000
        return Envelope(self._now if capture_ns is None else capture_ns, conn, frame).line()

    def frame(self, channel: str, events: Any, *, conn: str = "A", seq: Any = None) -> bytes:
        number = self._next.get(conn, 0) if seq is None else seq
        if seq is None:
            self._next[conn] = number + 1
        body = {"channel": channel, "timestamp": SENT, "sequence_num": number, "events": events}
        return json.dumps(body, separators=(",", ":")).encode()

    def _line(self, channel: str, events: Any, **where: Any) -> bytes:
        capture_ns = where.pop("capture_ns", None)
        frame = self.frame(channel, events, **where)
        return self.line(frame, conn=where.get("conn", "A"), capture_ns=capture_ns)

    def ticker(self, price: Any = "65086.18", product: Any = "BTC-USD", **where: Any) -> bytes:
        row = {"type": "ticker", "product_id": product, "price": price, "best_bid": "65083.66"}
        return self._line("ticker", [{"type": "update", "tickers": [row]}], **where)

    def trades(
        self, ids: Iterable[Any], *, product: str = "BTC-USD", kind: str = "update", **where: Any
    ) -> bytes:
        rows = [
            {
                "product_id": product,
                "trade_id": str(number),
                "price": "65083.67",
                "size": "0.002186",
                "time": f"2026-08-09T21:05:{int(number) % 60:02d}.514318Z",
                "side": "SELL",
            }
            for number in ids
        ]
        return self._line("market_trades", [{"type": kind, "trades": rows}], **where)

    def book(
        self,
        levels: Iterable[tuple[str, str, str]],
        *,
        product: str = "BTC-USD",
        kind: str = "update",
        **where: Any,
    ) -> bytes:
        updates = [
            {"side": side, "event_time": SENT, "price_level": price, "new_quantity": size}
            for side, price, size in levels
        ]
        event = {"type": kind, "product_id": product, "updates": updates}
        return self._line("l2_data", [event], **where)

    def candle(self, start: Any = "1786309500", close: str = "1", **where: Any) -> bytes:
        row = {"start": start, "open": "1", "high": "2", "low": "0.5", "close": close,
               "volume": "36.3", "product_id": "BTC-USD"}  # fmt: skip
        return self._line("candles", [{"type": "update", "candles": [row]}], **where)

    def heartbeat(self, **where: Any) -> bytes:
        return self._line("heartbeats", [{"current_time": "x", "heartbeat_counter": 1}], **where)

    def ack(self, **where: Any) -> bytes:
        return self._line("subscriptions", [{"subscriptions": {"ticker": ["BTC-USD"]}}], **where)


@dataclass
class LakeFolder:
    """A lake on a disk, looked at from beside the ETL."""

    root: Path
    layout: Layout = field(default_factory=Layout)

    @property
    def storage(self) -> LocalStorage:
        return LocalStorage(self.root)

    def put(self, content: bytes | Iterable[bytes], number: int = 1, state: Any = "ready") -> str:
        """Put a segment into a state's folder; return its name."""
        name = f"segment_20260809T21_{number:05d}.ndjson"
        data = content if isinstance(content, bytes) else b"".join(content)
        self.storage.write_bytes(f"{self.layout.state(state, 'coinbase')}/{name}", data)
        return name

    def job(self, **options: Any) -> ETLJob:
        options = {"storage": self.storage, "memory_limit_mb": 512, **options}
        return ETLJob(
            input_path=self.layout.ready("coinbase"),
            output_path=self.layout.tables("coinbase"),
            **options,
        )

    def etl(self, **options: Any) -> EtlReport:
        return self.job(**options).process_all_segments()

    def tables(self) -> list[str]:
        return table_names(self.storage, self.layout.tables("coinbase"))

    def table(self, name: str) -> Table:
        return Table(self.storage, self.layout.table("coinbase", name))

    def rows(self, name: str) -> pl.DataFrame:
        """Return the rows that a table's log knows of; none where there is no table."""
        snapshot = self.table(name).snapshot()
        if snapshot is None:
            return pl.DataFrame()
        frame = pl.from_arrow(snapshot.dataset().to_table())
        assert isinstance(frame, pl.DataFrame)
        return frame

    def count(self, name: str) -> int:
        return self.rows(name).height

    def files(self, state: Any) -> list[str]:
        """Return the names of the files in a state's folder, hidden ones too, without journals."""
        folder = self.root / self.layout.state(state, "coinbase")
        found = (path for path in folder.rglob("*") if path.is_file())
        return sorted(path.name for path in found if path.suffix != ".tries")

    def parquet(self) -> set[str]:
        """Return every Parquet file below the tables, known to a log or not."""
        folder = self.root / self.layout.tables("coinbase")
        return {
            path.relative_to(self.root).as_posix()
            for path in folder.rglob("*.parquet")
            if "_delta_log" not in path.parts
        }

    def committed(self) -> set[str]:
        """Return every Parquet file that a log names."""
        found = set()
        for name in self.tables():
            snapshot = self.table(name).snapshot()
            assert snapshot is not None
            found |= {f"{self.layout.table('coinbase', name)}/{f.path}" for f in snapshot.files()}
        return found

    def assert_files(self) -> None:
        """Check that every committed file is there, and that vacuum finds all others."""
        committed = self.committed()
        assert committed <= self.parquet()
        for name in self.tables():
            self.table(name).vacuum(timedelta(0), dry_run=False)
        assert self.parquet() == committed == self.committed()

    def quarantined(self) -> list[tuple[int, str, bytes]]:
        """Return number, reason and restored content of every line in quarantine."""
        found = []
        for name in self.files("quarantine"):
            if name.startswith("."):
                continue  # no key: what a killed worker had begun to write
            path = self.root / self.layout.quarantine("coinbase") / name
            for record in path.read_bytes().splitlines():
                fields = json.loads(record)
                content = (
                    base64.b64decode(fields["base64"])
                    if "base64" in fields
                    else fields["text"].encode()
                )
                found.append((fields["line"], fields["reason"], content))
        return found

    def assert_accounts(self) -> None:
        """Check the ledger against itself and against the tables."""
        ledger = self.rows("segments")
        expected: dict[str, int] = {}
        for entry in ledger.iter_rows(named=True):
            assert entry["lines_read"] == entry["lines_taken"] + entry["lines_quarantined"]
            for name, count in json.loads(entry["rows"]).items():
                expected[name] = expected.get(name, 0) + count
        assert ledger["digest"].n_unique() == ledger.height
        present = [name for name in self.tables() if name not in ("segments", "sequences")]
        assert {name: self.count(name) for name in present} == expected


@pytest.fixture
def frames() -> Frames:
    return Frames()


@pytest.fixture(scope="session")
def lake_at() -> type[LakeFolder]:
    """Return what opens a lake in a folder."""
    return LakeFolder


@pytest.fixture
def lake(tmp_path: Path) -> LakeFolder:
    return LakeFolder(tmp_path / "lake")
