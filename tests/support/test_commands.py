"""A command that is forked cannot be told from one that is started, but by its haste."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support import commands

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only there it is forked")

ENDS = {
    "0": "print('said')",
    "3": "import sys; print('said'); sys.exit(3)",
    "words": "import sys; sys.exit('words')",
    "error": "print('said'); 1 / 0",
    "SIGINT": "import os, signal; os.kill(os.getpid(), signal.SIGINT)",
    "SIGTERM": "import os, signal; print('said', flush=True); os.kill(os.getpid(), signal.SIGTERM)",
    "SIGKILL": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "at exit": "import atexit; atexit.register(print, 'last'); print('said')",
    "thread": "from threading import Timer; Timer(0.1, print, ['last']).start(); print('said')",
    "input": "import sys; print(sys.stdin.read())",
    "surroundings": (
        "import os, sys, time; print(sys.argv, os.getcwd(), sorted(os.environ), time.tzname, "
        "len(os.listdir('/proc/self/fd')), os.getsid(0) == os.getpid(), sys.path[0])"
    ),
    "signals": (
        "import signal; print([signal.getsignal(n) for n in (2, 13, 15, 17)], "
        "signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    ),
}


@pytest.mark.parametrize("session", [False, True])
@pytest.mark.parametrize("code", ENDS.values(), ids=ENDS)
def test_it_ends_like_any_process(tmp_path: Path, code: str, session: bool) -> None:
    (tmp_path / "input").write_text("in\n")
    found = []
    for popen in (subprocess.Popen, commands.Popen):
        with (tmp_path / "input").open() as stream:
            process = popen(
                [sys.executable, "-c", code, "a", "b c"], text=True, cwd=tmp_path, stdin=stream,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=session,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "Asia/Tokyo"},
            )  # fmt: skip
        out, err = process.communicate()
        found.append((process.returncode, out, err.splitlines()[-1:]))
    assert found[0] == found[1]


def test_signals_stop_it_and_let_it_go_on() -> None:
    code = "print('begun', flush=True); print(input(), flush=True); input()"
    with commands.Popen(
        [sys.executable, "-c", code], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGSTOP)
        process.stdin.write("more\n")
        process.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.1)
        process.send_signal(signal.SIGCONT)
        assert process.stdout.readline() == "more\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL


def test_what_others_write_to_ends_with_them() -> None:
    sleeping = [sys.executable, "-c", "input()"]
    first = commands.Popen(sleeping, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with commands.Popen(sleeping, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as second:
        first.kill()
        assert first.communicate(timeout=60) == (b"", None)
        assert second.poll() is None
        second.kill()


def test_it_comes_of_a_process_without_threads() -> None:
    """But Polars' own, which waits for files to delete, and holds no lock meanwhile."""
    code = """
import os, pathlib
print(*(path.read_text() for path in pathlib.Path(f"/proc/{os.getppid()}/task").glob("*/comm")))
"""
    done = commands.run([sys.executable, "-c", code], capture_output=True, text=True)
    others = [name for name in done.stdout.split() if name != "polars-ooc-clea"]
    assert len(others) == 1  # its own, of whatever name


def test_the_command_line(tmp_path: Path) -> None:
    done = commands.run(
        [sys.executable, "-m", "fluxforge", "nothing"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "fluxforge: No such command 'nothing'.\n"
