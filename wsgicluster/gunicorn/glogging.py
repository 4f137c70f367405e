"""The base class of loggers that are written for Gunicorn: what their subclasses override, call and read.

An object of it sets the handlers of both loggers and logs requests; the server's own records go to `Logger.error_log`.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, ClassVar

from wsgicluster.logs.access_log import Atoms, escape, is_clean
from wsgicluster.logs.config import CONFIG_DEFAULTS, read_config
from wsgicluster.logs.handlers import reopen_file_handlers
from wsgicluster.logs.log_file import LogFile
from wsgicluster.logs.loggers import ACCESS_LOGGER, DATE_FORMAT, ERROR_LOGGER, FORMAT, LineHandler, server_logger
from wsgicluster.logs.lossy_socket import LossySocket
from wsgicluster.logs.statsd import RecordMetrics, StatsdClient, StatsdOptions
from wsgicluster.logs.syslog import SyslogHandler, tag_of
from wsgicluster.settings.types.logs import FACILITIES, SYSLOG_ADDRESS

__all__ = ["CONFIG_DEFAULTS", "Logger", "SafeAtoms", "Statsd"]

SYSLOG_FACILITIES = FACILITIES


class SafeAtoms(dict[str, Any]):
    """Atoms by name, in any case within braces; a text can neither forge a line nor end its quotes."""

    def __init__(self, atoms: Mapping[str, Any]) -> None:
        super().__init__()
        for name, value in atoms.items():
            self[name] = escape(value) if isinstance(value, str) and not is_clean(value) else value

    def __getitem__(self, name: str) -> Any:
        return super().get(name.lower() if name.startswith("{") else name, "-")


class Logger:
    """What `setup` and `access` do may be overridden, in whole or by way of the smaller methods.

    ``cfg`` has the settings as attributes.
    """

    LOG_LEVELS: ClassVar[dict[str, int]] = {
        "critical": logging.CRITICAL,
        "error": logging.ERROR,
        "warning": logging.WARNING,
        "info": logging.INFO,
        "debug": logging.DEBUG,
    }
    loglevel = logging.INFO
    error_fmt = FORMAT
    datefmt = DATE_FORMAT
    access_fmt = "%(message)s"
    syslog_fmt = "[%(process)d] %(message)s"
    atoms_wrapper_class: Any = SafeAtoms

    def __init__(self, cfg: Any) -> None:
        self.cfg = cfg
        self.error_log = server_logger(ERROR_LOGGER)
        self.access_log = server_logger(ACCESS_LOGGER)
        self.error_log.name, self.access_log.name = "gunicorn.error", "gunicorn.access"
        self.error_log.propagate = self.access_log.propagate = False
        self.error_handlers: list[logging.Handler] = []
        self.access_handlers: list[logging.Handler] = []
        self.setup(cfg)

    def setup(self, cfg: Any) -> None:
        """Set levels and handlers as the settings say."""
        self.cfg = cfg
        self.loglevel = self.LOG_LEVELS.get(cfg.loglevel.lower(), logging.INFO)
        self.error_log.setLevel(self.loglevel)
        self.access_log.setLevel(logging.INFO)
        self._set_handler(self.error_log, cfg.errorlog, logging.Formatter(self.error_fmt, self.datefmt))
        if cfg.accesslog is not None:
            self._set_handler(self.access_log, cfg.accesslog, logging.Formatter(self.access_fmt))
        if cfg.syslog:
            self._set_syslog_handler(self.error_log, cfg, self.syslog_fmt, "error")
            if not cfg.disable_redirect_access_to_syslog:
                self._set_syslog_handler(self.access_log, cfg, self.syslog_fmt, "access")
        config = read_config(cfg.logconfig_dict, cfg.logconfig_json, cfg.logconfig)
        if config is not None:
            config.apply()

    # -- the error log

    def critical(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log to the error log."""
        self.error_log.critical(msg, *args, **kwargs)

    def error(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log to the error log."""
        self.error_log.error(msg, *args, **kwargs)

    def warning(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log to the error log."""
        self.error_log.warning(msg, *args, **kwargs)

    def info(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log to the error log."""
        self.error_log.info(msg, *args, **kwargs)

    def debug(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log to the error log."""
        self.error_log.debug(msg, *args, **kwargs)

    def exception(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log to the error log, with the traceback of the exception that is handled."""
        self.error_log.exception(msg, *args, **kwargs)

    def log(self, lvl: int | str, msg: object, *args: object, **kwargs: Any) -> None:
        """Log to the error log at a level, which may be a word."""
        level = self.LOG_LEVELS.get(lvl.lower(), logging.INFO) if isinstance(lvl, str) else lvl
        self.error_log.log(level, msg, *args, **kwargs)

    # -- the access log

    @property
    def access_log_enabled(self) -> bool:
        """Whether requests are logged."""
        cfg = self.cfg
        to_syslog = cfg.syslog and not cfg.disable_redirect_access_to_syslog
        return bool(cfg.accesslog or cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json or to_syslog)

    def access(self, resp: Any, req: Any, environ: Mapping[str, Any], request_time: timedelta) -> None:
        """Log one request, with its atoms as the record's arguments."""
        if not self.access_log_enabled:
            return
        atoms = self.atoms_wrapper_class(self.atoms(resp, req, environ, request_time))
        try:
            self.access_log.info(self.cfg.access_log_format, atoms)
        except Exception:  # noqa: BLE001 - of a filter or a handler, which are the user's
            self.exception("a request could not be logged")

    def atoms(self, resp: Any, req: Any, environ: Mapping[str, Any], request_time: timedelta) -> dict[str, Any]:
        """The values that the format may name."""
        status = resp.status if isinstance(resp.status, str) else str(resp.status)
        duration_s = request_time.total_seconds()
        atoms: dict[str, Any] = dict(Atoms(environ, status, (), resp.sent or 0, duration_s, time.time()))
        atoms["s"] = status.split(None, 1)[0] if status else "-"
        atoms["t"] = self.now()
        atoms.update((f"{{{name.lower()}}}i", value) for name, value in _pairs(getattr(req, "headers", req)))
        atoms.update((f"{{{name.lower()}}}o", value) for name, value in _pairs(resp.headers))
        atoms.update((f"{{{name.lower()}}}e", value) for name, value in environ.items())
        return atoms

    def now(self) -> str:
        """The time in the common log format."""
        moment: str = Atoms({}, "", (), 0, 0.0, time.time())["t"]
        return moment

    # -- handlers

    def reopen_files(self) -> None:
        """Open the files of all handlers again, as after they were renamed."""
        for handler in self._own_handlers():
            complaint = handler.file.reopen()
            if complaint is not None:
                self.error("%s", complaint)
        reopen_file_handlers()

    def close_on_exec(self) -> None:
        """Nothing is left to do: no file of a log is inherited."""

    def _own_handlers(self) -> list[LineHandler]:
        handlers = (*self.error_log.handlers, *self.access_log.handlers)
        return [handler for handler in handlers if isinstance(handler, LineHandler)]

    def _set_handler(
        self, log: logging.Logger, output: str | None, fmt: logging.Formatter, stream: object = None
    ) -> None:
        """Have a log written to a file, or to a stream for ``-``, in place of where it was written before."""
        for handler in [each for each in log.handlers if isinstance(each, LineHandler)]:
            log.removeHandler(handler)
            handler.file.close()
        if output is None:
            return
        to_stdout = log is self.access_log if stream is None else getattr(stream, "name", "") == "<stdout>"
        log.addHandler(LineHandler(LogFile(output, 1 if to_stdout else 2, _owner(self.cfg)), fmt))

    def _set_syslog_handler(self, log: logging.Logger, cfg: Any, fmt: str, name: str) -> None:
        """Have a log sent to syslog, too."""
        address = SYSLOG_ADDRESS.read(cfg.syslog_addr)
        prefix = cfg.syslog_prefix or cfg.proc_name or cfg.wsgi_app
        facility = FACILITIES[cfg.syslog_facility.lower()]
        handler = SyslogHandler(LossySocket((*address,)), facility, tag_of(prefix, name))
        handler.setFormatter(logging.Formatter(fmt))
        log.addHandler(handler)

    def _get_user(self, environ: Mapping[str, Any]) -> str | None:
        """The user name of basic authentication, or None."""
        user = Atoms(environ, "", (), 0, 0.0, 0.0)["u"]
        return None if user == "-" else str(user)


class Statsd(Logger):
    """A logger whose records and requests are counted by StatsD."""

    def __init__(self, cfg: Any) -> None:
        self._metrics: StatsdClient | None = None
        self._socket: LossySocket | None = None
        named = cfg.statsd_prefix.rstrip(".")
        self.prefix = f"{named}." if named else ""
        self.dogstatsd_tags = cfg.dogstatsd_tags
        if cfg.statsd_host is not None:
            options = StatsdOptions((*cfg.statsd_host,), cfg.statsd_prefix, cfg.dogstatsd_tags)
            self._socket = LossySocket(options.target)
            self._metrics = StatsdClient(options, self._socket)
        super().__init__(cfg)
        self._filter = RecordMetrics(self._metrics) if self._metrics is not None else None
        if self._filter is not None:
            self.error_log.addFilter(self._filter)

    def access(self, resp: Any, req: Any, environ: Mapping[str, Any], request_time: timedelta) -> None:
        """Log and count one request."""
        super().access(resp, req, environ, request_time)
        if self._metrics is not None:
            self._metrics.add_request(str(resp.status), request_time.total_seconds())
            self._metrics.flush()

    def log(self, lvl: int | str, msg: object, *args: object, **kwargs: Any) -> None:
        """Log to the error log, and send the metric of ``extra`` whatever the level of the log is."""
        level = self.LOG_LEVELS.get(lvl.lower(), logging.INFO) if isinstance(lvl, str) else lvl
        if self._filter is not None and not self.error_log.isEnabledFor(level):
            self._filter.send_metric(kwargs.get("extra") or {})
            return
        super().log(lvl, msg, *args, **kwargs)

    def info(self, msg: object, *args: object, **kwargs: Any) -> None:
        """As `log`."""
        self.log(logging.INFO, msg, *args, **kwargs)

    def debug(self, msg: object, *args: object, **kwargs: Any) -> None:
        """As `log`."""
        self.log(logging.DEBUG, msg, *args, **kwargs)

    def close(self) -> None:
        """Close the socket; it is opened again if something is sent."""
        if self._socket is not None:
            self._socket.close()

    def gauge(self, name: str, value: float) -> None:
        """Send a value that goes up and down."""
        self._send(name, value, "gauge")

    def increment(self, name: str, value: float, sampling_rate: float = 1.0) -> None:
        """Add to a counter."""
        self._send(name, value, "counter")

    def decrement(self, name: str, value: float, sampling_rate: float = 1.0) -> None:
        """Take from a counter."""
        self._send(name, -value, "counter")

    def timer(self, name: str, value: float) -> None:
        """Send a duration in milliseconds."""
        self._send(name, value, "timer")

    def histogram(self, name: str, value: float) -> None:
        """Send a value whose distribution counts."""
        self._send(name, value, "histogram")

    def _send(self, name: str, value: float, kind: str) -> None:
        if self._metrics is not None:
            self._metrics.send(name, value, kind)


def _pairs(headers: Any) -> Iterable[tuple[str, Any]]:
    found = headers.items() if hasattr(headers, "items") else headers
    return [pair for pair in found if isinstance(pair, tuple) and len(pair) == 2]


def _owner(cfg: Any) -> tuple[int, int] | None:
    user, group = getattr(cfg, "user", None), getattr(cfg, "group", None)
    return (user, group) if isinstance(user, int) and isinstance(group, int) else None
