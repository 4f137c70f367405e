"""Requests by the uwsgi protocol, to workers of every kind: raw packets in, HTTP responses out."""

import contextlib
import json
import os
import pathlib
import random
import re
import signal
import socket
import struct
from collections.abc import Iterator

import pytest

from tests.conftest import LiveServer, StartServer, wait_until
from tests.live.client import Connection, Response
from tests.uwsgi_packets import packet, plain

pytestmark = pytest.mark.live

KINDS = ("sync", "gthread", "gevent")
UWSGI = ("--protocol", "uwsgi", "--log-level", "debug")
CLIENT = {"REMOTE_ADDR": "203.0.113.7", "REMOTE_PORT": "4711"}


def request(path: str, body: bytes = b"", **variables: str) -> bytes:
    """A request as a gateway sends it; with a body a POST."""
    method = {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": str(len(body))} if body else {}
    return packet(plain(REQUEST_URI=path, PATH_INFO=path, **{**CLIENT, **method, **variables})) + body


def ask(target: int | pathlib.Path, data: bytes, method: str = "GET") -> Response:
    """Send bytes on a connection of their own, whose end has to come with the response."""
    with Connection(target) as connection:
        connection.send(data)
        response = connection.response(method)
        assert response.closes
        assert connection.rest() == b""
    return response


def environ_of(target: int | pathlib.Path, **variables: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(ask(target, request("/environ", b"", **variables)).body)
    return found


@pytest.fixture(scope="module", params=KINDS)
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """One worker of each kind for all the tests that leave it as it was."""
    arguments = ("-b", "127.0.0.1:0", "tests.apps.basic", "-k", request.param, "--access-logfile", "access.log", *UWSGI)
    live = LiveServer(tmp_path_factory.mktemp("uwsgi"), arguments, {})
    try:
        yield live.start().wait_listening()
    finally:
        live.end()
        print(live.log())


def test_a_request(live: LiveServer) -> None:
    assert live.said(rf"Listening at: uwsgi://127\.0\.0\.1:{live.port} ")
    environ = environ_of(live.port, QUERY_STRING="a=b", HTTP_HOST="example.com", HTTPS="on")
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("203.0.113.7", "4711")
    assert (environ["PATH_INFO"], environ["QUERY_STRING"], environ["HTTP_HOST"]) == ("/environ", "a=b", "example.com")
    assert environ["wsgi.url_scheme"] == "https"
    log = live.folder / "access.log"
    wait_until(lambda: "203.0.113.7 - - " in log.read_text() and '"GET /environ' in log.read_text(), 5)


def test_bodies(live: LiveServer) -> None:
    for size in (1, 100_000, 3_000_000):
        body = os.urandom(size)
        assert ask(live.port, request("/echo", body), "POST").body == body


def test_byte_by_byte(live: LiveServer) -> None:
    with Connection(live.port) as connection:
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request("/echo", b"hello"):
            connection.send(bytes([byte]))
        assert connection.response("POST").body == b"hello"
        assert connection.rest() == b""


def test_responses_without_a_body_or_a_length(live: LiveServer) -> None:
    head = ask(live.port, request("/environ", REQUEST_METHOD="HEAD"), "HEAD")
    assert int(head.headers["content-length"]) > 0
    streamed = ask(live.port, request("/blocks/20"))
    assert "transfer-encoding" not in streamed.headers, "its end is that of the connection"
    assert streamed.body == b"x" * 65536 * 20


def test_what_is_refused_is_answered(live: LiveServer) -> None:
    for data, status in (
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"\x05\x00\x00\x00", 400),
        (packet({"REQUEST_METHOD": "GET"}), 400),
        (packet(plain(CONTENT_LENGTH="99999999999")), 413),
        (packet(plain(REQUEST_URI="/" + "a" * 9000)), 414),
        (packet(plain(HTTP_X_A="a" * 9000)), 431),
        (packet(plain(HTTP_TRANSFER_ENCODING="chunked")), 411),
        (packet([*plain().items(), ("PATH_INFO", "/p")]), 400),
        (b"\0\xff\xff\0" + b"\xff" * 65535, 400),
        (packet(plain(REQUEST_METHOD="CONNECT")), 501),
    ):
        refusals = rf"127\.0\.0\.1:\d+: refused with {status}"
        before = len(re.findall(refusals, live.log()))
        assert ask(live.port, data).status == status
        live.wait_log(refusals, count=before + 1)
    assert ask(live.port, request("/")).status == 200


def test_hostile_gateways_leave_the_worker_as_it_was(live: LiveServer) -> None:
    workers = live.children()
    whole = request("/echo", b"hello" * 20_000)
    random_bytes = random.Random(7).randbytes
    for cut in (1, 2, 3, 4, 5, 40, len(whole) - 100_001, len(whole) - 100_000, len(whole) - 1):
        with Connection(live.port) as connection:
            connection.send(whole[:cut])
            connection.sock.shutdown(socket.SHUT_WR)
            assert connection.rest() == b"", "a request that is cut is not run"
        with Connection(live.port) as connection:
            connection.send(whole[:cut])
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    for size in (10, 1000, 100_000):
        with Connection(live.port) as connection, contextlib.suppress(OSError):  # refused at once
            connection.send(b"\0" + random_bytes(2) + b"\0" + random_bytes(size))
            connection.sock.shutdown(socket.SHUT_WR)
            assert connection.rest()[:12] in (b"", b"HTTP/1.1 400")
    with Connection(live.port) as connection:
        connection.send(request("/header/X-First/yes") + request("/header/X-Second/yes"))
        answer = connection.rest()
    assert b"X-First" in answer
    assert b"X-Second" not in answer, "one connection, one request"
    with contextlib.ExitStack() as stack:
        for start in (b"", whole[:2], whole[:30], whole[:-5]) * 20:
            stack.enter_context(Connection(live.port)).send(start)
        assert ask(live.port, request("/")).status == 200
    assert live.children() == workers
    assert not live.said("internal error|Traceback")


def test_fields_that_come_again_are_joined(live: LiveServer) -> None:
    variables = [*plain(REQUEST_URI="/environ", PATH_INFO="/environ").items(), ("HTTP_X_A", "1"), ("HTTP_X_A", "2")]
    assert json.loads(ask(live.port, packet(variables)).body)["HTTP_X_A"] == "1,2"


def test_forwarded_fields_count_for_clients_who_are_proxies(live: LiveServer) -> None:
    for told, scheme in (
        (CLIENT, "http"),
        ({"REMOTE_ADDR": "127.0.0.1", "REMOTE_PORT": "1"}, "https"),
        ({"REMOTE_ADDR": "unix:", "REMOTE_PORT": ""}, "http"),
    ):
        assert environ_of(live.port, HTTP_X_FORWARDED_PROTO="https", **told)["wsgi.url_scheme"] == scheme
    silent = packet(plain(REQUEST_URI="/environ", PATH_INFO="/environ", HTTP_X_FORWARDED_PROTO="https"))
    environ = json.loads(ask(live.port, silent).body)
    assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == ("127.0.0.1", "http")


def test_strangers_are_closed(server: StartServer) -> None:
    live = server("tests.apps.basic", "--uwsgi-allow-from", "192.0.2.0/24", *UWSGI)
    with Connection(live.port) as connection:
        connection.send(request("/"))
        assert connection.rest() == b""
    live.wait_log(r"127\.0\.0\.1:\d+: peer not in uwsgi_allow_ips: closed")


def test_unix_socket(server: StartServer, tmp_path: pathlib.Path) -> None:
    live = server("tests.apps.basic", "-b", "unix:s.sock", "--uwsgi-allow-from", "192.0.2.1", *UWSGI, bind=None)
    live.wait_log("is ready")
    environ = environ_of(tmp_path / "s.sock", HTTP_X_FORWARDED_PROTO="https")
    assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == ("203.0.113.7", "http")


def test_silence_ends_with_the_time_of_a_head(server: StartServer) -> None:
    live = server("tests.apps.basic", "--head-timeout", "1", "--defer-accept", "0", *UWSGI)
    with Connection(live.port) as silent, Connection(live.port) as half:
        half.send(request("/")[:20])
        assert half.response().status == 408
        assert silent.rest() == b""


@pytest.mark.parametrize("kind", KINDS)
def test_a_hung_request_is_its_clients(server: StartServer, kind: str) -> None:
    live = server("tests.apps.basic", "-k", kind, "-t", "3", *UWSGI)
    with Connection(live.port) as connection:
        connection.send(request("/hang"))
        live.wait_log(r"GET /hang HTTP/1\.1 from 203\.0\.113\.7:4711")


@pytest.mark.parametrize("kind", KINDS)
def test_a_reload_loses_nothing(server: StartServer, kind: str) -> None:
    live = server("tests.apps.basic", "-k", kind, "-w", "2", "--defer-accept", "0", *UWSGI)
    live.wait_log("is ready", count=2)
    body = b"x" * 1000
    with Connection(live.port) as silent, Connection(live.port) as begun:
        begun.send(request("/echo", body)[:-10])
        wait_until(lambda: ask(live.port, request("/")).status == 200, 5)
        live.send(signal.SIGHUP)
        live.wait_log("is ready", count=4)
        begun.send(body[-10:])
        assert begun.response("POST").body == body
        silent.send(request("/environ"))
        environ = json.loads(silent.response().body)
        assert environ["REMOTE_ADDR"] == "203.0.113.7", "whoever has it now speaks the same protocol"
