"""What a connection over TLS does in another way than a plain one."""

import pathlib
import ssl
from collections.abc import Iterator

import pytest

from tests.certificates import Certificates
from tests.worker.connection.one_connection import LocalClient, Worker
from wsgicluster.errors import ClientGone
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.connection.states import ConnectionState
from wsgicluster.worker.loop.loop import READ

GET = b"GET /first HTTP/1.1\r\nHost: x\r\n\r\n"

Trio = tuple[Worker, Connection, LocalClient]


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def trio(request: pytest.FixtureRequest, tmp_path: pathlib.Path, certificates: Certificates) -> Iterator[Trio]:
    with Worker(tmp_path) as worker:
        yield worker, *worker.connect(certificates, version=request.param)


def test_a_part_of_a_record_puts_no_deadline_off(trio: Trio) -> None:
    worker, connection, client = trio
    deadline = connection.deadline
    client.send_part(GET, 10)
    worker.turn()
    connection.on_event(READ)
    assert connection.deadline == deadline
    assert connection.watching == READ
    worker.drive(client, lambda: client.received.endswith(b"/first"))


def test_a_last_request_with_the_clients_end_is_answered(trio: Trio) -> None:
    worker, connection, client = trio
    client.send(GET)
    client.end()
    worker.drive(client, lambda: connection.state is ConnectionState.CLOSED)
    worker.drive(client, lambda: client.ended)
    assert client.received.endswith(b"/first")
    assert client.ended == "end"


@pytest.mark.parametrize("rest", [b"GET", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab"])
def test_a_part_of_a_request_with_the_clients_end_is_nothing(trio: Trio, rest: bytes) -> None:
    worker, connection, client = trio
    client.send(rest)
    client.end()
    worker.drive(client, lambda: connection.state is ConnectionState.CLOSED)
    assert not worker.told


def test_bytes_that_are_no_record_end_the_connection(trio: Trio) -> None:
    worker, connection, client = trio
    client.send_plain(b"\x17\x03\x03\x00\x10" + b"not encrypted...")
    worker.drive(client, lambda: connection.state is ConnectionState.CLOSED)
    assert not worker.told


def test_it_stays_in_its_process_and_lingers(trio: Trio) -> None:
    worker, connection, client = trio
    assert not connection.movable
    client.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    worker.drive(client, lambda: client.ended == "end")
    assert connection.state is ConnectionState.LINGERING
    client.end()
    worker.drive(client, lambda: connection.state is ConnectionState.CLOSED)


def test_an_interim_response_is_not_lost(trio: Trio) -> None:
    _, connection, client = trio
    assert not connection.lost_client()
    client.reads = False
    while not connection.sends_later:
        connection.send_interim(b"x" * 10_000)
    with pytest.raises(ConnectionError, match="shut down"):
        connection.transport.shutdown(2)
        connection.transport.send(b"x")
    assert connection.lost_client()
    with pytest.raises(ClientGone):
        connection.send(b"x")
