"""Faults around a worker: no descriptors left, applications that write too late or fork, clients behind a slow one."""

import os
import pathlib
import signal
import socket

import pytest

from tests.conftest import StartServer, children_of, descriptors_of, is_alive, wait_until
from tests.live.client import Connection, fetch

pytestmark = pytest.mark.live

SOURCE = """
import os, sys, time

kept = []

class Late:
    def __init__(self, write):
        self.write = write
    def __iter__(self):
        return iter([b"first", b"second"])
    def close(self):
        self.write(b"SMUGGLED")

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/close":
        return Late(start_response("200 OK", []))
    if path == "/keep":
        kept.append(start_response("200 OK", [("Content-Length", "4")]))
        return [b"kept"]
    if path == "/use":
        try:
            kept.pop()(b"HTTP/1.1 200 EVIL")
        except AssertionError as error:
            body = str(error).encode()
        else:
            body = b"written"
    elif path == "/fork":
        if os.fork() == 0:
            if environ["QUERY_STRING"] == "exit":
                sys.exit()
            if environ["QUERY_STRING"] == "sleep":
                time.sleep(60)
                os._exit(0)
        body = b"forked"
    elif path in ("/two", "/short", "/large"):
        blocks = {"/two": [b"one", b"two"], "/short": [b"one"], "/large": (b"x" * 100_000,)}[path]
        start_response("200 OK", [("Content-Length", "9")] if path == "/short" else [])
        return blocks
    elif path == "/slow":
        time.sleep(5.5)
        body = b"slow"
    elif path == "/read":
        body = b"%d" % len(environ["wsgi.input"].read())
    else:
        body = b"%d" % os.getpid()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""


def kept(port: int, path: str = "/") -> Connection:
    """A connection that has had a response to this path and was kept; a slow moment of the machine closes some."""
    for _ in range(50):
        client = Connection(port)
        response = client.exchange(path)
        assert response.status == 200
        if not response.closes:
            return client
        client.close()
    raise AssertionError("no connection was kept")


def test_a_worker_without_descriptors_goes_on_and_recovers(server: StartServer) -> None:
    live = server("app", "-w", "1", source=SOURCE, prefix=("prlimit", "--nofile=48:48"))
    (worker,) = live.wait_children(1)
    honest = kept(live.port)
    crowd = [socket.create_connection(("127.0.0.1", live.port)) for _ in range(70)]
    try:
        live.wait_log("cannot accept")
        # Its own size, too, is something that a worker looks at while it works.
        assert honest.exchange("/").status == 200
        assert live.children() == [worker]
    finally:
        for each in crowd:
            each.close()
    assert fetch(live.port, "/").status == 200
    honest.close()
    assert live.children() == [worker]
    assert live.log().count("cannot accept") == 1


@pytest.mark.parametrize("path", ["/close", "/keep"])
def test_nothing_is_written_behind_a_complete_response(server: StartServer, path: str) -> None:
    live = server("app", source=SOURCE)
    with kept(live.port, path) as client:
        if path == "/keep":
            assert client.exchange("/use").body == b"the application gave a body block after its response had ended"
        response = client.exchange("/")
        assert response.status == 200
        assert response.body.isdigit()


@pytest.mark.parametrize("how", ["", "exit"])
def test_a_process_that_the_application_forks_never_serves(server: StartServer, how: str) -> None:
    live = server("app", "-w", "1", source=SOURCE)
    (worker,) = live.wait_children(1)
    assert fetch(live.port, f"/fork?{how}").body == b"forked"
    live.wait_log("forked by the application, came back")
    wait_until(lambda: children_of(worker) == [], 5)
    for _ in range(20):
        assert fetch(live.port).body == str(worker).encode()


def test_a_forked_process_does_not_hold_connections_open(server: StartServer) -> None:
    live = server("app", "-w", "1", source=SOURCE)
    with socket.create_connection(("127.0.0.1", live.port)) as sock:
        sock.settimeout(20)
        sock.sendall(b"GET /fork?sleep HTTP/1.0\r\n\r\n")
        received = b""
        while data := sock.recv(65536):
            received += data
    assert received.endswith(b"forked")


def test_clients_that_spoke_in_time_are_heard_behind_a_slow_request(server: StartServer) -> None:
    live = server("app", "-w", "1", "--keep-alive", "5", source=SOURCE)
    # All at once: one after the other takes a busy machine longer than a connection is kept.
    crowd = [Connection(live.port) for _ in range(300)]
    for each in crowd:
        each.ask("/")
    for number, each in enumerate(crowd):
        if each.response().closes:
            each.close()
            crowd[number] = kept(live.port)
    slow = socket.create_connection(("127.0.0.1", live.port))
    with slow:
        slow.sendall(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
        for each in crowd:
            each.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert [each.response().status for each in crowd] == [200] * 300
    for each in crowd:
        each.close()


def test_an_idle_connection_keeps_nothing_of_its_last_request(server: StartServer, tmp_path: pathlib.Path) -> None:
    live = server("app", "-w", "1", source=SOURCE)
    (worker,) = live.wait_children(1)
    clients = [Connection(live.port) for _ in range(10)]
    for client in clients:
        assert client.exchange("/read", "POST", b"x" * 2_000_000).body == b"2000000"
    files = [path for path in descriptors_of(worker).values() if "wsgicluster-body" in path]
    assert files == []
    for client in clients:
        client.close()


def test_a_body_that_is_there_at_once_gets_its_length(server: StartServer) -> None:
    live = server("app", source=SOURCE)
    for path, length in (("/two", "6"), ("/large", "100000")):
        response = fetch(live.port, path)
        assert (response.status, response.headers["content-length"]) == (200, length)
    assert fetch(live.port, "/short").status == 500


def test_term_under_steady_load_ends_soon(server: StartServer) -> None:
    live = server("app", "-w", "1", "--graceful-timeout", "20", source=SOURCE)
    (worker,) = live.wait_workers(1)
    crowd = [socket.create_connection(("127.0.0.1", live.port)) for _ in range(200)]
    for each in crowd:
        each.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    live.send(signal.SIGTERM)
    os.kill(worker, signal.SIGTERM)
    for each in crowd:
        each.settimeout(15)
        assert each.recv(65536).startswith(b"HTTP/1.1 200")
        each.close()
    assert live.wait_end() == 0
    assert not is_alive(worker)
