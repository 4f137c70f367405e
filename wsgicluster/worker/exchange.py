"""The short way through the sync worker in plain Python: receive, parse, serve, in as few steps as can be.

It takes what most clients send, a whole head and no body in one read, and gives back everything else as it
was received, before it has had any effect. The compiled twin, `wsgicluster.worker._exchange`, takes more.
"""

import io
from sys import getrefcount as _getrefcount
from time import monotonic as _monotonic
from typing import Any

from wsgicluster.errors import ProtocolError
from wsgicluster.http.connection import Phase
from wsgicluster.http.core import format_response
from wsgicluster.http.head import HTTP_11, KEEP_ALIVE, parse_plain_head
from wsgicluster.scoreboard import CLIENT_OFFSET, STORE_REQUEST, Cell, WorkerState
from wsgicluster.worker.connection import Connection
from wsgicluster.worker.cycle import Cycle, Outcome
from wsgicluster.worker.ending import RECEIVE_BYTES
from wsgicluster.wsgi.contact import Answer, Contact
from wsgicluster.wsgi.response import JOIN_BYTES, ExcInfo, Framing, Response
from wsgicluster.wsgi.trust import Trust

_HEAD_PHASE = Phase.HEAD
_END = b"\r\n\r\n"
_USUAL = HTTP_11 | KEEP_ALIVE
_KEEP = Outcome.KEEP

# Members of an Enum cost a look-up each time; these are plain integers.
_DEADLINE, _STARTED, _STATE, _READY = int(Cell.DEADLINE), int(Cell.STARTED), int(Cell.STATE), int(WorkerState.READY)


class Start:
    """``start_response`` of a usual request: keeps the head, and becomes a `Response` where more is needed.

    ``over`` says that head and body have been sent whole.
    """

    __slots__ = ("_connection", "_cycle", "head", "headers", "over", "plain", "status")

    status: str
    headers: list[tuple[str, str]]

    def __init__(self, cycle: Cycle, connection: Connection) -> None:
        self._cycle = cycle
        self._connection = connection
        self.over = False
        self.head: tuple[bytes, int, int] | None = None
        self.plain: Response | None = None

    def begin(self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None) -> Any:
        """As `Response.start_response`."""
        if self.head is not None or self.plain is not None or exc_info is not None:
            return self.response().start_response(status, headers, exc_info)
        self.head = format_response(status, headers)
        self.status = status
        self.headers = headers
        return self.write

    def write(self, data: bytes) -> None:
        """PEP 3333's write callable."""
        self.response().write(data)

    def is_for(self, contact: Contact) -> bool:
        """Whether this is a response to the client of a contact."""
        return self._connection.contact is contact

    def send_interim(self, data: bytes) -> None:
        """Send a whole interim response, unless it is too late. Raises ClientGone."""
        if self.plain is not None:
            self.plain.send_interim(data)
        elif not self.over:
            self._connection.send(data)

    def lost_client(self) -> bool:
        """Whether the client has left; receives nothing."""
        return self._connection.lost_client()

    def response(self) -> Response:
        """The same response as a full one; from now on it decides."""
        plain = self.plain
        if plain is None:
            self.plain = plain = Response(self._connection, _USUAL, self._cycle.stamp(self._cycle.started))
            if self.head is not None:
                plain.resume_head(self.head, self.status, self.headers)
            if self.over:
                plain.resume(Framing.COUNTED, 0, 0, True)
                plain.complete = True
        return plain


class PlainExchange:
    """The exchanges of one worker; ``received_bytes`` counts, ``serving`` is the connection being answered.

    Connections are kept for ``keepalive_s``, and not after a request that took ``slow_s``.
    """

    def __init__(self, cycle: Cycle, trust: Trust, keepalive_s: float, slow_s: float) -> None:
        self.received_bytes = 0
        self.serving: Connection | None = None
        self._cycle = cycle
        self._trust = trust
        self._start: Start | None = None
        self._quick_s = slow_s if keepalive_s > 0 else 0.0
        self._floats, self._cells, self._raw = cycle.page.floats, cycle.page.cells, cycle.page.raw

    def answer_to(self, contact: Contact) -> Answer | None:
        """The response that is under way to the client of a contact, unless the cycle has told it itself."""
        start = self._start
        return start if start is not None and start.is_for(contact) else None

    def holds(self, _connection: Connection) -> bool:
        """Whether the last response on a connection has not been sent yet."""
        return False

    def receive(self, connection: Connection, _peer: Any) -> bytes | memoryview | None:
        """Receive; None when a request came and was answered, else the bytes (empty at the end of the stream).

        Raises BlockingIOError and other OSErrors as ``socket.recv`` does. For a connection that reads.
        """
        data = connection.sock.recv(RECEIVE_BYTES)
        self.received_bytes += len(data)
        reader = connection.reader
        if reader.phase is not _HEAD_PHASE or reader.rest or not data.endswith(_END):
            return data
        try:
            found = parse_plain_head(data[:-4], reader.template, reader.limits)
            if found is None:
                return data
            # The first empty line is the last: there is neither a body here nor a next request.
            environ, length, flags = found
            if length:
                return data
            if connection.trusted:
                self._trust.set_scheme(environ)
        except ProtocolError as error:
            connection.refuse(error)
            return None
        environ["wsgi.input"] = io.BytesIO()
        reader.flags = flags
        line = data[: data.find(b"\r")]
        self.serving = connection
        answer = self._answer if flags == _USUAL else self._cycle.serve
        outcome = answer(connection, environ, flags, line)
        self.serving = self._start = None
        connection.served(outcome)
        return None

    def _answer(self, connection: Connection, environ: dict[str, Any], _flags: int, line: bytes) -> Outcome:
        """`Cycle.serve` for a usual request."""
        cycle = self._cycle
        cycle.started = started = _monotonic()
        floats = self._floats
        if cycle.beat_s:
            floats[_DEADLINE] = started + cycle.beat_s
        floats[_STARTED] = started
        STORE_REQUEST(self._raw, CLIENT_OFFSET, connection.client, line)
        contact = connection.contact
        usual = contact.usual_references
        if _getrefcount(contact.early_hints) > usual or _getrefcount(contact.client_disconnected) > usual:
            connection.renew_contact(environ)
        snapshot = environ.copy() if cycle.access is not None else None
        self._start = start = Start(cycle, connection)
        try:
            result = cycle.application(environ, start.begin)
            head = start.head
            if type(result) is list and len(result) == 1 and head is not None and start.plain is None:
                body = result[0]
                block, size, info = head
                if type(body) is bytes and len(body) == size <= JOIN_BYTES and not info and not cycle.abandoned:
                    duration_s = _monotonic() - started
                    if duration_s < self._quick_s and self._cells[_STATE] == _READY:
                        stamp = cycle.latest if started < cycle.stamp_due else cycle.stamp(started)
                        connection.send(block + stamp.last + body)
                        start.over = True
                        cycle.hide()
                        cycle.count(size, duration_s)
                        if snapshot is not None:
                            cycle.log(snapshot, start.status, start.headers, size, duration_s)
                        return _KEEP
        except BaseException as error:  # noqa: BLE001
            # The application's boundary: whatever it raises, even SystemExit, ends its request and no more.
            response = start.response()
            outcome = cycle.fail(response, connection, line, error)
        else:
            response = start.response()
            outcome = cycle.deliver(response, connection, line, result)
        if cycle.abandoned:
            cycle.end_stray()
        cycle.record(response, snapshot, line)
        return outcome
