"""The process between a test run and its S3 server; run by :mod:`fluxforge.testing.s3_server`.

It starts the server, prints its port as JSON, and waits for the end of its standard input, which
comes when the process that holds the other side ends, however it ends. It imports nothing of
FluxForge, so that it starts at once.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path

_START_SECONDS = 60.0
_START_ATTEMPTS = 3
_POLL_SECONDS = 0.2
_PORTS = ("s3.port", "master.port", "volume.port", "filer.port", "admin.port")


def watch(program: str, bucket: str) -> None:
    """Run a server with one bucket until standard input ends."""
    folder = Path(tempfile.mkdtemp(prefix="fluxforge-s3-"))
    try:
        for _ in range(_START_ATTEMPTS):  # another process may take a port before its bind
            names = [*_PORTS, *(f"{name}.grpc" for name in _PORTS)]
            ports = dict(zip(names, _free_ports(len(names)), strict=True))
            server = _launch(program, bucket, folder, ports)
            try:
                if _is_ready(server, ports["s3.port"]):
                    sys.stdout.write(json.dumps({"port": ports["s3.port"]}) + "\n")
                    sys.stdout.flush()
                    _wait_for_either(server)
                    return
            finally:
                _end(server, ports)
        log = " ".join((folder / "log").read_text(errors="replace").split())
        sys.stdout.write(json.dumps({"error": log[-500:]}) + "\n")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago, all at once so that they differ."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(count):
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            ports.append(int(listener.getsockname()[1]))
        return ports


def _launch(
    program: str, bucket: str, folder: Path, ports: dict[str, int]
) -> subprocess.Popen[bytes]:
    options = {
        "dir": folder,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "bucket": bucket,
        "webdav": "false",
        "admin.ui": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.autoCreateBucket": "false",
        "s3.localSocket": folder / "s3.sock",
        "filer.localSocket": folder / "filer.sock",
        "master.telemetry": "false",
        **ports,
    }
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(  # noqa: S603  (the program was looked up by our parent)
            [program, "mini", *(f"-{name}={value}" for name, value in options.items())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
        )


def _is_ready(server: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until the server speaks S3; False if it ends or takes too long."""
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2):
                return True
        except urllib.error.HTTPError as exc:
            exc.close()
            if exc.code == HTTPStatus.FORBIDDEN:  # it wants a signature
                return True
        except OSError:
            pass
        time.sleep(_POLL_SECONDS)
    return False


def _wait_for_either(server: subprocess.Popen[bytes]) -> None:
    """Return when standard input ends, or the server."""
    ended = threading.Event()

    def read() -> None:
        with contextlib.suppress(OSError):
            sys.stdin.read()
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    while not ended.wait(_POLL_SECONDS) and server.poll() is None:
        pass


def _end(server: subprocess.Popen[bytes], ports: dict[str, int]) -> None:
    server.kill()
    server.wait()
    for port in ports.values():  # it makes sockets outside of its folder, and leaves them there
        for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108
            path.unlink(missing_ok=True)


if __name__ == "__main__":
    watch(sys.argv[1], sys.argv[2])
