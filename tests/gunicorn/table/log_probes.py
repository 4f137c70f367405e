"""Probes of settings about logs and metrics."""

import contextlib
import json
import pathlib
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.conftest import wait_until
from tests.gunicorn.table.comparison import Subject, differ, probe, same

Observed = Mapping[str, Any]

REFUSED = b"GET / HTTP/9\r\nHost: x\r\nConnection: close\r\n\r\n"


def text_of(path: pathlib.Path) -> str:
    """What a log has; nothing where there is none yet."""
    return path.read_text() if path.exists() else ""


@probe(
    errorlog=same(True), accesslog=same(True), access_log_format=same("GET|/|200|mine|-"), loglevel=same(True),
    capture_output=same(True),
)  # fmt: skip
def logs(subject: Subject) -> Observed:
    running = subject.start("""
errorlog = FOLDER + "/errors"
accesslog = FOLDER + "/accesses"
access_log_format = "%(m)s|%(U)s|%(s)s|%({x-own}i)s|%(nonsense)s"
loglevel = "debug"
capture_output = True
""")
    running.ask("print('PRINTED', flush=True)", "X-Own: mine\r\n")
    errors, accesses = subject.folder / "errors", subject.folder / "accesses"
    wait_until(lambda: text_of(accesses), 10, "the access log")
    wait_until(lambda: "PRINTED" in text_of(errors), 10, "the printed line")
    lines = text_of(accesses).splitlines()
    return {
        "errorlog": "Listening at" in text_of(errors) and "Listening at" not in running.log(),
        "accesslog": len(lines) == 1,
        "access_log_format": lines[0],
        "loglevel": "[DEBUG]" in text_of(errors),
        "capture_output": "PRINTED" not in running.log(),
    }


@probe(accesslog=differ(True, False), loglevel=differ(False, True))
def refusals(subject: Subject) -> Observed:
    running = subject.start("accesslog = FOLDER + '/accesses'\nloglevel = 'warn'\n")
    assert running.status(REFUSED) >= 400
    running.ask("1")
    wait_until(lambda: "/?1 HTTP" in text_of(subject.folder / "accesses"), 10, "the access log")
    return {
        "accesslog": "HTTP/9" in text_of(subject.folder / "accesses"),
        "loglevel": "[INFO]" in running.log(),
    }


@probe(errorlog=differ(True, False))
def no_error_log(subject: Subject) -> Observed:
    running = subject.start("errorlog = None\n")
    running.ask("1")
    return {"errorlog": "Listening at" in running.log()}


class Collector:
    """A UDP server that keeps what it gets."""

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self._sock.setblocking(False)
        self.texts: list[str] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._sock.getsockname()[1]}"

    def wait_for(self, is_there: Callable[[str], object], what: str) -> None:
        """Wait until one of the texts is like that."""

        def found() -> bool:
            with contextlib.suppress(BlockingIOError):
                while True:
                    self.texts.append(self._sock.recv(65536).decode())
            return any(map(is_there, self.texts))

        wait_until(found, 10, what)

    def close(self) -> None:
        self._sock.close()


@contextlib.contextmanager
def collector() -> Iterator[Collector]:
    """One that is closed afterwards."""
    found = Collector()
    try:
        yield found
    finally:
        found.close()


@probe(
    syslog=same(True), syslog_addr=same(True), syslog_prefix=same(True), syslog_facility=same({19}),
    disable_redirect_access_to_syslog=same([True, False]),
)  # fmt: skip
def syslog(subject: Subject) -> Observed:
    with collector() as server:
        lines = f"""
syslog = True
syslog_addr = "udp://{server.address}"
syslog_prefix = "shop"
syslog_facility = "local3"
"""
        running = subject.start(lines)
        running.ask("1")
        server.wait_for(lambda text: "gunicorn.shop.access" in text, "a line of the access log")
        facilities = {int(text[1:].partition(">")[0]) >> 3 for text in server.texts}
        running.live.stop()
        server.texts.clear()
        server.wait_for(lambda text: True, "the rest")
        server.texts.clear()
        running = subject.start(lines + "disable_redirect_access_to_syslog = True\n")
        running.ask("1")
        running.live.stop()
        server.wait_for(lambda text: "gunicorn.shop.error" in text, "the error log")
        has_access = any("gunicorn.shop.access" in text for text in server.texts)
    return {
        "syslog": True,
        "syslog_addr": True,
        "syslog_prefix": True,
        "syslog_facility": facilities,
        "disable_redirect_access_to_syslog": [True, has_access],
    }


@probe(
    statsd_host=same(True), statsd_prefix=same(True), dogstatsd_tags=same(True), enable_backlog_metric=same(True)
)  # fmt: skip
def metrics(subject: Subject) -> Observed:
    with collector() as server:
        running = subject.start(f"""
statsd_host = "{server.address}"
statsd_prefix = "shop"
dogstatsd_tags = "env:test"
enable_backlog_metric = True
""")
        running.ask("1")
        for name in ("shop.gunicorn.requests:", "shop.gunicorn.workers:", "shop.gunicorn.backlog:"):
            server.wait_for(re.compile(re.escape(name)).search, name)
        counted = next(text for text in server.texts if "gunicorn.requests:" in text)
    return {
        "statsd_host": True,
        "statsd_prefix": all(line.startswith("shop.") for text in server.texts for line in text.split()),
        "dogstatsd_tags": "#env:test" in counted,
        "enable_backlog_metric": True,
    }


HANDLERS = {
    "version": 1,
    "disable_existing_loggers": False,
    "root": {"level": "INFO", "handlers": []},
    "formatters": {"short": {"format": "%(name)s|%(levelname)s|%(message)s"}},
    "loggers": {"gunicorn.error": {"level": "INFO", "handlers": ["own"], "propagate": False}},
}


def handled(folder: pathlib.Path) -> dict[str, Any]:
    """A configuration of logging that has a file of its own."""
    own = {"class": "logging.FileHandler", "filename": str(folder / "own.log"), "formatter": "short"}
    return {**HANDLERS, "handlers": {"own": own}}


INI = """
[loggers]
keys = root, gunicorn.error
[handlers]
keys = own
[formatters]
keys = short
[logger_root]
level = INFO
handlers =
[logger_gunicorn.error]
level = INFO
handlers = own
propagate = 0
qualname = gunicorn.error
[handler_own]
class = FileHandler
formatter = short
args = ("{folder}/own.log",)
[formatter_short]
format = %(name)s|%(levelname)s|%(message)s
"""


@probe(logconfig=same(True), logconfig_dict=same(True), logconfig_json=same(True))
def log_configurations(subject: Subject) -> Observed:
    folder = subject.folder
    (folder / "logs.ini").write_text(INI.format(folder=folder))
    (folder / "logs.json").write_text(json.dumps(handled(folder)))
    found = {}
    for name, value in (
        ("logconfig", "FOLDER + '/logs.ini'"),
        ("logconfig_dict", repr(handled(folder))),
        ("logconfig_json", "FOLDER + '/logs.json'"),
    ):
        running = subject.start(f"{name} = {value}\n")
        wait_until(lambda: "gunicorn.error|INFO|Listening at" in text_of(folder / "own.log"), 10, "the log")
        running.ask("1")
        running.live.stop()
        found[name] = True
        (folder / "own.log").unlink()
    return found


@probe(logger_class=same("own / 200"))
def logger_of_user(subject: Subject) -> Observed:
    running = subject.start("""
from gunicorn.glogging import Logger

class Own(Logger):
    def access(self, resp, req, environ, request_time):
        with open(FOLDER + "/own", "w") as file:
            file.write(f"own {req.path} {resp.status.split()[0]}")

logger_class = Own
accesslog = "-"
""")
    running.ask("1")
    wait_until(lambda: text_of(subject.folder / "own"), 10, "the line")
    return {"logger_class": text_of(subject.folder / "own")}
