"""Commands of ``fluxforge`` without the second that their imports take: forks of a warm process.

:class:`Popen` and :func:`run` are those of :mod:`subprocess` for ``python -m fluxforge …`` and
``python -c …``. One server a test process has imported the libraries; each command is a fork of
it, so that its number, signals, process group and exit code are real. Whoever tests the start
itself, the memory of a process, or what Python or Polars read of the environment when they are
imported, uses :mod:`subprocess`. So does this where there is no Linux.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import fluxforge
from fluxforge.config import load_config
from fluxforge.signals import leave

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = (
    "botocore.session", "deltalake.fs", "duckdb", "polars", "pyarrow.dataset", "typer._adapters"
)  # fmt: skip
LEFT_OUT = ("fluxforge.__main__", "fluxforge.panels", "fluxforge.plot", "fluxforge.testing")
# No thread may hold a lock when the server forks: the libraries are asked for none.
NO_THREADS = {
    "OPENBLAS_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "_RJEM_MALLOC_CONF": "background_thread:false",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}


class Popen(subprocess.Popen[Any]):
    """A command, forked from the warm process; all else is that of :class:`subprocess.Popen`."""

    if sys.platform == "linux":

        def _execute_child(self, args: Any, *given: Any) -> None:
            cwd, env, pipes, in_session = given[4], given[5], given[9:15], given[20]
            assert (args[0], args[1] in ("-m", "-c")) == (sys.executable, True), args
            words = [str(word) for word in args[1:]]
            request = (
                words,
                str(cwd or Path.cwd()),
                dict(os.environ if env is None else env),
                in_session,
            )
            self._status, theirs = socket.socketpair()
            with theirs:
                ends = enumerate((pipes[0], pipes[3], pipes[5]))
                streams = [number if end < 0 else end for number, end in ends]
                socket.send_fds(_server(), [b"+"], [*streams, theirs.fileno()])
            self._status.sendall(json.dumps(request).encode() + b"\n")
            answer = self._status.recv(4)
            assert answer, "the process that commands are forked from has ended"
            self.pid = int.from_bytes(answer, "big")
            self._child_created = True
            self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]

        def _try_wait(self, wait_flags: int) -> tuple[int, int]:
            try:
                status = self._status.recv(4, socket.MSG_DONTWAIT if wait_flags else 0)
            except BlockingIOError:
                return 0, 0
            assert status, "the process that commands are forked from has ended"
            self._status.close()
            return self.pid, int.from_bytes(status, "big")

        def _internal_poll(self, *_: Any, **__: Any) -> int | None:
            if self.returncode is None:
                pid, status = self._try_wait(os.WNOHANG)
                if pid:
                    self._handle_exitstatus(status)  # type: ignore[attr-defined]
            return self.returncode


def run(
    words: list[Any],
    *,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **options: Any,
) -> subprocess.CompletedProcess[Any]:
    """Run a command to its end, as :func:`subprocess.run` does."""
    if capture_output:
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Popen(words, **options) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            process.kill()
    done = subprocess.CompletedProcess(words, process.returncode, out, err)
    if check:
        done.check_returncode()
    return done


@cache
def _server() -> socket.socket:
    """Start the process that commands are forked from; it ends with this one."""
    ours, theirs = socket.socketpair()
    with theirs:
        handle = theirs.fileno()
        process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(handle)],
            pass_fds=[handle],
            env={**os.environ, **NO_THREADS, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


def _serve(requests: socket.socket) -> Any:
    """Fork for each request and tell how each fork ended; return in a fork, with its request."""
    waiting = selectors.DefaultSelector()
    waiting.register(requests, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.data:
                pid, status = key.data
                waiting.unregister(key.fd)
                os.close(key.fd)
                with status, suppress(BrokenPipeError):
                    status.send(os.waitpid(pid, 0)[1].to_bytes(4, "big"))
                continue
            _, handles, _, _ = socket.recv_fds(requests, 1, 4)
            if not handles:
                os._exit(0)  # whoever asked has ended
            *streams, handle = handles
            status = socket.socket(fileno=handle)
            with warnings.catch_warnings(action="ignore"):  # of the thread that only sleeps
                pid = os.fork()
            if not pid:
                for number, stream in enumerate(streams):
                    os.dup2(stream, number)
                with status, status.makefile("rb") as lines:
                    request = json.loads(lines.readline())
                for other in (found for found in waiting.get_map().values() if found.data):
                    os.close(other.fd)
                    other.data[1].close()
                waiting.close()
                requests.close()
            for stream in streams:
                os.close(stream)
            if not pid:
                return request
            status.send(pid.to_bytes(4, "big"))
            waiting.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, status))


def _run(words: list[str], cwd: str, env: dict[str, str], session: bool) -> None:
    """Do what ``python`` does with these words."""
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    if session:
        os.setsid()
    time.tzset()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    sys.path[:0] = ["", *env.get("PYTHONPATH", "").split(os.pathsep)]
    option, what, *rest = words
    sys.argv = [option, *rest]
    code: Any = 0
    try:
        if option == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            sys.modules["__main__"] = main = ModuleType("__main__")
            exec(compile(what, "<string>", "exec"), vars(main))
    except SystemExit as exc:
        code = exc.code or 0
        if not isinstance(code, int):
            raise
    # Python's own end takes all modules apart: that would copy the memory which forks share.
    threading._shutdown()  # type: ignore[attr-defined]
    leave(code)


if __name__ == "__main__":
    # Ctrl-C is for the tests; a signal to a fork waits until it is set up.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    package = (found.name for found in pkgutil.walk_packages(fluxforge.__path__, "fluxforge."))
    for name in (*LIBRARIES, *package):
        if not name.startswith(LEFT_OUT):
            import_module(name)
    load_config()  # its defaults are kept
    gc.collect()
    gc.freeze()
    _run(*_serve(socket.socket(fileno=int(sys.argv[1]))))
