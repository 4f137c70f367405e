"""What comes before the first request, in whatever pieces it comes: PROXY protocol, TLS, and what is neither."""

import logging
import pathlib
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from tests.certificates import Certificates
from tests.worker.connection.one_connection import TIMING, Running, Worker, tls_preamble
from wsgicluster.http.limits import HeadLimits
from wsgicluster.http.proxyline import ProxyMode
from wsgicluster.http.uwsgi import UwsgiReader
from wsgicluster.ipc.reasons import BadRequest, CloseReason
from wsgicluster.settings import Settings
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.connection.preamble import PreambleSettings, apply_proxy_header, peer_text
from wsgicluster.worker.connection.states import ConnectionState
from wsgicluster.worker.loop.loop import READ
from wsgicluster.wsgi.trust import Peers

LOG = logging.getLogger("tests.connection")
GET = b"GET /first HTTP/1.1\r\nHost: x\r\n\r\n"
V1 = b"PROXY TCP4 192.0.2.1 192.0.2.2 1111 80\r\n"
V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([192, 0, 2, 1, 192, 0, 2, 2]) + b"\x04\x57\x00\x50"


@pytest.fixture
def worker(tmp_path: pathlib.Path) -> Iterator[Worker]:
    with Worker(tmp_path) as worker:
        yield worker


def proxied(mode: ProxyMode = ProxyMode.AUTO, speakers: tuple[str, ...] = ("*",)) -> PreambleSettings:
    return PreambleSettings(mode, Peers(speakers), Peers(("192.0.2.1",)), LOG)


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_the_header_names_the_client(worker: Worker, header: bytes, step: int) -> None:
    connection, client = worker.connect(preamble=proxied())
    assert connection.state is ConnectionState.OPENING
    assert connection.deadline == worker.loop.now + TIMING.head_s
    sent = header + GET
    for start in range(0, len(sent), step):
        client.send(sent[start : start + step])
        worker.turn()
    worker.drive(client, lambda: client.received.endswith(b"/first"))
    assert connection.client == b"192.0.2.1:1111"
    assert connection.proxy_header == header
    assert connection.trusted
    assert connection.reader.template["PROXY_ADDR"] == "192.0.2.2"
    assert worker.told == ["adopted 192.0.2.1"]


def test_the_first_head_has_what_time_the_header_has_left(worker: Worker) -> None:
    connection, client = worker.connect(preamble=proxied())
    limit = connection.deadline
    worker.loop.now += 5
    client.send(V1 + b"GET")
    connection.on_event(READ)
    assert connection.state is ConnectionState.READING
    assert connection.deadline == limit


def test_a_bad_header_is_rejected(worker: Worker) -> None:
    _, client = worker.connect(preamble=proxied(ProxyMode.V2))
    client.send(V1 + GET)
    worker.drive(client, lambda: client.ended)
    assert client.received == b""
    assert worker.told[0].startswith("rejected PROXY protocol: ")
    assert (worker.bad_requests, worker.reasons) == ([BadRequest.PREAMBLE], [CloseReason.PREAMBLE])


def test_a_peer_that_may_not_say_so_is_rejected(worker: Worker) -> None:
    connection, _ = worker.connect(preamble=proxied(ProxyMode.V1, ("192.0.2.9",)))
    assert connection.state is ConnectionState.CLOSED
    connection, _ = worker.connect(preamble=proxied(speakers=("192.0.2.9",)))
    assert connection.state is ConnectionState.READING, "a header is optional, and is not read here"
    gateway = PreambleSettings(None, Peers(("192.0.2.9",)), Peers(()), LOG)
    worker.connect(preamble=gateway)
    assert worker.told == [
        "rejected proxy_allow_ips: peer not in proxy_allow_ips",
        "rejected uwsgi_allow_ips: peer not in uwsgi_allow_ips",
    ]


def test_a_client_that_leaves_or_is_silent_before_its_header(worker: Worker) -> None:
    connection, client = worker.connect(preamble=proxied())
    client.send(V1[:5])
    worker.turn()
    client.close()
    worker.drive(client, lambda: connection.state is ConnectionState.CLOSED)
    silent, _ = worker.connect(preamble=proxied())
    worker.loop.now = silent.deadline
    silent.expired()
    assert not worker.connections


@pytest.mark.parametrize("running", Running)
def test_a_handshake_in_single_bytes(tmp_path: pathlib.Path, certificates: Certificates, running: Running) -> None:
    with Worker(tmp_path, running) as worker:
        preamble = tls_preamble(certificates)
        preamble.mode = ProxyMode.V1
        connection, client = worker.connect(preamble=preamble)
        client.send(V1)
        worker.turn()
        client.start_tls(certificates.client())
        worker.drive(client, lambda: client.ready)
        client.send(GET)
        worker.drive(client, lambda: client.received.endswith(b"/first"))
        assert connection.reader.template["wsgi.url_scheme"] == "https"
        assert connection.client == b"192.0.2.1:1111"
        assert not connection.movable


def test_plain_http_where_tls_is_spoken_is_told_so(worker: Worker, certificates: Certificates) -> None:
    connection, client = worker.connect(preamble=tls_preamble(certificates))
    client.send(GET)
    worker.drive(client, lambda: client.ended)
    assert b" 400 " in client.received
    assert worker.told[0].startswith("refused 400: plain HTTP has come where TLS is expected; use https")
    assert connection.state is ConnectionState.LINGERING


def test_what_is_neither_is_rejected(worker: Worker, certificates: Certificates) -> None:
    _, client = worker.connect(preamble=tls_preamble(certificates))
    client.send(b"\0\0\0")
    worker.drive(client, lambda: client.ended)
    assert worker.told[0].startswith("rejected no TLS: neither TLS nor HTTP")
    assert (worker.bad_requests, worker.reasons) == ([BadRequest.TLS], [CloseReason.PREAMBLE])


def test_a_client_that_fails_the_handshake_can_read_why(worker: Worker, certificates: Certificates) -> None:
    connection, client = worker.connect(preamble=tls_preamble(certificates))
    context = ssl.create_default_context()  # it does not know the authority
    client.start_tls(context)
    with pytest.raises(ssl.SSLCertVerificationError):
        worker.drive(client, lambda: client.ready)
    client.end_tls()
    worker.drive(client, lambda: connection.state is not ConnectionState.OPENING)
    assert connection.state is ConnectionState.LINGERING
    client.close()
    worker.drive(client, lambda: connection.state is ConnectionState.CLOSED)


def connection_of(worker: Worker) -> Connection:
    return worker.connect()[0]


@pytest.mark.parametrize(
    ("header", "client", "template"),
    [
        (b"PROXY UNKNOWN\r\n", b"127.0.0.1:4711", {"REMOTE_ADDR": "127.0.0.1"}),
        (b"PROXY TCP6 ::1 ::2 1111 80\r\n", b"[::1]:1111", {"PROXY_PROTOCOL": "TCP6", "PROXY_PORT": "80"}),
        (
            b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\xd8" + b"/a".ljust(108, b"\0") + b"/b".ljust(108, b"\0"),
            b"unix",
            {"PROXY_PROTOCOL": "UNIX", "REMOTE_ADDR": ""},
        ),
    ],
    ids=["unknown", "IPv6", "Unix"],
)
def test_whom_a_header_names(worker: Worker, header: bytes, client: bytes, template: dict[str, str]) -> None:
    connection = connection_of(worker)
    connection.trusted = True
    apply_proxy_header(connection, header, Peers(("192.0.2.1",)))
    assert connection.client == client
    assert not connection.trusted
    assert template.items() <= connection.reader.template.items()


@pytest.mark.parametrize(
    ("environ", "client"),
    [
        ({"REMOTE_ADDR": "192.0.2.1", "REMOTE_PORT": "1111"}, b"192.0.2.1:1111"),
        ({"REMOTE_ADDR": "192.0.2.1", "REMOTE_PORT": ""}, b"192.0.2.1"),
        ({"REMOTE_ADDR": "127.0.0.1", "REMOTE_PORT": "4711"}, b"127.0.0.1:4711"),
        ({"REMOTE_ADDR": "unix:", "REMOTE_PORT": ""}, b"127.0.0.1:4711"),
    ],
)
def test_a_gateway_names_the_client_of_its_request(worker: Worker, environ: dict[str, Any], client: bytes) -> None:
    connection = connection_of(worker)
    reader = UwsgiReader(connection.reader.template, HeadLimits(), worker.open_body)
    connection.reader = reader
    apply_proxy_header(connection, b"", Peers(("192.0.2.1",)))
    assert reader.on_head is not None
    reader.on_head(environ)
    assert connection.client == client
    assert connection.trusted is client.startswith(b"192.0.2.1")


def test_peers_as_text() -> None:
    assert peer_text(("127.0.0.1", 1)) == b"127.0.0.1:1"
    assert peer_text(("::1", 1, 0, 0)) == b"[::1]:1"
    assert peer_text("") == b"unix"


def test_what_the_settings_say_of_preambles(certificates: Certificates) -> None:
    assert PreambleSettings.of(Settings(), LOG) is None
    found = PreambleSettings.of(Settings(proxy_protocol="auto"), LOG)
    assert found is not None
    assert found.mode is ProxyMode.AUTO
    assert found.tls is None
    found = PreambleSettings.of(Settings(protocol="uwsgi"), LOG)
    assert found is not None
    assert found.mode is None
    found = PreambleSettings.of(
        Settings(certfile=certificates.path("server.pem"), keyfile=certificates.path("server.key")), LOG
    )
    assert found is not None
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert found.tls is not None
