"""What logs are to be like: plain values, so that two of them can be compared."""

import logging
from collections.abc import Callable
from typing import Any, Protocol

from wsgicluster.dataclass import dataclass
from wsgicluster.logs.access_log import RequestLog
from wsgicluster.logs.config import LoggingConfig
from wsgicluster.logs.statsd import StatsdOptions
from wsgicluster.logs.syslog import SyslogOptions


class UserLogger(Protocol):
    """An object of a user's class, which has set the handlers of both loggers."""

    @property
    def logger(self) -> Any:
        """The object itself."""

    @property
    def requests(self) -> RequestLog:
        """Where requests are logged."""

    def reopen(self) -> None:
        """Open its files again."""

    def close(self) -> None:
        """Close its files: another one has taken its place."""

    def report(self, text: str, metric: str, value: int, kind: str) -> None:
        """Log a metric at debug, which the class may send elsewhere."""


@dataclass(frozen=True)
class LogOptions:
    """The files and the level of the logs; ``-`` is standard error for ``errorlog``, standard output for ``accesslog``.

    ``owner`` is the user and group ID that new files get, so that workers can open them again; a file that exists
    gets the user and keeps its group. ``structure`` is text, json or logfmt. ``to_stdout`` says that records below
    warning go to standard output. ``skipped`` are paths, and ``portion`` the sample, of the access log.
    ``user_logger`` makes the object that sets the handlers in place of all that the other options say; it raises
    UsageError.
    """

    errorlog: str = "-"
    loglevel: str = "info"
    accesslog: str | None = None
    access_log_format: str = "%(h)s"
    config: LoggingConfig | None = None
    capture_output: bool = False
    owner: tuple[int, int] | None = None
    structure: str = "text"
    to_stdout: bool = False
    skipped: tuple[str, ...] = ()
    portion: float = 1.0
    syslog: SyslogOptions | None = None
    statsd: StatsdOptions | None = None
    user_logger: Callable[[], UserLogger] | None = None

    @property
    def is_configured(self) -> bool:
        """Whether handlers may be others than ours."""
        return self.config is not None or self.user_logger is not None

    def names(self, logger: str) -> bool:
        """Whether this logger has handlers of the user's, which are to stay alone."""
        return self.user_logger is not None or (self.config is not None and self.config.names(logger))

    def formatter(self) -> logging.Formatter | None:
        """The user's formatter for a log that is not named; None for the usual one."""
        return None if self.config is None else self.config.formatter()
