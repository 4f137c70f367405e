"""Connections that a proxy introduces, and what becomes of their clients' addresses."""

import json
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator

import pytest

from tests.certificates import make_certificates
from tests.conftest import LiveServer, SharedServers, StartServer, wait_until
from tests.live.client import Connection

pytestmark = pytest.mark.live

LINE = b"PROXY TCP4 203.0.113.7 198.51.100.1 4711 443\r\n"
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
BLOCK = SIGNATURE + struct.pack(
    "!BBH16s16sHH",
    0x21, 0x21, 36, socket.inet_pton(socket.AF_INET6, "2001:db8::7"), socket.inet_pton(socket.AF_INET6, "::1"), 4712, 1,
)  # fmt: skip
LOCAL = SIGNATURE + b"\x20\x00\x00\x00"


def environ_of(connection: Connection, extra: str = "") -> dict[str, str]:
    found: dict[str, str] = json.loads(connection.exchange("/environ", extra=extra).body)
    return found


ARGUMENTS = ("tests.apps.basic", "--proxy-protocol", "--log-level", "debug", "-k")
KINDS = ("sync", "gthread", "gevent")


@pytest.fixture(params=KINDS)
def live(request: pytest.FixtureRequest, shared_servers: SharedServers) -> Iterator[LiveServer]:
    with shared_servers.lend(*ARGUMENTS, request.param) as lent:
        yield lent


@pytest.mark.parametrize(
    ("header", "address", "port", "family"),
    [(LINE, "203.0.113.7", "4711", "TCP4"), (BLOCK, "2001:db8::7", "4712", "TCP6")],
    ids=["v1", "v2"],
)
def test_the_client_is_who_the_proxy_says(
    live: LiveServer, header: bytes, address: str, port: str, family: str
) -> None:
    with Connection(live.port) as connection:
        connection.send(header)
        for _ in range(3):
            environ = environ_of(connection)
            assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == (address, port)
            assert environ["PROXY_PROTOCOL"] == family


def test_byte_by_byte(live: LiveServer) -> None:
    with Connection(live.port) as connection:
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in BLOCK:
            connection.send(bytes([byte]))
        assert environ_of(connection)["REMOTE_ADDR"] == "2001:db8::7"


@pytest.mark.parametrize("header", [LOCAL, b"PROXY UNKNOWN\r\n"], ids=["local", "unknown"])
def test_a_connection_of_the_proxys_own(live: LiveServer, header: bytes) -> None:
    with Connection(live.port) as connection:
        connection.send(header)
        environ = environ_of(connection, "X-Forwarded-Proto: https\r\n")
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    assert environ["wsgi.url_scheme"] == "http", "nobody knows who has written that field"
    assert "PROXY_PROTOCOL" not in environ


def test_what_is_forwarded_is_the_clients_word(live: LiveServer) -> None:
    for header, scheme in ((LINE, "http"), (LINE.replace(b"203.0.113.7", b"127.0.0.1"), "https")):
        with Connection(live.port) as connection:
            connection.send(header)
            assert environ_of(connection, "X-Forwarded-Proto: https\r\n")["wsgi.url_scheme"] == scheme


PLAIN = b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"


@pytest.mark.parametrize("start", [b"", b"\r\n", b"\r\n\r\n"])
@pytest.mark.parametrize("cut", [0, 1, 3, 20])
def test_a_header_is_optional(live: LiveServer, start: bytes, cut: int) -> None:
    """(As in Gunicorn) ``P`` and empty lines may begin a header as well as a request."""
    with Connection(live.port) as connection:
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(2):
            for part in (start, PLAIN[:cut], PLAIN[cut:]):
                connection.send(part)
            assert connection.response().status == 200
        environ = environ_of(connection, "X-Forwarded-Proto: https\r\n")
    assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == ("127.0.0.1", "https")
    assert "PROXY_PROTOCOL" not in environ


def test_a_header_of_a_stranger_is_not_read(server: StartServer) -> None:
    live = server("tests.apps.basic", "--proxy-protocol", "--proxy-allow-from", "192.0.2.0/24")
    with Connection(live.port) as connection:
        assert environ_of(connection)["REMOTE_ADDR"] == "127.0.0.1"
    with Connection(live.port) as connection:
        connection.send(LINE + PLAIN)
        assert connection.rest().startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("data", [b"PROXY TCP4 1.2.3.4\r\n", SIGNATURE + b"\xff" * 4])
def test_a_wrong_header_is_closed(live: LiveServer, data: bytes) -> None:
    with Connection(live.port) as connection:
        connection.send(data)
        assert connection.rest() == b""
    wait_until(lambda: live.said("(WARNING|DEBUG). .*PROXY.*: closed"), 5)


def test_strangers_are_closed(server: StartServer) -> None:
    live = server("tests.apps.basic", "--proxy-protocol=v1", "--proxy-allow-from", "192.0.2.0/24", "--log-level=debug")
    with Connection(live.port) as connection:
        connection.send(LINE)
        assert connection.rest() == b""
    live.wait_log("peer not in proxy_allow_ips")


def test_one_version_only(server: StartServer) -> None:
    live = server("tests.apps.basic", "--proxy-protocol=v1")
    with Connection(live.port) as connection:
        connection.send(PLAIN)
        assert connection.rest() == b""
    with Connection(live.port) as connection:
        connection.send(BLOCK)
        assert connection.rest() == b""
    with Connection(live.port) as connection:
        connection.send(LINE)
        assert environ_of(connection)["REMOTE_ADDR"] == "203.0.113.7"


def test_silence_ends_with_the_time_of_a_head(server: StartServer) -> None:
    live = server("tests.apps.basic", "--proxy-protocol", "--head-timeout", "1", "--defer-accept", "0")
    with Connection(live.port) as silent, Connection(live.port) as half:
        half.send(LINE[:20])
        assert silent.rest() == half.rest() == b""


def test_unix_socket(server: StartServer, tmp_path: pathlib.Path) -> None:
    live = server("tests.apps.basic", "-b", "unix:s.sock", "--proxy-protocol=v1", bind=None)
    wait_until(lambda: live.said("is ready"), 10)
    with Connection(tmp_path / "s.sock") as connection:
        connection.send(LINE)
        environ = environ_of(connection, "X-Forwarded-Proto: https\r\n")
    assert environ["REMOTE_ADDR"] == "203.0.113.7"
    assert environ["wsgi.url_scheme"] == "http", "the socket's peer is believed, the proxy's client is not"


@pytest.mark.parametrize("kind", KINDS)
def test_a_reload_keeps_the_address(server: StartServer, kind: str) -> None:
    live = server(*ARGUMENTS, kind)
    live.wait_workers(1)
    with Connection(live.port) as connection:
        connection.send(LINE)
        before = environ_of(connection)
        live.send(signal.SIGHUP)
        live.wait_log("generation 1. exited")
        after = environ_of(connection)
    assert {name: before[name] for name in ("REMOTE_ADDR", "REMOTE_PORT", "PROXY_ADDR", "PROXY_PORT")} == {
        name: after[name] for name in ("REMOTE_ADDR", "REMOTE_PORT", "PROXY_ADDR", "PROXY_PORT")
    }


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_before_tls(server: StartServer, tmp_path: pathlib.Path) -> None:
    certificates = make_certificates(tmp_path / "certificates")
    live = server("tests.apps.basic", "--proxy-protocol", *certificates.flags())
    url = f"https://localhost:{live.port}/environ"
    command = ["curl", "-sS", "--haproxy-protocol", "--cacert", certificates.path("ca.pem"), url]
    environ = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=20).stdout)
    assert environ["PROXY_PROTOCOL"] == "TCP4"
    assert environ["SSL_PROTOCOL"] == "TLSv1.3"


@pytest.mark.parametrize("kind", ["sync", "gthread"])
def test_the_client_behind_proxies_that_speak_http(server: StartServer, kind: str) -> None:
    live = server("tests.apps.basic", "-k", kind, "--forwarded-hops", "1", "--access-logfile", "-")
    with Connection(live.port) as connection:
        environ = environ_of(connection, "X-Forwarded-For: 198.51.100.1, 203.0.113.7\r\n")
        assert environ["REMOTE_ADDR"] == "203.0.113.7"
        assert environ_of(connection)["REMOTE_ADDR"] == "127.0.0.1"
        assert connection.exchange(extra="X-Forwarded-For: nobody\r\n").status == 400
    live.wait_log('203.0.113.7 - - .*"GET /environ')
