"""A socket that an application may take: nothing is different before, and nothing is sent after."""

import contextlib
import pathlib
import resource
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.worker.connection.one_connection import LocalClient, Running, Worker
from wsgicluster.errors import ClientGone
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.connection.raw import KEYS, head_size, offer_socket
from wsgicluster.worker.connection.states import ConnectionState
from wsgicluster.wsgi.files import FileRegion
from wsgicluster.wsgi.response import Response

UPGRADE = b"GET /socket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n"
GET = b"GET /first HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    ("rest", "data", "size"),
    [
        (b"", b"GET / HTTP/1.1\r\n\r\nmore", 18),
        (b"", b"GET / HTTP/1.1\r\n", 16),
        (b"GET / HTTP/1.1\r\n\r", b"\nmore", 1),
        (b"GET / HTTP/1.1\r\n", b"\r\nmore", 2),
        (b"GET", b" / HTTP/1.1\r\n\r\n", 15),
        (b"", b"", 0),
    ],
)
def test_the_end_of_a_head(rest: bytes, data: bytes, size: int) -> None:
    assert head_size(rest, data) == size


class RawWorker(Worker):
    """As one with ``raw_socket``."""

    def __init__(self, folder: pathlib.Path, running: Running) -> None:
        super().__init__(folder, running)
        self.raw = True
        run = self.on_request

        def offer(connection: Connection) -> None:
            if "HTTP_UPGRADE" not in connection.reader.environ or offer_socket(self, connection):
                run(connection)

        self.on_request = offer


Pair = tuple[RawWorker, Connection, LocalClient]


@pytest.fixture(params=[Running.INLINE, Running.OFFLOADED], ids=lambda running: running.value)
def pair(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Pair]:
    worker = RawWorker(tmp_path, request.param)
    with worker:
        yield worker, *worker.connect()


def test_a_socket_that_is_not_taken_is_not_to_be_had_later(pair: Pair) -> None:
    worker, connection, client = pair
    offered: list[socket.socket] = []

    def app(response: Response, environ: dict[str, Any]) -> None:
        assert environ[KEYS[0]] is environ[KEYS[1]]
        offered.append(environ[KEYS[0]])
        assert "not taken" in repr(offered[0])
        response.start_response("200 OK", [])
        response.send_whole(b"plain")

    worker.apps["socket"] = app
    client.send(UPGRADE + b"behind")
    worker.drive(client, lambda: client.ended)
    assert client.received.endswith(b"Connection: close\r\n\r\nplain")
    assert offered[0].fileno() < 0
    assert connection.extension is None


def test_an_application_that_takes_the_socket_speaks_alone(pair: Pair) -> None:
    worker, connection, client = pair
    faults: list[str] = []

    def app(response: Response, environ: dict[str, Any]) -> None:
        sock = environ[KEYS[0]]
        assert connection.reader.rest == b""
        assert sock.recv(100) == b"behind"
        sock.sendall(b"taken")
        assert repr(sock) == "<RawSocket taken>"
        assert connection.taken
        transport = connection.transport
        assert not transport.movable
        assert not transport.ended
        assert not transport.record_bytes
        assert not transport.peer_lost()
        for name, pieces in (("send", 1), ("send_pair", 2), ("send_interim", 1), ("send_last", 1)):
            with pytest.raises(ClientGone, match="taken the socket"):
                getattr(connection, name)(*[b"x"] * pieces)
        with pytest.raises(ConnectionError, match="taken the socket"):
            transport.send_file(FileRegion(0, 0, 1))
        assert transport.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE, 4)[0] == socket.SOCK_STREAM
        response.start_response("200 OK", [])
        try:
            response.send_whole(b"not to be sent")
        except ClientGone as error:
            faults.append(str(error))
            raise
        finally:
            sock.close()

    worker.apps["socket"] = app
    client.send(UPGRADE + b"behind")
    worker.drive(client, lambda: client.ended)
    assert client.received == b"taken"
    assert faults
    assert worker.told[0] == "deadline lifted"
    client.end()
    worker.drive(client, lambda: connection.state is ConnectionState.CLOSED)


def test_a_response_that_has_begun_keeps_its_socket(pair: Pair) -> None:
    worker, connection, client = pair

    def app(response: Response, environ: dict[str, Any]) -> None:
        response.start_response("200 OK", [])
        response.write(b"begun")
        with pytest.raises(OSError, match="has begun"):
            environ[KEYS[0]].send(b"x")
        response.finish()

    worker.apps["socket"] = app
    client.send(UPGRADE)
    worker.drive(client, lambda: client.ended)
    assert client.received.endswith(b"5\r\nbegun\r\n0\r\n\r\n")
    assert not connection.taken


@pytest.mark.parametrize(
    "request_bytes",
    [
        UPGRADE.replace(b"1.1", b"1.0"),
        UPGRADE.replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\nab"),
    ],
)
def test_other_requests_are_offered_nothing(pair: Pair, request_bytes: bytes) -> None:
    worker, connection, client = pair
    found: list[bool] = []

    def app(response: Response, environ: dict[str, Any]) -> None:
        found.append(KEYS[0] in environ)
        response.start_response("200 OK", [])
        response.send_whole(b"plain")

    worker.apps["socket"] = app
    client.send(request_bytes)
    worker.drive(client, lambda: client.received.endswith(b"plain"))
    assert found == [False]
    assert not connection.taken


def test_a_kept_connection_is_offered_too(pair: Pair) -> None:
    worker, connection, client = pair
    for path in (b"first", b"second"):
        client.send(GET.replace(b"first", path))
        worker.drive(client, lambda path=path: client.received.endswith(path))  # type: ignore[misc]

    def app(_response: Response, environ: dict[str, Any]) -> None:
        with environ[KEYS[0]] as sock:
            sock.sendall(b"taken")

    worker.apps["socket"] = app
    client.send(UPGRADE)
    worker.drive(client, lambda: client.ended)
    assert client.received.endswith(b"taken")
    client.end()
    worker.drive(client, lambda: connection.state is ConnectionState.CLOSED)


def test_without_a_descriptor_the_request_is_refused(pair: Pair) -> None:
    worker, _, client = pair
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        client.send(UPGRADE)
        worker.drive(client, lambda: client.ended)
    assert b" 503 " in client.received
    assert "no descriptor for the request's socket" in worker.told[0]


def test_a_request_that_was_never_run_leaves_no_socket(pair: Pair) -> None:
    worker, connection, client = pair
    offered: list[Any] = []

    def dismiss(connection: Connection) -> None:
        offer_socket(worker, connection)
        extension = connection.extension
        assert extension is not None
        assert not extension.waits
        extension.wake()
        assert not extension.expired(0.0)
        assert not connection.may_keep()
        assert extension.client_wait_s(0.0) == 0.0
        offered.append(connection.reader.environ[KEYS[0]])
        connection.close()

    worker.on_request = dismiss
    client.send(UPGRADE)
    worker.drive(client, lambda: client.ended)
    assert connection.state is ConnectionState.CLOSED
    assert offered[0].fileno() < 0
