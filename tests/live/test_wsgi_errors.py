"""What applications write to ``wsgi.errors`` and to Python's logging: nothing vanishes, nothing becomes an error."""

import pathlib
import re
import signal

import pytest

from tests.conftest import LiveServer, StartServer, wait_until
from tests.live.client import Connection, fetch

pytestmark = pytest.mark.live

FLASK = """
from logging.config import dictConfig

# As Flask's documentation has it, but that older loggers are disabled: the default of dictConfig.
dictConfig({
    "version": 1,
    "formatters": {"default": {"format": "[%(levelname)s] in %(module)s: %(message)s"}},
    "handlers": {"wsgi": {
        "class": "logging.StreamHandler", "stream": "ext://flask.logging.wsgi_errors_stream", "formatter": "default",
    }},
    "root": {"level": "INFO", "handlers": ["wsgi"]},
})

import logging, os, subprocess, threading, traceback
from flask import Flask, request

app = Flask(__name__)
records = []

class Sentry(logging.Handler):  # what its integration with logging looks at
    def emit(self, record):
        records.append(record)

logging.getLogger("wsgicluster.error").addHandler(Sentry(logging.ERROR))

@app.get("/warn")
def warn():
    app.logger.warning("a warning of %s", request.args["n"])
    return "warned"

@app.get("/fail")
def fail():
    raise KeyError("of the application")

@app.get("/print")
def printed():
    stream = request.environ["wsgi.errors"]
    for number in range(20):
        print("line", number, "of", request.args["n"], file=stream)
    try:
        raise ValueError("printed")
    except ValueError:
        traceback.print_exc(file=stream)
    stream.write("left without an end by " + request.args["n"])
    return "printed"

@app.get("/records")
def count():
    return str(len(records))

@app.get("/child")
def child():
    subprocess.run(["echo", "said by a command"], stdout=request.environ["wsgi.errors"], check=True)
    kept = request.environ["wsgi.errors"]
    threading.Timer(0.2, lambda: print("said after the request", file=kept)).start()
    return "ok"

def application(environ, start_response):
    if environ["PATH_INFO"] == "/outside":
        raise RuntimeError("outside of Flask")
    return app(environ, start_response)
"""

KINDS = {
    "sync": ("-k", "sync"),
    "sync, plain": ("-k", "sync"),
    "gthread": ("-k", "gthread", "--threads", "4"),
    "gevent": ("-k", "gevent"),
    "sync, preloaded": ("-k", "sync", "--preload"),
    "gevent, preloaded": ("-k", "gevent", "--preload"),
}


def start(server: StartServer, kind: str, *arguments: str) -> LiveServer:
    environ = {"WSGICLUSTER_PURE": "1"} if "plain" in kind else {}
    live = server("app:application", *KINDS[kind], *arguments, source=FLASK, environ=environ)
    live.wait_log("ready|serve", 20)
    return live


@pytest.mark.parametrize("kind", KINDS)
def test_flask_with_older_loggers_disabled(server: StartServer, kind: str) -> None:
    """Warnings and tracebacks appear, of the application as it wrote them and of the server as one record."""
    live = start(server, kind)
    for turn in range(2):
        assert fetch(live.port, f"/warn?n={turn}").status == 200
        assert fetch(live.port, "/fail").status == 500
        assert fetch(live.port, "/outside").status == 500
    live.wait_log("RuntimeError: outside of Flask", count=2)
    live.wait_log("KeyError: 'of the application'", count=2)
    log = live.log()
    assert re.findall(r"(?m)^\[WARNING\] in app: a warning of \d$", log) == [
        "[WARNING] in app: a warning of 0",
        "[WARNING] in app: a warning of 1",
    ]
    assert len(re.findall(r"(?m)^\[ERROR\] in app: Exception on /fail \[GET\]\nTraceback", log)) == 2
    servers = re.findall(r"(?m)^\[[-+: \d]+\] \[\d+\] \[ERROR\] .*$", log)
    assert [line.partition("[ERROR] ")[2] for line in servers] == [
        "the application failed in GET /outside HTTP/1.1"
    ] * 2
    assert fetch(live.port, "/records").body == b"2"


def responds(sock: pathlib.Path) -> bool:
    """Whether the server answers on this Unix socket, which is there a moment before anybody listens on it."""
    try:
        return fetch(sock, "/records").status == 200
    except (FileNotFoundError, ConnectionRefusedError):
        return False


@pytest.mark.parametrize("kind", KINDS)
def test_text_is_as_it_was_written_whatever_the_level(server: StartServer, kind: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "error.log"
    environ = {"WSGICLUSTER_PURE": "1"} if "plain" in kind else {}
    live = server(
        "app:application", *KINDS[kind], "--log-level", "critical", "--error-logfile", str(path), "-b", "unix:s",
        source=FLASK, environ=environ, bind=None, listening=False,
    )  # fmt: skip
    sock = tmp_path / "s"
    wait_until(lambda: responds(sock), 20, "an answer")
    clients = [Connection(sock) for _ in range(4)]
    for turn, client in enumerate(clients):
        client.ask(f"/print?n={turn}")
    assert [client.response().status for client in clients] == [200] * 4
    for client in clients:
        client.close()
    # The beginnings of lines are not kept back for long, whoever left them.
    wait_until(lambda: len(re.findall(r"(?m)^left without an end by \d$", path.read_text())) == 4, 10, "what was left")
    log = path.read_text()
    for turn in range(4):
        assert len(re.findall(rf"line \d+ of {turn}\n", log)) == 20
    assert log.count("Traceback (most recent call last):\n") == log.count("ValueError: printed\n") == 4
    assert "[ERROR]" not in log
    path.rename(tmp_path / "old.log")
    live.send(signal.SIGUSR1)
    wait_until(path.exists, 5, "a new log")
    wait_until(
        lambda: fetch(sock, "/child").status == 200 and "said by a command" in path.read_text(), 5, "the new log used"
    )
    wait_until(lambda: "said after the request\n" in path.read_text(), 5, "what a thread says later")
    assert live.stop() == 0


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_a_full_disk_fails_no_request(server: StartServer, kind: str, tmp_path: pathlib.Path) -> None:
    live = server(
        "app:application", *KINDS[kind], "--error-logfile", "/dev/full", "-b", "unix:s",
        source=FLASK, bind=None, listening=False,
    )  # fmt: skip
    sock = tmp_path / "s"
    wait_until(lambda: responds(sock), 20, "an answer")
    assert [fetch(sock, f"/print?n={turn}").status for turn in range(3)] == [200] * 3
    assert live.stop() == 0
