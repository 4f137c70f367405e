"""Joins a class of the user's, written for Gunicorn, to the logs of a process.

The class is made with the settings; its ``access`` gets each request, in objects with Gunicorn's attributes.
"""

import importlib
import inspect
from datetime import timedelta
from typing import Any

from wsgicluster.dataclass import dataclass
from wsgicluster.errors import ServerError, UsageError
from wsgicluster.gunicorn import glogging
from wsgicluster.gunicorn.configuration import Configuration
from wsgicluster.gunicorn.imports import importable
from wsgicluster.logs.access_log import Headers, content_length
from wsgicluster.logs.handlers import all_handlers
from wsgicluster.logs.loggers import ERROR_LOGGER, LineHandler, server_logger

OWN = {
    "gunicorn.glogging.Logger": glogging.Logger,
    "gunicorn.instrument.statsd.Statsd": glogging.Statsd,
}
"""Gunicorn's names for what is ours here."""


class LoggedResponse:
    """A response as ``access`` reads it."""

    def __init__(self, status: str, headers: Headers, sent: int) -> None:
        self.status = status
        self.headers = list(headers)
        self.sent = sent

    @property
    def status_code(self) -> int | None:
        """The status as a number."""
        code = self.status[:3]
        return int(code) if code.isdigit() else None

    @property
    def response_length(self) -> int | None:
        """The Content-Length that the application has set."""
        return content_length(self.headers)


class LoggedRequest:
    """A request as ``access`` reads it: made of its environ, when an attribute is asked for."""

    def __init__(self, environ: dict[str, Any]) -> None:
        self.environ = environ

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Names in capitals, and values."""
        found = [
            (name[5:].replace("_", "-"), value) for name, value in self.environ.items() if name.startswith("HTTP_")
        ]
        plain = [(name.replace("_", "-"), self.environ[name]) for name in _UNPREFIXED if self.environ.get(name)]
        return found + plain

    @property
    def method(self) -> str:
        """The method."""
        return str(self.environ["REQUEST_METHOD"])

    @property
    def uri(self) -> str:
        """The target as it was received."""
        return str(self.environ["RAW_URI"])

    @property
    def path(self) -> str:
        """The target without the query."""
        return self.uri.partition("?")[0]

    @property
    def query(self) -> str:
        """The query."""
        return str(self.environ.get("QUERY_STRING", ""))

    @property
    def scheme(self) -> str:
        """The scheme, http or https."""
        return str(self.environ.get("wsgi.url_scheme", "http"))

    @property
    def remote_addr(self) -> tuple[str, str]:
        """Address and port of the peer."""
        return str(self.environ.get("REMOTE_ADDR", "")), str(self.environ.get("REMOTE_PORT", ""))

    @property
    def version(self) -> tuple[int, int]:
        """The version of HTTP."""
        return (1, 0) if self.environ["SERVER_PROTOCOL"] == "HTTP/1.0" else (1, 1)


_UNPREFIXED = ("CONTENT_TYPE", "CONTENT_LENGTH")
_UNKNOWN = {"REQUEST_METHOD": "-", "RAW_URI": "-", "SERVER_PROTOCOL": "-", "PATH_INFO": "-", "QUERY_STRING": ""}


class LoggedByClass:
    """The requests of a process, each given to the ``access`` of ``logger`` by the thread that has run it."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._complained = False

    def record(
        self, environ: dict[str, Any], status: str, headers: Headers, sent_bytes: int, duration_s: float, _now: float
    ) -> None:
        """Log one request."""
        response = LoggedResponse(status, headers, sent_bytes)
        try:
            self._logger.access(response, LoggedRequest(environ), environ, timedelta(seconds=duration_s))
        except Exception:  # noqa: BLE001
            # The class is the user's; the same would be raised for each request.
            if not self._complained:
                self._complained = True
                server_logger(ERROR_LOGGER).exception("logger_class: a request could not be logged; this is said once")

    def record_refused(self, environ: dict[str, Any], status: str, sent_bytes: int, duration_s: float) -> None:
        """Log one that was refused."""
        self.record({**_UNKNOWN, **environ}, status, (), sent_bytes, duration_s, 0.0)

    def flush(self) -> None:
        """Nothing is collected."""


class JoinedLogger:
    """An object of the user's class, as the logs of a process use it."""

    def __init__(self, logger: Any) -> None:
        self.logger = logger
        self.requests = LoggedByClass(logger)
        self._handlers = {handler for handler in all_handlers() if isinstance(handler, LineHandler)}

    def reopen(self) -> None:
        """Open its files again."""
        self.logger.reopen_files()

    def close(self) -> None:
        """Close its files."""
        for handler in self._handlers.difference(all_handlers()):
            handler.file.close()

    def report(self, text: str, metric: str, value: int, kind: str) -> None:
        """Log a metric at debug, which the class may send elsewhere."""
        self.logger.debug(text, extra={"metric": metric, "value": value, "mtype": kind})


@dataclass(frozen=True)
class LoggerMaker:
    """Makes the object of ``logger_class``, with ``settings`` as its ``cfg``. Equal if both are equal."""

    logger_class: Any
    settings: Any

    def __call__(self) -> JoinedLogger:
        """Raises UsageError where the class cannot be imported, or raises itself."""
        found = load(self.logger_class)
        try:
            if hasattr(found, "install"):
                found.install()
            return JoinedLogger(found(Configuration(self.settings)))
        except ServerError:
            raise
        except Exception as error:
            raise UsageError(f"logger_class {_name(found)}: {type(error).__name__}: {error}") from error


def maker_of(settings: Any) -> LoggerMaker | None:
    """What makes the object that ``logger_class`` asks for; None where our own logs do what it would do."""
    wanted = settings.logger_class
    if wanted is None or wanted in ("gunicorn.glogging.Logger", glogging.Logger):
        return None
    return LoggerMaker(wanted, settings)


def load(wanted: Any) -> Any:
    """The class that the setting names. Raises UsageError."""
    if inspect.isclass(wanted):
        return wanted
    if wanted in OWN:
        return OWN[wanted]
    module, _, name = wanted.replace("#", ".").replace(":", ".").rpartition(".")
    try:
        with importable():  # it is derived from a class of Gunicorn's
            found = getattr(importlib.import_module(module), name)
    except Exception as error:
        raise UsageError(f"logger_class: cannot load {wanted}: {type(error).__name__}: {error}") from error
    if not callable(getattr(found, "access", None)):
        raise UsageError(
            f"logger_class: {wanted} is not a class like gunicorn.glogging.Logger: it has no method access"
        )
    return found


def _name(found: Any) -> str:
    return f"{found.__module__}.{found.__qualname__}"
