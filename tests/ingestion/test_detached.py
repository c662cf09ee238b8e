"""Blocking work that may outlive its event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from fluxforge.ingestion.detached import run_detached


async def test_the_result_comes_back() -> None:
    assert await run_detached(threading.get_ident) != threading.get_ident()


async def test_the_error_comes_back() -> None:
    def fail() -> None:
        raise ValueError("a mistake")

    with pytest.raises(ValueError, match="a mistake"):
        await run_detached(fail)


def test_the_loop_ends_without_the_work() -> None:
    begun, may_end = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def work() -> None:
        threads.append(threading.current_thread())
        begun.set()
        may_end.wait()

    async def main() -> None:
        task = asyncio.create_task(run_detached(work))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())  # returns although the work goes on
    assert threads[0].is_alive()
    assert threads[0].daemon
    may_end.set()
    threads[0].join()
