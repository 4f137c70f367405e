"""What the metrics say of connections and of requests that never reach the application, in each kind and both cores."""

import contextlib
import json
import pathlib
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable

import pytest

from tests.certificates import make_certificates
from tests.conftest import LiveServer, StartServer, wait_until
from tests.live.client import Connection, fetch
from tests.live.test_admin import ask, wait_admin
from tests.live.test_probe_paths import CORES, KINDS

pytestmark = pytest.mark.live

SOURCE = """
import os, time

def application(environ, start_response):
    if environ["PATH_INFO"] == "/wait":
        open("waiting", "a").close()
        deadline = time.monotonic() + 60
        while not os.path.exists("go") and time.monotonic() < deadline:
            time.sleep(0.01)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


def start(server: StartServer, kind: str, core: str, *arguments: str) -> LiveServer:
    if kind == "gevent":
        pytest.importorskip("gevent")
    live = server("app", "-k", *KINDS[kind], "--admin", "0", *arguments, source=SOURCE, environ=CORES[core])
    live.wait_log("Started: ")
    wait_admin(live)
    return live


def samples(live: LiveServer) -> dict[str, float]:
    """Each sample, without the prefix, those of all slots together."""
    found: dict[str, float] = {}
    for line in ask(live, "/metrics").body.decode().splitlines():
        if not line.startswith("#"):
            name, value = line.removeprefix("wsgicluster_").rsplit(" ", 1)
            for slot in range(1, 10):
                name = name.replace(f'slot="{slot}",', "").replace(f'slot="{slot}"', "").replace(",}", "}")
            found[name] = found.get(name, 0.0) + float(value)
    return found


def wait_for(live: LiveServer, condition: Callable[[dict[str, float]], bool], what: str) -> dict[str, float]:
    last: list[dict[str, float]] = []

    def look() -> bool:
        last.append(samples(live))
        return condition(last[-1])

    try:
        wait_until(look, 20, what)
    except AssertionError:
        print({name: value for name, value in last[-1].items() if name.startswith(("conn", "bad", "hand")) and value})
        raise
    return last[-1]


def closed(found: dict[str, float], reason: str = "") -> float:
    beginning = f'connections_closed_total{{reason="{reason}'
    return sum(value for name, value in found.items() if name.startswith(beginning))


def is_balanced(found: dict[str, float]) -> bool:
    """Each connection that a worker has got is open, or has been closed for one reason."""
    got = found["connections_accepted_total{}"] + found['handoffs_total{result="taken"}']
    kept = found['connections{state="idle"}'] + found['connections{state="active"}']
    return got == closed(found) + kept


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("kind", KINDS)
def test_why_connections_end(server: StartServer, kind: str, core: str) -> None:
    live = start(server, kind, core)
    for _ in range(3):
        assert fetch(live.port, "/").status == 200  # the client closes first
    for _ in range(4):
        assert fetch(live.port, "/", extra="Connection: close\r\n").status == 200
    with Connection(live.port) as silent:
        silent.exchange("/")
        wait_for(live, lambda found: found["connections_accepted_total{}"] == 8, "all are counted")
    found = wait_for(live, lambda found: closed(found) == 8, "all have ended")
    assert (closed(found, "client"), closed(found, "response")) == (4, 4)
    wait_for(live, is_balanced, "none is lost")


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("kind", KINDS)
def test_idle_connections(server: StartServer, kind: str, core: str) -> None:
    live = start(server, kind, core, "--keep-alive", "0.1s")
    with contextlib.ExitStack() as clients:
        for _ in range(3):
            clients.enter_context(Connection(live.port)).exchange("/")
        wait_for(live, lambda found: closed(found, "idle") == 3, "they were idle for too long")
    wait_for(live, is_balanced, "none is lost")


BAD: dict[str, bytes] = {
    "malformed": b"GET / HTTP/1.1\r\n\r\n",
    "too_large": b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000000\r\n\r\n",
    "unsupported": b"GET / HTTP/3.0\r\nHost: x\r\n\r\n",
    "head_timeout": b"GET / HTTP/1.1\r\nHost:",
    "body_timeout": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc",
}


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("kind", KINDS)
def test_bad_requests(server: StartServer, kind: str, core: str) -> None:
    live = start(server, kind, core, "--head-timeout", "0.2s", "--body-timeout", "0.2s")
    for data in BAD.values():
        with Connection(live.port) as client:
            client.send(data)
            assert client.response().status >= 400
    found = wait_for(live, lambda found: closed(found) == len(BAD), "all have ended")
    assert {name: found[f'bad_requests_total{{reason="{name}"}}'] for name in BAD} == dict.fromkeys(BAD, 1)
    assert found['requests_total{code="2xx"}'] == 0
    wait_for(live, is_balanced, "none is lost")


@pytest.mark.parametrize("kind", KINDS)
def test_bad_handshakes(server: StartServer, tmp_path: pathlib.Path, kind: str) -> None:
    certificates = make_certificates(tmp_path / "certificates")
    live = start(server, kind, "compiled", *certificates.flags())
    assert fetch(live.port, "/").status == 400  # plain HTTP
    with socket.create_connection(("127.0.0.1", live.port), 20) as sock:
        sock.sendall(b"\0\0\0\0")
        with contextlib.suppress(ConnectionResetError):  # the server has not read it
            assert sock.recv(1) == b""
    with contextlib.suppress(ssl.SSLError), socket.create_connection(("127.0.0.1", live.port), 20) as sock:
        ssl.create_default_context().wrap_socket(sock, server_hostname="localhost").close()
    found = wait_for(live, lambda found: closed(found) == 3, "all have ended")
    assert found['bad_requests_total{reason="tls"}'] == 3
    (expiry,) = [value for name, value in found.items() if name.startswith("certificate_expiry_timestamp_seconds")]
    assert expiry > 1.7e9
    wait_for(live, is_balanced, "none is lost")


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("policy", ["shared", "round-robin", "sticky"])
@pytest.mark.parametrize("kind", KINDS)
def test_connections_between_workers(server: StartServer, kind: str, policy: str, core: str) -> None:
    live = start(server, kind, core, "-w", "3", "--scheduling", policy)
    with contextlib.ExitStack() as clients:
        kept = [clients.enter_context(Connection(live.port)) for _ in range(12)]
        for _ in range(3):
            for client in kept:
                client.exchange("/")
        for _ in range(10):
            fetch(live.port, "/", extra="Connection: close\r\n")
        given, taken = 'handoffs_total{result="given"}', 'handoffs_total{result="taken"}'
        found = wait_for(live, lambda found: is_balanced(found) and found[given] == found[taken], "none is lost")
    assert found["connections_accepted_total{}"] == 22
    if policy == "round-robin":
        assert found[given] > 0


def test_threads_and_their_queue(server: StartServer) -> None:
    live = start(server, "gthread", "compiled")
    with contextlib.ExitStack() as clients:
        waiting = [clients.enter_context(Connection(live.port)) for _ in range(6)]
        for client in waiting:
            client.exchange("/")
        for client in waiting:
            client.ask("/wait")
        found = wait_for(live, lambda found: found["worker_thread_queue{}"] == 4, "four wait")
        assert (found["worker_threads_limit{}"], found["worker_threads_busy{}"]) == (2, 2)
        (live.folder / "go").touch()
        for client in waiting:
            assert client.response().status == 200
        wait_for(live, lambda found: found["worker_thread_queue{}"] == found["worker_threads_busy{}"] == 0, "all ran")


def test_the_queue_of_a_listener(server: StartServer) -> None:
    live = start(server, "sync", "compiled", "--backlog", "7", "--defer-accept", "0")
    name = f'{{listener="127.0.0.1:{live.port}"}}'
    with contextlib.ExitStack() as clients:
        busy = clients.enter_context(Connection(live.port))
        busy.ask("/wait")
        wait_until((live.folder / "waiting").exists, 10, "a request runs")
        for _ in range(3):
            clients.enter_context(Connection(live.port))
        found = wait_for(live, lambda found: found[f"listener_queue{name}"] == 3, "three wait in the kernel")
        assert found[f"listener_queue_limit{name}"] == 7
        (live.folder / "go").touch()
        assert busy.response().status == 200


def test_shed_requests_by_reason(server: StartServer) -> None:
    live = start(server, "gthread", "compiled", "--threads", "1", "--queue-timeout", "2s")
    with contextlib.ExitStack() as clients:
        busy, late = [clients.enter_context(Connection(live.port)) for _ in range(2)]
        for client in (busy, late):
            client.exchange("/")
        busy.ask("/wait")
        wait_until((live.folder / "waiting").exists, 10, "a request runs")
        late.ask("/")
        assert late.response().status == 503
        found = samples(live)
        assert found['requests_shed_total{reason="queue_timeout"}'] == 1
        assert found['bad_requests_total{reason="internal"}'] == 0
        (live.folder / "go").touch()
        assert busy.response().status == 200


def test_boots_and_exits(server: StartServer) -> None:
    live = start(server, "sync", "compiled")
    found = samples(live)
    assert 0 < found["worker_boot_seconds{}"] < 60
    assert found["worker_backoff_seconds{}"] == 0
    assert "worker_last_exit_timestamp_seconds{}" not in found
    assert json.loads(ask(live, "/status").body)["slots"][0]["last_exit_at"] is None


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (package prometheus)")
def test_the_linter_of_prometheus_finds_nothing(server: StartServer) -> None:
    live = start(server, "gthread", "compiled")
    fetch(live.port, "/")
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=ask(live, "/metrics").body, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
