"""Ctrl-C, and a service manager's request to stop.

The handlers are set whatever was there before: a shell starts ``command &`` with SIGINT ignored,
and a process that is asked to stop by name shall stop.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)
)

_listeners: list[Callable[[], object]] = []
_before: dict[int, Any] = {}


@contextmanager
def on_stop_signal(listener: Callable[[], object]) -> Iterator[None]:
    """Call `listener` at the first signal to stop, instead of dying.

    Where an event loop runs, the listener is called on it; else between two instructions of the
    main thread, so that it should do no more than set an event. Nested and parallel blocks all
    hear of the signal. The earlier handlers return with the first signal, so that a second one has
    its usual effect, and at the end of the block. Outside the main thread, where no handler can be
    set, this does nothing.
    """
    if not _in_main_thread():
        yield
        return
    import asyncio

    wake: Callable[[], object] = listener
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:

        def wake() -> object:
            return loop.call_soon_threadsafe(listener)

    if not _listeners:
        _before.update(_install(_tell, STOP_SIGNALS))
    _listeners.append(wake)
    try:
        yield
    finally:
        _listeners.remove(wake)
        if not _listeners:
            _restore(_before)


@contextmanager
def interrupting() -> Iterator[None]:
    """Let every signal to stop raise KeyboardInterrupt, as Ctrl-C does."""
    if not _in_main_thread():
        yield
        return
    before = _install(signal.default_int_handler, STOP_SIGNALS)
    try:
        yield
    finally:
        _restore(before)


@contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Deliver the signals that interrupt Python code at the end of the block instead of within.

    For native code, which an exception in its midst would break. A second signal does not wait.
    Signals that end the process at once still do. Outside the main thread, which alone hears
    signals, this does nothing.
    """
    if not _in_main_thread():
        yield
        return
    caught: list[int] = []

    def note(number: int, frame: object) -> None:
        del frame
        caught.append(number)
        _restore(before)

    heard = [number for number in STOP_SIGNALS if callable(signal.getsignal(number))]
    before = _install(note, heard)
    try:
        yield
    finally:
        _restore(before)
        if caught:
            signal.raise_signal(caught[0])


def leave(code: int) -> NoReturn:
    """End this process at once: native libraries take seconds to be taken down on a busy machine.

    For a process whose work is done and durable. What was registered with :mod:`atexit` is run.
    """
    atexit._run_exitfuncs()  # noqa: SLF001 -- there is no public way
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _install(handler: Callable[[int, Any], object], numbers: Any) -> dict[int, Any]:
    # Not the event loop's own add_signal_handler: that is missing on Windows, and cannot put back
    # what was there before.
    return {number: signal.signal(number, handler) for number in numbers}


def _restore(before: dict[int, Any]) -> None:
    while before:
        number, handler = before.popitem()
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _tell(number: int, frame: object) -> None:
    del number, frame
    _restore(_before)
    for wake in list(_listeners):
        wake()
