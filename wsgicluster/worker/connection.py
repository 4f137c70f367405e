"""One client's connection in a worker that waits in an event loop.

It receives until a request is complete, gives that to its worker, and sees to it that
the response is sent to its end. It decides when a client has been slow for too long.
What the application does with a request is not its business.
"""

import math
import socket
from time import monotonic
from typing import Any

from wsgicluster.errors import ClientGone, ProtocolError, ServerError
from wsgicluster.http.connection import RequestReader
from wsgicluster.http.response import error_response
from wsgicluster.worker.cycle import Outcome
from wsgicluster.worker.ending import RECEIVE_BYTES, Ending, State
from wsgicluster.worker.host import Host, Opening
from wsgicluster.worker.loop import READ, WRITE
from wsgicluster.wsgi.contact import Contact

GRACE_S = 1.0
"""How long a client whose time was over, but that has spoken while nobody listened, may take for the rest."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


# Members of an Enum cost a look-up each time.
_READING = State.READING
_KEEP = Outcome.KEEP
_BETWEEN = frozenset((State.READING, State.RESUMING))


class Connection(Ending):
    """One connection, from accept or hand-off to its end.

    ``listener`` is the number of the listener it came from, ``client`` its peer as text, ``kept`` whether it
    has had a response that promised to keep it, ``own_fields`` what the server's own answers to its present request
    have in their heads, ``introduction`` what a proxy has said of whom it is (the
    header of the PROXY protocol as sent; else empty), ``movable`` whether another process can go on with it.
    """

    __slots__ = (
        "_began", "_exchange", "_first_by", "_opening", "_taken", "client", "contact", "due",
        "introduction", "kept", "listener", "may_keep", "outcome", "own_fields", "peer", "trusted",
    )  # fmt: skip

    due: float
    """Until when its request is worth running; for `wsgicluster.worker.admission` alone."""
    movable = True
    awaited = READ
    """What to wait for when the socket would block before the first request."""
    ended = False
    """The client is known to send nothing more, although the socket is not read to its end."""

    def __init__(self, host: Host, sock: socket.socket | int, listener: int, reader: RequestReader) -> None:
        super().__init__(host, sock, reader)
        self.listener = listener
        self.client = b""
        self.introduction = b""
        self.trusted = False
        self.kept = False
        self.own_fields = ""
        self.outcome = Outcome.CLOSE
        self.peer: Any = None
        self.may_keep = host.may_keep
        self._exchange = host.exchange
        self.contact = contact = Contact(host.exchange)
        contact.enter(reader.template)
        self._began = 0.0
        self._taken = (0, 0.0)
        self._opening: Opening | None = None
        self._first_by = math.inf

    # -- what comes before the first request

    def open_with(self, opening: Opening) -> None:
        """Have ``opening`` come first; its time and that of the first head are one."""
        self._opening = opening
        self.state = State.OPENING
        self._first_by = self._loop.now + self._host.timing.head_s
        self._loop.deadlines.set(self, self._first_by)

    def introduced(self, header: bytes, client: bytes, trusted: bool) -> None:
        """A proxy has said whose connection this is; the template of the environs says so already."""
        self.introduction = header
        self.client = client
        self.trusted = trusted
        self.reader.limits = self._host.limits[trusted]
        self._host.adopt(self, self.reader.template)

    def opened(self) -> None:
        """Begin with the first request."""
        self._opening = None
        self.state = State.READING
        self.receive()

    @property
    def between_requests(self) -> bool:
        """No request runs, and none has been received but for what stands in the reader's ``rest``."""
        return self.state in _BETWEEN and self.reader.idle

    # -- events from the loop

    def on_event(self, _events: int) -> None:
        """The socket is ready for what this state waits for."""
        state = self.state
        if state is _READING:
            self.receive()
        elif state is State.SENDING:
            self._flush()
        elif state is State.LINGERING:
            self._drop_input()
        elif self._opening is not None:
            self._opening.advance()
        elif state is not State.RESUMING:
            raise AssertionError(f"a connection that is {state.name} waits for nothing")

    def receive(self) -> None:
        """Read what is there and run the request when it is complete."""
        exchange = self._exchange
        try:
            if exchange is None:
                data: bytes | memoryview | None = self.sock.recv(RECEIVE_BYTES)
            else:
                data = exchange.receive(self, self.peer)
        except BlockingIOError:
            self.wait_for_request()
            return
        except OSError:
            self.close()
            return
        if data is not None:
            if exchange is None:
                self._host.received_bytes += len(data)
            self.take(data)

    def take(self, data: bytes | memoryview) -> None:
        """Use what has been received and not been answered yet; nothing means that the client has ended."""
        if not data:
            self.close()
            return
        reader = self.reader
        between = reader.idle
        fresh = between and not reader.rest
        try:
            complete = reader.receive(data)
        except ProtocolError as error:
            self.refuse(error)
            return
        if complete:
            self.state = State.RUNNING
            self._host.on_request(self)
        else:
            self._wait_for_rest(fresh if reader.idle else between)

    def resume(self) -> None:
        """Run the next request when it has been received already; else wait for it."""
        self.state = State.READING
        try:
            complete = self.reader.resume()
        except ProtocolError as error:
            self.refuse(error)
            return
        if complete:
            self.state = State.RUNNING
            self._host.on_request(self)
        elif self.reader.idle and not self.reader.rest:
            self.wait_for_request()
        else:
            self._wait_for_rest(True)

    def expired(self) -> None:
        """The deadline has passed."""
        if self.state is State.RESUMING:
            self._loop.deadlines.set(self, self._loop.now + GRACE_S)
        elif self.state is State.READING and self.has_input():
            # It came while the worker was busy: the client was in time.
            self._loop.deadlines.set(self, self._loop.now + GRACE_S)
            self.receive()
        elif self.state is State.READING and (self.reader.rest or not self.reader.idle):
            what = "head" if self.reader.idle else "body"
            self.refuse(ProtocolError(408, f"the request's {what} did not arrive in time"))
        elif self.state is State.SENDING:
            # The kernel tells of room not before a third of what it holds is gone: that may be megabytes.
            sent_bytes = self._sent_bytes
            self._flush()
            if self.state is State.SENDING and (self._sent_bytes == sent_bytes or self.deadline <= self._loop.now):
                self.abort()
        else:
            self.close()

    # -- what the worker says

    def served(self, outcome: Outcome) -> None:
        """As `finished`, for a request that was answered within `receive`: only the time has changed."""
        if outcome is _KEEP and self.kept and self._outbox is None and not self._host.draining:
            self.deadline = self._loop.now + self._host.timing.keepalive_s
        else:
            self.finished(outcome)

    def finished(self, outcome: Outcome) -> None:
        """The response to the request has been given to this connection."""
        self.outcome = outcome
        if outcome is Outcome.ABORT:
            self.abort()
        elif self._outbox is not None:
            self.state = State.SENDING
            self._began = self._loop.now
            self.watch(WRITE)
            self._set_write_deadline()
        elif outcome is Outcome.KEEP:
            self._next()
        else:
            self._end()

    def renew_contact(self, environ: dict[str, Any]) -> Contact:
        """Leave the contact to whoever has kept it: from now on, and in ``environ``, there is another one."""
        self.contact.close()
        self.contact = contact = Contact(self._exchange)
        contact.enter(self.reader.template)
        contact.enter(environ)
        if self.peer is not None:
            self.peer.meet(contact)
        return contact

    def refuse(self, error: ProtocolError) -> None:
        """Answer with an error and end the connection (RFC 9112, section 9.6)."""
        self._host.refused(self, error)
        # Before the request is whole there are only those of the one before.
        own = self.own_fields if self.state is State.RUNNING else ""
        answer = error_response(error.status, self._host.date(), error.detail, error.fields + own)
        self.reader.close()
        try:
            self.send(answer)
        except ClientGone:
            self.close()
            return
        self.outcome = Outcome.CLOSE
        if self._outbox is not None:
            self.finished(Outcome.CLOSE)
        else:
            self.linger()

    # -- inside

    def _flush(self) -> None:
        try:
            empty = self._flush_outbox()
        except ClientGone:
            self.close()
            return
        except ServerError as error:
            self._host.broken(self, error)
            self.abort()
            return
        if not empty:
            self._set_write_deadline()
        elif self.outcome is Outcome.KEEP:
            self._next()
        else:
            self._end()

    def _set_write_deadline(self) -> None:
        deadline = self._host.timing.write_deadline(self._loop.now, self._began, self._sent_bytes)
        self._loop.deadlines.set(self, deadline)

    @property
    def _sent_bytes(self) -> int:
        return self._outbox.sent_bytes if self._outbox is not None else 0

    def store(self, data: memoryview | bytes) -> None:
        """Keep data until the socket takes it. Raises ClientGone if the client has taken nothing for too long.

        Who asks is the only one to know of a response that is still being made, and it may have no end.
        """
        now = monotonic()
        if self._outbox is None:
            self._began = now
            self._taken = (0, now)
        elif self._outbox.sent_bytes > self._taken[0]:
            self._taken = (self._outbox.sent_bytes, now)
        else:
            sent_bytes, moment = self._taken
            if now >= self._host.timing.write_deadline(moment, self._began, sent_bytes):
                raise ClientGone("the client has not taken its response in time")
        super().store(data)

    def _next(self) -> None:
        self.kept = True
        self._quick = True
        if self.reader.rest:
            self.state = State.RESUMING
            self._loop.soon.append(self._resume_if_open)
        else:
            self.state = State.READING
            self.wait_for_request()

    def _resume_if_open(self) -> None:
        if self.state is State.RESUMING:
            self.resume()

    def receive_if_open(self) -> None:
        """`receive`, for a connection that may have been closed since that was decided, or is not that far yet."""
        if self.state is State.READING:
            self.receive()
        elif self.state is State.OPENING and self._opening is not None:
            self._opening.advance()

    def wait_for_request(self) -> None:
        """Wait for the first byte of a request."""
        loop = self._loop
        deadline = loop.now + self._host.timing.keepalive_s if self.kept else self._head_deadline()
        if self.bucket >= 0 and deadline >= self.deadline:
            self.deadline = deadline
        else:
            loop.deadlines.set(self, deadline)
        if self._watching != READ:
            self.watch(READ)
        if self._host.draining:
            self._host.waits(self)

    def _head_deadline(self) -> float:
        # What a kept connection had to do at its beginning is no concern of its later requests.
        deadline = self._loop.now + self._host.timing.head_s
        return deadline if self.kept or deadline < self._first_by else self._first_by

    def _wait_for_rest(self, fresh: bool) -> None:
        """Wait for more of a head or of a body, whichever it is; ``fresh`` says that its first bytes have just come."""
        loop, timing, reader = self._loop, self._host.timing, self.reader
        if reader.idle:
            # Empty lines before a request are dropped, and put nothing off.
            if fresh and reader.rest:
                loop.deadlines.set(self, self._head_deadline())
        else:
            if fresh:
                self._began = loop.now
            if reader.awaits_continue and not self._send_continue():
                return
            loop.deadlines.set(self, timing.body_deadline(loop.now, self._began, reader.body_received))
        if self.state is State.READING and self._watching != READ:
            self.watch(READ)

    def _send_continue(self) -> bool:
        try:
            self.send_interim(CONTINUE)
        except ClientGone:
            self.close()
            return False
        return True
