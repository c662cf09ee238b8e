"""Holding Ctrl-C back while native code works, which an exception in its midst would break."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)
)


@contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Deliver the signals that interrupt Python code at the end of the block instead of within.

    A second signal does not wait. Signals that end the process at once still do. Outside the main
    thread, which alone hears signals, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    before: dict[int, Any] = {}

    def restore() -> None:
        while before:
            signal.signal(*before.popitem())

    def note(number: int, frame: object) -> None:
        del frame
        caught.append(number)
        restore()

    for number in _SIGNALS:
        if callable(handler := signal.getsignal(number)):
            before[number] = handler
            signal.signal(number, note)
    try:
        yield
    finally:
        restore()
        if caught:
            signal.raise_signal(caught[0])
