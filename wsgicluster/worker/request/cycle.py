"""The one request cycle: call the application, send what it gives, record what happened.

It is the same for every kind of worker. It gets a complete request and a
transport, and does not know who waits for what on which socket.
"""

import logging
import math
import os
import time
import weakref
from _thread import get_ident
from collections.abc import Callable, Iterable
from time import monotonic as _monotonic
from typing import Any, NoReturn, Protocol

from wsgicluster.errors import ClientGone, ServerError
from wsgicluster.http.head import IS_HEAD
from wsgicluster.http.response import REASONS, error_response
from wsgicluster.ipc.scoreboard import CLIENT_OFFSET, STORE_REQUEST, Cell, Page
from wsgicluster.logs.access_log import RequestLog
from wsgicluster.worker.request.outcome import Outcome
from wsgicluster.worker.request.page_counters import PageCounters, class_of
from wsgicluster.wsgi.client_callables import ClientCallables
from wsgicluster.wsgi.files import FileWrapper, file_region
from wsgicluster.wsgi.response import BadBlock, BadIterable, Framing, NotStarted, Response, Stamp, Transport

__all__ = ["CALLS_APPLICATION", "SWITCHED", "Application", "Client", "Cycle", "Outcome"]

Application = Callable[[dict[str, Any], Callable[..., Any]], Any]

# Members of an Enum cost a look-up each time; these are plain integers.
_DEADLINE, _STARTED = int(Cell.DEADLINE), int(Cell.STARTED)
_FAILED, _BAD_ITERABLES, _CLIENT_LEFT = int(Cell.FAILED), int(Cell.BAD_ITERABLES), int(Cell.CLIENT_LEFT)


SWITCHED = "101 Switching Protocols"

_KEEP, _CLOSE = Outcome.KEEP, Outcome.CLOSE


class Client(Transport, Protocol):
    """A transport that knows whose it is."""

    client: bytes
    complete_at: float
    """When the worker found its present request complete, monotonic."""
    contact: ClientCallables
    own_fields: str
    taken: bool

    def renew_contact(self, environ: dict[str, Any]) -> ClientCallables:
        """Leave the contact to whoever has kept it: from now on, and in ``environ``, there is another one."""

    def client_wait_s(self, now: float) -> float:
        """How long the request that runs has waited for its client."""


class CallsApplication(Protocol):
    """What calls the application for a `Cycle`, or as one."""

    application: Application


def send_blocks(response: Response, _client: Client, blocks: Iterable[bytes]) -> None:
    """Send what an iterable gives as the body of a response, each block at once, and its end."""
    for block in blocks:
        response.write(block)
    response.finish()


class Cycle:
    """Runs requests of one worker.

    ``beat_s`` is how long the application may take for each block (0: without limit), ``started`` when the present
    request began, ``ended`` when its application was done with it (0.0: not yet; waits for its client are taken off),
    ``stamp_due`` when the ``Date`` changes, all monotonic; ``queue_s`` is how long it had waited for its run,
    ``contact`` what its application may ask of us, ``thread_id`` the thread that makes the cycle and runs it. What is
    counted stands on ``page``.
    """

    running: Any = None
    """Where it is one of several at a time, those that run: see `wsgicluster.worker.request.in_flight`."""

    def __init__(
        self, application: Application, page: Page, beat_s: float, error_log: logging.Logger, access: RequestLog | None
    ) -> None:
        self.application = application
        self._runners: set[weakref.ref[CallsApplication]] = set()
        self.on_finished: Callable[[], object] | None = None
        self.on_failure: Callable[[bytes, BaseException], object] | None = None
        """Called with the request line and the exception, in the thread of the request."""
        self.abandoned = False
        """This is not the worker's process but one that the application has forked from it."""
        self.access = access
        self.beat_s = beat_s
        self.page = page
        self.sendfile = True
        self.stamp_due = 0.0
        self.started = self.ended = self.queue_s = 0.0
        self.latest = Stamp(time.time())
        self.thread_id = get_ident()
        self.count = PageCounters(page).count
        self._cells = page.cells
        self._floats = page.floats
        self._raw = page.raw
        self.error_log = error_log
        self.contact: ClientCallables | None = None
        self.on_block = self.put_off if beat_s else None
        self.send_blocks: Callable[[Response, Client, Iterable[bytes]], object] = send_blocks

    def add_runner(self, runner: CallsApplication) -> None:
        """Another one is about to be made of this one, or a fast path, and to call the same application."""
        self._runners.add(weakref.ref(runner, self._runners.discard))

    def make_stamp(self) -> None:
        """Make the fields anew that the server adds to responses: they may be other ones in this process."""
        self.latest, self.stamp_due = Stamp(time.time()), 0.0

    def replace_application(self, application: Application) -> None:
        """Call another one from the next requests on, here and in those that were made of this one."""
        self.application = application
        for each in list(self._runners):
            runner = each()
            if runner is not None:
                runner.application = application

    def serve(self, client: Client, environ: dict[str, Any], flags: int, line: bytes) -> Outcome:
        """Answer one request, to the end of its iterable; ``environ`` is complete, ``line`` is its request line."""
        self.started = started = _monotonic()
        self.ended = 0.0
        self.queue_s = max(0.0, started - client.complete_at)
        self.show(started, client.client, line)
        contact = client.contact
        if contact.is_kept():
            contact = client.renew_contact(environ)
        snapshot = environ.copy() if self.access is not None else None
        stamp = self.latest if started < self.stamp_due else self.stamp(started)
        response = Response(client, flags, stamp, self.on_block)
        self.contact = contact
        contact.answer = response
        contact.runner = self
        try:
            result = self.application(environ, response.start_response)
            if type(result) is list and len(result) == 1:
                self.ended = _monotonic()
                response.send_whole(result[0])
            else:
                self._send(response, client, result)
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

    def put_off(self) -> None:
        """The application has given a block: from now on it has as much time as it had for that."""
        floats = self._floats
        deadline = _monotonic() + self.beat_s
        # Neither does this shorten what it has asked for, nor bring back a limit that it has lifted.
        if 0.0 < floats[_DEADLINE] < deadline:
            floats[_DEADLINE] = deadline

    def extend_deadline(self, deadline: float) -> None:
        """Let the request that runs go on until then, by the monotonic clock; ``math.inf`` is without limit."""
        if self.beat_s:
            self._floats[_DEADLINE] = deadline if deadline < math.inf else 0.0

    def hide(self) -> None:
        """Say that the request runs no more."""
        self._floats[_STARTED] = 0.0
        # Asked behind that: the other thread, which sets it, looks at the page afterwards.
        if self.on_finished is not None:
            self.on_finished()

    def deliver(self, response: Response, client: Client, line: bytes, result: Any) -> Outcome:
        """Send what the application returned."""
        try:
            self._send(response, client, result)
        except BaseException as error:  # noqa: BLE001
            # The same boundary: iterating and closing are calls of the application, too.
            return self.fail(response, client, line, error)
        return Outcome.KEEP if response.keep else Outcome.CLOSE

    def record(self, response: Response, snapshot: dict[str, Any] | None, line: bytes) -> None:
        """Count and log a request whose response is done with, however it went."""
        if response.overlong:
            self.warn_overlong(line)
        self.hide()
        started = self.started
        now = _monotonic()
        duration_s = now - started
        status = response.status
        begun = response.head_sent or response.complete or status is SWITCHED
        application_s = max(0.0, (self.ended or now) - started)
        self.count(class_of(status) if begun else 0, response.sent_bytes, duration_s, application_s, self.queue_s)
        if snapshot is not None:
            self.log(snapshot, response.status, response.headers, response.sent_bytes, duration_s)

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

    def _send(self, response: Response, client: Client, result: Any) -> None:
        kind = type(result)
        if kind is list or kind is tuple:
            self._note_end(client)
            response.send_whole(result[0] if len(result) == 1 else _joined(result))
            return
        try:
            if kind is FileWrapper and self.sendfile and response.framing is Framing.UNSET:
                region = file_region(result)
                if region is not None:
                    response.send_file(region)
                    response.finish()
                    return
            try:
                blocks = iter(result)
            except TypeError as error:
                raise BadBlock(f"the application returned no iterable: {error}") from None
            self.send_blocks(response, client, blocks)
        finally:
            try:
                close = getattr(result, "close", None)
                if close is not None:
                    close()
            finally:
                self._note_end(client)

    def _note_end(self, client: Client) -> None:
        now = _monotonic()
        self.ended = now - client.client_wait_s(now)

    def fail(self, response: Response, client: Client, line: bytes, error: BaseException) -> Outcome:
        """The application raised: log it, and answer with 500 as long as nothing else was sent."""
        if self.abandoned:
            self.end_stray()
        if client.taken:
            response.status = SWITCHED  # whatever the application has said to end its call: it was never sent
            if isinstance(error, StopIteration | NotStarted):  # what servers that give their socket have come to expect
                return Outcome.ABORT
        if isinstance(error, ClientGone):
            self.add(_CLIENT_LEFT)
            return Outcome.ABORT
        self.add(_BAD_ITERABLES if isinstance(error, BadIterable) else _FAILED)
        if self.on_failure is not None:
            self.on_failure(line, error)
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

    def add(self, cell: int) -> None:
        """Add one to a counter on the page."""
        self._cells[cell] += 1

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


def _joined(blocks: Iterable[bytes]) -> bytes:
    try:
        return b"".join(blocks)
    except TypeError as error:
        raise BadBlock(f"the application gave a body block of another type than bytes: {error}") from None


CALLS_APPLICATION = frozenset(function.__code__ for function in (Cycle.serve, Cycle.deliver, Cycle._send, send_blocks))
"""The functions that call the application and catch what it raises."""
