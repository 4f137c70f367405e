"""The one request cycle: call the application, send what it gives, record what happened.

It is the same for every kind of worker. It gets a complete request and a
transport, and does not know who waits for what on which socket.
"""

import enum
import logging
import os
import time
from _thread import get_ident
from bisect import bisect_left as _bisect_left
from collections.abc import Callable
from sys import getrefcount
from time import monotonic as _monotonic
from typing import Any, NoReturn, Protocol

from wsgicluster.access_log import AccessLog
from wsgicluster.errors import ClientGone, ServerError
from wsgicluster.http.head import IS_HEAD
from wsgicluster.http.response import REASONS, error_response
from wsgicluster.scoreboard import CLIENT_OFFSET, HISTOGRAM_BOUNDS_S, STORE_REQUEST, Cell, Page
from wsgicluster.worker.relief import Relief
from wsgicluster.wsgi.contact import Contact
from wsgicluster.wsgi.files import FileWrapper, file_region
from wsgicluster.wsgi.response import Framing, Response, Stamp, Transport

Application = Callable[[dict[str, Any], Callable[..., Any]], Any]

# Members of an Enum cost a look-up each time; these are plain integers.
_DEADLINE, _STARTED, _HISTOGRAM = int(Cell.DEADLINE), int(Cell.STARTED), int(Cell.HISTOGRAM)
_FIRST_BOUND_S = HISTOGRAM_BOUNDS_S[0]
_REQUESTS, _FAILED, _BYTES_OUT = int(Cell.REQUESTS), int(Cell.FAILED), int(Cell.BYTES_OUT)


class Outcome(enum.Enum):
    """What becomes of the connection behind a response."""

    KEEP = enum.auto()
    CLOSE = enum.auto()
    ABORT = enum.auto()


_KEEP, _CLOSE = Outcome.KEEP, Outcome.CLOSE


class Client(Transport, Protocol):
    """A transport that knows whose it is."""

    client: bytes
    contact: Contact
    own_fields: str

    def renew_contact(self, environ: dict[str, Any]) -> Contact:
        """Leave the contact to whoever has kept it: from now on, and in ``environ``, there is another one."""


class Cycle:
    """Runs requests of one worker.

    ``beat_s`` is how long one call of the application may take (0: without limit), ``started`` when the
    present one began, ``stamp_due`` when the ``Date`` changes, both monotonic; ``thread_id`` is the thread that makes
    the cycle and runs it. What is counted stands on ``page``.
    """

    def __init__(
        self, application: Application, page: Page, beat_s: float, error_log: logging.Logger, access: AccessLog | None
    ) -> None:
        self.application = application
        self.relief: Relief | None = None
        self.abandoned = False
        """This is not the worker's process but one that the application has forked from it."""
        self.access = access
        self.beat_s = beat_s
        self.page = page
        self.sendfile = True
        self.stamp_due = 0.0
        self.started = 0.0
        self.latest = Stamp(time.time())
        self.thread_id = get_ident()
        self._cells = page.cells
        self._floats = page.floats
        self._raw = page.raw
        self.error_log = error_log

    def serve(self, client: Client, environ: dict[str, Any], flags: int, line: bytes) -> Outcome:
        """Answer one request, to the end of its iterable; ``environ`` is complete, ``line`` is its request line."""
        self.started = started = _monotonic()
        self.show(started, client.client, line)
        contact = client.contact
        # Has an application kept what it was given with an earlier request? Asked without a call, as it is each time.
        usual = contact.usual_references
        if getrefcount(contact.early_hints) > usual or getrefcount(contact.client_disconnected) > usual:
            contact = client.renew_contact(environ)
        snapshot = environ.copy() if self.access is not None else None
        response = Response(client, flags, self.latest if started < self.stamp_due else self.stamp(started))
        contact.answer = response
        contact.thread_id = self.thread_id
        try:
            result = self.application(environ, response.start_response)
            if type(result) is list and len(result) == 1:
                response.send_whole(result[0])
            else:
                self._send(response, result)
            outcome = _KEEP if response.keep else _CLOSE
        except BaseException as error:  # noqa: BLE001
            # The application's boundary: whatever it raises, even SystemExit, ends its request and no more.
            outcome = self.fail(response, client, line, error)
        contact.answer = None
        if self.abandoned:
            self.end_stray()
        self.record(response, snapshot, line)
        return outcome

    def show(self, started: float, client: bytes, line: bytes) -> None:
        """Say on the page which request runs; and how long it may."""
        floats = self._floats
        if self.beat_s:
            floats[_DEADLINE] = started + self.beat_s
        floats[_STARTED] = started
        STORE_REQUEST(self._raw, CLIENT_OFFSET, client, line)

    def hide(self) -> None:
        """Say that the request runs no more."""
        if self.relief is None:
            self._floats[_STARTED] = 0.0
        else:
            self.relief.over()

    def deliver(self, response: Response, client: Client, line: bytes, result: Any) -> Outcome:
        """Send what the application returned."""
        try:
            self._send(response, result)
        except BaseException as error:  # noqa: BLE001
            # The same boundary: iterating and closing are calls of the application, too.
            return self.fail(response, client, line, error)
        return Outcome.KEEP if response.keep else Outcome.CLOSE

    def record(self, response: Response, snapshot: dict[str, Any] | None, line: bytes) -> None:
        """Count and log a request whose response is done with, however it went."""
        if response.overlong:
            self.warn_overlong(line)
        self.hide()
        duration_s = _monotonic() - self.started
        self.count(response.sent_bytes, duration_s)
        if snapshot is not None:
            self.log(snapshot, response.status, response.headers, response.sent_bytes, duration_s)

    def count(self, sent_bytes: int, duration_s: float) -> None:
        """Add a request to what stands on the page."""
        cells = self._cells
        cells[_REQUESTS] += 1
        cells[_BYTES_OUT] += sent_bytes
        bucket = _bisect_left(HISTOGRAM_BOUNDS_S, duration_s) if duration_s > _FIRST_BOUND_S else 0
        cells[_HISTOGRAM + bucket] += 1

    def log(self, snapshot: dict[str, Any], status: str, headers: Any, sent_bytes: int, duration_s: float) -> None:
        """Write a line of the access log; ``snapshot`` is the environ as the application got it."""
        if self.access is not None:
            self.access.record(snapshot, status, headers, sent_bytes, duration_s, time.time())

    def date(self) -> str:
        """The text of a ``Date`` field, right to the second."""
        return self.stamp(time.monotonic()).text

    def stamp(self, now: float) -> Stamp:
        """The fields that every response carries, right to the second; ``now`` is monotonic."""
        if now >= self.stamp_due:
            seconds = time.time()
            self.stamp_due = now + 1.0 - seconds % 1.0
            self.latest.update(seconds)
        return self.latest

    def _send(self, response: Response, result: Any) -> None:
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

    def fail(self, response: Response, client: Client, line: bytes, error: BaseException) -> Outcome:
        """The application raised: log it, and answer with 500 as long as nothing else was sent."""
        if self.abandoned:
            self.end_stray()
        if isinstance(error, ClientGone):
            return Outcome.ABORT
        self._cells[_FAILED] += 1
        if isinstance(error, ServerError):
            self.log_failure(str(error), line)
            return Outcome.ABORT
        if response.complete:
            # Only the application's clean-up went wrong.
            self.log_failure("the application failed after its response was complete", line, error)
            return Outcome.KEEP if response.keep else Outcome.CLOSE
        self.log_failure("the application failed", line, error)
        return self.answer_instead(response, client, 500)

    def answer_instead(self, response: Response, client: Client, status: int, detail: str = "") -> Outcome:
        """Answer with an error of our own, as long as nothing else was sent."""
        response.complete = True
        if response.head_sent:
            return Outcome.ABORT
        response.status = f"{status} {REASONS[status]}"
        response.headers = []
        answer = error_response(status, self.date(), detail, client.own_fields)
        if response.flags & IS_HEAD:
            answer = answer[: answer.index(b"\r\n\r\n") + 4]
        try:
            client.send(answer)
        except ClientGone:
            return Outcome.ABORT
        return Outcome.CLOSE

    def end_stray(self) -> NoReturn:
        """End a process that the application has forked and that has come back here: it is no worker."""
        self.error_log.warning("pid %d, forked by the application, came back from its request: ended", os.getpid())
        os._exit(0)

    def warn_overlong(self, line: bytes) -> None:
        """The application gave more bytes than it declared."""
        self.log_failure("the application gave more bytes than its Content-Length; they were cut off", line)

    def log_failure(self, what: str, line: bytes, error: BaseException | None = None) -> None:
        """Log what went wrong with a request, with the traceback of an error."""
        request = line.decode("latin-1")
        self.error_log.error("%s in %s", what, request[:512], exc_info=error)
