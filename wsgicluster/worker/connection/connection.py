"""One client's connection in a worker that waits in an event loop: what its states do with each input.

It gives each request to its worker, and sees to it that the response is sent to its end. What the application does with
a request is not its business.
"""

import math
import socket
from collections.abc import Callable
from time import monotonic
from typing import Any, ClassVar

from wsgicluster.errors import ClientGone, ProtocolError
from wsgicluster.http.connection import RequestReader
from wsgicluster.http.head import KEEP_ALIVE
from wsgicluster.http.refused import named
from wsgicluster.http.response import error_response
from wsgicluster.ipc.reasons import CloseReason
from wsgicluster.worker.connection.closing import Lingering, Sending
from wsgicluster.worker.connection.extension import ConnectionPhase, Extension
from wsgicluster.worker.connection.host import FastPath, Host
from wsgicluster.worker.connection.reading import GRACE_S, Reading
from wsgicluster.worker.connection.sender import Sender
from wsgicluster.worker.connection.states import ConnectionInput, ConnectionState, after
from wsgicluster.worker.request.cycle import Outcome
from wsgicluster.worker.transport.transport import ByteTransport
from wsgicluster.wsgi.client_callables import ClientCallables

UNTRIED_S = 1.0
"""When a deadline is checked again that has passed while the request ran."""

# Members of an Enum cost a look-up each time.
_READING, _RUNNING = ConnectionState.READING, ConnectionState.RUNNING
_KEEP = Outcome.KEEP
_WRONG_HEAD = frozenset((400, 414, 431, 505))
_BETWEEN = frozenset((ConnectionState.READING, ConnectionState.RESUMING))


class Connection(Sender):
    """One connection, from accept or hand-off to its end: what its states do with each input.

    It has more public methods than most classes, since it is one state machine: each is an input of its table, or asks
    about its state. What has a state of its own is elsewhere: `Sender` sends, ``reading`` waits for requests, ``phase``
    is there while it neither reads nor runs one, and ``extension`` has what the present request has besides.

    ``listener`` is the number of the listener it came from, ``client`` its peer as text, ``kept`` whether it
    has had a response that promised to keep it, ``own_fields`` what the server's own responses to its present request
    have in their heads, ``proxy_header`` what a proxy has said of whom it is (the header of the PROXY protocol as sent;
    else empty), ``movable`` whether another process can continue with it, ``ended`` whether the client is known to send
    nothing more, ``lingers`` that it sends something behind its last request. ``taken`` says that the application
    speaks on the socket itself. ``fast_path`` is the shorter way to receive, if there is one, and ``peer`` what that
    keeps for the connection. ``complete_at`` is when the worker found its present request complete, or what has come of
    one that runs while its body arrives; where nothing was noted, infinite. ``reads`` is how it reads requests.
    """

    __slots__ = (
        "bucket",
        "client",
        "complete_at",
        "contact",
        "deadline",
        "due",
        "ended",
        "extension",
        "fast_path",
        "kept",
        "lingers",
        "listener",
        "loop",
        "may_keep",
        "movable",
        "own_fields",
        "peer",
        "phase",
        "proxy_header",
        "reader",
        "reading",
        "state",
        "taken",
        "trusted",
        "watching",
    )  # fmt: skip

    may_keep: Callable[[], bool]
    """Whether to keep it behind the response whose head is about to be sent: the worker says so, or the extension."""
    due: float
    """Until when its request is worth running; for `wsgicluster.worker.intake.load_shedding` alone."""

    reads: ClassVar[type[Reading[Any]]] = Reading

    def __init__(self, host: Host[Any], descriptor: int, listener: int, reader: RequestReader) -> None:
        super().__init__(host, descriptor)
        self.reader = reader
        self.state = _READING
        self.loop = host.loop
        self.deadline = math.inf
        self.bucket = -1
        self.watching = 0
        self.complete_at = math.inf
        self.listener = listener
        self.client = b""
        self.proxy_header = b""
        self.trusted = False
        self.kept = False
        self.movable = True
        self.ended = False
        self.lingers = False
        self.taken = False
        self.own_fields = ""
        self.peer: Any = None
        self.extension: Extension | None = None
        self.may_keep = host.may_keep
        self.contact = contact = ClientCallables(host.fast_path)
        contact.enter(reader.template)
        self.fast_path: FastPath[Any] | None = host.fast_path
        self.phase: ConnectionPhase | None = None
        self.reading = self.reads(self)

    def enter(self, given: ConnectionInput, phase: ConnectionPhase | None = None) -> None:
        """Enter the next state, in which ``phase`` acts, if any. Raises LookupError where there is none."""
        self.state = after(self.state, given)
        self.phase = phase

    def continue_over(self, transport: ByteTransport) -> None:
        """From now on use another transport, that stands before the one so far: TLS."""
        self.transport = transport
        self.movable = transport.movable
        self.lingers = transport.record_bytes > 0
        self.fast_path = None  # it reads descriptors

    def receive_through(self, fast_path: FastPath[Any] | None) -> None:
        """From its next request on receive in another way; what comes encrypted has one of its own."""
        if self.transport.record_bytes == 0:
            self.fast_path = fast_path
            self.contact.be_answered_by(fast_path)

    # -- what others look at

    @property
    def between_requests(self) -> bool:
        """No request runs, and none has been received but for what stands in the reader's ``rest``."""
        return self.state in _BETWEEN and self.reader.idle

    def is_served(self) -> bool:
        """Whether it is an application that sends."""
        fast_path = self.fast_path
        return self.state is _RUNNING or (fast_path is not None and fast_path.serving is self)

    # -- events from the loop

    def watch(self, events: int) -> None:
        """Wait for events of the socket: READ, WRITE, both or, with 0, none."""
        watching = self.watching
        if watching == events:
            return
        if not events:
            self.loop.remove(self.descriptor)
        elif watching:
            self.loop.change(self.descriptor, events)
        else:
            self.loop.add(self.descriptor, self.on_event, events)
        self.watching = events

    def on_event(self, events: int) -> None:
        """The socket is ready for what this state waits for."""
        state = self.state
        if state is _READING:
            self.reading.readable()
        elif state is _RUNNING:
            self.ready_while_running(events)
        elif self.phase is not None:
            self.phase.advance()
        elif state is not ConnectionState.RESUMING:
            raise AssertionError(f"a connection that is {state.name} waits for nothing")

    def ready_while_running(self, _events: int) -> None:
        """The socket is ready while a request runs elsewhere."""
        raise AssertionError("a connection whose request runs in the loop waits for nothing")

    def extend(self, extension: Extension) -> None:
        """Have ``extension`` take part in the present request."""
        self.extension = extension
        self.may_keep = extension.may_keep

    def receive_if_open(self) -> None:
        """Receive, if it has not been closed since that was decided; or advance what comes before the first request."""
        if self.state is _READING:
            self.reading.receive()
        elif self.phase is not None and self.state is ConnectionState.OPENING:
            self.phase.advance()

    def expired(self) -> None:
        """The deadline has passed."""
        state, now = self.state, self.loop.now
        if state is _RUNNING:
            # Elsewhere only the number is written, and the loop is relied on to look at it.
            if self.deadline > now or self.extension is None or not self.extension.expired(now):
                self.loop.deadlines.set(self, max(self.deadline, now + UNTRIED_S))
        elif self.deadline > now:
            self.loop.deadlines.set(self, self.deadline)
        elif state is ConnectionState.RESUMING:
            self.loop.deadlines.set(self, now + GRACE_S)
        elif state is _READING:
            self.reading.expired()
        elif self.phase is not None:
            self.phase.expired()
        else:
            self.close()  # it may have been already, since the loop has looked

    # -- what the worker says

    def served(self, outcome: Outcome) -> None:
        """As `finished`, for a request that was answered within `receive`: only the time has changed.

        A worker that has to leave since looks at all its connections before it does so.
        """
        if outcome is _KEEP and self.kept and self.outbox is None:
            # Not from the time of the turn, which may have begun long before the response was there.
            self.deadline = monotonic() + self.host.timing.keepalive_s
        else:
            self.finished(outcome)

    def finished(self, outcome: Outcome) -> None:
        """The response to the request has been given to this connection."""
        extension = self.extension
        if extension is not None:
            self.extension = None
            self.may_keep = self.host.may_keep
            if extension.over():
                self.linger()
                return
        outbox = self.outbox
        if outcome is Outcome.ABORT or (outbox is not None and outbox.given_up):
            self.abort()
        elif outbox is not None:
            self.enter(ConnectionInput.LEFTOVERS, Sending(self, outbox, outcome))
        elif outcome is _KEEP:
            self.next_request()
        else:
            self._end()

    def renew_contact(self, environ: dict[str, Any]) -> ClientCallables:
        """Leave the contact to the application that has kept it: from now on, and in ``environ``, there is another."""
        self.contact.close()
        self.contact = contact = ClientCallables(self.fast_path)
        contact.enter(self.reader.template)
        contact.enter(environ)
        if self.peer is not None:
            self.peer.meet(contact)
        return contact

    def refuse(self, error: ProtocolError) -> None:
        """Respond with an error and end the connection (RFC 9112, section 9.6)."""
        reader = self.reader
        if error.status in _WRONG_HEAD and self.state is _READING and reader.idle and reader.rest:
            error = named(error, reader.rest, reader.spoken)
        # Before the request is whole there are only those of the one before.
        own = self.own_fields if self.state is _RUNNING else ""
        answer = error_response(error.status, self.host.date(), error.detail, error.fields + own)
        self.host.refused(self, error, len(answer) - answer.index(b"\r\n\r\n") - 4)
        reader.close()
        try:
            self.send(answer)
        except ClientGone:
            self.close(CloseReason.CLIENT)
            return
        if self.outbox is not None:
            self.finished(Outcome.CLOSE)
        else:
            self.linger()

    # -- its end

    def close(self, reason: CloseReason = CloseReason.RESPONSE) -> None:
        """Close at once; what was sent still reaches the client when it has sent nothing more."""
        if self.state is ConnectionState.CLOSED:
            return
        self.enter(ConnectionInput.CLOSED)
        if self.extension is not None:
            self.extension.over()
            self.extension = None
        self.reader.close()
        self.say_end()
        if self.outbox is not None:
            self.outbox.close()
        self._leave_loop()
        self.close_socket()
        self.host.left(self, reason)

    def abort(self) -> None:
        """Reset the connection: the client must not take what it got for a complete response."""
        self.reset_if_cut()
        self.close(CloseReason.ABORTED)

    def detach(self) -> ByteTransport:
        """Leave the loop without closing: the socket goes to another process."""
        self.enter(ConnectionInput.HANDED_OVER)
        self._leave_loop()
        self.host.left(self, CloseReason.HANDED_OVER)
        return self.transport

    def linger(self) -> None:
        """Say that nothing more comes, and let the client read to the end before the connection is closed."""
        self.allow_end()
        try:
            self.transport.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        self.enter(ConnectionInput.END_SENT, Lingering(self))

    def _leave_loop(self) -> None:
        self.reading.end()
        self.loop.deadlines.drop(self)
        if self.watching:
            # Not left to the socket's close: a process that the application forked may hold it open,
            # and its events would then never end.
            self.loop.remove(self.descriptor)

    def _end(self) -> None:
        # A client that asked for the close sends nothing more, but for what TLS has it send. Where the close is our
        # wish, bytes may be under way, and closing before they are read would reset the connection and take the
        # response with it.
        if self.lingers or self.reader.rest or self.reader.flags & KEEP_ALIVE:
            self.linger()
        else:
            self.allow_end()
            self.close()

    # -- its next request

    def next_request(self) -> None:
        """The response has been sent, and the connection is kept."""
        self.kept = True
        self.quick = True
        if self.reader.rest:
            self.enter(ConnectionInput.KEPT_WITH_MORE)
            self.loop.soon.append(self._resume_if_open)
        else:
            self.enter(ConnectionInput.KEPT)
            self.reading.wait()

    def _resume_if_open(self) -> None:
        if self.state is ConnectionState.RESUMING:
            self.reading.resume()
