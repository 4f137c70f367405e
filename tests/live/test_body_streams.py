"""Bodies that a gevent worker's applications read while they arrive."""

import contextlib
import hashlib
import pathlib
import random
import ssl
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.certificates import make_certificates
from tests.conftest import LiveServer, StartServer, descriptors_of, wait_until
from tests.live.client import Connection, fetch
from tests.live.tls_client import TlsClient

pytestmark = pytest.mark.live

pytest.importorskip("gevent")

SOURCE = """
import hashlib

import gevent

def lines(source):
    for line in source:
        yield b"got " + line

def read_on(source, log):
    try:
        log.write(f"read {len(source.read())}\\n")
    except OSError as error:
        log.write(f"read until {error}\\n")

class Wrapped(Exception):
    pass

def application(environ, start_response):
    source, path, log = environ["wsgi.input"], environ["PATH_INFO"], environ["wsgi.errors"]
    facts = [environ.get(key) for key in ("CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", "wsgi.input_terminated")]
    log.write("called {} {} {} {}\\n".format(path, *facts))
    status, body = "200 OK", b""
    if path == "/digest":
        first = source.read(5)
        log.write(f"first {first}\\n")
        digest = hashlib.sha256(first)
        while block := source.read(10_000):
            digest.update(block)
        body = digest.hexdigest().encode()
    elif path == "/all":
        body = hashlib.sha256(source.read()).hexdigest().encode()
    elif path == "/again":
        # As Zope does it: where are we, read all, and go back.
        here = source.tell() if environ["QUERY_STRING"] == "tell" else 0
        first = source.read()
        source.seek(here)
        body = f"{first == source.read()} {source.seek(0, 2)}".encode()
    elif path == "/lines":
        start_response(status, [("Content-Type", "text/plain")])
        return lines(source)
    elif path == "/echo":
        start_response(status, [("Content-Type", "text/plain"), ("Content-Length", environ["CONTENT_LENGTH"])])
        return iter(lambda: source.read(50_000), b"")
    elif path == "/behind":
        gevent.spawn(read_on, source, log)
        gevent.sleep(0)
    elif path == "/forbidden":
        status = "403 Forbidden"
    elif path == "/catch":
        try:
            source.read()
        except OSError as error:
            status, body = "400 Bad Request", type(error).__name__.encode()
            log.write(f"caught {body}\\n")
    elif path == "/wrap":
        try:
            source.read()
        except OSError as error:
            raise Wrapped("of the application") from error
    elif path == "/begun":
        write = start_response(status, [("Content-Type", "text/plain")])
        write(b"begun")
        source.read()
        return [b"never"]
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""

BODY = random.Random(1).randbytes(3_000_000)
DIGEST = hashlib.sha256(BODY).hexdigest().encode()


def start(server: StartServer, *arguments: str) -> LiveServer:
    live = server("app", "-k", "gevent", "--log-level", "debug", *arguments, source=SOURCE)
    live.wait_log("is ready")
    return live


def pause(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


def begin(connection: Connection, path: str, sent: bytes, extra: str = "") -> None:
    """Send a head that announces BODY, and a part of that."""
    connection.ask(path, "POST", extra=f"Content-Length: {len(BODY)}\r\n{extra}")
    connection.send(sent)


@pytest.mark.parametrize("mode", ["large", "all", "off"])
def test_it_can_be_read_again(server: StartServer, mode: str) -> None:
    live = start(server, "--stream-body", mode)
    for size in (70_000, len(BODY)):
        for query in ("tell", "none"):
            with Connection(live.port) as client:
                for _ in range(2):
                    client.ask(f"/again?{query}", "POST", extra=f"Content-Length: {size}\r\n")
                    client.send(BODY[:50_000])
                    client.send(BODY[50_000:size])
                    assert client.response().body == f"True {size}".encode()
                for _ in range(2):
                    client.ask(f"/again?{query}", "POST", extra="Transfer-Encoding: chunked\r\n")
                    client.send(b"%x\r\n" % size)
                    client.send(BODY[:size] + b"\r\n0\r\n\r\n")
                    assert client.response().body == f"True {size}".encode()
    worker = live.children()[0]
    held = [name for name in descriptors_of(worker).values() if "wsgicluster-body" in name]
    assert not held, "a body that was read is kept no longer than its request"


def test_as_it_arrives(server: StartServer) -> None:
    live = start(server, "--access-logfile", "-")
    with Connection(live.port) as client, Connection(live.port) as other:
        begin(client, "/digest", b"")
        live.wait_log(rf"called /digest {len(BODY)} None True")
        assert other.exchange("/all", "POST", b"").status == 200
        client.send(BODY[:4])
        client.send(BODY[4:100_000])
        live.wait_log("first b")
        client.send(BODY[100_000:] + b"GET /forbidden HTTP/1.1\r\nHost: a\r\n\r\n")
        response = client.response()
        assert (response.body, response.closes) == (DIGEST, False)
        assert client.response().status == 403
        # Nobody reads the response before the request is sent: it has to wait, and must not keep the body from coming.
        begin(other, "/echo", BODY)
        response = other.response()
        assert (response.body, response.closes) == (BODY, True)
    with Connection(live.port) as client, Connection(live.port) as other:
        # What is short is collected first, and what is there in time keeps the connection.
        client.ask("/catch", "POST", extra="Content-Length: 5\r\n")
        client.send(b"hell")
        assert other.exchange("/all", "POST", BODY).body == DIGEST
        assert not live.said("called /catch")
        client.send(b"o")
        assert client.response().status == 200
    assert "Traceback" not in live.log()


def test_what_is_not_read(server: StartServer) -> None:
    live = start(server)
    with Connection(live.port) as client:
        begin(client, "/forbidden", BODY[:1000])
        response = client.response()
        assert (response.status, response.closes) == (403, True)
        # It can send on for a while, and is not reset before it has read its answer.
        client.send(BODY[1000:200_000])
        assert client.rest() == b""
    with Connection(live.port) as client:
        begin(client, "/forbidden", b"", "Expect: 100-continue\r\n")
        response = client.response()
        assert (response.status, response.closes) == (403, True)
        assert client.rest() == b""
    with Connection(live.port) as client:
        begin(client, "/digest", b"", "Expect: 100-continue\r\n")
        assert client.response().status == 100
        client.send(BODY)
        assert client.response().body == DIGEST
    # Whoever still waits for it when the response is over learns that it never comes.
    with Connection(live.port) as client:
        begin(client, "/behind", BODY[:1000])
        assert client.response().closes
        live.wait_log("read until the request is over")
    # Once the response has begun it is too late for the invitation.
    with Connection(live.port) as client:
        begin(client, "/begun", b"", "Expect: 100-continue\r\n")
        client.send(BODY)
        response = client.response()
        assert (response.status, response.body, response.closes) == (200, b"begunnever", True)


def test_a_client_that_leaves_is_no_failure_of_the_application(server: StartServer) -> None:
    live = start(server, "--access-logfile", "-")
    for path in ("/digest", "/wrap", "/begun"):
        with Connection(live.port) as client:
            begin(client, path, BODY[:100_000])
            live.wait_log(f"called {path}")
        wait_until(lambda path=path: live.said(rf'"POST {path} HTTP/1.1"'), 10)  # type: ignore[misc]
    with Connection(live.port) as client:
        begin(client, "/catch", BODY[:100_000])
        live.wait_log("called /catch")
    live.wait_log("caught b'BrokenBody'")
    assert not live.said("ERROR.*failed")
    live.wait_log("the body broke off: the client left before its request's body was complete", count=3)
    assert fetch(live.port, "/forbidden").status == 403


def test_limits_and_chunks(server: StartServer, tmp_path: pathlib.Path) -> None:
    (tmp_path / "wsgicluster.conf.py").write_text(f"body_timeout = 2\nlimit_request_body = {len(BODY)}\ntimeout = 2\n")
    live = start(server, "--stream-body", "all")
    chunked = "Transfer-Encoding: chunked\r\n"
    with Connection(live.port) as client:
        client.ask("/lines", "POST", extra=chunked)
        live.wait_log("called /lines None None True")
        client.send(b"6\r\none\ntw\r\n")
        head = client._file.readline()
        assert head == b"HTTP/1.1 200 OK\r\n"
        while client._file.readline() != b"\r\n":
            pass
        assert client._file.read(13) == b"8\r\ngot one\n\r\n"
        client.send(b"2\r\no\n\r\n0\r\nTrailer: 1\r\n\r\n")
        assert client.rest() == b"8\r\ngot two\n\r\n0\r\n\r\n"
    with Connection(live.port) as client:
        client.ask("/digest", "POST", extra=chunked)
        for start_at in range(0, len(BODY), 700_000):
            piece = BODY[start_at : start_at + 700_000]
            client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        client.send(b"0\r\n\r\n")
        response = client.response()
        assert (response.body, response.closes) == (DIGEST, False)
        assert client.exchange("/digest", "POST", b"hello").status == 200
    # What cannot become a body is refused as ever, as long as nothing has been sent.
    for sent, status in ((b"zz\r\n", 400), (b"%x\r\n" % (len(BODY) + 1), 413)):
        with Connection(live.port) as client:
            client.ask("/digest", "POST", extra=chunked)
            live.wait_log("called /digest", count=3)
            client.send(sent)
            response = client.response()
            assert (response.status, response.closes) == (status, True)
            assert client.rest() == b""
    # Who pauses for too long is refused; who only takes longer than a request may is not.
    with Connection(live.port) as silent, Connection(live.port) as slow:
        begin(silent, "/digest", BODY[:1000])
        begin(slow, "/digest", BODY[:1000])
        end = time.monotonic() + 4.5
        place = 1000
        while time.monotonic() < end:
            slow.send(BODY[place : place + 1000])
            place += 1000
            wait_until(pause(0.1), 5)
        response = silent.response()
        assert (response.status, response.closes) == (408, True)
        slow.send(BODY[place:])
        assert slow.response().body == DIGEST
    assert not live.said("stuck")
    assert "Traceback" not in live.log()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[str, ...], ssl.SSLContext]:
    certificates = make_certificates(tmp_path_factory.mktemp("certificates"))
    return tuple(certificates.flags()), certificates.client()


def test_over_tls_and_off(server: StartServer, tls: tuple[tuple[str, ...], ssl.SSLContext]) -> None:
    flags, context = tls
    live = start(server, *flags)
    with TlsClient(live.port, context) as client:
        begin(client, "/digest", BODY[:1000])
        live.wait_log("called /digest")
        client.send(BODY[1000:])
        response = client.response()
        assert (response.body, response.closes) == (DIGEST, False)
        assert client.exchange("/all", "POST", BODY).body == DIGEST
        begin(client, "/forbidden", BODY[:1000])
        assert client.response().closes
    plain = server("app", "-k", "gevent", "--stream-body", "off")
    with Connection(plain.port) as client:
        begin(client, "/digest", BODY[:100_000])
        assert fetch(plain.port, "/all", "POST", BODY).body == DIGEST
        assert not plain.said("called /digest")
        client.send(BODY[100_000:])
        assert client.response().body == DIGEST
    assert "Traceback" not in live.log()


def test_a_client_that_renews_its_keys_instead_of_sending(
    server: StartServer, tls: tuple[tuple[str, ...], ssl.SSLContext]
) -> None:
    live = start(server, *tls[0])
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{live.port}", "-crlf"]
    with (
        subprocess.Popen(
            command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as client,
        contextlib.ExitStack() as stack,
    ):
        stack.callback(client.kill)
        keys = client.stdin
        assert keys is not None
        keys.write(b"POST /digest HTTP/1.1\nHost: a\nContent-Length: 100000\n\n")
        live.wait_log("called /digest")

        def is_over() -> bool:
            with contextlib.suppress(BrokenPipeError):  # it has ended with its connection
                for _ in range(1000):
                    keys.write(b"k\n")
            return live.said("the body broke off: too many TLS records without data")

        wait_until(is_over, 20)
    assert "Traceback" not in live.log()
