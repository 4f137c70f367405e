"""What hooks look at, with plain values."""

import logging
import os
import sys
from types import SimpleNamespace

import pytest

from wsgicluster.gunicorn.configuration import Configuration
from wsgicluster.gunicorn.views import BOOTING, LogView, RequestView, ResponseView, ServerView, WorkerView
from wsgicluster.settings import Settings, TcpAddress, UnixAddress

LOG = LogView(logging.getLogger("test"))


class Life:
    """A worker that a test moves."""

    def __init__(self) -> None:
        self.alive, self.served, self.left = True, 0, 0

    def is_alive(self) -> bool:
        return self.alive

    def requests(self) -> int:
        return self.served

    def leave(self) -> None:
        self.left += 1


def configuration(**settings: object) -> Configuration:
    return Configuration(Settings(**settings))  # type: ignore[arg-type]


def test_configuration_has_gunicorns_shapes() -> None:
    bind = (TcpAddress("127.0.0.1", 8000), UnixAddress("/run/a.sock"))
    found = configuration(bind=bind, workers=3, raw_env=("A=b=c",), wsgi_app="shop:app", user=7)
    assert found.bind == ["127.0.0.1:8000", "unix:/run/a.sock"]
    assert found.address == [("127.0.0.1", 8000), "/run/a.sock"]
    assert (found.workers, found.env, found.proc_name, found.uid) == (3, {"A": "b=c"}, "shop:app", 7)
    assert (found.worker_class.__name__, found.worker_class_str, found.is_ssl) == ("SyncWorker", "sync", False)
    assert (found.statsd_host, found.spew, found.reload_engine) == (None, False, "auto")
    assert found.on_exit(None) is None
    assert {"workers", "statsd_host", "pre_fork"} <= found.settings.keys()
    assert (found.settings["workers"].get(), found.settings["workers"].value) == (3, 3)
    assert set(found) == found.settings.keys()
    with pytest.raises(AttributeError):
        found.no_such  # noqa: B018


def test_worker() -> None:
    worker, life = WorkerView(4, configuration(max_requests=9), LOG), Life()
    assert (worker.pid, worker.age, worker.alive, worker.nr, worker.max_requests) == (BOOTING, 4, True, 0, 9)
    worker.own_number = 1  # type: ignore[attr-defined]
    worker.pid = 12
    assert (worker.own(), str(worker)) == ({"own_number": 1}, "<Worker 12>")
    worker.show(life)
    life.served = 5
    assert (worker.alive, worker.nr) == (True, 5)
    worker.alive = False
    assert (worker.alive, life.left) == (False, 1)


def test_server() -> None:
    server = ServerView(configuration(timeout=7.0, workers=2), LOG)
    assert not hasattr(server, "pid")
    server.pid = 3
    server._own_id = 5  # type: ignore[attr-defined]
    assert (server.own(), server.WORKERS, server.num_workers, server.timeout) == ({"_own_id": 5}, {}, 2, 7.0)
    assert (server.app.cfg.workers, server.app.wsgi()) == (2, None)
    assert server.START_CTX["args"][1:] == sys.argv
    assert (server.START_CTX["cwd"], server.START_CTX[0]) == (os.getcwd(), sys.executable)
    server.log.info("a line")


@pytest.mark.parametrize(
    ("uri", "path"),
    [("/a%20b?x=1", "/a%20b"), ("http://shop.example/a?b", "/a"), ("*", "*"), ("//a/b?c=//d", "//a/b")],
)
def test_request(uri: str, path: str) -> None:
    environ = {
        "RAW_URI": uri, "REQUEST_METHOD": "PUT", "QUERY_STRING": "q", "REMOTE_ADDR": "::1", "REMOTE_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.0", "HTTP_X_OWN": "1", "CONTENT_LENGTH": "3", "wsgi.url_scheme": "https",
    }  # fmt: skip
    request = RequestView(environ)
    assert (request.method, request.path, request.uri, request.query) == ("PUT", path, uri, "q")
    assert (request.remote_addr, request.version, request.scheme) == (("::1", 80), (1, 0), "https")
    assert request.headers == [("X-OWN", "1"), ("CONTENT-LENGTH", "3")]


def test_response() -> None:
    answer = SimpleNamespace(status="", headers=(), sent_bytes=0, head_sent=False)
    response = ResponseView(answer)
    assert (response.status, response.status_code, response.headers) == (None, None, [])
    answer.status, answer.headers, answer.sent_bytes = "404 Not Found", (("A", "b"),), 9
    assert (response.status, response.status_code, response.headers) == ("404 Not Found", 404, [("A", "b")])
    assert (response.sent, response.headers_sent, response.response_length) == (9, False, None)
    answer.headers = (("Content-Length", "12"),)
    assert response.response_length == 12


@pytest.mark.parametrize(
    ("protocol", "connection", "closes"),
    [
        ("HTTP/1.1", "", False), ("HTTP/1.1", "Close", True), ("HTTP/1.0", "", True), ("HTTP/1.0", "keep-alive", False),
    ],
)  # fmt: skip
def test_whether_a_request_closes_its_connection(protocol: str, connection: str, closes: bool) -> None:
    environ = {"RAW_URI": "/", "SERVER_PROTOCOL": protocol, **({"HTTP_CONNECTION": connection} if connection else {})}
    assert RequestView(environ).should_close() is closes
