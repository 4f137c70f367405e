"""The error log and the access log of a process, as its options want them: opened, reopened, and replaced.

Knows no setting. How a line is written is `wsgicluster.logs.log_file`, what it looks like `wsgicluster.logs.loggers`.
"""

import contextlib
import logging
import os
import sys
from dataclasses import dataclass

from wsgicluster.counting import count_of
from wsgicluster.errors import UsageError
from wsgicluster.logs.access_log import AccessLog, LineFormat, RequestLog, compile_format
from wsgicluster.logs.config import LoggingConfig, handler_descriptors, reopen_file_handlers
from wsgicluster.logs.log_file import LogFile
from wsgicluster.logs.loggers import ACCESS_LOGGER, ERROR_LOGGER, LineHandler, claim_names, server_logger
from wsgicluster.logs.records import AccessRecords


@dataclass(frozen=True)
class LogOptions:
    """The files and the level of the logs; ``-`` is standard error for ``errorlog``, standard output for ``accesslog``.

    ``owner`` is the user and group ID that new files get, so that workers can open them again;
    a file that exists gets the user and keeps its group.
    """

    errorlog: str = "-"
    loglevel: str = "info"
    accesslog: str | None = None
    access_log_format: str = "%(h)s"
    config: LoggingConfig | None = None
    capture_output: bool = False
    owner: tuple[int, int] | None = None


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
        self.apply(options)

    def apply(self, options: LogOptions) -> None:
        """Log by these options from now on; raises and changes nothing when that is not possible."""
        format_line = compile_format(options.access_log_format)
        with contextlib.ExitStack() as opened:
            error_file = LogFile(options.errorlog, 2, options.owner)
            opened.callback(error_file.close)
            access_file = None
            if options.accesslog is not None:
                access_file = LogFile(options.accesslog, 1, options.owner)
                opened.callback(access_file.close)
            self._configure(options.config)
            opened.pop_all()
        self._flush()
        self._use_error(error_file, options)
        self._use_access(access_file)
        self.access = self._request_log(options, format_line)

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
        return self._options.config is not None

    @property
    def error_path(self) -> str | None:
        """The file of the error log; None where its lines go to a stream, or to no file that is known."""
        own = self._error_handler
        if own is not None and own in self.error.handlers:
            return own.file.path if own.file.is_file else None
        found = [getattr(handler, "baseFilename", None) for handler in (*self.error.handlers, *logging.root.handlers)]
        return next((path for path in found if isinstance(path, str)), None)

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
        reopen_file_handlers()
        self._capture()

    def descriptors(self) -> set[int]:
        """Descriptors that a child must keep in order to log."""
        for file in self._files():
            file.follow()
        found = {file.descriptor for file in self._files()}
        if self._options.config is not None:
            found.update(handler_descriptors())
        return found

    def _files(self) -> list[LogFile]:
        files = [] if self._error_handler is None else [self._error_handler.file]
        return files if self._access_file is None else [*files, self._access_file]

    def _flush(self) -> None:
        if self.access is not None:
            self.access.flush()

    def _use_error(self, file: LogFile, options: LogOptions) -> None:
        old, self._error_handler = self._error_handler, LineHandler(file)
        if old is not None:
            self.error.removeHandler(old)
            old.file.close()
        wanted = options.config
        if wanted is None or not wanted.names(ERROR_LOGGER):
            # The handlers of an earlier configuration are removed with it.
            self.error.handlers.clear()
            self.error.setLevel(options.loglevel.upper())
            self.error.propagate = wanted is not None and wanted.root_takes_all
            self._error_handler.use(_formatter_of(wanted))
            self.error.addHandler(self._error_handler)
        self._options = options
        self._capture()

    def _use_access(self, file: LogFile | None) -> None:
        old, self._access_file = self._access_file, file
        if old is not None:
            old.close()
        if file is not None:
            file.report_dropped = self._report_dropped

    def _request_log(self, options: LogOptions, format_line: LineFormat) -> RequestLog | None:
        logger = server_logger(ACCESS_LOGGER)
        wanted = options.config
        if wanted is not None and wanted.names(ACCESS_LOGGER):
            return AccessRecords(options.access_log_format, logger, self.error)
        logger.handlers.clear()
        logger.setLevel(logging.INFO)
        logger.propagate = False
        if self._access_file is None:
            return None
        formatter = _formatter_of(wanted)
        if formatter is None:
            return AccessLog(format_line, self._write_access)
        logger.addHandler(LineHandler(self._access_file, formatter))
        self._access_file.report_dropped = self._report_dropped
        return AccessRecords(options.access_log_format, logger, self.error)

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
        present = self._options.config
        if wanted == present:
            return
        saved = [
            (logger, logger.name, logger.level, logger.propagate, logger.handlers[:])
            for logger in (logging.root, server_logger(ERROR_LOGGER), server_logger(ACCESS_LOGGER))
        ]
        _reset_loggers()
        if wanted is None:
            return
        try:
            wanted.apply()
        except UsageError:
            for logger, name, level, propagate, handlers in saved:
                logger.name, logger.propagate, logger.handlers = name, propagate, handlers
                logger.setLevel(level)
            if present is not None:
                present.apply()
            raise


def _reset_loggers() -> None:
    """What a configuration finds: names of our own, and no line goes to the root logger unless it says so."""
    for name in (ERROR_LOGGER, ACCESS_LOGGER):
        logger = server_logger(name)
        logger.name = name
        logger.propagate = False


def _formatter_of(config: LoggingConfig | None) -> logging.Formatter | None:
    return None if config is None else config.formatter()
