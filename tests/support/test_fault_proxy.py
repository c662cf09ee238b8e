from __future__ import annotations

import http.client
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from tests.support.fault_proxy import Fault, FaultProxy

if TYPE_CHECKING:
    from collections.abc import Iterator

BODY = b"0123456789" * 10_000


class Echo(BaseHTTPRequestHandler):
    """Answers a GET with a long body, a PUT with what it got, and remembers both."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, bytes]]

    def do_GET(self) -> None:
        self.answer(BODY)

    def do_PUT(self) -> None:
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, body: bytes) -> None:
        self.seen.append((self.path, body))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def seen() -> list[tuple[str, bytes]]:
    return []


@pytest.fixture
def proxy(seen: list[tuple[str, bytes]]) -> Iterator[FaultProxy]:
    handler = type("Handler", (Echo,), {"seen": seen})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with FaultProxy("127.0.0.1", server.server_port) as running:
        yield running
    server.shutdown()
    thread.join()
    server.server_close()


def ask(proxy: FaultProxy, method: str = "GET", path: str = "/x", body: bytes = b"") -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)
    try:
        connection.request(method, path, body or None)
        response = connection.getresponse()
        if response.status != 200:
            raise http.client.HTTPException(str(response.status))
        return response.read()
    finally:
        connection.close()


def test_it_forwards_and_counts(proxy: FaultProxy, seen: list[tuple[str, bytes]]) -> None:
    assert ask(proxy) == BODY
    assert ask(proxy, "PUT", "/y?z=1", b"sent") == b"sent"
    assert [path for path, _ in seen] == ["/x", "/y?z=1"]
    assert [(request.method, request.path) for request in proxy.requests] == [
        ("GET", "/x"),
        ("PUT", "/y?z=1"),
    ]
    assert (proxy.bytes_sent, proxy.bytes_received) == (4, len(BODY) + 4)


@pytest.mark.parametrize(
    ("fault", "arrives"),
    [
        (Fault("status", status=503), False),
        (Fault("refuse"), False),
        (Fault("drop_response"), True),
        (Fault("cut_response", after=100), True),
    ],
)
def test_faults(
    proxy: FaultProxy, seen: list[tuple[str, bytes]], fault: Fault, arrives: bool
) -> None:
    rule = proxy.inject(fault, method="GET", path="x", times=1)
    assert ask(proxy, "PUT", "/x", b"another method") == b"another method"
    assert ask(proxy, "GET", "/another") == BODY
    seen.clear()
    with pytest.raises((http.client.HTTPException, OSError)):
        ask(proxy)
    assert bool(seen) == arrives
    assert rule.struck == 1
    assert ask(proxy) == BODY


def test_a_request_may_be_cut(proxy: FaultProxy, seen: list[tuple[str, bytes]]) -> None:
    proxy.inject(Fault("cut_request", after=2), method="PUT")
    with pytest.raises((http.client.HTTPException, OSError)):
        ask(proxy, "PUT", "/x", b"0123456789")
    assert ("/x", b"0123456789") not in seen
    proxy.heal()
    assert ask(proxy, "PUT", "/x", b"0123456789") == b"0123456789"


def test_a_request_may_come_late(proxy: FaultProxy, seen: list[tuple[str, bytes]]) -> None:
    proxy.inject(Fault("late", seconds=0.2), times=1)
    with pytest.raises((http.client.HTTPException, OSError)):
        ask(proxy, "PUT", "/late", b"body")
    assert ask(proxy, "PUT", "/soon", b"body") == b"body"
    until = time.monotonic() + 10
    while len(seen) < 2:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert [path for path, _ in seen] == ["/soon", "/late"]


def test_a_stall_delays(proxy: FaultProxy) -> None:
    proxy.inject(Fault("stall", seconds=0.3), times=1)
    started = time.monotonic()
    assert ask(proxy) == BODY
    assert time.monotonic() - started >= 0.3


def test_a_share_is_struck(proxy: FaultProxy) -> None:
    rule = proxy.inject(Fault("status"), share=0.5)
    answered = 0
    for _ in range(40):
        try:
            answered += ask(proxy) == BODY
        except http.client.HTTPException:
            continue
    assert answered == 40 - rule.struck
    assert 5 < rule.struck < 35
