"""Faults that are planted in a healthy lake: `verify` finds each, by its right name."""

from __future__ import annotations

import json
import os
import shutil
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import fluxforge
from fluxforge.errors import TableError
from fluxforge.etl.job import ETLJob
from fluxforge.etl.optimize import optimize_table
from fluxforge.layout import Layout
from fluxforge.segments import Envelope, SegmentStore
from fluxforge.tables import Table

from .conftest import NS, Lake

if TYPE_CHECKING:
    from collections.abc import Callable

OTHER = "segment_20260809T22_00001.ndjson"
LAST = "segment_20260809T21_00002.ndjson"


def table_of(lake: Lake, name: str) -> Table:
    return Table(lake.storage, lake.layout.table("coinbase", name))


def data_file(lake: Lake, name: str) -> Path:
    return next(Path(table_of(lake, name).uri).glob("date=*/*.parquet"))


def only(lake: Lake, state: str) -> Path:
    return next(path for path in (lake.root / "raw" / state / "coinbase").iterdir())


def flip(path: Path, where: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * where)] ^= 1
    path.write_bytes(bytes(content))


def forget(path: Path) -> Path:
    """Give a data file the name that it had before checksums, in the log too."""
    old = path.with_name("part-0123456789ab-01234567.parquet")
    log = path.parent.parent / "_delta_log"
    for commit in log.glob("*.json"):
        commit.write_text(commit.read_text().replace(path.name, old.name))
    return path.rename(old)


def drop_last_commit(lake: Lake, name: str) -> None:
    log = table_of(lake, name).log
    lake.storage.delete(log.key(log.versions()[-1]))


def repeat_file(lake: Lake, name: str) -> None:
    """Commit a copy of a table's file again, as an attempt with no memory would."""
    table = table_of(lake, name)
    snapshot = table.snapshot()
    assert snapshot is not None
    file, *_ = snapshot.files()
    copy = file.path.replace("part-", "part-again-")
    shutil.copy(Path(table.uri, file.path), Path(table.uri, copy))
    assert table.commit(snapshot, [type(file)(copy, *list(vars(file).values())[1:])], [], {})


def flipped_bit(lake: Lake) -> tuple[str, str]:
    path = data_file(lake, "ticker")
    flip(path)
    return "damaged_file", path.name


def flipped_bit_of_before_checksums(lake: Lake) -> tuple[str, str]:
    path = forget(data_file(lake, "trades"))
    assert lake.verify(deep=True).ok
    flip(path, 0.02)
    return "damaged_file", path.name


def cut_data_file(lake: Lake) -> tuple[str, str]:
    path = data_file(lake, "ticker")
    path.write_bytes(path.read_bytes()[:-10])
    return "damaged_file", path.name


def lost_data_file(lake: Lake) -> tuple[str, str]:
    path = data_file(lake, "ticker")
    path.unlink()
    return "missing_file", path.name


def lost_quarantine(lake: Lake) -> tuple[str, str]:
    path = only(lake, "quarantine")
    path.unlink()
    return "missing_quarantine", path.name.partition("-")[0]


def cut_quarantine(lake: Lake) -> tuple[str, str]:
    path = only(lake, "quarantine")
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))
    return "damaged_quarantine", path.name


def edited_quarantine(lake: Lake) -> tuple[str, str]:
    path = only(lake, "quarantine")
    path.write_bytes(path.read_bytes().replace(b"bad", b"bud"))
    return "damaged_quarantine", path.name


def lost_ledger(lake: Lake) -> tuple[str, str]:
    shutil.rmtree(table_of(lake, "segments").uri)
    return "missing_ledger", "coinbase/segments"


def lost_ledger_row(lake: Lake) -> tuple[str, str]:
    drop_last_commit(lake, "segments")
    return "missing_ledger_row", LAST


def lost_sequences(lake: Lake) -> tuple[str, str]:
    drop_last_commit(lake, "sequences")
    return "missing_commit", LAST


def lost_rows(lake: Lake) -> tuple[str, str]:
    drop_last_commit(lake, "ticker")
    return "wrong_row_count", "coinbase/ticker"


def cut_archive(lake: Lake) -> tuple[str, str]:
    path = only(lake, "archive")
    path.write_bytes(path.read_bytes()[:-20])
    return "damaged_archive", path.name


def doubled_rows(lake: Lake) -> tuple[str, str]:
    lake.put("processing", OTHER)
    repeat_file(lake, "trades")
    return "wrong_row_count", "coinbase/trades"


def stray_file(lake: Lake) -> tuple[str, str]:
    return "misplaced_file", lake.put("ready", "desktop.ini")


def symbolic_link(lake: Lake) -> tuple[str, str]:
    path = lake.root / lake.layout.ready("coinbase") / OTHER
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(only(lake, "archive"))
    return "odd_file", OTHER


def link_to_a_folder(lake: Lake) -> tuple[str, str]:
    path = lake.root / "processed" / "coinbase" / "ticker" / "more"
    path.symlink_to(lake.root)
    return "odd_file", "ticker/more"


def pipe(lake: Lake) -> tuple[str, str]:
    path = lake.root / lake.layout.ready("coinbase") / OTHER
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    return "odd_file", OTHER


def folder(lake: Lake) -> tuple[str, str]:
    (lake.root / lake.layout.ready("coinbase") / OTHER).mkdir(parents=True)
    return "odd_file", OTHER


def lost_log(lake: Lake) -> tuple[str, str]:
    shutil.rmtree(Path(table_of(lake, "ticker").uri, "_delta_log"))
    return "missing_log", "coinbase/ticker"


def damaged_log(lake: Lake) -> tuple[str, str]:
    for commit in Path(table_of(lake, "ticker").uri, "_delta_log").glob("*.json"):
        commit.write_bytes(b"{" + commit.read_bytes()[20:])
    return "check_failed", "coinbase/ticker"


FAULTS: list[Callable[[Lake], tuple[str, str]]] = [
    flipped_bit, flipped_bit_of_before_checksums, cut_data_file, lost_data_file, lost_quarantine,
    cut_quarantine, edited_quarantine, lost_ledger, lost_ledger_row, lost_sequences, lost_rows,
    cut_archive, doubled_rows, stray_file, symbolic_link, link_to_a_folder, pipe, folder, lost_log,
    damaged_log,
]  # fmt: skip
DEEP = {
    flipped_bit, flipped_bit_of_before_checksums, cut_quarantine, edited_quarantine, cut_archive
}  # fmt: skip
UNFINISHED = "unfinished_segment"


@pytest.fixture(scope="session")
def archived(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Return a lake with two segments in its tables and in its archive."""
    lake = Lake(tmp_path_factory.mktemp("archived"), Layout())
    for number in (1, 2):
        lake.etl(number, seqs=range(number * 10, number * 10 + 6), conn=f"C{number}", keep=True)
    assert lake.verify(deep=True).ok
    return lake


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_found_by_name(
    lake: Lake, archived: Lake, plant: Callable[[Lake], tuple[str, str]]
) -> None:
    shutil.copytree(archived.root, lake.root)
    kind, where = plant(lake)
    for deep in (False, True) if plant not in DEEP else (True,):
        found = [one for one in lake.verify(deep=deep).problems if one.kind != UNFINISHED]
        assert {one.kind for one in found} <= {kind, "wrong_row_count"}, found
        assert any(one.kind == kind and where in one.where for one in found), found
        assert not any("0:" in one.message or "thread" in one.message for one in found)


def test_a_table_without_a_log_does_not_read_as_empty(lake: Lake, archived: Lake) -> None:
    shutil.copytree(archived.root, lake.root)
    lost_log(lake)
    with pytest.raises(TableError, match="no log"):
        fluxforge.Lake(path=lake.root).scan("coinbase", "ticker").collect()


def test_all_faults_at_once_are_each_named(lake: Lake, archived: Lake) -> None:
    shutil.copytree(archived.root, lake.root)
    plants = [flipped_bit, edited_quarantine, cut_archive, stray_file, lost_sequences]
    expected = {plant(lake)[0] for plant in plants}
    shutil.rmtree(Path(table_of(lake, "trades").uri, "_delta_log"))
    assert expected | {"missing_log"} <= {one.kind for one in lake.verify(deep=True).problems}


def test_a_healthy_lake_at_work_has_no_faults(lake: Lake) -> None:
    """It is captured, transformed and compacted at that moment; every check is deep."""
    done = threading.Event()
    store = SegmentStore(lake.storage, lake.layout, "coinbase")
    failures: list[BaseException] = []

    def capture(number: int) -> None:
        segment = store.open(datetime.now(UTC))
        for seq in range(30):
            price = number * 100 + seq
            frame = (
                '{"channel":"ticker","timestamp":"2026-08-09T21:05:48Z","sequence_num":%d,'
                '"events":[{"type":"update","tickers":[{"product_id":"X","price":"%d"}]}]}'
            )
            line = Envelope(NS + price * 1000, f"C{number}", (frame % (seq, price)).encode()).line()
            segment.file.append(line + (b"bad\n" if seq == 7 else b""))
        segment.file.close()
        while segment.advance():
            pass

    def work() -> None:
        try:
            for number in range(1, 9):
                capture(number)
                ETLJob(
                    storage=lake.storage,
                    input_path=lake.layout.ready("coinbase"),
                    output_path=lake.layout.tables("coinbase"),
                    delete_after_processing=number % 2 == 0,
                ).process_all_segments()
                if number % 3 == 0:
                    for name in ("ticker", "sequences", "segments"):
                        optimize_table(table_of(lake, name), name)
        except BaseException as exc:
            failures.append(exc)
        done.set()

    lake.storage.mkdir(lake.layout.ready("coinbase"))
    worker = threading.Thread(target=work)
    worker.start()
    reports = []
    while not done.wait(0.01):
        reports.append(lake.verify(deep=True))
    worker.join()
    assert not failures
    assert [str(report) for report in reports if not report.ok] == []
    final = lake.verify(deep=True)
    assert final.ok, final
    ledger = table_of(lake, "segments").snapshot()
    assert ledger is not None
    rows = ledger.read(["rows"]).to_pylist()
    assert sum(json.loads(row["rows"])["ticker"] for row in rows) == 8 * 30
