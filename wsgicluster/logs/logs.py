"""The error log and the access log of a process, as its options want them: opened, reopened, and replaced.

Knows no setting. How a line is written is `wsgicluster.logs.log_file`, what it looks like `wsgicluster.logs.loggers`.
"""

import contextlib
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wsgicluster.counting import count_of
from wsgicluster.errors import UsageError
from wsgicluster.logs.access_log import AccessLog, compile_format
from wsgicluster.logs.dict_config import configure_logging, handler_descriptors, is_configured
from wsgicluster.logs.log_file import LogFile
from wsgicluster.logs.loggers import ACCESS_LOGGER, ERROR_LOGGER, LineHandler, server_logger


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
    logconfig_dict: Mapping[str, Any] | None = None
    capture_output: bool = False
    owner: tuple[int, int] | None = None


class Logs:
    """Both logs of a process. Raises ServerError when one cannot be opened, UsageError for a wrong format.

    ``access`` is None when requests are not logged. Objects are shared with forked children,
    each of which reopens for itself.
    """

    _error_handler: LineHandler | None = None

    def __init__(self, options: LogOptions) -> None:
        self.error = server_logger(ERROR_LOGGER)
        self.access: AccessLog | None = None
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
            self._configure(options.logconfig_dict)
            opened.pop_all()
        self._flush()
        self._use_error(error_file, options)
        self._use_access(access_file)
        if is_configured(ACCESS_LOGGER, options.logconfig_dict):
            self.access = AccessLog(format_line, _write_to_logger)
        elif access_file is not None:
            self.access = AccessLog(format_line, self._write_access)
        else:
            self.access = None

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
        self._capture()

    def descriptors(self) -> set[int]:
        """Descriptors that a child must keep in order to log."""
        for file in self._files():
            file.follow()
        found = {file.descriptor for file in self._files()}
        if self._options.logconfig_dict:
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
        wanted = options.logconfig_dict
        if not is_configured(ERROR_LOGGER, wanted):
            # The handlers of an earlier dictionary are removed with it.
            self.error.handlers.clear()
            self.error.setLevel(options.loglevel.upper())
            self.error.propagate = "root" in (wanted or {})
            self.error.addHandler(self._error_handler)
        self._options = options
        self._capture()

    def _use_access(self, file: LogFile | None) -> None:
        old, self._access_file = self._access_file, file
        if old is not None:
            old.close()
        if file is not None:
            file.report_dropped = self._report_dropped

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

    def _configure(self, wanted: Mapping[str, Any] | None) -> None:
        present = self._options.logconfig_dict
        if not wanted or wanted == present:
            return
        try:
            configure_logging(wanted)
        except (ValueError, TypeError, AttributeError, ImportError) as error:
            if present:
                configure_logging(present)
            raise UsageError(f"logconfig_dict: {error.__cause__ or error}") from error


def _write_to_logger(lines: list[str]) -> None:
    logger = server_logger(ACCESS_LOGGER)
    for line in lines:
        logger.info("%s", line)
