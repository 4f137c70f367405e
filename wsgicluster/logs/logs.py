"""The error log and the access log of a process, as its options want them: opened, reopened, and replaced.

Knows no setting. How a line is written is `wsgicluster.logs.log_file`, what it looks like `wsgicluster.logs.loggers`.
"""

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from wsgicluster.counting import count_of
from wsgicluster.errors import UsageError
from wsgicluster.logs.access_log import AccessLog, RequestFormat, RequestLog, check_format, compile_format
from wsgicluster.logs.config import LoggingConfig
from wsgicluster.logs.handlers import all_handlers, handler_descriptors, reopen_file_handlers
from wsgicluster.logs.log_file import LogFile
from wsgicluster.logs.loggers import (
    ACCESS_LOGGER,
    ERROR_LOGGER,
    GUNICORN_NAMES,
    LineHandler,
    claim_names,
    server_logger,
)
from wsgicluster.logs.lossy_socket import LossySocket
from wsgicluster.logs.options import LogOptions, UserLogger
from wsgicluster.logs.records import AccessRecords
from wsgicluster.logs.selection import SelectedRequests
from wsgicluster.logs.statsd import MeasuredRequests, RecordMetrics, StatsdClient
from wsgicluster.logs.structured import StructuredFormatter, StructuredRequests
from wsgicluster.logs.syslog import SyslogHandler, tag_of

__all__ = ["LogOptions", "Logs", "check_options"]


def check_options(options: LogOptions) -> None:
    """Raise UsageError for a wrong format of lines of the access log, where these are ours."""
    if options.user_logger is None:  # else it may have atoms of its own
        check_format(options.access_log_format)


def _line_format(options: LogOptions) -> RequestFormat:
    if options.structure == "text":
        return compile_format(options.access_log_format)
    return StructuredRequests(options.structure)


class Logs:
    """Both logs of a process. Raises ServerError when one cannot be opened, UsageError for a wrong format.

    ``access`` is None when requests are not logged. Objects are shared with forked children,
    each of which reopens for itself.
    """

    _error_handler: LineHandler | None = None

    def __init__(self, options: LogOptions) -> None:
        claim_names()
        self.error = server_logger(ERROR_LOGGER)
        self.access: RequestLog | None = None
        self._options = LogOptions()
        self._access_file: LogFile | None = None
        self._info_handler: LineHandler | None = None
        self._user_logger: UserLogger | None = None
        self._statsd: StatsdClient | None = None
        self._sockets: list[LossySocket] = []
        self._access_handlers: list[logging.Handler] = []
        self.apply(options)

    def apply(self, options: LogOptions) -> None:
        """Log by these options from now on; raises and changes nothing when that is not possible."""
        check_options(options)
        configured = set(all_handlers()) if self._options.config is not None else set[logging.Handler]()
        user_logger = None
        info_file = access_file = None
        with contextlib.ExitStack() as opened:
            error_file = LogFile(options.errorlog, 2, options.owner)
            opened.callback(error_file.close)
            if options.to_stdout and options.user_logger is None:
                info_file = LogFile("-", 1)
                opened.callback(info_file.close)
            if options.accesslog is not None and options.user_logger is None:
                access_file = LogFile(options.accesslog, 1, options.owner)
                opened.callback(access_file.close)
            if options.user_logger is None:
                self._configure(options.config)
            else:
                with self._restored_on_error():
                    user_logger = _made(options.user_logger)
            opened.pop_all()
        self._flush()
        for opened_before in self._sockets:
            opened_before.close()
        self._sockets.clear()
        if self._user_logger is not None:
            self._user_logger.close()
        self._user_logger = user_logger
        self._use_error(error_file, info_file, options)
        self._use_access(access_file)
        self._options = options
        self._capture()
        self._use_statsd(options)
        self.access = self._requests(options)
        # What the last configuration has opened, and this one does not use any more.
        for handler in configured - set(all_handlers()):
            if isinstance(handler, logging.FileHandler):
                handler.close()

    def append(self, data: bytes) -> None:
        """Write an application's own text, which is not a record, to the error log's file."""
        if self._error_handler is not None:
            self._error_handler.file.write(data, whole=False)

    def fileno(self) -> int:
        """The descriptor of the error log's file. Raises OSError when there is none."""
        if self._error_handler is None:
            raise OSError("the error log has no file")
        return self._error_handler.file.descriptor

    @property
    def is_configured(self) -> bool:
        """Whether users have configured Python's logging."""
        return self._options.is_configured

    @property
    def error_path(self) -> str | None:
        """The file of the error log; None where its lines go to a stream, or to no file that is known."""
        own = self._error_handler
        if own is not None and own in self.error.handlers:
            return own.file.path if own.file.is_file else None
        return next(filter(None, map(_path_of, (*self.error.handlers, *logging.root.handlers))), None)

    @property
    def error_stream(self) -> int | None:
        """The descriptor that the error log is written to, where that is a stream."""
        own = self._error_handler
        if own is None or own not in self.error.handlers or own.file.is_file:
            return None
        return own.file.descriptor

    def reopen(self) -> None:
        """Open the files again, as after they were renamed; keeps the old one of a file that cannot be opened."""
        self._flush()
        for file in self._files():
            complaint = file.reopen()
            if complaint is not None:
                self.error.error("%s", complaint)
        if self._user_logger is None:
            reopen_file_handlers()
        else:
            self._user_logger.reopen()
        self._capture()

    def descriptors(self) -> set[int]:
        """Descriptors that a child must keep in order to log."""
        for file in self._files():
            file.follow()
        found = {file.descriptor for file in self._files()}
        if self.is_configured:
            found.update(handler_descriptors())
        return found

    def user_logger(self) -> Any:
        """The object of a user's class that has set the handlers, None without one."""
        return None if self._user_logger is None else self._user_logger.logger

    def report(self, text: str, metric: str, value: int, kind: str) -> None:
        """Send a metric of the server's own to StatsD, if there is one."""
        if self._statsd is not None:
            self._statsd.send(metric, value, kind)
        elif self._user_logger is not None:
            self._user_logger.report(text, metric, value, kind)

    def follow_access_logger(self) -> None:
        """Have requests go through the logger, if other code has changed its filters or handlers."""
        if self.access is None or self._options.names(ACCESS_LOGGER):
            return
        logger = server_logger(ACCESS_LOGGER)
        if logger.filters or logger.handlers != self._access_handlers:
            self.access = self._requests(self._options, as_records=True)

    def _files(self) -> list[LogFile]:
        handlers = [handler for handler in (self._error_handler, self._info_handler) if handler is not None]
        files = [handler.file for handler in handlers]
        return files if self._access_file is None else [*files, self._access_file]

    def _flush(self) -> None:
        if self.access is not None:
            self.access.flush()

    def _use_error(self, file: LogFile, info_file: LogFile | None, options: LogOptions) -> None:
        for old in (self._error_handler, self._info_handler):
            if old is not None:
                self.error.removeHandler(old)
                old.file.close()
        structured = None if options.structure == "text" else StructuredFormatter(options.structure)
        formatter = options.formatter() or structured
        self._error_handler = LineHandler(file, formatter)
        self._info_handler = None if info_file is None else LineHandler(info_file, formatter)
        if options.names(ERROR_LOGGER):
            return
        # The handlers of an earlier configuration are removed with it.
        self.error.handlers.clear()
        self.error.setLevel(options.loglevel.upper())
        self.error.propagate = options.config is not None and options.config.root_takes_all
        self.error.addHandler(self._error_handler)
        if self._info_handler is not None:
            self._info_handler.addFilter(_is_below_warning)
            self._error_handler.setLevel(logging.WARNING)
            self.error.addHandler(self._info_handler)
        if options.syslog is not None:
            opened = self._socket_for("syslog_addr", options.syslog.target)
            self.error.addHandler(SyslogHandler(opened, options.syslog.facility, tag_of(options.syslog.name, "error")))

    def _socket_for(self, name: str, target: tuple[str, str, int]) -> LossySocket:
        made = LossySocket(target)
        self._sockets.append(made)
        if made.lookup_error:
            self.error.warning("%s: cannot find %s; nothing is sent there", name, made.lookup_error)
        return made

    def _use_access(self, file: LogFile | None) -> None:
        old, self._access_file = self._access_file, file
        if old is not None:
            old.close()
        if file is not None:
            file.report_dropped = self._report_dropped

    def _use_statsd(self, options: LogOptions) -> None:
        self._statsd = None
        if options.user_logger is not None:
            return
        _remove_metrics(self.error)
        if options.statsd is not None:
            self._statsd = StatsdClient(options.statsd, self._socket_for("statsd_host", options.statsd.target))
            self.error.addFilter(RecordMetrics(self._statsd))

    def _requests(self, options: LogOptions, as_records: bool = False) -> RequestLog | None:
        if self._user_logger is not None:
            found: RequestLog | None = self._user_logger.requests
        else:
            found = self._own_requests(options, as_records)
        if found is not None and (options.skipped or options.portion < 1.0):
            found = SelectedRequests(found, options.skipped, options.portion)
        return found if self._statsd is None else MeasuredRequests(self._statsd, found)

    def _own_requests(self, options: LogOptions, as_records: bool) -> RequestLog | None:
        logger = server_logger(ACCESS_LOGGER)
        records = AccessRecords(options.access_log_format, logger, self.error)
        if as_records or options.names(ACCESS_LOGGER):
            return records
        formatter = options.formatter()
        writers: list[Callable[[list[str]], None]] = []
        self._access_handlers = []
        if self._access_file is not None:
            # Seldom used: lines are written without it. But code that is written for Gunicorn looks for it.
            self._access_handlers.append(LineHandler(self._access_file, formatter or logging.Formatter("%(message)s")))
            self._access_file.report_dropped = self._report_dropped
            writers.append(self._write_access)
        if options.syslog is not None and options.syslog.access:
            opened = self._socket_for("syslog_addr", options.syslog.target)
            handler = SyslogHandler(opened, options.syslog.facility, tag_of(options.syslog.name, "access"))
            self._access_handlers.append(handler)
            writers.append(handler.write)
        logger.handlers = self._access_handlers[:]
        logger.propagate = False
        logger.setLevel(logging.INFO)
        if not writers:
            return None
        if formatter is not None:
            return records
        # Compiled only where requests are logged: that takes three milliseconds.
        return AccessLog(_line_format(options), writers[0] if len(writers) == 1 else _each(writers))

    def _write_access(self, lines: list[str]) -> None:
        if self._access_file is not None:
            self._access_file.write("\n".join([*lines, ""]).encode("utf-8", "backslashreplace"))

    def _report_dropped(self, count: int) -> bool:
        # Not in the access log itself: programs that parse it expect only requests.
        name = self._access_file.path if self._access_file is not None else ""
        lines, be = count_of(count, "line"), "is" if count == 1 else "are"
        self.error.warning("%s could not be written to the access log (%s) and %s lost", lines, name, be)
        return True

    def _capture(self) -> None:
        file = None if self._error_handler is None else self._error_handler.file
        if not self._options.capture_output or file is None or not file.is_file:
            return
        for number, stream in ((1, sys.stdout), (2, sys.stderr)):
            if hasattr(stream, "reconfigure"):
                stream.flush()
                stream.reconfigure(line_buffering=True)
            os.dup2(file.descriptor, number)

    def _configure(self, wanted: LoggingConfig | None) -> None:
        if wanted == self._options.config and not self._options.user_logger:
            return
        with self._restored_on_error():
            if wanted is not None:
                wanted.apply()

    @contextlib.contextmanager
    def _restored_on_error(self) -> Iterator[None]:
        """Let something else configure the loggers, which have the names and no parent's handlers at first."""
        loggers = (logging.root, server_logger(ERROR_LOGGER), server_logger(ACCESS_LOGGER))
        saved = [(each, each.name, each.level, each.propagate, each.handlers[:]) for each in loggers]
        for name in (ERROR_LOGGER, ACCESS_LOGGER):
            logger = server_logger(name)
            logger.name, logger.propagate = name, False
        try:
            yield
        except UsageError:
            for logger, name, level, propagate, handlers in saved:
                logger.name, logger.propagate, logger.handlers = name, propagate, handlers
                logger.setLevel(level)
            if self._options.config is not None and self._options.user_logger is None:
                self._options.config.apply()  # dictConfig has closed its handlers
            raise


def _made(make: Callable[[], UserLogger]) -> UserLogger:
    for name in (ERROR_LOGGER, ACCESS_LOGGER):
        logger = server_logger(name)
        logger.name, logger.handlers = GUNICORN_NAMES[name], []
        _remove_metrics(logger)
    return make()


def _remove_metrics(logger: logging.Logger) -> None:
    for found in [each for each in logger.filters if isinstance(each, RecordMetrics)]:
        logger.removeFilter(found)


def _is_below_warning(record: logging.LogRecord) -> bool:
    return record.levelno < logging.WARNING


def _each(writers: list[Callable[[list[str]], None]]) -> Callable[[list[str]], None]:
    def write(lines: list[str]) -> None:
        for writer in writers:
            writer(lines)

    return write


def _path_of(handler: logging.Handler) -> str | None:
    if isinstance(handler, LineHandler):
        return handler.file.path if handler.file.is_file else None
    path = getattr(handler, "baseFilename", None)
    return path if isinstance(path, str) else None
