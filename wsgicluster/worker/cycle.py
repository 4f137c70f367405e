"""The one request cycle: call the application, send what it gives, record what happened.

It is the same for every kind of worker. It gets a complete request and a
transport, and does not know who waits for what on which socket.
"""

import bisect
import enum
import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

from wsgicluster.access_log import AccessLog
from wsgicluster.errors import ClientGone, ServerError
from wsgicluster.http.head import IS_HEAD
from wsgicluster.http.response import error_response
from wsgicluster.scoreboard import CLIENT_OFFSET, HISTOGRAM_BOUNDS_S, STORE_REQUEST, Cell, Page
from wsgicluster.wsgi.files import FileWrapper, file_region
from wsgicluster.wsgi.response import Framing, Response, Stamp, Transport

Application = Callable[[dict[str, Any], Callable[..., Any]], Any]

_DEADLINE, _STARTED, _HISTOGRAM = int(Cell.DEADLINE), int(Cell.STARTED), int(Cell.HISTOGRAM)


class Outcome(enum.Enum):
    """What becomes of the connection behind a response."""

    KEEP = enum.auto()
    CLOSE = enum.auto()
    ABORT = enum.auto()


class Client(Transport, Protocol):
    """A transport that knows whose it is."""

    client: bytes


class Cycle:
    """Runs requests of one worker.

    ``beat_s`` is how long one call of the application may take (0: without limit). ``requests``,
    ``failed`` and ``sent_bytes`` count; ``last_s`` is the time the last request took.
    """

    def __init__(
        self, application: Application, page: Page, beat_s: float, error_log: logging.Logger, access: AccessLog | None
    ) -> None:
        self.application = application
        self.requests = 0
        self.failed = 0
        self.sent_bytes = 0
        self.started = 0.0
        self.sendfile = True
        self._stamp = Stamp(time.time())
        self._stamp_due = 0.0
        self._page = page
        self._floats = page.floats
        self._raw = page.raw
        self._beat_s = beat_s
        self._error_log = error_log
        self._access = access

    def serve(self, client: Client, environ: dict[str, Any], flags: int, line: bytes) -> Outcome:
        """Answer one request, to the end of its iterable; ``environ`` is complete, ``line`` is its request line."""
        floats = self._floats
        self.started = started = time.monotonic()
        if self._beat_s:
            floats[_DEADLINE] = started + self._beat_s
        floats[_STARTED] = started
        if started >= self._stamp_due:
            self._restamp(started)
        STORE_REQUEST(self._raw, CLIENT_OFFSET, client.client, line)
        access = self._access
        snapshot = environ.copy() if access is not None else None
        response = Response(client, flags, self._stamp)
        try:
            self._run(response, environ)
            outcome = Outcome.KEEP if response.keep else Outcome.CLOSE
        except ClientGone:
            outcome = Outcome.ABORT
        except BaseException as error:  # noqa: BLE001
            # The application's boundary: whatever it raises, even SystemExit, ends its request and no more.
            outcome = self._fail(response, client, line, error)
        if response.overlong:
            self._log_failure("gave more bytes than the Content-Length it declared; they were cut off", line)
        floats[_STARTED] = 0.0
        duration_s = time.monotonic() - started
        self.requests += 1
        self.sent_bytes += response.sent_bytes
        self._page.cells[_HISTOGRAM + bisect.bisect_left(HISTOGRAM_BOUNDS_S, duration_s)] += 1
        if access is not None and snapshot is not None:
            access.record(snapshot, response.status, response.headers, response.sent_bytes, duration_s, time.time())
        return outcome

    def date(self) -> str:
        """The text of a ``Date`` field, right to the second."""
        self._restamp(time.monotonic())
        return self._stamp.text

    def _restamp(self, now: float) -> None:
        seconds = time.time()
        self._stamp_due = now + 1.0 - seconds % 1.0
        self._stamp.update(seconds)

    def _run(self, response: Response, environ: dict[str, Any]) -> None:
        result = self.application(environ, response.start_response)
        kind = type(result)
        if kind is list or kind is tuple:
            response.send_whole(result[0] if len(result) == 1 else b"".join(result))
            return
        try:
            if kind is FileWrapper and self.sendfile and response.framing is Framing.UNSET:
                region = file_region(result)
                if region is not None:
                    response.send_file(region)
                    response.finish()
                    return
            for block in result:
                response.write(block)
            response.finish()
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()

    def _fail(self, response: Response, client: Client, line: bytes, error: BaseException) -> Outcome:
        self.failed += 1
        if isinstance(error, ServerError):
            self._log_failure(str(error), line)
            return Outcome.ABORT
        if response.complete:
            # Only the application's clean-up went wrong.
            self._log_failure("the application failed after its response was complete", line, error)
            return Outcome.KEEP if response.keep else Outcome.CLOSE
        self._log_failure("the application failed", line, error)
        if response.head_sent:
            return Outcome.ABORT
        response.status = "500 Internal Server Error"
        response.headers = []
        answer = error_response(500, self.date())
        if response.flags & IS_HEAD:
            answer = answer[: answer.index(b"\r\n\r\n") + 4]
        try:
            client.send(answer)
        except ClientGone:
            return Outcome.ABORT
        return Outcome.CLOSE

    def _log_failure(self, what: str, line: bytes, error: BaseException | None = None) -> None:
        request = line.decode("latin-1")
        self._error_log.error("%s in %s", what, request[:512], exc_info=error)
