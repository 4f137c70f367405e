"""Proxies that others have written, in front of every worker kind.

nginx speaks HTTP and the uwsgi protocol, HAProxy the PROXY protocol.
"""

import contextlib
import dataclasses
import itertools
import os
import pathlib
import signal
from collections.abc import Callable, Iterator

import pytest

from tests.certificates import Certificates, make_certificates
from tests.conftest import LiveServer, StartServer, find_free_ports, wait_until
from tests.live.client import Load
from tests.live.proxies import CLIENT, NGINX_BEGINNING, Client, Proxy, listens, program, sockets_of

pytestmark = pytest.mark.live

FRONTS = ("sync-unix", "gthread-tcp", "gevent-unix")
"""Each kind of worker, and between nginx and it each transport; that of the uwsgi protocol is the other one."""

NGINX = (
    NGINX_BEGINNING
    + """    client_max_body_size 100m;

    upstream application {
        server %(application)s fail_timeout=0;
        keepalive 8;
    }
    upstream gateway {
        server %(gateway)s fail_timeout=0;
    }
    ssl_certificate %(certificate)s;
    ssl_certificate_key %(key)s;
    server {
        listen 127.0.0.1:%(plain)d;
        listen 127.0.0.1:%(secure)d ssl;

        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Forwarded-Host $http_host;
        proxy_set_header X-Forwarded-Port $server_port;

        # Not in the location: one such line there would take the place of all of these.
        set $prefix "";
        proxy_set_header X-Forwarded-Prefix $prefix;
        set $place "";
        proxy_set_header SCRIPT_NAME $place;

        location / {
            proxy_pass http://application;
        }
        location /shop/ {
            set $prefix /shop;
            proxy_pass http://application/;
        }
        location /placed/ {
            set $place /placed;
            proxy_pass http://application;
        }
        location /streamed/ {
            proxy_request_buffering off;
            proxy_buffering off;
            proxy_pass http://application/;
        }
    }
    server {
        listen 127.0.0.1:%(plain_gateway)d;
        listen 127.0.0.1:%(secure_gateway)d ssl;

        location / {
            include uwsgi_params;
            uwsgi_pass gateway;
        }
        location /shop/ {
            rewrite ^/shop(/.*)$ $1 break;
            include uwsgi_params;
            uwsgi_param SCRIPT_NAME /shop;
            uwsgi_pass gateway;
        }
        location /streamed/ {
            rewrite ^/streamed(/.*)$ $1 break;
            include uwsgi_params;
            uwsgi_request_buffering off;
            uwsgi_buffering off;
            uwsgi_pass gateway;
        }
    }
}
"""
)

# As nginx itself brings it.
UWSGI_PARAMS = """
uwsgi_param QUERY_STRING $query_string;
uwsgi_param REQUEST_METHOD $request_method;
uwsgi_param CONTENT_TYPE $content_type;
uwsgi_param CONTENT_LENGTH $content_length;
uwsgi_param REQUEST_URI $request_uri;
uwsgi_param PATH_INFO $document_uri;
uwsgi_param DOCUMENT_ROOT $document_root;
uwsgi_param SERVER_PROTOCOL $server_protocol;
uwsgi_param REQUEST_SCHEME $scheme;
uwsgi_param HTTPS $https if_not_empty;
uwsgi_param REMOTE_ADDR $remote_addr;
uwsgi_param REMOTE_PORT $remote_port;
uwsgi_param SERVER_PORT $server_port;
uwsgi_param SERVER_NAME $server_name;
"""

# A connection of a check has as long as "inter", so that is not too short for a busy machine.
TIMES = "inter 500ms fastinter 50ms downinter 50ms rise 1 fall 2"
HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 20s
    timeout server 20s
    timeout check 10s
frontend clients
    bind 127.0.0.1:%(plain)d
    default_backend application
backend application
    option httpchk
    http-check send meth GET uri /header/X-Health/good ver HTTP/1.1 hdr Host health.test
    http-check expect status 200
    server one 127.0.0.1:%(application)d send-proxy-v2 check %(times)s %(secure)s
"""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def proxy(tmp_path: pathlib.Path) -> Iterator[Callable[[list[str]], Proxy]]:
    """Start proxies by their commands; each is ended after the test, and its log is in the report of a failure."""
    with contextlib.ExitStack() as started:
        yield lambda command: started.enter_context(Proxy(tmp_path, command))


@dataclasses.dataclass(frozen=True)
class Front:
    """nginx with two ports, and the server behind it; and two more, with a server that speaks uwsgi behind them."""

    kind: str
    live: LiveServer
    plain: int
    secure: int
    gateway: LiveServer
    plain_gateway: int
    secure_gateway: int


@pytest.fixture(scope="module", params=FRONTS)
def front(
    request: pytest.FixtureRequest, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    """nginx in front of a worker of each kind, over TCP and over a Unix socket."""
    nginx = program("nginx")
    kind, _, transport = request.param.partition("-")
    folder = tmp_path_factory.mktemp(kind)
    fields = "x-forwarded-for,x-forwarded-host,x-forwarded-port,x-forwarded-prefix"
    binds = ("127.0.0.1:0", "unix:web.sock") if transport == "tcp" else ("unix:web.sock", "127.0.0.1:0")
    common = ("tests.apps.basic", "-k", kind)
    with contextlib.ExitStack() as started:
        live, gateway = (
            started.enter_context(running(folder / name, *common, "-b", bind, *arguments))
            for name, bind, arguments in (
                ("http", binds[0], ("--forwarded-hops", "1", "--forwarded-fields", fields)),
                ("uwsgi", binds[1], ("--protocol", "uwsgi")),
            )
        )
        plain, secure, plain_gateway, secure_gateway = ports = find_free_ports(4)
        values = {
            "application": place_of(live),
            "gateway": place_of(gateway),
            "plain": plain,
            "secure": secure,
            "plain_gateway": plain_gateway,
            "secure_gateway": secure_gateway,
            "certificate": certificates.path("server.pem"),
            "key": certificates.path("server.key"),
        }
        (folder / "nginx.conf").write_text(NGINX % values, "utf-8")
        (folder / "uwsgi_params").write_text(UWSGI_PARAMS, "utf-8")
        command = [nginx, "-p", f"{folder}/", "-e", "stderr", "-c", str(folder / "nginx.conf")]
        proxy = started.enter_context(Proxy(folder, command))
        proxy.wait(lambda: all(map(listens, ports)), "nginx listens")
        yield Front(kind, live, plain, secure, gateway, plain_gateway, secure_gateway)


@contextlib.contextmanager
def running(folder: pathlib.Path, *arguments: str) -> Iterator[LiveServer]:
    """A server that is ready, in a folder of its own; it is ended behind all tests, and its log then shown."""
    folder.mkdir()
    live = LiveServer(folder, arguments, {})
    try:
        live.start().wait_log("is ready")
        yield live
    finally:
        live.end()
        print(f"--- {' '.join(arguments)}\n{live.log()}")


def place_of(live: LiveServer) -> str:
    """Where nginx finds a server."""
    socket_file = live.folder / "web.sock"
    return f"unix:{socket_file}" if socket_file.exists() else f"127.0.0.1:{live.port}"


class TestNginx:
    """HTTP from a proxy that keeps its connections to the server open."""

    def test_bodies_over_kept_connections(
        self, front: Front, certificates: Certificates, tmp_path: pathlib.Path
    ) -> None:
        upload = os.urandom(20 << 20)
        file = tmp_path / "file"
        file.write_bytes(upload[: 10 << 20])
        pieces = [upload[at : at + 300_000] for at in range(0, len(upload), 300_000)]
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
        if front.kind == "sync":  # gives up the connection of each request that took its only thread for long
            assert any(earlier & later for earlier, later in itertools.pairwise(seen))
        else:
            assert all(sockets == seen[0] for sockets in (*seen, sockets_of(worker) - before))

    def test_who_asked_and_how(self, front: Front, certificates: Certificates) -> None:
        forged = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "ftp", "X-Forwarded-Prefix": "/forged"}
        with Client(front.plain) as client:
            environ = client.environ(headers=forged)
            below = client.environ("/shop/environ", {"Host": "shop.test"})
            placed = client.environ("/placed/environ")
        assert environ["REMOTE_ADDR"] == CLIENT
        assert environ["HTTP_HOST"] == f"127.0.0.1:{front.plain}"
        assert (environ["wsgi.url_scheme"], environ["SERVER_PORT"]) == ("http", str(front.plain))
        assert environ["SCRIPT_NAME"] == ""
        assert (below["SCRIPT_NAME"], below["PATH_INFO"]) == ("/shop", "/environ")
        assert below["HTTP_HOST"] == f"shop.test:{front.plain}"
        assert (placed["SCRIPT_NAME"], placed["PATH_INFO"]) == ("/placed", "/environ")
        with Client(front.secure, certificates.client()) as client:
            environ = client.environ()
        assert (environ["wsgi.url_scheme"], environ["SERVER_PORT"]) == ("https", str(front.secure))

    def test_reload_loses_nothing(self, front: Front) -> None:
        reload_under_load(front.live, front.plain)


class TestNginxByUwsgi:
    """The uwsgi protocol, with a connection for each request."""

    def test_bodies(self, front: Front, tmp_path: pathlib.Path) -> None:
        upload = os.urandom(3 << 20)
        file = tmp_path / "file"
        file.write_bytes(upload)
        pieces = [upload[at : at + 300_000] for at in range(0, len(upload), 300_000)]
        with Client(front.plain_gateway) as client:
            for size in (0, 1, 3000, 100_000, len(upload)):
                assert client.exchange("/echo", upload[:size]) == upload[:size]
            for prefix in ("", "/streamed"):
                assert client.exchange(f"{prefix}/echo", iter(pieces)) == upload
                assert client.exchange(f"{prefix}/file{file}") == upload
                assert len(client.exchange(f"{prefix}/blocks/30")) == 30 << 16
            client.connection.request("HEAD", "/environ")
            head = client.connection.getresponse()
            assert (head.status, head.read()) == (200, b"")

    def test_who_asked_and_how(self, front: Front, certificates: Certificates) -> None:
        forged = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "Script_Name": "/forged"}
        with Client(front.plain_gateway) as client:
            environ = client.environ("/environ?a=%20b", headers=forged)
            below = client.environ("/shop/environ", {"Host": "shop.test"})
            port = str(client.connection.sock.getsockname()[1])
        assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == (CLIENT, port)
        assert environ["HTTP_HOST"] == f"127.0.0.1:{front.plain_gateway}"
        assert (environ["wsgi.url_scheme"], environ["SERVER_PORT"]) == ("http", str(front.plain_gateway))
        assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("", "/environ")
        assert (environ["QUERY_STRING"], environ["RAW_URI"]) == ("a=%20b", "/environ?a=%20b")
        assert environ["SERVER_NAME"], "PEP 3333 has it never empty, though nginx has no name here"
        assert (below["SCRIPT_NAME"], below["PATH_INFO"], below["RAW_URI"]) == ("/shop", "/environ", "/shop/environ")
        assert below["HTTP_HOST"] == "shop.test"
        with Client(front.secure_gateway, certificates.client()) as client:
            environ = client.environ()
        assert (environ["wsgi.url_scheme"], environ["SERVER_PORT"]) == ("https", str(front.secure_gateway))

    def test_fields_that_come_again(self, front: Front) -> None:
        with Client(front.plain_gateway) as client:
            client.connection.putrequest("GET", "/environ")
            for value in ("a=b", "c=d"):
                client.connection.putheader("Cookie", value)
            client.connection.endheaders()
            response = client.connection.getresponse()
            assert response.status == 200
            assert b'"HTTP_COOKIE": "a=b; c=d"' in response.read()

    def test_reload_loses_nothing(self, front: Front) -> None:
        reload_under_load(front.gateway, front.plain_gateway)


def reload_under_load(live: LiveServer, port: int) -> None:
    """Reload a server while requests come to it through ``port``; none may be lost."""
    with Load(port, paths=("/", "/slow/0.01")) as load:
        wait_until(lambda: len(load.answers) > 20, 10, "answers before the reload")
        before = load.pids()
        live.send(signal.SIGHUP)
        live.wait_log("generation 1. exited")
        wait_until(lambda: load.pids() - before, 10, "answers of the new worker")
        count = len(load.answers)
        wait_until(lambda: len(load.answers) > count + 20, 10, "answers after the reload")
    assert load.losses == []


class TestHAProxy:
    """Connections that begin with the PROXY protocol, those of health checks included."""

    @pytest.mark.parametrize(
        ("kind", "encrypted"),
        [("sync", True), ("gthread", False), ("gevent", True)],
        ids=["sync-tls", "gthread", "gevent-tls"],
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
        plain, port = find_free_ports(2)
        secure = f"ssl verify required ca-file {certificates.path('ca.pem')} verifyhost localhost" if encrypted else ""
        configuration = tmp_path / "haproxy.cfg"
        configuration.write_text(
            HAPROXY % {"plain": plain, "application": port, "times": TIMES, "secure": secure}, "utf-8"
        )
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
        live.wait_log(r"127\.0\.0\.1 asked for /header/X-Health")  # checks are the proxy's own
        live.wait_log(rf"{CLIENT} asked for /environ")

        assert live.stop() == 0
        checker.wait(lambda: checker.log().count("Server application/one is DOWN") == 2, "the server is down again")
