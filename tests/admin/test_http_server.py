"""The admin worker's HTTP over real sockets: requests, clients that are slow or silent, and its end."""

import contextlib
import logging
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.conftest import wait_until
from wsgicluster.admin import http_server
from wsgicluster.admin.exchange import AdminRequest, AdminResponse
from wsgicluster.admin.http_server import AdminServer

MOST = 8


class Site:
    """A server whose responses say what was asked; ``/wait`` waits until `go_on` is set."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.go_on = threading.Event()
        self.busy = threading.Semaphore(0)
        self.server = AdminServer([self.listener], self.respond, logging.getLogger("tests.admin"), MOST)
        self.clients: list[socket.socket] = []

    def respond(self, request: AdminRequest) -> AdminResponse:
        if request.path == "/wait":
            self.busy.release()
            self.go_on.wait(30)
        if request.path == "/break":
            raise LookupError("a fault of ours")
        if request.path == "/stream":
            return AdminResponse(200, "text/plain", stream=self._pieces())
        return AdminResponse(200, "text/plain", f"{request.method} {request.path} {len(request.body)}".encode())

    def _pieces(self) -> Iterator[bytes]:
        yield b"one"
        self.go_on.wait(30)
        yield b"two"

    def connect(self) -> socket.socket:
        client = socket.create_connection(self.listener.getsockname(), timeout=30)
        self.clients.append(client)
        return client

    def send(self, data: bytes) -> socket.socket:
        client = self.connect()
        client.sendall(data)
        return client

    def close(self) -> None:
        self.go_on.set()
        self.server.stop()
        wait_until(lambda: self.server.is_done, 20)
        for client in self.clients:
            client.close()
        wait_until(lambda: not self.server.connections, 20)
        self.listener.close()


def rest(client: socket.socket) -> bytes:
    """All that comes until the server closes the connection; it lingers until this end is closed, too."""
    with client:
        return b"".join(iter(lambda: client.recv(65536), b""))


def get(path: str, fields: str = "", close: bool = True) -> bytes:
    end = "Connection: close\r\n" if close else ""
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n{fields}{end}\r\n".encode()


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    made.server.start()
    with contextlib.closing(made):
        yield made


def test_a_kept_connection_serves_one_request_after_the_other(site: Site) -> None:
    client = site.send(get("/a", close=False) + get("/b", close=False) + b"POST /c HTTP/1.1\r\nHost: a\r\n")
    client.sendall(b"Content-Length: 3\r\nConnection: close\r\n\r\n")
    client.sendall(b"xyz")
    found = rest(client)
    assert found.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert [text in found for text in (b"GET /a 0", b"GET /b 0", b"POST /c 3")] == [True] * 3


def test_whatever_comes_byte_by_byte_or_with_continue(site: Site) -> None:
    client = site.connect()
    for at in range(len(get("/slow"))):
        client.sendall(get("/slow")[at : at + 1])
    assert rest(client).endswith(b"GET /slow 0")
    client = site.send(
        b"POST /e HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"
    )
    assert client.recv(100).startswith(b"HTTP/1.1 100 Continue")
    client.sendall(b"ab")
    assert rest(client).endswith(b"POST /e 2")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n", b"413"),
    ],
)
def test_what_is_not_a_request_is_refused(site: Site, sent: bytes, status: bytes) -> None:
    assert rest(site.send(sent)).startswith(b"HTTP/1.1 " + status)


def test_head_has_no_body_and_a_fault_is_a_response(site: Site) -> None:
    found = rest(site.send(b"HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n"))
    assert found.startswith(b"HTTP/1.1 200 OK\r\n")
    assert found.endswith(b"\r\n\r\n")
    assert rest(site.send(get("/break"))).startswith(b"HTTP/1.1 500 ")


def test_a_response_that_does_not_end_comes_in_pieces(site: Site) -> None:
    client = site.send(get("/stream", close=False))
    found = b""
    while not found.endswith(b"one"):
        found += client.recv(1000)
    assert b"Content-Length" not in found
    site.go_on.set()
    assert rest(client) == b"two"


def test_only_so_many_may_follow(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "MOST_STREAMS", 1)
    first = site.send(get("/stream"))
    while not first.recv(1000).endswith(b"one"):
        pass
    assert rest(site.send(get("/stream"))).startswith(b"HTTP/1.1 503 ")
    site.go_on.set()
    assert rest(first) == b"two"
    assert rest(site.send(get("/stream"))).endswith(b"onetwo")


def test_silent_clients_make_room_for_those_that_speak(site: Site) -> None:
    for _ in range(3 * MOST):
        site.send(b"GET / HT")
    for _ in range(3):
        assert rest(site.send(get("/speaks"))).endswith(b"GET /speaks 0")
    assert site.server.connections <= MOST


def test_clients_whose_requests_run_are_left_alone(site: Site) -> None:
    busy = [site.send(get("/wait")) for _ in range(MOST)]
    for _ in busy:
        assert site.busy.acquire(timeout=20)
    with contextlib.suppress(ConnectionResetError):
        assert rest(site.send(get("/late"))) == b"", "there is no room"
    site.go_on.set()
    assert all(rest(client).endswith(b"GET /wait 0") for client in busy)


def test_a_stop_ends_what_is_idle_and_finishes_what_runs(site: Site) -> None:
    idle, busy, fresh = site.send(get("/a", close=False)), site.send(get("/wait", close=False)), site.connect()
    idle.recv(1000)
    assert site.busy.acquire(timeout=20)
    wait_until(lambda: site.server.connections == 3, 20, "all are accepted")
    site.server.stop()
    assert rest(idle) == b""
    assert not site.server.is_done
    fresh.sendall(get("/first", close=False))
    assert rest(fresh).endswith(b"GET /first 0")
    site.go_on.set()
    assert rest(busy).endswith(b"GET /wait 0")
    wait_until(lambda: site.server.is_done, 20, "it is done")
