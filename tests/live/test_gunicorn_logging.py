"""Logging as deployments of Gunicorn set it up: loggers, files, classes, syslog, StatsD."""

import json
import os
import pathlib
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import StartServer, is_alive, wait_until
from tests.live.client import fetch

pytestmark = pytest.mark.live

FLASK_IDIOM = """
import logging, os

class Healthy(logging.Filter):
    def filter(self, record):
        return record.args["U"] != "/healthz"

logging.getLogger("gunicorn.access").addFilter(Healthy())
mine = logging.getLogger("shop")
mine.handlers = logging.getLogger("gunicorn.error").handlers
mine.setLevel("INFO")

def app(environ, start_response):
    mine.info("sold %s", environ["PATH_INFO"])
    start_response("200 OK", [("Content-Length", "4"), ("X-Kind", "test")])
    return [str("gunicorn" in os.environ["SERVER_SOFTWARE"]).encode()]
"""

PLAIN = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""

LOGGER = """
import logging
from wsgicluster.gunicorn import glogging

class Logger(glogging.Logger):
    def setup(self, cfg):
        super().setup(cfg)
        self._set_handler(self.error_log, cfg.errorlog, logging.Formatter("own|%(name)s|%(message)s"))

    def now(self):
        return "NOW"

    def atoms(self, resp, req, environ, request_time):
        found = super().atoms(resp, req, environ, request_time)
        found["X"] = f"{req.method} {req.path} {req.query} {dict(req.headers)['X-GIVEN']} {resp.status_code}"
        return found
"""


@pytest.fixture
def receiver() -> Iterator[socket.socket]:
    """A socket that gets datagrams."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        made.settimeout(15)
        yield made


@pytest.mark.parametrize("kind", ["sync", "gthread"])
def test_the_idiom_of_flask_and_a_filter_of_requests(server: StartServer, tmp_path: pathlib.Path, kind: str) -> None:
    live = server("app:app", "-k", kind, "--access-logfile", "access.log", source=FLASK_IDIOM)
    live.wait_workers(1)
    assert fetch(live.port, "/healthz").body == b"True"
    assert fetch(live.port, "/b").body == b"True"
    live.wait_log(r"\[INFO\] sold /b")
    text = wait_until((tmp_path / "access.log").read_text, 10)
    assert '"GET /b HTTP/1.1" 200 4' in text
    assert "/healthz" not in text
    assert live.stop() == 0


CONFIGURES = """
import logging.config

logging.config.dictConfig({
    "version": 1,
    "handlers": {"own": {"class": "logging.FileHandler", "filename": "own.log"}},
    "loggers": {"gunicorn.access": {"handlers": ["own"], "level": "INFO", "propagate": False}},
})

def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


def test_an_application_that_configures_the_access_log(server: StartServer, tmp_path: pathlib.Path) -> None:
    live = server("app:app", "--access-logfile", "access.log", source=CONFIGURES)
    live.wait_workers(1)
    assert fetch(live.port, "/a").status == 200
    assert '"GET /a HTTP/1.1" 200' in wait_until((tmp_path / "own.log").read_text, 10)
    assert live.stop() == 0
    assert (tmp_path / "access.log").read_text() == "", "its handlers are in place of ours"


LOGGER_OF_GUNICORN = """
import logging
from gunicorn import glogging

class Logger(glogging.Logger):
    def info(self, msg, *args, **kwargs):
        super().info(f"own {self.cfg.proc_name}: {msg}", *args, **kwargs)

    def access(self, resp, req, environ, request_time):
        if req.path != "/healthz":
            super().access(resp, req, environ, request_time)
"""
HOOKS = """
accesslog = "access.log"
proc_name = "shop"

def when_ready(server):
    server.log.info("ready on %s", server.address[0][1])

def post_worker_init(worker):
    worker.log.info("worker booted, %s", isinstance(worker.log.error_log, logging.Logger))

def pre_request(worker, req):
    worker.log.info("%s %s", req.method, req.path)
"""


@pytest.mark.parametrize("preload", [False, True])
@pytest.mark.parametrize("place", ["the file", "a module"])
def test_hooks_log_by_the_class(server: StartServer, tmp_path: pathlib.Path, place: str, preload: bool) -> None:
    named = "logger_class = Logger\n" if place == "the file" else "import logging\nlogger_class = 'shop_logs.Logger'\n"
    if place == "a module":
        (tmp_path / "shop_logs.py").write_text(LOGGER_OF_GUNICORN)
    source = LOGGER_OF_GUNICORN if place == "the file" else ""
    (tmp_path / "gunicorn.conf.py").write_text(f"{source}{named}{HOOKS}preload_app = {preload}\n")
    live = server("app:app", source=PLAIN)
    live.wait_log("Started: 1 worker serves")
    live.wait_log(r"\[INFO\] own shop: ready on \d")
    live.wait_log(r"\[INFO\] own shop: worker booted, True")
    assert fetch(live.port, "/healthz").status == 200
    assert fetch(live.port, "/a").status == 200
    live.wait_log(r"\[INFO\] own shop: GET /a")
    text = wait_until((tmp_path / "access.log").read_text, 10)
    assert '"GET /a HTTP/1.1" 200' in text
    assert "/healthz" not in text
    assert live.stop() == 0


def test_a_class_of_the_configuration(server: StartServer, tmp_path: pathlib.Path) -> None:
    (tmp_path / "shop_logs.py").write_text(LOGGER)
    (tmp_path / "gunicorn.conf.py").write_text(
        "from shop_logs import Logger\nlogger_class = Logger\naccesslog = 'access.log'\nerrorlog = 'error.log'\n"
        "access_log_format = '%(t)s|%(X)s|%({x-given}i)s|%(unknown)s'\n"
    )
    error, access = tmp_path / "error.log", tmp_path / "access.log"
    live = server("app:app", source=PLAIN, listening=False)
    wait_until(lambda: error.exists() and "Started: 1 worker" in error.read_text(), 10)
    assert error.read_text().startswith("own|gunicorn.error|Starting")
    port = int(error.read_text().partition("127.0.0.1:")[2].partition(" ")[0])
    assert fetch(port, "/a?b", extra='X-Given: q"\r\n').status == 200
    assert wait_until(access.read_text, 10) == 'NOW|GET /a b q\\" 200|q\\"|-\n'
    # after a reload, and after the files were renamed, it is the same
    live.send(signal.SIGHUP)
    wait_until(lambda: "Reload complete" in error.read_text(), 10)
    access.rename(tmp_path / "access.old")
    live.send(signal.SIGUSR1)
    wait_until(access.exists, 10)

    def logged() -> str:
        assert fetch(port, "/c?", extra="X-Given: x\r\n").status == 200
        return access.read_text()

    assert "NOW|GET /c  x 200|x|-\n" in wait_until(logged, 10)
    assert live.stop() == 0
    assert "Traceback" not in error.read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--logger-class", "none.such"), r"error: logger_class: cannot load none\.such: ModuleNotFoundError: .*"),
        (("--logger-class", "json.dumps"), r"error: logger_class: json\.dumps is not a class like .*"),
        (("--logger-class", "app.Broken"), r"error: logger_class app\.Broken: ZeroDivisionError: division by zero"),
        (("--log-config", "none.ini"), r"error: logconfig \(none\.ini\): cannot be read: No such file or directory"),
        (("--log-config-json", "app.py"), r"error: logconfig_json \(app\.py\): line 2 is not JSON: .*"),
        (("--log-syslog-to", "here"), r"error: .*syslog_addr: .*expected udp://HOST:PORT, .*"),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_errors_are_one_line(server: StartServer, arguments: tuple[str, ...], says: str, check: bool) -> None:
    source = PLAIN + "\nclass Broken:\n    def __init__(self, cfg):\n        1 / 0\n    access = None\n"
    source = source.replace("access = None", "def access(self): pass")
    more = ("--check-config",) if check else ()
    live = server("app:app", *arguments, *more, source=source, listening=False)
    assert live.wait_end() == 2
    assert live.said(f"(?m)^wsgicluster: {says}$")
    assert len(live.log().splitlines()) == 1


def test_syslog(server: StartServer, receiver: socket.socket) -> None:
    port = receiver.getsockname()[1]
    live = server(
        "app:app", "--log-syslog", "--log-syslog-to", f"udp://127.0.0.1:{port}", "--log-syslog-facility", "local0",
        "--access-logformat", "%(m)s %(U)s", source=PLAIN,
    )  # fmt: skip
    live.wait_workers(1)
    assert receiver.recv(1000).startswith(b"<134>gunicorn.app.app.error: [%d] Starting wsgicluster" % live.pid)
    assert fetch(live.port, "/one").status == 200
    lines: list[str] = []

    def received() -> bool:
        lines.append(receiver.recv(1000).decode())
        return lines[-1].startswith("<134>gunicorn.app.app.access: ")

    wait_until(received, 10)
    assert lines[-1].endswith("] GET /one")
    # without it the server serves on
    receiver.close()
    assert fetch(live.port, "/two").status == fetch(live.port, "/three").status == 200
    assert live.stop() == 0
    assert not live.said("Traceback")


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_statsd(server: StartServer, receiver: socket.socket, kind: str) -> None:
    if kind == "gevent":
        pytest.importorskip("gevent")
    live = server(
        "app:app", "-k", kind, "--statsd-host", f"127.0.0.1:{receiver.getsockname()[1]}", "--statsd-prefix", "shop",
        "--dogstatsd-tags", "a:b", "--enable-backlog-metric", source=PLAIN,
    )  # fmt: skip
    live.wait_workers(1)
    assert fetch(live.port, "/").status == 200
    wanted = {
        "shop.gunicorn.workers:1|g|#a:b",
        "shop.gunicorn.backlog:0|h|#a:b",
        "shop.gunicorn.requests:1|c|@1.0|#a:b",
        "shop.gunicorn.request.status.200:1|c|@1.0|#a:b",
    }
    found: set[str] = set()

    def complete() -> bool:
        found.update(receiver.recv(10_000).decode().splitlines())
        return wanted <= found

    wait_until(complete, 15)
    assert any(line.startswith("shop.gunicorn.request.duration:") for line in found)
    assert live.stop() == 0


def test_json(server: StartServer, tmp_path: pathlib.Path) -> None:
    live = server(
        "app:app", "--log-format", "json", "--access-logfile", "access.log", "--access-log-skip", "/healthz,/static/*",
        source=PLAIN,
    )  # fmt: skip
    live.wait_workers(1)
    for path in ("/static/a.css", "/healthz", "/a?b"):
        assert fetch(live.port, path).status == 200
    found = json.loads(wait_until((tmp_path / "access.log").read_text, 10))
    assert (found["path"], found["query"], found["status"], found["bytes"]) == ("/a", "b", 200, 2)
    assert live.stop() == 0
    records = [json.loads(line) for line in live.log().splitlines()]
    assert records[0]["message"].startswith("Starting wsgicluster")
    assert {record["level"] for record in records} == {"info"}


def test_a_daemon_keeps_its_output_on_demand(server: StartServer, tmp_path: pathlib.Path) -> None:
    source = PLAIN + "import os\nos.write(1, b'written by the application\\n')\n"
    for number, arguments in enumerate(((), ("-R",))):
        pidfile = tmp_path / f"pid-{number}"
        live = server(
            "app:app", "-D", "-p", str(pidfile), "--error-logfile", f"error-{number}", *arguments, source=source,
            listening=False,
        )  # fmt: skip
        try:
            assert live.wait_end() == 0
            assert live.said("written by the application") is bool(arguments)
        finally:
            _end_daemon(int(pidfile.read_text()))


def _end_daemon(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not is_alive(pid), 15)


SLOW = """
import os, time

def wait_here():
    while not os.path.exists("release"):
        time.sleep(0.02)

def app(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        wait_here()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_slow_requests_are_logged_while_they_run(server: StartServer, tmp_path: pathlib.Path, kind: str) -> None:
    if kind == "gevent":
        pytest.importorskip("gevent")
    live = server("app:app", "-k", kind, "--slow-request", "200ms", source=SLOW)
    live.wait_workers(1)
    assert fetch(live.port, "/").status == 200
    with ThreadPoolExecutor(1) as clients:
        response = clients.submit(fetch, live.port, "/slow")
        live.wait_log(
            r"\[WARNING\] worker 1: slow request: GET /slow HTTP/1\.1 from 127\.0\.0\.1:\d+ has run for \d+\.\d s, "
            r"and still runs\n(.*\n)*?.*in wait_here"
        )
        (tmp_path / "release").touch()
        assert response.result().status == 200
    assert live.stop() == 0
    assert live.log().count("slow request: GET /slow") == 1
