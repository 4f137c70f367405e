"""HTTP/1.1 as a client meets it: connections, limits, bodies, errors, and who is believed."""

import hashlib
import json
import os
import pathlib
import signal
import time
from collections.abc import Iterator

import pytest
import requests

from tests.conftest import (
    LiveServer,
    SharedServers,
    StartServer,
    has_at_most,
    steady_descriptors,
    wait_until,
)
from tests.live.client import BrokenResponse, Connection, Load, ask_at_once, fetch, numbered
from wsgicluster.worker.transport.transport import RECEIVE_BYTES

pytestmark = pytest.mark.live


@pytest.fixture(params=["sync", "gthread", "gevent"])
def live(shared_servers: SharedServers, request: pytest.FixtureRequest) -> Iterator[LiveServer]:
    """One worker of each kind with the plain application: a client must not be able to tell which."""
    threads = ("--threads", "2") if request.param == "gthread" else ()
    with shared_servers.lend("tests.apps.basic", "-k", request.param, *threads) as lent:
        yield lent


class TestConnections:
    """Which requests share a connection, and in which order they are answered."""

    def test_kept(self, live: LiveServer) -> None:
        with Connection(live.port) as connection:
            for _ in range(20):
                response = connection.exchange()
                assert response.status == 200
                assert not response.closes

    def test_pipelined_in_order(self, live: LiveServer) -> None:
        answers = ask_at_once(lambda: Connection(live.port), numbered(50))
        assert [answer.headers.get("x-turn") for answer in answers] == list(map(str, range(50)))

    def test_pipelined_in_a_burst(self, live: LiveServer) -> None:
        """What is received later must not be taken for the rest of a request that has been received already."""
        burst = numbered(180, "f" * 800)
        assert sum(map(len, burst)) > 2 * RECEIVE_BYTES
        answers = ask_at_once(lambda: Connection(live.port), burst)
        assert [answer.headers.get("x-turn") for answer in answers] == list(map(str, range(180)))

    def test_pipelined_behind_a_body(self, live: LiveServer) -> None:
        with Connection(live.port) as connection:
            connection.ask("/echo", "POST", b"the body")
            connection.ask("/header/X-Next/yes")
            assert connection.response().body == b"the body"
            assert connection.response().headers["x-next"] == "yes"

    def test_byte_by_byte(self, live: LiveServer) -> None:
        with Connection(live.port) as connection:
            for byte in b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n":
                connection.send(bytes([byte]))
            assert connection.response().body == b"abc"

    def test_closed_when_asked(self, live: LiveServer) -> None:
        with Connection(live.port) as connection:
            assert connection.exchange(extra="Connection: close\r\n").closes
            assert connection.rest() == b""

    def test_http_1_0(self, live: LiveServer) -> None:
        with Connection(live.port) as connection:
            connection.send(b"GET /blocks/2 HTTP/1.0\r\n\r\n")
            head, _, body = connection.rest().partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            assert b"chunked" not in head
            assert len(body) == 2 * 65536

    def test_slow_request_announces_the_close(self, server: StartServer) -> None:
        """No connection waits behind the slow requests of a worker with one thread."""
        live = server("tests.apps.basic", "--keepalive-slow", "0.01")
        with Connection(live.port) as connection:
            assert connection.exchange("/slow/0.05").closes
            assert connection.rest() == b""

    def test_slow_request_may_be_kept(self, server: StartServer) -> None:
        live = server("tests.apps.basic", "--keepalive-slow", "0")
        with Connection(live.port) as connection:
            assert not connection.exchange("/slow/0.05").closes

    def test_idle_connection_ends_with_keepalive(self, server: StartServer) -> None:
        live = server("tests.apps.basic", "--keep-alive", "1")
        with Connection(live.port) as connection:
            assert connection.exchange().status == 200
            began = time.monotonic()
            assert connection.rest() == b""
            assert time.monotonic() - began > 0.5


class TestSlowClients:
    """A client that is slow costs no worker."""

    def test_slow_heads_do_not_hold_up_others(self, server: StartServer) -> None:
        live = server("tests.apps.basic", "-w", "2")
        crowd = [Connection(live.port) for _ in range(100)]
        for connection in crowd:
            connection.send(b"GET / HTTP/1.1\r\nHo")
        with Load(live.port, paths=("/",)) as load:
            for connection in crowd:
                connection.send(b"s")
            wait_until(lambda: len(load.answers) > 100, 10)
        assert load.losses == []
        for connection in crowd:
            connection.send(b"t: x\r\n\r\n")
        assert {connection.response().status for connection in crowd} == {200}
        for connection in crowd:
            connection.close()

    def test_head_that_never_ends(self, server: StartServer, tmp_path: pathlib.Path) -> None:
        (tmp_path / "wsgicluster.conf.py").write_text("head_timeout = 1\n")
        live = server("tests.apps.basic")
        with Connection(live.port) as connection:
            connection.send(b"GET / HTTP/1.1\r\nHost: x\r\n")
            assert connection.response().status == 408
            assert connection.rest() == b""

    def test_body_that_never_ends(self, server: StartServer, tmp_path: pathlib.Path) -> None:
        (tmp_path / "wsgicluster.conf.py").write_text("body_timeout = 1\n")
        live = server("tests.apps.basic")
        with Connection(live.port) as connection:
            connection.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n123")
            assert fetch(live.port).status == 200
            assert connection.response().status == 408

    def test_reader_that_never_reads(self, server: StartServer, tmp_path: pathlib.Path) -> None:
        (tmp_path / "wsgicluster.conf.py").write_text("write_timeout = 1\n")
        live = server("tests.apps.basic")
        (worker,) = live.wait_workers(1)
        before = steady_descriptors(worker)
        with Connection(live.port, 20) as connection:
            connection.ask("/blocks/300")
            # The application is done with it at once; the connection is ended for its reader's silence.
            assert fetch(live.port).status == 200
            wait_until(lambda: has_at_most(worker, before), 5, "the connection is closed")
            assert len(connection.rest()) < 300 * 65536
        assert fetch(live.port).status == 200


class TestBodies:
    """Bodies in both directions."""

    def test_upload(self, live: LiveServer) -> None:
        content = os.urandom(5_000_000)
        answer = requests.post(f"{live.url}/echo", data=content, timeout=20)
        assert hashlib.sha256(answer.content).digest() == hashlib.sha256(content).digest()

    def test_chunked_upload(self, live: LiveServer) -> None:
        content = os.urandom(1_000_000)
        blocks = (content[at : at + 70_001] for at in range(0, len(content), 70_001))
        answer = requests.post(f"{live.url}/echo", data=blocks, timeout=20)
        assert answer.content == content

    def test_continue(self, live: LiveServer) -> None:
        with Connection(live.port) as connection:
            connection.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
            assert connection.response().status == 100
            connection.send(b"body")
            assert connection.response().body == b"body"

    def test_lines(self, live: LiveServer) -> None:
        assert fetch(live.port, "/lines", "POST", b"one\ntwo\nthree").body == b"one\n|two\n|three"

    def test_generated(self, live: LiveServer) -> None:
        response = fetch(live.port, "/blocks/40")
        assert response.headers["transfer-encoding"] == "chunked"
        assert response.body == b"x" * 65536 * 40

    def test_file(self, live: LiveServer, tmp_path: pathlib.Path) -> None:
        path = tmp_path / "big.bin"
        path.write_bytes(os.urandom(3_000_000))
        with Connection(live.port) as connection:
            assert connection.exchange(f"/file{path}").body == path.read_bytes()

    @pytest.mark.parametrize("path", ["/", "/blocks/3", "/write"])
    def test_head(self, live: LiveServer, path: str) -> None:
        with Connection(live.port) as connection:
            assert connection.exchange(path, "HEAD").body == b""
            if not connection.exchange("/", "GET").closes:
                assert connection.exchange("/header/X-Next/yes").headers["x-next"] == "yes"

    @pytest.mark.parametrize("status", ["204", "304"])
    def test_status_without_body(self, live: LiveServer, status: str) -> None:
        with Connection(live.port) as connection:
            response = connection.exchange(f"/status/{status}")
            assert response.status == int(status)
            assert "transfer-encoding" not in response.headers
            assert connection.exchange("/header/X-Next/yes").headers["x-next"] == "yes"

    def test_write_callable(self, live: LiveServer) -> None:
        response = fetch(live.port, "/write")
        assert response.body.startswith(b"written ")


class TestRefusals:
    """What is refused, and that the connection is closed behind it."""

    @pytest.mark.parametrize(
        ("request_bytes", "status"),
        [
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n folded\r\n\r\n", 400),
            (b"GET / HTTP/1.1\nHost: x\n\n", 400),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
            (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc", 400),
            (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
            (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
            (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", 413),
            (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
            (b"GET / HTTP/1.1\r\nHost: x\r\nExpect: tea\r\n\r\n", 417),
            (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
            (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 9000 + b"\r\n\r\n", 431),
            (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 501),
            (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        ],
    )
    def test_refused(self, live: LiveServer, request_bytes: bytes, status: int) -> None:
        with Connection(live.port) as connection:
            connection.send(request_bytes)
            response = connection.response()
            assert response.status == status
            assert response.closes
            assert len(response.body) < 500
            assert connection.rest() == b""

    def test_refused_behind_a_good_request(self, live: LiveServer) -> None:
        with Connection(live.port) as connection:
            connection.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nbroken\r\n\r\n")
            assert connection.response().status == 200
            assert connection.response().status == 400

    def test_underscores_are_dropped(self, live: LiveServer) -> None:
        environ = json.loads(fetch(live.port, "/environ", extra="X_Forwarded_Proto: https\r\nX-Kept: 1\r\n").body)
        assert "HTTP_X_FORWARDED_PROTO" not in environ
        assert environ["wsgi.url_scheme"] == "http"
        assert environ["HTTP_X_KEPT"] == "1"


class TestApplicationErrors:
    """What goes wrong in the application is said in the log and to the client, and harms nobody else."""

    def test_before_the_head(self, live: LiveServer) -> None:
        response = fetch(live.port, "/raise?query=1", "POST", b"x")
        assert response.status == 500
        assert response.closes
        assert b"mistake" not in response.body
        live.wait_log("the application's own mistake")
        assert "POST /raise" in live.log()
        assert "Traceback" in live.log()
        assert "in application" in live.log()

    def test_after_the_head(self, live: LiveServer) -> None:
        with Connection(live.port) as connection, pytest.raises((BrokenResponse, ValueError, ConnectionResetError)):
            connection.exchange("/raise-late")
        live.wait_log("failed after the head was sent")
        assert "GET /raise-late" in live.log()
        assert fetch(live.port).status == 200

    def test_too_few_bytes_known_in_time(self, live: LiveServer) -> None:
        response = fetch(live.port, "/too-little")
        assert response.status == 500
        assert response.closes
        live.wait_log("Content-Length")

    def test_too_few_bytes(self, live: LiveServer) -> None:
        with Connection(live.port) as connection:
            connection.ask("/too-little-late")
            # The second request may find the connection reset already.
            with pytest.raises((BrokenResponse, ConnectionResetError, BrokenPipeError)):
                connection.ask("/")
                connection.response()
        live.wait_log("GET /too-little-late")

    def test_too_many_bytes(self, live: LiveServer) -> None:
        with Connection(live.port) as connection:
            response = connection.exchange("/too-much")
            assert len(response.body) == 3
            # The surplus is never the beginning of the next response.
            if not response.closes:
                assert connection.exchange("/header/X-Next/yes").headers["x-next"] == "yes"
        live.wait_log("GET /too-much")

    @pytest.mark.parametrize("value", ["one%0d%0aSet-Cookie:%20a=b", "nul%00", "%E2%82%AC%0A"])
    def test_header_injection(self, live: LiveServer, value: str) -> None:
        response = fetch(live.port, f"/header/X-Value/{value}")
        assert response.status == 500
        assert "set-cookie" not in response.headers

    def test_hop_by_hop_headers_are_dropped(self, live: LiveServer) -> None:
        response = fetch(live.port, "/header/Keep-Alive/timeout=5")
        assert response.status == 200
        assert "keep-alive" not in response.headers
        assert fetch(live.port, "/header/Connection/close").closes


class TestEnviron:
    """PEP 3333's environ, and what only trusted peers may say."""

    def test_plain(self, live: LiveServer) -> None:
        environ = json.loads(
            fetch(live.port, "/environ/caf%C3%A9?a=b%20c", extra="X-Some: one\r\nX-Some: two\r\n").body
        )
        assert environ["REQUEST_METHOD"] == "GET"
        assert environ["PATH_INFO"] == "/environ/caf\u00c3\u00a9"
        assert environ["QUERY_STRING"] == "a=b%20c"
        assert environ["RAW_URI"] == "/environ/caf%C3%A9?a=b%20c"
        assert environ["SCRIPT_NAME"] == ""
        assert environ["SERVER_PROTOCOL"] == "HTTP/1.1"
        assert environ["SERVER_PORT"] == str(live.port)
        assert environ["REMOTE_ADDR"] == "127.0.0.1"
        assert environ["REMOTE_PORT"].isdigit()
        assert environ["HTTP_X_SOME"] == "one,two"
        assert environ["wsgi.version"] == [1, 0]
        assert environ["wsgi.multiprocess"] in (True, False)
        assert environ["wsgi.multithread"] is ("sync" not in live.arguments)
        assert environ["wsgi.input_terminated"] is True

    @pytest.mark.parametrize(
        ("trusted", "scheme"),
        [("127.0.0.1", "https"), ("127.0.0.0/8", "https"), ("*", "https"), ("10.0.0.1", "http")],
    )
    def test_forwarded_scheme(self, server: StartServer, trusted: str, scheme: str) -> None:
        live = server("tests.apps.basic", "--forwarded-allow-ips", trusted)
        extra = "X-Forwarded-Proto: https\r\nX-Forwarded-For: 192.0.2.1\r\n"
        environ = json.loads(fetch(live.port, "/environ", extra=extra).body)
        assert environ["wsgi.url_scheme"] == scheme
        assert environ["REMOTE_ADDR"] == "127.0.0.1"

    def test_contradicting_schemes(self, live: LiveServer) -> None:
        assert fetch(live.port, extra="X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\n").status == 400


class TestDrain:
    """A stop or reload in the middle of what clients do."""

    def test_upload_during_reload(self, server: StartServer) -> None:
        live = server("tests.apps.basic", "-w", "1")
        before = live.wait_children(1)
        with Connection(live.port) as connection:
            connection.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")
            live.send(signal.SIGHUP)
            wait_until(lambda: set(live.children()) - set(before), 10, "a new worker")
            connection.send(b"67890")
            assert connection.response().body == b"1234567890"

    def test_download_during_reload(self, server: StartServer) -> None:
        live = server("tests.apps.basic", "-w", "1")
        before = live.wait_children(1)
        with Connection(live.port, 20) as connection:
            connection.ask("/blocks/300")
            live.send(signal.SIGHUP)
            wait_until(lambda: set(live.children()) - set(before), 10, "a new worker")
            assert len(connection.response().body) == 300 * 65536
