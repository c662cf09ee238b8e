"""A small lake that is in order, to be put out of it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from fluxforge.etl.job import ETLJob
from fluxforge.layout import Layout
from fluxforge.segments import Envelope
from fluxforge.storage.local import LocalStorage
from fluxforge.verify import VerifyReport, verify_lake

if TYPE_CHECKING:
    from pathlib import Path

NS = 1_786_309_548_000_000_000


@dataclass
class Lake:
    root: Path
    layout: Layout

    @property
    def storage(self) -> LocalStorage:
        return LocalStorage(self.root)

    def verify(
        self, storage: LocalStorage | None = None, *sources: str, deep: bool = False
    ) -> VerifyReport:
        place = (storage or self.storage, self.layout)
        return verify_lake([place, place], place, sources or ["coinbase"], deep=deep)

    def put(self, state: Any, name: str, content: bytes = b"{}\n") -> str:
        key = f"{self.layout.state(state, 'coinbase')}/{name}"
        self.storage.write_bytes(key, content)
        return key

    def etl(
        self, number: int = 1, *, seqs: range = range(6), conn: str = "A", keep: bool = False
    ) -> None:
        """Take a segment of tickers, trades and one bad line into the tables."""
        lines = []
        for seq in seqs:
            if seq % 2:
                frame = (
                    '{"channel":"ticker","timestamp":"2026-08-09T21:05:48Z","sequence_num":%d,'
                    '"events":[{"type":"update","tickers":[{"product_id":"X","price":"%d"}]}]}'
                )
            else:
                frame = (
                    '{"channel":"market_trades","timestamp":"2026-08-09T21:05:48Z",'
                    '"sequence_num":%d,"events":[{"type":"update","trades":[{"product_id":"X",'
                    '"trade_id":"%d","time":"2026-08-09T21:05:48Z"}]}]}'
                )
            lines.append(Envelope(NS + seq, conn, (frame % (seq, seq)).encode()).line())
        self.put("ready", f"segment_20260809T21_{number:05d}.ndjson", b"".join([*lines, b"bad\n"]))
        ETLJob(
            storage=self.storage,
            input_path=self.layout.ready("coinbase"),
            output_path=self.layout.tables("coinbase"),
            delete_after_processing=not keep,
        ).process_all_segments()

    def problems(self, *sources: str) -> list[tuple[str, str]]:
        """Return kind and place of each problem."""
        found = self.verify(None, *sources).problems
        return [(problem.kind, problem.where) for problem in found]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", Layout())


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("template"), Layout())
    lake.etl()
    return lake


@pytest.fixture
def filled(lake: Lake, template: Lake) -> Lake:
    """Return a lake with one segment in its tables."""
    shutil.copytree(template.root, lake.root)
    return lake
