"""A process of one's own: its job goes in at its standard input, and what it says comes out.

The input stays open: where it ends, whoever started the process wants it to stop, or has died.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from fluxforge import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PARENT_SECONDS = 1.0
_RUN = "import sys; sys.path.append({!r}); from {} import main; main()"


class Child(subprocess.Popen[bytes]):
    """Runs ``main()`` of a module; `name` is for ``ps`` to show. The job may hold secrets."""

    def __init__(self, module: str, job: object, name: str) -> None:
        package = str(Path(errors.__file__).parent.parent)
        super().__init__(
            [sys.executable, "-P", "-c", _RUN.format(package, module), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # an interrupt of this process is not meant for that one
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self.say(job)

    def say(self, message: object) -> None:
        """Tell it something; where it has ended, its last words say why."""
        with suppress(OSError, ValueError):
            _send(self.stdin, message)

    def hear(self) -> Iterator[Any]:
        """Yield what it says, until it ends."""
        return _received(self.stdout)

    def leave(self) -> None:
        """End its input."""
        with suppress(OSError):
            self.stdin.close()  # type: ignore[union-attr]


class Parent:
    """Whoever started this process, as the process sees it."""

    def __init__(self) -> None:
        # Whatever prints must not come between the messages.
        self._out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        self._in = os.fdopen(os.dup(sys.stdin.fileno()), "rb")
        self._lock = threading.Lock()
        self.job: Any = next(_received(self._in), None)
        if self.job is None:  # whoever started this process died before it could say what to do
            sys.exit(1)

    def say(self, message: object) -> None:
        """Tell it something; where nobody is there any more, nothing."""
        with self._lock, suppress(OSError):
            _send(self._out, message)

    def listen(self, take: Callable[[Any], object], left: Callable[[], object]) -> None:
        """Hand over what it says, and call `left`, once or twice, when it has gone."""

        def read() -> None:
            try:
                for message in _received(self._in):
                    take(message)
            finally:
                left()

        def watch() -> None:  # another child of its may hold our input open
            parent = os.getppid()
            while os.getppid() == parent:
                time.sleep(_PARENT_SECONDS)
            left()

        for work in (read, watch):
            threading.Thread(target=work, daemon=True).start()


def _send(stream: Any, message: object) -> None:
    pickle.dump(message, stream)
    stream.flush()


def _received(stream: BinaryIO | Any) -> Iterator[Any]:
    with suppress(EOFError, OSError, pickle.UnpicklingError):
        while True:
            yield pickle.load(stream)  # noqa: S301 -- from the process that we started, or that started us
