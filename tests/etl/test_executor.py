"""The transformation on executors of other processes, one of which dies."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING

import pytest

from fluxforge.errors import ConfigError
from fluxforge.etl import job as job_module
from fluxforge.etl.report import SegmentsFailedError
from fluxforge.storage.fsspec_storage import FsspecStorage

if TYPE_CHECKING:
    from .conftest import Frames, LakeFolder


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_processes_transform_groups(
    lake: LakeFolder, frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_module, "_GROUP_BYTES", 1)  # a group each
    for number in range(3):
        lake.put([frames.ticker(str(number)), frames.trades([number, number + 1])], number)
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        report = lake.etl(executor=pool)
    assert (report.segments, report.rows) == (3, {"ticker": 3, "trades": 6})
    rows = lake.rows("trades")
    assert sorted(rows.filter(~rows["is_repeat"])["trade_id"]) == [0, 1, 2, 3]
    lake.assert_files()
    lake.assert_accounts()


def test_a_dead_worker_keeps_its_segments_for_the_next_run(
    lake: LakeFolder, frames: Frames
) -> None:
    name = lake.put(frames.ticker())
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        pool.submit(die)
        with pytest.raises(SegmentsFailedError, match="the executor lost it"):
            lake.etl(executor=pool)
    assert lake.files("processing") == [name]
    assert lake.job()._tries.read() == {}  # it is not the segment's fault
    assert lake.etl().rows == {"ticker": 1}


def test_a_storage_that_workers_cannot_share_is_refused(lake: LakeFolder) -> None:
    with ProcessPoolExecutor(1) as pool, pytest.raises(ConfigError, match="use local or s3"):
        lake.job(storage=FsspecStorage("memory", "x"), executor=pool)
