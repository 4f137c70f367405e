"""Probes at the application's own address: in each kind of worker and both cores, wherever on a connection."""

import contextlib
import json
import pathlib
import signal
import socket
import urllib.request
from collections.abc import Callable

import pytest

from tests.certificates import make_certificates
from tests.conftest import LiveServer, StartServer, wait_until
from tests.live.client import Connection, Response, fetch
from tests.uwsgi_packets import packet, plain

pytestmark = pytest.mark.live

SOURCE = """
import itertools, os, time

count = itertools.count(1)

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/fail":
        raise ValueError("on purpose")
    turn = next(count)
    if path == "/wait":
        open("waiting", "a").close()
        deadline = time.monotonic() + 60
        while not os.path.exists("go") and time.monotonic() < deadline:
            time.sleep(0.01)
    if path == "/own-500":
        start_response("500 Oops", [("Content-Length", "4")])
        return [b"oops"]
    body = b"%d %s" % (turn, environ["wsgi.input"].read())
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
PATHS = ("--health-path", "/healthz", "--ready-path", "/readyz")
KINDS = {"sync": ("sync",), "gthread": ("gthread", "--threads", "2"), "gevent": ("gevent",)}
CORES = {"compiled": {}, "python": {"WSGICLUSTER_PURE": "1"}}
PROBE = "GET /healthz HTTP/1.1\r\nHost: x\r\n"


def is_probe(response: Response, status: int = 200) -> bool:
    if (response.status, response.headers.get("content-type")) != (status, "application/json"):
        return False
    return bool(json.loads(response.body)["status"] == ("ok" if status == 200 else "unavailable"))


def first(client: Connection) -> None:
    assert is_probe(client.exchange("/healthz"))


def second(client: Connection) -> None:
    assert client.exchange("/").status == 200
    assert is_probe(client.exchange("/healthz"))


def after_one_like_it(client: Connection) -> None:
    for path in ("/healthz", "/readyz", "/healthz?a=1", "/readyz?"):
        assert is_probe(client.exchange(path)), path


def between(client: Connection) -> None:
    before = int(client.exchange("/").body)
    assert is_probe(client.exchange("/healthz"))
    assert int(client.exchange("/").body) == before + 1


def after_an_error(client: Connection) -> None:
    assert client.exchange("/own-500").status == 500
    assert is_probe(client.exchange("/healthz"))


def after_a_body(client: Connection) -> None:
    assert client.exchange("/", "POST", b"x" * 100_000).body.endswith(b"x")
    assert is_probe(client.exchange("/healthz"))


def pipelined(client: Connection) -> None:
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + f"{PROBE}\r\n".encode() + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    before, probe, after = client.response(), client.response(), client.response()
    assert is_probe(probe)
    assert int(after.body) == int(before.body) + 1


def pipelined_probes(client: Connection) -> None:
    client.send(f"{PROBE}\r\n".encode() * 3)
    for _ in range(3):
        assert is_probe(client.response())


def byte_by_byte(client: Connection) -> None:
    client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in f"{PROBE}\r\n".encode():
        client.send(bytes((byte,)))
    assert is_probe(client.response())
    assert client.exchange("/").status == 200


def by_head(client: Connection) -> None:
    found = client.exchange("/readyz", "HEAD")
    assert (found.status, found.body) == (200, b"")
    assert int(found.headers["content-length"]) > 10
    assert client.exchange("/").status == 200


def by_http_1_0(client: Connection) -> None:
    client.send(b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    found = client.response()
    assert is_probe(found)
    assert found.headers["connection"] == "keep-alive"
    client.send(b"GET /healthz HTTP/1.0\r\n\r\n")
    found = client.response()
    assert is_probe(found)
    assert found.closes
    assert client.rest() == b""


def with_close(client: Connection) -> None:
    found = client.exchange("/healthz", extra="Connection: close\r\n")
    assert is_probe(found)
    assert found.closes
    assert client.rest() == b""


def with_a_body(client: Connection) -> None:
    assert is_probe(client.exchange("/healthz", "GET", b"GET /smuggled HTTP/1.1\r\n\r\n"))
    assert client.exchange("/").status == 200


def with_chunks(client: Connection) -> None:
    client.send(f"{PROBE}Transfer-Encoding: chunked\r\n\r\n".encode())
    client.send(b"3\r\nabc\r\n0\r\n\r\n")
    assert is_probe(client.response())
    assert client.exchange("/").status == 200


def with_a_large_body(client: Connection) -> None:
    """In gevent such a request is run before its body is there: the rest of it is dropped with the connection."""
    client.send(f"{PROBE}Content-Length: 300000\r\n\r\n".encode())
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        client.send(b"x" * 300_000)
    found = client.response()
    assert is_probe(found)
    assert found.closes or client.exchange("/").status == 200


def by_other_methods(client: Connection) -> None:
    assert client.exchange("/healthz", "POST", b"own").body.endswith(b" own")
    assert client.exchange("/healthz", "DELETE").status == 200


def of_other_paths(client: Connection) -> None:
    for path in ("/healthz/", "/healthzz", "/health", "//healthz", "/a/healthz"):
        assert not is_probe(client.exchange(path)), path


POSITIONS: tuple[Callable[[Connection], None], ...] = (
    first, second, after_one_like_it, between, after_an_error, after_a_body, pipelined, pipelined_probes, byte_by_byte,
    by_head, by_http_1_0, with_close, with_a_body, with_chunks, with_a_large_body, by_other_methods, of_other_paths,
)  # fmt: skip
"""A position asserts what a client finds on a connection that is new."""


def start(server: StartServer, kind: str, core: str, *arguments: str) -> LiveServer:
    if kind == "gevent":
        pytest.importorskip("gevent")
    live = server("app", "-k", *KINDS[kind], *PATHS, *arguments, source=SOURCE, environ=CORES[core])
    live.wait_log("Started: ")
    return live


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("kind", KINDS)
def test_on_a_connection(server: StartServer, kind: str, core: str) -> None:
    live = start(server, kind, core, "--access-logfile", "-", "--access-logformat", "line %(U)s.")
    for position in POSITIONS:
        for _ in range(2):
            with Connection(live.port) as client:
                position(client)
    with Connection(live.port) as client:
        assert client.exchange("/fail").status == 500
    assert is_probe(fetch(live.port, "/healthz"))
    # The lines of the methods that are the application's, and then the last one, so that all before it are there.
    fetch(live.port, "/last")
    live.wait_log(r"line /last\.")
    assert not live.said(r"line /readyz\.")
    assert live.said(r"line /healthz\.", 4)
    assert not live.said(r"line /healthz\.", 5)
    assert not live.said("Traceback(?!.*on purpose)", 2)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("kind", ["gthread", "gevent"])
def test_while_all_requests_wait(server: StartServer, kind: str, core: str) -> None:
    """On a kept connection and on new ones, beside other new clients for which there is no thread either."""
    live = start(server, kind, core, "-w", "2")
    live.wait_log("Started: ")
    with contextlib.ExitStack() as clients:
        kept = [clients.enter_context(Connection(live.port)) for _ in range(4)]
        for client in kept:
            assert client.exchange("/").status == 200
        waiting = []
        for _ in range(12):
            client = clients.enter_context(Connection(live.port))
            client.ask("/wait")
            waiting.append(client)
        wait_until((live.folder / "waiting").exists, 10, "a request runs")
        for client in kept:
            assert is_probe(client.exchange("/healthz"))
            assert is_probe(client.exchange("/readyz"))
        for _ in range(5):
            assert is_probe(fetch(live.port, "/healthz"))
        (live.folder / "go").touch()
        for client in waiting:
            assert client.response().status == 200
        for client in kept:
            assert client.exchange("/").status == 200


@pytest.mark.parametrize("core", CORES)
def test_while_a_sync_worker_is_busy_another_responds(server: StartServer, core: str) -> None:
    live = start(server, "sync", core, "-w", "2")
    live.wait_log("Started: ")
    with Connection(live.port) as busy:
        busy.ask("/wait")
        wait_until((live.folder / "waiting").exists, 10, "a request runs")
        for _ in range(5):
            assert is_probe(fetch(live.port, "/healthz"))
        (live.folder / "go").touch()
        assert busy.response().status == 200


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_is_about_to_stop_is_healthy_and_not_ready(server: StartServer, kind: str, core: str) -> None:
    live = start(server, kind, core, "--drain-delay", "60")
    live.wait_log("Started: ")
    assert is_probe(fetch(live.port, "/readyz"))
    live.send(signal.SIGTERM)
    wait_until(lambda: fetch(live.port, "/readyz").status == 503, 10, "it is not ready")
    with Connection(live.port) as client:
        found = client.exchange("/readyz")
        assert is_probe(found, 503)
        assert json.loads(found.body)["reasons"] == ["server: draining"]
        assert is_probe(client.exchange("/healthz"))
        assert client.exchange("/").status == 200


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_is_not_ready_before_all_its_workers_are(server: StartServer, kind: str) -> None:
    source = """
import os, time
boots = [name for name in os.listdir() if name.startswith("boot-")]
try:
    os.close(os.open("boot-1", os.O_CREAT | os.O_EXCL))
except FileExistsError:
    deadline = time.monotonic() + 60
    while not os.path.exists("go") and time.monotonic() < deadline:
        time.sleep(0.01)

def application(environ, start_response):
    start_response("200 OK", [])
    return [b"ok"]
"""
    if kind == "gevent":
        pytest.importorskip("gevent")
    live = server("app", "-k", *KINDS[kind], *PATHS, "-w", "2", source=source)
    wait_until(lambda: is_probe(fetch(live.port, "/healthz")), 10, "one worker serves")
    found = fetch(live.port, "/readyz")
    assert is_probe(found, 503)
    assert json.loads(found.body)["reasons"] == ["server: starting"]
    (live.folder / "go").touch()
    wait_until(lambda: is_probe(fetch(live.port, "/readyz")), 10, "it is ready")


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("kind", KINDS)
def test_they_count_for_no_limit(server: StartServer, kind: str, core: str) -> None:
    # A worker asks for its replacement before it has served so many, by how fast they come and how long it has booted.
    live = start(server, kind, core, "--max-requests", "20", "--access-logfile", "-", "--access-log-health",
                 "--access-logformat", "line %(r)s %(s)s.")  # fmt: skip
    live.wait_log("Started: ")
    (worker,) = live.children()
    for _ in range(30):
        assert is_probe(fetch(live.port, "/healthz"))
    assert fetch(live.port, "/").status == 200
    live.wait_log(r"line GET / HTTP/1\.1 200\.")
    assert live.said(r"line GET /healthz HTTP/1\.1 200\.", 30)
    assert live.children() == [worker]


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("kind", KINDS)
def test_behind_tls(server: StartServer, tmp_path: pathlib.Path, kind: str, core: str) -> None:
    certificates = make_certificates(tmp_path / "certificates")
    live = start(server, kind, core, *certificates.flags())
    context = certificates.client()
    for path in ("/healthz", "/readyz"):
        with urllib.request.urlopen(f"https://localhost:{live.port}{path}", context=context, timeout=20) as response:
            assert json.load(response) == {"status": "ok", "reasons": []}


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("kind", KINDS)
def test_behind_the_proxy_protocol(server: StartServer, kind: str, core: str) -> None:
    live = start(server, kind, core, "--proxy-protocol")
    with Connection(live.port) as client:
        client.send(b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n")
        assert is_probe(client.exchange("/healthz"))
        assert client.exchange("/").status == 200
        assert is_probe(client.exchange("/readyz"))


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("kind", KINDS)
def test_by_the_uwsgi_protocol(server: StartServer, kind: str, core: str) -> None:
    live = start(server, kind, core, "--protocol", "uwsgi")
    with Connection(live.port) as client:
        client.send(packet(plain(REQUEST_URI="/healthz", PATH_INFO="/healthz", QUERY_STRING="")))
        assert is_probe(client.response())
