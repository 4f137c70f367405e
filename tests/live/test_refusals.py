"""Refused requests in both logs, in every kind and both cores: with status, client, and what is known of the line."""

import contextlib
import dataclasses
import pathlib
import re
import socket

import pytest

from tests.certificates import Certificates, make_certificates
from tests.conftest import LiveServer, StartServer, wait_until
from tests.http.test_refused import hello
from tests.live.client import Connection, fetch
from tests.live.tls_client import TlsClient
from tests.uwsgi_packets import packet

pytestmark = pytest.mark.live

FORMAT = "%(h)s|%(r)s|%(m)s|%(U)s|%(H)s|%(s)s|%(b)s|%(a)s|%({x-a}i)s"
CONFIG = """
head_timeout = 1
body_timeout = 1
limit_request_body = 100
limit_request_line = 200
forwarded_allow_ips = "*"
defer_accept = 0
"""
HOST = "Host: localhost\r\n"
SOURCE = """
import os

def application(environ, start_response):
    if environ["PATH_INFO"] == "/hold":
        open("held", "w").close()
        while not os.path.exists("release"):
            sum(range(1000))  # lets no other greenlet run
    if environ["PATH_INFO"] == "/read":
        environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]
"""


@dataclasses.dataclass(frozen=True)
class Case:
    """What is sent, the status of the answer, what the error log says, and what the access log knows of the line."""

    data: bytes
    status: int
    reason: str
    known: str

    @property
    def access(self) -> str:
        words = self.known.split("|")
        return "|".join([*words, *["-"] * (4 - len(words)), str(self.status)])


def head(line: str, fields: str = HOST) -> bytes:
    return f"{line} HTTP/1.1\r\n{fields}\r\n".encode("latin-1")


CASES = {
    "no host": Case(head("GET /h", ""), 400, "Host is missing", "GET /h HTTP/1.1|GET|/h|HTTP/1.1"),
    "two words": Case(b"GET /w\r\n\r\n", 400, "three words", "GET /w"),
    "forged": Case(
        b'GET /\x1b[31m" HTTP/1.1\r\n\r\n', 400, "must be encoded",
        r'GET /\x1b[31m\" HTTP/1.1|GET|/\x1b[31m\"|HTTP/1.1',
    ),
    "scheme": Case(
        head("GET /s?q", HOST + "X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\nX-A: b\r\n"), 400,
        "scheme headers contradict", "GET /s?q HTTP/1.1|GET|/s|HTTP/1.1",
    ),
    "half a head": Case(b"GET /half HTT", 408, "head did not arrive in time", "GET /half HTT"),
    "half a body": Case(
        head("POST /body", HOST + "Content-Length: 9\r\n") + b"abc", 408, "body did not arrive in time",
        "POST /body HTTP/1.1|POST|/body|HTTP/1.1",
    ),
    "long body": Case(
        head("PUT /large", HOST + "Content-Length: 101\r\n"), 413, "body is too large",
        "PUT /large HTTP/1.1|PUT|/large|HTTP/1.1",
    ),
    "long chunks": Case(
        head("PUT /chunks", HOST + "Transfer-Encoding: chunked\r\n") + b"65\r\n" + b"x" * 101, 413,
        "body is too large", "PUT /chunks HTTP/1.1|PUT|/chunks|HTTP/1.1",
    ),
    "long line": Case(b"GET /" + b"l" * 300, 414, "line is too long", "GET /" + "l" * 300),
    "many fields": Case(
        head("GET /fields", HOST + "X: y\r\n" * 200), 431, "too many header fields",
        "GET /fields HTTP/1.1|GET|/fields|HTTP/1.1",
    ),
    "expectation": Case(
        head("GET /e", HOST + "Expect: 200-maybe\r\n"), 417, "100-continue", "GET /e HTTP/1.1|GET|/e|HTTP/1.1"
    ),
    "connect": Case(head("CONNECT a:1"), 501, "CONNECT", "CONNECT a:1 HTTP/1.1|CONNECT|a:1|HTTP/1.1"),
    "version": Case(b"GET /v HTTP/3.0\r\n\r\n", 505, "only HTTP/1.0", "GET /v HTTP/3.0|GET|/v|HTTP/3.0"),
    "preface": Case(
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "preface of HTTP/2 .h2., expected", "PRI * HTTP/2.0|PRI|*|HTTP/2.0"
    ),
    "TLS": Case(b"\x16\x03\x01\x00\xff", 400, "TLS hello .https., expected", r"\x16\x03\x01\x00\xff"),
    "PROXY": Case(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + head("GET /"), 400, "PROXY protocol, expected",
                  "PROXY TCP4 192.0.2.1 192.0.2.2 1 2"),
    "PROXY, version 2": Case(b"\r\n\r\n\x00\r\nQUIT\n\x21", 400, "PROXY protocol, expected", r"\x00"),
    "SSH": Case(b"SSH-2.0-x\r\n", 400, "SSH, expected", "SSH-2.0-x"),
    "uwsgi": Case(packet({"A": "b"}), 400, "uwsgi packet, expected", r"\x00\x06\x00\x00\x01\x00A\x01\x00b"),
    "SOCKS": Case(b"\x05\x01\x00", 400, "SOCKS, expected", r"\x05\x01\x00"),
}  # fmt: skip

KINDS = {
    "sync": ("sync", ""),
    "sync, plain": ("sync", "1"),
    "gthread": ("gthread", ""),
    "gevent": ("gevent", ""),
}


def start(server: StartServer, folder: pathlib.Path, kind: str, config: str, *arguments: str) -> LiveServer:
    name, pure = KINDS[kind]
    (folder / "wsgicluster.conf.py").write_text(config + f"\naccess_log_format = {FORMAT!r}\n")
    live = server(
        "app:application", "-k", name, "--access-logfile", "access.log", "--log-level", "debug", *arguments,
        source=SOURCE, environ={"WSGICLUSTER_PURE": pure},
    )  # fmt: skip
    live.wait_log("is ready")
    return live


def lines_of(folder: pathlib.Path, count: int) -> list[str]:
    """The access log, once it has so many lines."""
    path = folder / "access.log"
    wait_until(lambda: path.exists() and path.read_text().count("\n") >= count, 10, f"{count} lines")
    return path.read_text().splitlines()


@pytest.mark.parametrize("kept", [False, True], ids=["new", "kept"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_refusal_is_in_both_logs(server: StartServer, tmp_path: pathlib.Path, kind: str, kept: bool) -> None:
    live = start(server, tmp_path, kind, CONFIG)
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(Connection(live.port)) for _ in range(2)]
        clients = {}
        for name, case in CASES.items():
            clients[name] = client = stack.enter_context(Connection(live.port))
            if kept:
                assert client.exchange("/before").status == 200
            client.send(case.data)
        peers = {name: client.sock.getsockname()[1] for name, client in clients.items()}
        for name, client in clients.items():
            response = client.response()
            assert (response.status, response.closes) == (CASES[name].status, True), name
            client.rest()
        assert [client.rest() for client in silent] == [b"", b""], "who said nothing is told nothing"
    assert fetch(live.port, "/after").status == 200
    before = ["127.0.0.1|GET /before HTTP/1.1|GET|/before|HTTP/1.1|200|2|-|-"] * len(CASES) * kept
    found = lines_of(tmp_path, len(CASES) + len(before) + 1)
    assert len(found) == len(CASES) + len(before) + 1, "silence is no request"
    assert [line for line in found if "/before" in line] == before
    assert found[-1] == "127.0.0.1|GET /after HTTP/1.1|GET|/after|HTTP/1.1|200|2|-|-"
    for name, case in CASES.items():
        wanted = re.escape(f"127.0.0.1|{case.access}|") + r"[1-9]\d*\|-\|" + ("b" if name == "scheme" else "-")
        assert [line for line in found if re.fullmatch(wanted, line)], f"{name}: {wanted}"
        said = rf"\[(WARNING|DEBUG)\] 127\.0\.0\.1:{peers[name]}: refused with {case.status}: .*{case.reason}"
        live.wait_log(said)
    # Of no kind more than a few are warnings: here there are many of 400.
    assert len(re.findall(r"\[WARNING\] .*: refused with 400: (?!.*expected)", live.log())) == 4
    assert len(re.findall(r"\[WARNING\] .*: refused with", live.log())) == len(CASES)
    assert "Traceback" not in live.log()


@pytest.mark.parametrize("kind", KINDS)
def test_a_flood_is_summed_up(server: StartServer, tmp_path: pathlib.Path, kind: str) -> None:
    live = start(server, tmp_path, kind, CONFIG, "--log-level", "info")
    for _ in range(30):
        with Connection(live.port) as client:
            client.send(CASES["no host"].data)
            assert client.response().status == 400
    with Connection(live.port) as client:
        client.send(hello())
        assert b"400 Bad Request" in client.rest()
    assert len(lines_of(tmp_path, 31)) == 31
    live.wait_log("TLS hello")
    assert len(re.findall("refused with 400: Host is missing", live.log())) == 5
    assert live.stop() == 0
    assert live.said(r"\[WARNING\] worker 1: 25 more requests were refused with 400 within 10 s")


def test_a_body_that_breaks_while_the_application_reads_it(server: StartServer, tmp_path: pathlib.Path) -> None:
    live = start(server, tmp_path, "gevent", "body_timeout = 1\nstream_body = 'all'\n")
    with Connection(live.port) as late, Connection(live.port) as wrong:
        late.ask("/read", "POST", extra="Content-Length: 9\r\nX-A: 1\r\n")
        wrong.send(head("POST /read", HOST + "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\nX-A: 2\r\n"))
        assert wrong.response().status == 100, "the application reads"
        wrong.send(b"no chunk\r\n")
        assert [late.response().status, wrong.response().status] == [408, 400]
    found = sorted(line.partition("HTTP/1.1|")[2] for line in lines_of(tmp_path, 2))
    assert found == ["POST|/read|HTTP/1.1|400|-|-|2", "POST|/read|HTTP/1.1|408|-|-|1"]
    live.wait_log(r"\[WARNING\] .*: refused with 408: .*POST /read")
    live.wait_log(r"\[WARNING\] .*: refused with 400: .*POST /read")


@pytest.mark.parametrize("kind", KINDS)
def test_requests_that_waited_for_too_long(server: StartServer, tmp_path: pathlib.Path, kind: str) -> None:
    live = start(server, tmp_path, kind, "queue_timeout = 0.3\n")
    with Connection(live.port) as busy, Connection(live.port) as late:
        busy.ask("/hold")
        wait_until((tmp_path / "held").exists, 5)
        late.ask("/late?x", extra="X-Forwarded-For: 192.0.2.1\r\nX-A: 3\r\n")
        with contextlib.suppress(TimeoutError):
            late.sock.settimeout(1)
            late.sock.recv(1, socket.MSG_PEEK)
        late.sock.settimeout(20)
        (tmp_path / "release").touch()
        assert busy.response().status == 200
        assert late.response().status == 503
    found = [line for line in lines_of(tmp_path, 2) if "late" in line]
    assert [re.sub(r"\|\d+\|-\|3$", "|N|-|3", line) for line in found] == [
        "127.0.0.1|GET /late?x HTTP/1.1|GET|/late|HTTP/1.1|503|N|-|3"
    ]
    live.wait_log(r"\[WARNING\] 127\.0\.0\.1:\d+: refused with 503: waited for more than 0\.3 s in .GET /late\?x")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


class TestOtherProtocols:
    """Where TLS or uwsgi is expected."""

    @pytest.mark.parametrize("kind", ["sync", "gevent"])
    def test_tls(self, server: StartServer, tmp_path: pathlib.Path, certificates: Certificates, kind: str) -> None:
        live = start(server, tmp_path, kind, CONFIG, *certificates.flags())
        for data in (head("GET /plain"), b"SSH-2.0-x\r\n", b"\x05\x01\x00"):
            with Connection(live.port) as client:
                client.send(data)
                client.rest()
        with TlsClient(live.port, certificates.client()) as tls:
            tls.send(CASES["no host"].data)
            assert tls.response().status == 400
        with TlsClient(live.port, certificates.client()) as tls:
            tls.send(CASES["preface"].data)
            assert tls.response().status == 505
        found = [line.partition("|")[2] for line in lines_of(tmp_path, 4)]
        assert [re.sub(r"\|\d+\|-\|-$", "", line) for line in found] == [
            "GET /plain HTTP/1.1|GET|/plain|HTTP/1.1|400",
            "SSH-2.0-x|-|-|-|400",
            "GET /h HTTP/1.1|GET|/h|HTTP/1.1|400",
            "PRI * HTTP/2.0|PRI|*|HTTP/2.0|505",
        ]
        for reason in (
            "plain HTTP has come where TLS",
            "received SSH, expected TLS",
            "received SOCKS, expected TLS",
            "HTTP/2 .h2., expected",
        ):
            live.wait_log(rf"\[WARNING\] 127.0.0.1:\d+: .*{reason}")

    def test_uwsgi(self, server: StartServer, tmp_path: pathlib.Path) -> None:
        live = start(server, tmp_path, "sync", "protocol = 'uwsgi'\n")
        for data in (head("GET /plain"), hello(), packet({"REQUEST_METHOD": "GET"})):
            with Connection(live.port) as client:
                client.send(data)
                assert b"400 Bad Request" in client.rest()
        found = lines_of(tmp_path, 3)
        assert found[0].startswith("127.0.0.1|GET /plain HTTP/1.1|GET|/plain|HTTP/1.1|400|")
        live.wait_log(r"\[WARNING\] .*received HTTP, expected uwsgi \(see protocol\)")
        live.wait_log(r"\[WARNING\] .*received a TLS hello \(https\), expected uwsgi")
        live.wait_log(r"\[WARNING\] .*SERVER_PROTOCOL is missing")
