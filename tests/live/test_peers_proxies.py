"""Proxies that others have written, in front of every worker kind: nginx speaks HTTP, HAProxy the PROXY protocol."""

import contextlib
import dataclasses
import http.client
import itertools
import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.certificates import Certificates, make_certificates
from tests.conftest import LiveServer, StartServer, descriptors_of, wait_until
from tests.live.client import Load

pytestmark = pytest.mark.live

KINDS = ("sync", "gthread", "gevent")
FRONTS = tuple(f"{kind}-{transport}" for kind in KINDS for transport in ("tcp", "unix"))
SOME_FRONTS = ("sync-unix", "gthread-tcp", "gevent-unix")
"""Each kind and each transport once: for what has nothing to do with their meeting."""

CLIENT = "127.0.0.2"
"""Not the proxy's own address, so that nobody can take the one for the other."""

# One process, without a master: it keeps the user that may read the test's folder, and is ended by one signal. Every
# folder that nginx would make in the system's places is made below its prefix instead.
NGINX = """
daemon off;
master_process off;
pid nginx.pid;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path bodies;
    proxy_temp_path answers;
    fastcgi_temp_path others;
    uwsgi_temp_path others;
    scgi_temp_path others;
    client_max_body_size 100m;

    upstream application {
        server %(application)s fail_timeout=0;
        keepalive 8;
    }
    server {
        listen 127.0.0.1:%(plain)d;
        listen 127.0.0.1:%(secure)d ssl;
        ssl_certificate %(certificate)s;
        ssl_certificate_key %(key)s;

        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Forwarded-Host $http_host;
        proxy_set_header X-Forwarded-Port $server_port;

        # Not in the location: one such line there would take the place of all of these.
        set $prefix "";
        proxy_set_header X-Forwarded-Prefix $prefix;

        location / {
            proxy_pass http://application;
        }
        location /shop/ {
            set $prefix /shop;
            proxy_pass http://application/;
        }
        location /streamed/ {
            proxy_request_buffering off;
            proxy_buffering off;
            proxy_pass http://application/;
        }
    }
}
"""

HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 20s
    timeout server 20s
frontend clients
    bind 127.0.0.1:%(plain)d
    default_backend application
backend application
    option httpchk
    http-check send meth GET uri /header/X-Health/good ver HTTP/1.1 hdr Host health.test
    http-check expect status 200
    server one 127.0.0.1:%(application)d send-proxy-v2 check inter 100ms rise 1 fall 1 %(secure)s
"""


def program(name: str) -> str:
    """The path of a program, which may be in a folder for system administration; without it the test is skipped."""
    path = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin")))
    return path or pytest.skip(f"needs the program {name}, which is not installed here")


class Proxy:
    """A proxy as a process in the foreground; its words go to a file in its folder."""

    def __init__(self, folder: pathlib.Path, command: list[str]) -> None:
        self.log_path = folder / f"{pathlib.Path(command[0]).name}.log"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def log(self) -> str:
        """All that the proxy has said so far."""
        return self.log_path.read_text("utf-8", "replace")

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition; a proxy that ends first is not waited for."""
        wait_until(lambda: condition() or self.process.poll() is not None, 10, what)
        assert self.process.poll() is None, f"the proxy ended ({self.process.returncode}): {self.log()}"

    def end(self) -> None:
        """End the process, however it is."""
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)


@pytest.fixture
def proxy(tmp_path: pathlib.Path) -> Iterator[Callable[[list[str]], Proxy]]:
    """Start proxies by their commands; each is ended after the test, and its log is in the report of a failure."""
    started: list[Proxy] = []

    def start(command: list[str]) -> Proxy:
        started.append(Proxy(tmp_path, command))
        return started[-1]

    yield start
    for one in started:
        one.end()
        print(f"--- {one.process.args!r} (pid {one.process.pid}, exit {one.process.returncode})\n{one.log()}")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def free_ports(count: int) -> list[int]:
    """Different ports of 127.0.0.1 that nobody listens on now, for programs that cannot choose one and say so."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def sockets_of(pid: int) -> set[str]:
    """The sockets of a process, each with its inode's number: a renewed connection is another one."""
    return {name for name in descriptors_of(pid).values() if name.startswith("socket:")}


class Client:
    """A client with an address of its own, which keeps its connection."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None, address: str = CLIENT) -> None:
        source = (address, 0)
        self.connection = (
            http.client.HTTPConnection("127.0.0.1", port, timeout=20, source_address=source)
            if context is None
            else http.client.HTTPSConnection("127.0.0.1", port, timeout=20, source_address=source, context=context)
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def exchange(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> bytes:
        """The body of the answer, which has to be 200; a body that is an iterable is sent in chunks."""
        self.connection.request("GET" if body is None else "POST", path, body, headers or {})
        response = self.connection.getresponse()
        answer = response.read()
        assert response.status == 200, (response.status, answer[:200])
        return answer

    def environ(self, path: str = "/environ", headers: dict[str, str] | None = None) -> dict[str, Any]:
        """What the application was told about a request."""
        found: dict[str, Any] = json.loads(self.exchange(path, None, headers))
        return found


@dataclasses.dataclass(frozen=True)
class Front:
    """nginx with two ports, and the server behind it."""

    kind: str
    proxy: Proxy
    live: LiveServer
    plain: int
    secure: int


@pytest.fixture(params=FRONTS)
def front(
    request: pytest.FixtureRequest,
    server: StartServer,
    proxy: Callable[[list[str]], Proxy],
    certificates: Certificates,
    tmp_path: pathlib.Path,
) -> Front:
    """nginx in front of a worker of each kind, over TCP and over a Unix socket."""
    nginx = program("nginx")
    kind, _, transport = request.param.partition("-")
    trust = ("--forwarded-hops", "1", "--forwarded-fields", "x-forwarded-for,x-forwarded-host,x-forwarded-port")
    bind = "127.0.0.1:0" if transport == "tcp" else "unix:application.sock"
    live = server("tests.apps.basic", "-k", kind, *trust[:-1], f"{trust[-1]},x-forwarded-prefix", bind=bind)
    plain, secure = free_ports(2)
    (tmp_path / "nginx.conf").write_text(
        NGINX
        % {
            "application": f"127.0.0.1:{live.port}" if transport == "tcp" else f"unix:{tmp_path}/application.sock",
            "plain": plain,
            "secure": secure,
            "certificate": certificates.path("server.pem"),
            "key": certificates.path("server.key"),
        },
        "utf-8",
    )
    started = proxy([nginx, "-p", f"{tmp_path}/", "-e", "stderr", "-c", str(tmp_path / "nginx.conf")])
    started.wait(lambda: listens(plain) and listens(secure), "nginx listens")
    return Front(kind, started, live, plain, secure)


class TestNginx:
    """HTTP from a proxy that keeps its connections to the server open."""

    def test_bodies_over_kept_connections(
        self, front: Front, certificates: Certificates, tmp_path: pathlib.Path
    ) -> None:
        upload = os.urandom(20 << 20)
        file = tmp_path / "file"
        file.write_bytes(upload[: 10 << 20])
        pieces = [upload[at : at + 300_000] for at in range(0, len(upload), 300_000)]
        front.live.wait_log("is ready")
        (worker,) = front.live.children()
        before = sockets_of(worker)
        seen: list[set[str]] = []
        with Client(front.plain) as client:
            for size in (0, 1, 3000, 100_000) * 10:
                assert client.exchange("/echo", upload[:size]) == upload[:size]
                seen.append(sockets_of(worker) - before)
            assert client.exchange("/echo", upload) == upload
            assert client.exchange("/streamed/echo", iter(pieces)) == upload
            assert client.exchange(f"/file{file}") == file.read_bytes()
            assert len(client.exchange("/streamed/blocks/160")) == 160 << 16
        with Client(front.secure, certificates.client()) as client:
            assert client.exchange(f"/streamed/file{file}") == file.read_bytes()
        kept = sum(bool(earlier & later) for earlier, later in itertools.pairwise(seen))
        if front.kind == "sync":  # gives up the connection of each request that took its only thread for long
            assert kept > len(seen) / 2
        else:
            assert kept == len(seen) - 1
            assert sockets_of(worker) - before == seen[0]

    @pytest.mark.parametrize("front", SOME_FRONTS, indirect=True)
    def test_who_asked_and_how(self, front: Front, certificates: Certificates) -> None:
        forged = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "ftp", "X-Forwarded-Prefix": "/forged"}
        with Client(front.plain) as client:
            environ = client.environ(headers=forged)
            below = client.environ("/shop/environ", {"Host": "shop.test"})
        assert environ["REMOTE_ADDR"] == CLIENT
        assert environ["HTTP_HOST"] == f"127.0.0.1:{front.plain}"
        assert (environ["wsgi.url_scheme"], environ["SERVER_PORT"]) == ("http", str(front.plain))
        assert environ["SCRIPT_NAME"] == ""
        assert (below["SCRIPT_NAME"], below["PATH_INFO"]) == ("/shop", "/environ")
        assert below["HTTP_HOST"] == f"shop.test:{front.plain}"
        with Client(front.secure, certificates.client()) as client:
            environ = client.environ()
        assert (environ["wsgi.url_scheme"], environ["SERVER_PORT"]) == ("https", str(front.secure))

    @pytest.mark.parametrize("front", SOME_FRONTS, indirect=True)
    def test_reload_loses_nothing(self, front: Front) -> None:
        with Load(front.plain, paths=("/", "/slow/0.01")) as load:
            wait_until(lambda: len(load.answers) > 50, 10, "answers before the reload")
            before = load.pids()
            front.live.send(signal.SIGHUP)
            front.live.wait_log("generation 1. is gone")
            wait_until(lambda: load.pids() - before, 10, "answers of the new worker")
            count = len(load.answers)
            wait_until(lambda: len(load.answers) > count + 50, 10, "answers after the reload")
        assert load.losses == []


class TestHAProxy:
    """Connections that begin with the PROXY protocol, those of health checks included."""

    @pytest.mark.parametrize(
        ("kind", "encrypted"),
        [("sync", False), ("sync", True), ("gthread", False), ("gevent", True)],
        ids=["sync", "sync-tls", "gthread", "gevent-tls"],
    )
    def test_checked_and_introduced(
        self,
        kind: str,
        encrypted: bool,
        server: StartServer,
        proxy: Callable[[list[str]], Proxy],
        certificates: Certificates,
        tmp_path: pathlib.Path,
    ) -> None:
        haproxy = program("haproxy")
        plain, port = free_ports(2)
        secure = f"ssl verify required ca-file {certificates.path('ca.pem')} verifyhost localhost" if encrypted else ""
        configuration = tmp_path / "haproxy.cfg"
        configuration.write_text(HAPROXY % {"plain": plain, "application": port, "secure": secure}, "utf-8")
        checker = proxy([haproxy, "-db", "-f", str(configuration)])
        checker.wait(lambda: "Server application/one is DOWN" in checker.log(), "nobody there")
        flags = certificates.flags() if encrypted else ()
        access = ("--access-logfile", "-", "--access-logformat", "%(h)s asked for %(U)s")
        live = server("tests.apps.basic", "-k", kind, "--proxy-protocol", *flags, *access, bind=f"127.0.0.1:{port}")
        checker.wait(lambda: "Server application/one is UP" in checker.log(), "the server is up")

        with Client(plain) as one, Client(plain, address="127.0.0.3") as other:
            for _ in range(3):
                for client, address in ((one, CLIENT), (other, "127.0.0.3")):
                    environ = client.environ()
                    assert (environ["REMOTE_ADDR"], environ["PROXY_PROTOCOL"]) == (address, "TCP4")
                    assert environ["REMOTE_PORT"] == str(client.connection.sock.getsockname()[1])
                    assert (environ["PROXY_ADDR"], environ["PROXY_PORT"]) == ("127.0.0.1", str(plain))
                    assert environ["wsgi.url_scheme"] == ("https" if encrypted else "http")
            body = os.urandom(1 << 20)
            assert one.exchange("/echo", body) == body
        assert live.said(r"127\.0\.0\.1 asked for /header/X-Health"), "checks are the proxy's own"
        assert live.said(rf"{CLIENT} asked for /environ")

        assert live.stop() == 0
        checker.wait(lambda: checker.log().count("Server application/one is DOWN") == 2, "the server is down again")
