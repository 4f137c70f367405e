"""Lines for syslog, as RFC 3164 has them and Gunicorn sends them."""

import logging
import os

from wsgicluster.dataclass import dataclass
from wsgicluster.logs.lossy_socket import LossySocket, Target

MOST_BYTES = 8192
"""Longer lines are cut off: more than this is not taken everywhere."""

_DEBUG, _INFO, _WARNING, _ERROR, _CRITICAL = 7, 6, 4, 3, 2


@dataclass(frozen=True)
class SyslogOptions:
    """``facility`` is its number, ``name`` the middle of the tag, ``access`` says that requests are sent, too."""

    target: Target
    facility: int
    name: str
    access: bool = True


class SyslogHandler(logging.Handler):
    """Sends records, and lines of the access log, under a tag such as ``gunicorn.shop.error``."""

    def __init__(self, sender: LossySocket, facility: int, tag: str) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("[%(process)d] %(message)s"))
        self._sender = sender
        self._facility = facility << 3
        self._tag = tag

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except (TypeError, ValueError):
            text = f"[{record.process}] {record.msg!r}"  # the arguments do not fit the message
        self._send(severity_of(record.levelno), text)

    def write(self, lines: list[str]) -> None:
        """Send lines that have no record."""
        pid = os.getpid()
        for line in lines:
            self._send(_INFO, f"[{pid}] {line}")

    def _send(self, severity: int, text: str) -> None:
        # One line for each record: a traceback's lines are joined as rsyslog shows control characters.
        line = f"<{self._facility | severity}>{self._tag}: {text}".replace("\n", "#012")
        self._sender.send(line.encode("utf-8", "backslashreplace")[:MOST_BYTES])


def severity_of(level: int) -> int:
    """The severity of RFC 3164 for one of Python's levels."""
    if level >= logging.CRITICAL:
        return _CRITICAL
    if level >= logging.ERROR:
        return _ERROR
    if level >= logging.WARNING:
        return _WARNING
    return _INFO if level >= logging.INFO else _DEBUG


def tag_of(name: str, log: str) -> str:
    """The tag of one of both logs: Gunicorn's, for which people have rules."""
    return f"gunicorn.{name.replace(':', '.')}.{log}"
