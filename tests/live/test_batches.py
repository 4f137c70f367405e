"""Responses to requests that were ready together may leave together; none waits for a slow one, none is mixed up."""

import os
import pathlib
import signal
import socket
import threading

import pytest

from tests.conftest import LiveServer, StartServer
from tests.live.client import BrokenResponse, Connection

pytestmark = pytest.mark.live

SOURCE = """
import os, time

def application(environ, start_response):
    path = environ["PATH_INFO"]
    ends = time.monotonic() + 0.0001
    while time.monotonic() < ends:
        pass
    while path == "/wait" and not os.path.exists("go"):
        time.sleep(0.001)
    size = int(environ["QUERY_STRING"] or 10)
    body = (path.encode() * size)[:size]
    start_response("200 OK", [("Content-Length", str(size))])
    return iter([body]) if size % 2 else [body]
"""


@pytest.fixture
def live(server: StartServer) -> LiveServer:
    """One worker whose application takes a tenth of a millisecond."""
    return server("app", "-w", "1", "--timeout", "20", source=SOURCE)


def warm_up(connection: Connection) -> Connection:
    """The worker has seen that its application is quick, and this connection is kept."""
    for _ in range(100):
        if connection.exchange("/").closes:
            raise AssertionError("a quick request was slow: the machine is too busy to say anything")
    return connection


def test_no_response_waits_for_a_slow_request(live: LiveServer, tmp_path: pathlib.Path) -> None:
    worker = live.wait_children(1)[0]
    with Connection(live.port) as first, Connection(live.port) as second, Connection(live.port) as third:
        for connection in (first, second, third):
            try:
                warm_up(connection)
            except AssertionError as error:
                pytest.skip(str(error))
        os.kill(worker, signal.SIGSTOP)
        for connection, path in ((first, "/a"), (second, "/wait"), (third, "/b")):
            connection.ask(path)
        os.kill(worker, signal.SIGCONT)
        assert first.response().body == b"/a/a/a/a/a"  # while the second is being served
        (tmp_path / "go").touch()
        assert second.response().body == b"/wait/wait"
        assert third.response().body == b"/b/b/b/b/b"


def test_slow_readers_of_batches_get_their_own(live: LiveServer) -> None:
    wrong: list[str] = []

    def client(number: int) -> None:
        connection: Connection | None = None
        for turn in range(12):
            size = 20000 + (number + turn) % 7
            path = f"/client{number}/turn{turn}/"
            try:
                if connection is None:
                    connection = Connection(live.port)
                    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
                response = connection.exchange(f"{path}?{size}")
            except (OSError, BrokenResponse) as error:
                wrong.append(f"{path}: {error!r}")
                return
            if response.body != (path.encode() * size)[:size]:
                wrong.append(path)
            if response.closes:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


def test_clients_that_leave_take_nobody_along(live: LiveServer) -> None:
    worker = live.wait_children(1)[0]
    with Connection(live.port) as stays:
        try:
            warm_up(stays)
        except AssertionError as error:
            pytest.skip(str(error))
        leaving = [Connection(live.port) for _ in range(10)]
        for connection in leaving:
            connection.exchange("/")
        os.kill(worker, signal.SIGSTOP)
        for connection in leaving:
            connection.ask("/gone")
        stays.ask("/stays?12")
        for connection in leaving:
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.close()
        os.kill(worker, signal.SIGCONT)
        assert stays.response().body == b"/stays/stays"
    assert live.children() == [worker]
