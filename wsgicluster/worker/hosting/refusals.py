"""Requests that are refused before the application sees them, in both logs.

The access log has each of them, with what is known of it. The error log has the first of a kind with client and reason,
and then how many more there were: a client decides how many there are, and must not fill it.
"""

import logging
import math
import time
from typing import Any

from wsgicluster.errors import ForeignProtocol, Overloaded, ProtocolError
from wsgicluster.http.refused import line_variables, request_line
from wsgicluster.http.response import REASONS
from wsgicluster.logs.access_log import RequestLog
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.connection.states import ConnectionState
from wsgicluster.worker.hosting.throttle import Throttle
from wsgicluster.worker.loop.loop import Loop

MOST, PERIOD_S = 5, 10.0
"""So many lines of a kind in so many seconds."""

_SHOWN_CHARACTERS = 200


class Refusals:
    """Those of one worker, whose loop says when there is something to sum up."""

    def __init__(self, slot: int, log: logging.Logger, access: RequestLog | None, loop: Loop) -> None:
        self._slot = slot
        self._log = log
        self._access = access
        self._loop = loop
        self._throttle = Throttle(MOST, PERIOD_S)
        self._sums_at = math.inf

    def add(self, connection: Connection, error: ProtocolError, sent_bytes: int) -> None:
        """A request is answered with an error, whose body has ``sent_bytes``."""
        environ, line = _known(connection)
        self.tell(connection.client, error, line)
        if self._access is not None:
            status = f"{error.status} {REASONS[error.status]}"
            self._access.record_refused({**environ, "REQUEST_LINE": line}, status, sent_bytes, error.after_s)

    def tell(self, client: bytes, error: ProtocolError, line: str) -> None:
        """Say in the error log what was refused: our own trouble as an error, a client's as a warning."""
        ours = error.status >= 500 and error.status not in (501, 505) and not isinstance(error, Overloaded)
        kind = f"requests were refused with {error.status}"
        shown = f' in "{_escaped(line)}"' if line else ""
        if isinstance(error, ForeignProtocol):
            kind += f" ({error.name})"
            shown = ""
        what = f"refused with {error.status}: {error.detail}{shown}"
        self._say(logging.ERROR if ours else logging.WARNING, kind, client, what)

    def tell_closed(self, client: bytes, kind: str, reason: str) -> None:
        """Say that a connection is closed before its first request, without an answer; ``kind`` is one of few."""
        self._say(logging.WARNING, f"connections were closed: {kind}", client, f"{reason}: closed")

    def sum_up(self, now: float) -> None:
        """Say how many more there were, of each kind whose time is over by now."""
        self._sums_at = math.inf
        for kind, count in self._throttle.sums(now):
            self._log.warning("worker %d: %d more %s within %g s", self._slot, count, kind, PERIOD_S)
        self._sum_up_later()

    def _say(self, level: int, kind: str, client: bytes, what: str) -> None:
        if not self._throttle.admits(kind, time.monotonic()):
            level = logging.DEBUG
            self._sum_up_later()
        self._log.log(level, "%s: %s", client.decode("latin-1"), what)

    def _sum_up_later(self) -> None:
        moment = self._throttle.ends_at()
        if moment < self._sums_at:
            self._sums_at = moment
            self._loop.call_at(moment, self._sum_up_now)

    def _sum_up_now(self) -> None:
        self.sum_up(time.monotonic())


def _known(connection: Connection) -> tuple[dict[str, Any], str]:
    """What the environ of a refused request would be, as far as that is known, and its request line."""
    reader = connection.reader
    template = reader.template
    environ = None
    if connection.state is ConnectionState.RUNNING or not reader.idle:
        environ = getattr(reader, "environ", None)
    if environ is not None:
        line = f"{environ['REQUEST_METHOD']} {environ['RAW_URI']} {environ['SERVER_PROTOCOL']}"
        if reader.spoken == "uwsgi":
            return environ, line
        # Whom a proxy forwards for may be just what is wrong with it.
        return {**environ, "REMOTE_ADDR": template["REMOTE_ADDR"], "REMOTE_PORT": template["REMOTE_PORT"]}, line
    line = request_line(reader.rest)
    return {**template, **line_variables(line)}, line


def _escaped(line: str) -> str:
    shown = line if len(line) <= _SHOWN_CHARACTERS else f"{line[:_SHOWN_CHARACTERS]}..."
    return shown.encode("unicode_escape").decode("ascii").replace('"', '\\"')
