"""Turning Ctrl-C and a service manager's stop into a clean end."""

from __future__ import annotations

import asyncio
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)
)

_listeners: list[Callable[[], None]] = []
_previous: dict[int, Any] = {}


@contextmanager
def on_stop_signal(listener: Callable[[], object]) -> Iterator[None]:
    """Call `listener` on the running event loop at the first stop signal, instead of dying.

    The handlers that were there before return with the first signal, so that a second one has its
    usual effect, and on leaving the block. Nested and parallel blocks all hear of the signal.
    Outside the main thread, where no handler can be set, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()

    def wake() -> None:
        loop.call_soon_threadsafe(listener)

    if not _listeners:
        _install()
    _listeners.append(wake)
    try:
        yield
    finally:
        _listeners.remove(wake)
        if not _listeners:
            _restore()


def _install() -> None:
    # signal.signal and not the loop's own add_signal_handler: that one is missing on Windows and
    # cannot put back what was there before.
    for number in SIGNALS:
        _previous[number] = signal.signal(number, _handle)


def _restore() -> None:
    while _previous:
        number, handler = _previous.popitem()
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _handle(number: int, frame: object) -> None:
    del number, frame
    _restore()
    for wake in list(_listeners):
        wake()
