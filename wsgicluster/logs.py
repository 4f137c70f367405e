"""The error log and the access log of a process: opening, reopening, and writing that never fails nor waits.

A full disk, a closed pipe or one that nobody reads costs lines, never a process:
what cannot be written at once is dropped and counted. Knows no setting.
"""

import contextlib
import logging
import logging.config
import os
import select
import socket
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from wsgicluster.access_log import AccessLog, compile_format
from wsgicluster.errors import ServerError, UsageError

ERROR_LOGGER = "wsgicluster.error"
ACCESS_LOGGER = "wsgicluster.access"

_FORMAT = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
_DATE_FORMAT = "[%Y-%m-%d %H:%M:%S %z]"
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}
_PIECE_BYTES = 4096
"""A pipe with any room at all takes this much (``PIPE_BUF``), whole."""


@dataclass(frozen=True)
class LogOptions:
    """Where and what to log; ``-`` is standard error for ``errorlog``, standard output for ``accesslog``.

    ``owner`` is the user and group id that new files are given to, so that workers can open them again;
    a file that was there before is given to the user and keeps its group.
    """

    errorlog: str = "-"
    loglevel: str = "info"
    accesslog: str | None = None
    access_log_format: str = "%(h)s"
    logconfig_dict: Mapping[str, Any] | None = None
    capture_output: bool = False
    owner: tuple[int, int] | None = None


class LogFile:
    """A file, pipe, socket or terminal that lines are appended to; ``descriptor`` is one of its own.

    For ``-`` it is the descriptor ``stream``; ``descriptors`` is the folder in which this process's own are found.
    ``tell_dropped`` is called with a number of lost lines when writing is possible again; it returns
    whether they are told. Raises ServerError when the file cannot be opened.
    """

    def __init__(
        self, path: str, stream: int, owner: tuple[int, int] | None = None, descriptors: str = "/proc/self/fd"
    ) -> None:
        self._stream = stream if path == "-" else _STREAMS.get(path)
        if self._stream is None:
            self.path = os.path.abspath(path)
        else:
            self.path = {1: "standard output", 2: "standard error"}.get(self._stream, f"descriptor {self._stream}")
        self.tell_dropped: Callable[[int], bool] = bool
        self._owner = owner
        self._descriptors = descriptors
        self._dropped = 0
        self._torn = False
        self._complained = False
        self._socket: socket.socket | None = None
        try:
            self._use(self._open())
        except OSError as error:
            raise ServerError(f"cannot open the log {self.path}: {error.strerror}") from error

    @property
    def is_file(self) -> bool:
        """Whether it has a path of its own."""
        return self._stream is None

    def close(self) -> None:
        """Give the descriptor back."""
        if self._socket is not None:
            self._socket.detach()
        os.close(self.descriptor)

    def reopen(self) -> str | None:
        """Open the path anew, in place of the old file; keeps that, and says why, when this is not possible.

        The same complaint is made once. A standard stream is opened anew only when it leads elsewhere by now.
        """
        try:
            if self._stream is None or self._leads_elsewhere():
                self._replace(self._open())
        except OSError as error:
            said, self._complained = self._complained, True
            return None if said else f"cannot open the log {self.path}: {error.strerror}; the old one goes on"
        self._complained = False
        return None

    def follow(self) -> None:
        """Let go of a standard stream that was sent elsewhere, as by a daemon that leaves its terminal."""
        if self._leads_elsewhere():
            self.reopen()

    def write(self, lines: bytes) -> None:
        """Append whole lines, or drop and count what does not fit now."""
        self.follow()
        if self.put(lines) and self._dropped:
            count, self._dropped = self._dropped, 0
            if not self.tell_dropped(count):
                self._dropped = count

    def put(self, lines: bytes) -> bool:
        """The same without a word on what was lost before; False when something was lost now."""
        rest = self._put(b"\n" + lines if self._torn else lines)
        if not rest:
            self._torn = False
            return True
        taken = len(lines) - len(rest)
        self._torn = lines[taken - 1 : taken] != b"\n" if taken > 0 else self._torn
        self._dropped += rest.count(b"\n")
        return False

    def _put(self, data: bytes) -> bytes:
        """Write as much as can be written now; the rest is returned."""
        while data:
            piece = data if self._takes_all else _head(data)
            try:
                if self._must_ask and not self._has_room():
                    return data
                if self._socket is not None:
                    count = self._socket.send(piece, socket.MSG_DONTWAIT)
                else:
                    count = os.write(self.descriptor, piece)
            except OSError:
                return data  # a full disk, a closed pipe, or one that nobody reads
            data = data[count:]
        return data

    def _has_room(self) -> bool:
        poll = select.poll()
        poll.register(self.descriptor, select.POLLOUT)
        return any(events & select.POLLOUT for _, events in poll.poll(0))

    def _open(self) -> int:
        if self._stream is not None:
            return self._open_stream(self._stream)
        try:
            descriptor = os.open(self.path, _FLAGS)
        except FileNotFoundError:
            # Never writable for others, whatever the umask is by now.
            descriptor = os.open(self.path, _FLAGS | os.O_CREAT, 0o644)
            owner = self._owner
        else:
            owner = self._owner_of_found(descriptor)
        if owner is not None:
            # Only root can; else everything has one owner anyway. Some file systems have no owners at all.
            with contextlib.suppress(OSError):
                os.fchown(descriptor, *owner)
        return descriptor

    def _owner_of_found(self, descriptor: int) -> tuple[int, int] | None:
        """Whom a file that was there before is given to: whatever rotates logs makes the new one for root.

        It keeps its group, who may be those that read logs. A link is left alone, whichever kind it is:
        in a folder where others can write it may lead to what was never meant to be theirs.
        """
        if self._owner is None:
            return None
        try:
            found, named = os.fstat(descriptor), os.lstat(self.path)
        except OSError:  # renamed meanwhile
            return None
        itself = (found.st_dev, found.st_ino) == (named.st_dev, named.st_ino)
        if not (stat.S_ISREG(found.st_mode) and itself and found.st_nlink == 1) or found.st_uid == self._owner[0]:
            return None
        return self._owner[0], -1

    def _open_stream(self, stream: int) -> int:
        try:
            mode = os.fstat(stream).st_mode
        except OSError:  # started without that stream
            return os.open(os.devnull, _FLAGS)
        if stat.S_ISFIFO(mode) or os.isatty(stream):
            # Opened once more it can be made non-blocking without doing that to all who share the stream.
            with contextlib.suppress(OSError):  # no /proc here; then it is asked before each write
                return os.open(os.path.join(self._descriptors, str(stream)), _FLAGS)
        return os.dup(stream)

    def _replace(self, descriptor: int) -> None:
        # The number stays, for all that have noted it.
        os.dup2(descriptor, self.descriptor, inheritable=False)
        os.close(descriptor)
        if self._socket is not None:
            self._socket.detach()
        self._use(self.descriptor)

    def _use(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        self.descriptor = descriptor
        self._identity = (found.st_dev, found.st_ino)
        self._socket = socket.socket(fileno=descriptor) if stat.S_ISSOCK(found.st_mode) else None
        streams = stat.S_ISFIFO(found.st_mode) or os.isatty(descriptor)
        self._takes_all = not streams and self._socket is None
        self._must_ask = streams and os.get_blocking(descriptor)

    def _leads_elsewhere(self) -> bool:
        if self._stream is None:
            return False
        try:
            found = os.fstat(self._stream)
        except OSError:
            return False  # somebody closed the stream; ours is still good
        return (found.st_dev, found.st_ino) != self._identity


def _head(data: bytes) -> bytes:
    """A piece that a pipe takes whole, up to a line's end if there is one."""
    if len(data) <= _PIECE_BYTES:
        return data
    return data[: data.rfind(b"\n", 0, _PIECE_BYTES) + 1 or _PIECE_BYTES]


class LineHandler(logging.Handler):
    """Formats records as Gunicorn does and appends them to a log file."""

    def __init__(self, file: LogFile) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter(_FORMAT, _DATE_FORMAT))
        self.file = file
        file.tell_dropped = self._tell_dropped

    def emit(self, record: logging.LogRecord) -> None:
        self.file.write(self._line(record))

    def _line(self, record: logging.LogRecord) -> bytes:
        try:
            text = self.format(record)
        except (TypeError, ValueError):
            # The arguments do not fit the message; it is worth more than nothing.
            text = self.format(logging.makeLogRecord({**record.__dict__, "msg": repr(record.msg), "args": ()}))
        return (text + "\n").encode("utf-8", "backslashreplace")

    def _tell_dropped(self, count: int) -> bool:
        text = f"{count} lines could not be written to this log and are lost"
        return self.file.put(self._line(logging.LogRecord(ERROR_LOGGER, logging.WARNING, "", 0, text, (), None)))


class Logs:
    """Both logs of a process. Raises ServerError when one cannot be opened, UsageError for a wrong format.

    ``access`` is None when requests are not logged. Objects are shared with forked children,
    each of which reopens for itself.
    """

    def __init__(self, options: LogOptions) -> None:
        self.error = logging.getLogger(ERROR_LOGGER)
        self.access: AccessLog | None = None
        self._options = LogOptions()
        self._error_handler: LineHandler | None = None
        self._access_file: LogFile | None = None
        self.apply(options)

    def apply(self, options: LogOptions) -> None:
        """Log as these options say from now on; nothing is changed when that is not possible."""
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
        if _is_configured(ACCESS_LOGGER, options.logconfig_dict):
            self.access = AccessLog(format_line, _write_to_logger)
        elif access_file is not None:
            self.access = AccessLog(format_line, self._write_access)
        else:
            self.access = None

    def reopen(self) -> None:
        """Open the files anew, as after they were renamed; one that cannot be opened goes on as it was."""
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
            found.update(_handler_descriptors())
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
        if not _is_configured(ERROR_LOGGER, wanted):
            # Those of an earlier dictionary are gone with it.
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
            file.tell_dropped = self._tell_dropped

    def _write_access(self, lines: list[str]) -> None:
        if self._access_file is not None:
            self._access_file.write("\n".join([*lines, ""]).encode("utf-8", "backslashreplace"))

    def _tell_dropped(self, count: int) -> bool:
        # Not in the log itself: whoever reads that expects nothing but requests.
        name = self._access_file.path if self._access_file is not None else ""
        self.error.warning("%d lines could not be written to the access log (%s) and are lost", count, name)
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
            _configure_logging(wanted)
        except (ValueError, TypeError, AttributeError, ImportError) as error:
            if present:
                _configure_logging(present)
            raise UsageError(f"logconfig_dict: {error.__cause__ or error}") from error


def _configure_logging(wanted: Mapping[str, Any]) -> None:
    loggers = {_own_name(name): about for name, about in wanted.get("loggers", {}).items()}
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, **wanted, "loggers": loggers})


def _own_name(name: str) -> str:
    # A dictionary written for Gunicorn means the same two logs.
    return {"gunicorn.error": ERROR_LOGGER, "gunicorn.access": ACCESS_LOGGER}.get(name, name)


def _is_configured(name: str, wanted: Mapping[str, Any] | None) -> bool:
    """Whether the dictionary names this logger, and has its lines go somewhere."""
    return name in map(_own_name, (wanted or {}).get("loggers", {})) and logging.getLogger(name).hasHandlers()


def _write_to_logger(lines: list[str]) -> None:
    logger = logging.getLogger(ACCESS_LOGGER)
    for line in lines:
        logger.info("%s", line)


def _handler_descriptors() -> Iterator[int]:
    """Descriptors of all handlers that anybody has configured."""
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    for logger in loggers:
        for handler in getattr(logger, "handlers", []):
            for owner in (getattr(handler, "stream", None), getattr(handler, "socket", None)):
                with contextlib.suppress(AttributeError, OSError, ValueError):  # none, in memory, or closed
                    yield owner.fileno()  # type: ignore[union-attr]
