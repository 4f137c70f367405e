"""The server's loggers: their names, how a line looks, and that no application can silence them."""

import logging
import os
from collections.abc import Mapping

from wsgicluster.counting import count_of
from wsgicluster.logs.log_file import LogFile

ERROR_LOGGER = "wsgicluster.error"
ACCESS_LOGGER = "wsgicluster.access"
GUNICORN_NAMES = {ERROR_LOGGER: "gunicorn.error", ACCESS_LOGGER: "gunicorn.access"}
"""The other name of each: `logging.getLogger` returns one object for both."""

FORMAT = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
DATE_FORMAT = "[%Y-%m-%d %H:%M:%S %z]"


_COLOURS = {logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "1;31"}
"""Of the level of a record, on a terminal, by what ECMA-48 calls SGR; other levels have none."""


def wants_colour(environ: Mapping[str, str]) -> bool:
    """Whether a terminal may be sent colours: it understands them, and its user has not forbidden them (NO_COLOR)."""
    return not environ.get("NO_COLOR") and environ.get("TERM", "dumb") != "dumb"


class LineHandler(logging.Handler):
    """Formats records as Gunicorn does and appends them to a log file; on a terminal levels have colours."""

    def __init__(self, file: LogFile, formatter: logging.Formatter | None = None) -> None:
        super().__init__()
        self.use(formatter)
        self.file = file
        file.report_dropped = self._report_dropped

    def use(self, formatter: logging.Formatter | None) -> None:
        """Format records with this; None is the usual one."""
        self._colours = _COLOURS if formatter is None and wants_colour(os.environ) else {}
        self.setFormatter(formatter or logging.Formatter(FORMAT, DATE_FORMAT))

    def emit(self, record: logging.LogRecord) -> None:
        self.file.write(self._line(record))

    def _line(self, record: logging.LogRecord) -> bytes:
        try:
            text = self.format(record)
        except (TypeError, ValueError):
            # The arguments do not fit the message: log what there is.
            text = self.format(logging.makeLogRecord({**record.__dict__, "msg": repr(record.msg), "args": ()}))
        if record.levelno in self._colours:
            self.file.follow()  # a daemon's stream may have left its terminal since the last line
            if self.file.is_terminal:
                level = f"[{record.levelname}]"
                text = text.replace(level, f"\x1b[{self._colours[record.levelno]}m{level}\x1b[0m", 1)
        return (text + "\n").encode("utf-8", "backslashreplace")

    def _report_dropped(self, count: int) -> bool:
        text = f"{count_of(count, 'line')} could not be written to this log and {'is' if count == 1 else 'are'} lost"
        return self.file.put(self._line(logging.LogRecord(ERROR_LOGGER, logging.WARNING, "", 0, text, (), None)))


class ServerLogger(logging.Logger):
    """A logger that an application cannot silence by configuring its own.

    ``dictConfig`` and ``fileConfig`` disable all existing loggers by default, and ``logging.disable`` disables all
    loggers.
    """

    @property
    def disabled(self) -> bool:
        """Never."""
        return False

    @disabled.setter
    def disabled(self, _wanted: bool) -> None:
        pass

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's own name
        """Whether records of this level are logged."""
        return level >= self.getEffectiveLevel()


def server_logger(name: str) -> logging.Logger:
    """The logger of this name, which is one that cannot be silenced, and which has Gunicorn's name as well."""
    logger = logging.getLogger(name)
    # Other code may have created it first.
    logger.__class__ = ServerLogger
    _share_name(logger, GUNICORN_NAMES[name])
    return logger


def claim_names() -> None:
    """Create both loggers under both names, before a configuration file asks for one of them."""
    for name in GUNICORN_NAMES:
        server_logger(name).propagate = False


def _share_name(logger: logging.Logger, name: str) -> None:
    """Have `logging.getLogger` return this logger for another name, too, with the handlers that were added there."""
    present = logging.getLogger(name)
    if present is logger:
        return
    for handler in present.handlers:
        logger.addHandler(handler)
    known: dict[str, logging.Logger | logging.PlaceHolder] = logging.root.manager.loggerDict
    known[name] = logger
    above = known[name.partition(".")[0]]
    if isinstance(above, logging.PlaceHolder):  # else a logger is there already, and this one keeps its parent
        above.append(logger)
