"""Blocking work beside an event loop that must be able to end without it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


async def run_detached(work: Callable[[], T]) -> T:
    """Run blocking work in a thread of its own, and return its result.

    Unlike :func:`asyncio.to_thread`, which has the end of the program wait for the work: cancelled,
    this leaves it to itself, and it dies with the process. A store that does not answer can keep
    one call for minutes.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def deliver(value: T | None, error: BaseException | None) -> None:
        if result.done():
            return  # nobody waits any more
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(value)  # type: ignore[arg-type]

    def run() -> None:
        value, error = None, None
        try:
            value = work()
        except BaseException as exc:  # it belongs to whoever waits
            error = exc
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(deliver, value, error)

    threading.Thread(target=run, name="fluxforge-detached", daemon=True).start()
    return await result
