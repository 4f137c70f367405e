"""Classes of loggers that are written for Gunicorn: what they override, call and read, and that they are joined."""

import io
import logging
import os
import pathlib
import socket
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from wsgicluster.errors import UsageError
from wsgicluster.gunicorn import glogging
from wsgicluster.gunicorn.user_logger import LoggedRequest, LoggedResponse, LoggerMaker, load, maker_of
from wsgicluster.logs.loggers import ACCESS_LOGGER, ERROR_LOGGER, LineHandler
from wsgicluster.logs.logs import LogOptions, Logs
from wsgicluster.settings import Settings
from wsgicluster.settings.types.logs import LogAddress

ENVIRON: dict[str, Any] = {
    "REMOTE_ADDR": "192.0.2.1",
    "REMOTE_PORT": "5000",
    "REQUEST_METHOD": "GET",
    "RAW_URI": "/a?b",
    "PATH_INFO": "/a",
    "QUERY_STRING": "b",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "HTTP_X_TENANT": 'red"\n',
    "CONTENT_TYPE": "text/plain",
    "wsgi.url_scheme": "https",
}


@pytest.fixture(autouse=True)
def restored_loggers() -> Iterator[None]:
    """Leave Python's own registry of loggers as it was."""
    yield
    for name in (ERROR_LOGGER, ACCESS_LOGGER):
        logger = logging.getLogger(name)
        logger.name, logger.propagate = name, True
        logger.setLevel(logging.NOTSET)
        logger.filters.clear()
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            if isinstance(handler, LineHandler):
                handler.file.close()


def settings_of(folder: pathlib.Path, **more: Any) -> Settings:
    return Settings(
        **{"errorlog": str(folder / "error"), "accesslog": str(folder / "access"), "wsgi_app": "shop:app", **more}
    )


def joined(settings: Settings, of: Any) -> Logs:
    return Logs(LogOptions(settings.errorlog, user_logger=LoggerMaker(of, settings)))


def request(logs: Logs) -> None:
    assert logs.access is not None
    logs.access.record(ENVIRON, "200 OK", [("X-Answer", "42"), ("Content-Length", "5")], 5, 0.25, 0.0)
    logs.access.flush()


class Tenants(glogging.Logger):
    """Overrides what people override."""

    access_fmt = "<%(message)s>"

    def atoms(self, resp: Any, req: Any, environ: Any, request_time: timedelta) -> dict[str, Any]:
        return {**super().atoms(resp, req, environ, request_time), "tenant": environ["HTTP_X_TENANT"]}

    def now(self) -> str:
        return "NOW"


class Failing(glogging.Logger):
    """Raises for each request."""

    def access(self, *_args: Any) -> None:
        raise KeyError("tenant")


class Foreign:
    """Has the methods, and no base class of ours: as Gunicorn's own has."""

    def __init__(self, _cfg: Any) -> None:
        self.logger = logging.getLogger("gunicorn.access")
        self.logger.addHandler(logging.StreamHandler(Foreign.stream))
        self.logger.setLevel("INFO")

    stream: Any = None

    def access(self, resp: Any, req: Any, _environ: Any, request_time: timedelta) -> None:
        self.logger.info("%s %s %s", req.path, resp.status, request_time.total_seconds())

    def reopen_files(self) -> None:
        """None."""


class Starting(glogging.Logger):
    """Cannot be made."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        raise ZeroDivisionError("of a user")


def test_overridden_methods(tmp_path: pathlib.Path) -> None:
    text = (
        "%(t)s %(tenant)s %({X-Tenant}i)s %({x-answer}o)s %({wsgi.url_scheme}e)s %(m)s %(s)s %(D)s %(L)s %(none)s %(b)s"
    )
    logs = joined(settings_of(tmp_path, access_log_format=text), Tenants)
    request(logs)
    escaped = r"red\"\n"
    assert (tmp_path / "access").read_text() == f"<NOW {escaped} {escaped} 42 https GET 200 250000 0.250000 - 5>\n"
    logs.error.info("event")
    assert (tmp_path / "error").read_text().endswith(f"[{os.getpid()}] [INFO] event\n")
    assert logs.error.name == "gunicorn.error"


def test_a_class_that_is_not_derived_from_ours(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(Foreign, "stream", stream)
    logs = joined(settings_of(tmp_path), Foreign)
    assert logs.error.name == "gunicorn.error"
    request(logs)
    assert stream.getvalue() == "/a 200 OK 0.25\n"


def test_refused_requests(tmp_path: pathlib.Path) -> None:
    logs = joined(settings_of(tmp_path, access_log_format='"%(r)s" %(s)s %(h)s'), glogging.Logger)
    assert logs.access is not None
    logs.access.record_refused({"REMOTE_ADDR": "me", "REQUEST_LINE": "GET"}, "400 Bad Request", 0, 0.0)
    assert (tmp_path / "access").read_text() == '"GET" 400 me\n'


def test_one_that_raises_says_so_once(tmp_path: pathlib.Path) -> None:
    logs = joined(settings_of(tmp_path), Failing)
    request(logs)
    request(logs)
    text = (tmp_path / "error").read_text()
    assert text.count("logger_class: a request could not be logged") == 1
    assert "KeyError: 'tenant'" in text


def test_one_that_cannot_be_made_changes_nothing(tmp_path: pathlib.Path) -> None:
    logs = Logs(LogOptions(str(tmp_path / "before")))
    with pytest.raises(UsageError, match=r"logger_class .*\.Starting: ZeroDivisionError: of a user"):
        logs.apply(LogOptions(str(tmp_path / "after"), user_logger=LoggerMaker(Starting, settings_of(tmp_path))))
    logs.error.info("as before")
    assert "as before" in (tmp_path / "before").read_text()


@pytest.mark.usefixtures("no_collection")
def test_files_are_reopened_and_closed(tmp_path: pathlib.Path) -> None:
    settings = settings_of(tmp_path, access_log_format="%(U)s")
    logs = joined(settings, glogging.Logger)
    opened = {os.readlink(f"/proc/self/fd/{number}") for number in logs.descriptors()}
    assert {str(tmp_path / "error"), str(tmp_path / "access")} <= opened
    request(logs)
    (tmp_path / "access").rename(tmp_path / "access.old")
    logs.reopen()
    request(logs)
    assert (tmp_path / "access.old").read_text() == (tmp_path / "access").read_text() == "/a\n"
    count = len(os.listdir("/proc/self/fd"))
    logs.apply(LogOptions(settings.errorlog, user_logger=LoggerMaker(Tenants, settings)))
    assert len(os.listdir("/proc/self/fd")) == count
    request(logs)
    assert (tmp_path / "access").read_text() == "/a\n</a>\n"
    logs.apply(LogOptions(settings.errorlog))
    assert logs.access is None
    assert logs.error.name == ERROR_LOGGER
    logs.error.info("ours again")
    assert "ours again" in (tmp_path / "error").read_text()


def test_without_an_access_log_nothing_is_logged(tmp_path: pathlib.Path) -> None:
    logs = joined(settings_of(tmp_path, accesslog=None), glogging.Logger)
    request(logs)
    assert logging.getLogger(ACCESS_LOGGER).handlers == []


def test_a_configuration_is_applied_by_setup(tmp_path: pathlib.Path) -> None:
    handler = {"class": "logging.FileHandler", "filename": str(tmp_path / "own")}
    wanted = {"handlers": {"own": handler}, "loggers": {"gunicorn.access": {"handlers": ["own"], "level": "INFO"}}}
    logs = joined(settings_of(tmp_path, logconfig_dict=wanted, access_log_format="%(U)s"), glogging.Logger)
    request(logs)
    assert (tmp_path / "own").read_text() == "/a\n"
    logging.getLogger(ACCESS_LOGGER).handlers[0].close()


def test_methods_of_the_error_log(tmp_path: pathlib.Path) -> None:
    logger = glogging.Logger(settings_of(tmp_path, loglevel="debug"))
    for level in ("debug", "info", "warning", "error", "critical"):
        getattr(logger, level)("%s %d", "one", 1)
        logger.log(level, "two")
    try:
        raise KeyError
    except KeyError:
        logger.exception("three")
    lines = (tmp_path / "error").read_text().splitlines()
    assert [line.split("] ", 2)[2] for line in lines[:4]] == [
        "[DEBUG] one 1", "[DEBUG] two", "[INFO] one 1", "[INFO] two",
    ]  # fmt: skip
    assert lines[-1] == "KeyError"


def test_what_a_request_and_a_response_have() -> None:
    req, resp = LoggedRequest(ENVIRON), LoggedResponse("204 No Content", [("Content-Length", "7")], 7)
    assert (req.method, req.uri, req.path, req.query, req.scheme) == ("GET", "/a?b", "/a", "b", "https")
    assert (req.remote_addr, req.version) == (("192.0.2.1", "5000"), (1, 1))
    assert req.headers == [("X-TENANT", 'red"\n'), ("CONTENT-TYPE", "text/plain")]
    assert (resp.status, resp.status_code, resp.sent, resp.response_length) == ("204 No Content", 204, 7, 7)


def test_names() -> None:
    assert maker_of(Settings()) is None
    assert maker_of(Settings(logger_class="gunicorn.glogging.Logger")) is None
    assert load("gunicorn.instrument.statsd.Statsd") is glogging.Statsd
    assert load(f"{__name__}.Tenants") is Tenants or load(f"{__name__}.Tenants").__name__ == "Tenants"
    for wrong, says in (
        ("none.such", "cannot load none.such: ModuleNotFoundError"),
        ("json.none", "cannot load json.none: AttributeError"),
        ("json.dumps", "it has no method access"),
    ):
        with pytest.raises(UsageError, match=says):
            load(wrong)


def test_a_class_whose_module_imports_gunicorn(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "logs_by_import.py").write_text("from gunicorn.glogging import Logger\nclass Mine(Logger): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert issubclass(load("logs_by_import.Mine"), load("gunicorn.glogging.Logger"))
    assert "gunicorn" not in sys.modules


def test_equal_makers_are_for_equal_settings(tmp_path: pathlib.Path) -> None:
    assert LoggerMaker(Tenants, settings_of(tmp_path)) == LoggerMaker(Tenants, settings_of(tmp_path))
    assert LoggerMaker(Tenants, settings_of(tmp_path)) != LoggerMaker(Tenants, settings_of(tmp_path, loglevel="debug"))


def test_statsd(tmp_path: pathlib.Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(15)
        address = LogAddress("udp", "127.0.0.1", receiver.getsockname()[1])
        logger = glogging.Statsd(settings_of(tmp_path, loglevel="error", statsd_host=address, statsd_prefix="shop"))
        logger.info("below the level", extra={"metric": "stock", "value": 1, "mtype": "gauge"})
        logger.error("failed")
        logger.gauge("a", 1)
        logger.increment("b", 2)
        logger.decrement("c", 3)
        logger.timer("d", 4)
        logger.histogram("e", 5)
        assert [receiver.recv(1000).decode() for _ in range(7)] == [
            "shop.stock:1|g", "shop.gunicorn.log.error:1|c|@1.0", "shop.a:1|g", "shop.b:2|c|@1.0", "shop.c:-3|c|@1.0",
            "shop.d:4|ms", "shop.e:5|h",
        ]  # fmt: skip
        logger.access(LoggedResponse("200 OK", [], 5), LoggedRequest(ENVIRON), ENVIRON, timedelta(seconds=0.25))
        assert "shop.gunicorn.request.duration:250.000|ms" in receiver.recv(1000).decode()
        logger.close()
