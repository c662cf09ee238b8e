from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import fluxforge
from fluxforge.signals import STOP_SIGNALS, deferred_interrupts, interrupting, on_stop_signal

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="signals to oneself end the process there"
)


@pytest.fixture(params=STOP_SIGNALS, ids=lambda number: number.name)
def number(request: pytest.FixtureRequest) -> Iterator[int]:
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield request.param
    for one, handler in before.items():
        signal.signal(one, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


async def test_the_listener_is_called_on_the_loop_and_the_earlier_handler_returns(
    number: int,
) -> None:
    heard: list[str] = []
    signal.signal(number, lambda *_: heard.append("earlier"))
    stop = asyncio.Event()
    with on_stop_signal(stop.set):
        send(number)
        await asyncio.wait_for(stop.wait(), 20)
        assert heard == []
        send(number)
        assert heard == ["earlier"]
    send(number)
    assert heard == ["earlier"] * 2


def test_without_a_loop_the_listener_is_called_too(number: int) -> None:
    stop = threading.Event()
    with on_stop_signal(stop.set):
        send(number)
        assert stop.is_set()


def test_nested_blocks_all_hear_of_the_signal(number: int) -> None:
    outer, inner = threading.Event(), threading.Event()
    with on_stop_signal(outer.set), on_stop_signal(inner.set):
        send(number)
        assert outer.is_set()
        assert inner.is_set()


def test_every_signal_to_stop_can_be_an_interrupt(number: int) -> None:
    with pytest.raises(KeyboardInterrupt), interrupting():
        send(number)


def test_an_interrupt_waits_for_the_end_of_native_work(number: int) -> None:
    done = False
    with pytest.raises(KeyboardInterrupt), interrupting(), deferred_interrupts():
        send(number)
        done = True
    assert done


def test_a_second_interrupt_does_not_wait(number: int) -> None:
    with pytest.raises(KeyboardInterrupt), interrupting(), deferred_interrupts():
        send(number)
        send(number)
        pytest.fail("the second signal waited")


def test_outside_the_main_thread_nothing_is_set() -> None:
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    seen: list[object] = []

    def work() -> None:
        with on_stop_signal(lambda: None), interrupting(), deferred_interrupts():
            seen.extend(signal.getsignal(number) for number in STOP_SIGNALS)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == before


WAITING = """
import signal, threading
from fluxforge.signals import {name}
assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
{body}
assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
"""
LISTENING = """
stop = threading.Event()
with on_stop_signal(stop.set):
    print("ready", flush=True)
    while not stop.wait(0.05):
        pass
"""
INTERRUPTED = """
try:
    with interrupting():
        print("ready", flush=True)
        threading.Event().wait()
except KeyboardInterrupt:
    pass
"""


@pytest.mark.parametrize(
    ("name", "body"), [("on_stop_signal", LISTENING), ("interrupting", INTERRUPTED)]
)
def test_a_process_that_was_started_with_sigint_ignored_hears_it(name: str, body: str) -> None:
    root = Path(fluxforge.__file__).parent.parent
    with subprocess.Popen(
        [sys.executable, "-c", WAITING.format(name=name, body=body)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == b"ready"
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == 0
