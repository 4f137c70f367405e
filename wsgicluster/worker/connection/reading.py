"""The part of a connection that waits for requests: it receives until one is complete, or its client is too slow.

What is done with a request, and what its connection does meanwhile, is not known here.
"""

import math
from time import monotonic
from typing import Any, Generic, Protocol, TypeVar

from wsgicluster.errors import ClientGone, ProtocolError
from wsgicluster.http.connection import RequestReader, RoutedAway
from wsgicluster.ipc.reasons import CloseReason
from wsgicluster.worker.connection.host import FastPath, Host
from wsgicluster.worker.connection.states import ON_REQUEST, ConnectionInput, ConnectionState
from wsgicluster.worker.loop.loop import READ, Loop
from wsgicluster.worker.transport.timeouts import ReceiveLimit
from wsgicluster.worker.transport.transport import RECEIVE_BYTES, ByteTransport, has_input

GRACE_S = 1.0
"""How long a client whose time was over, but that has sent something while the loop was busy, may take for the rest."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

# Members of an Enum cost a look-up each time.
_READING = ConnectionState.READING
_CLIENT = CloseReason.CLIENT


class ReadingConnection(Protocol):
    """What reading needs of its connection."""

    bucket: int
    deadline: float
    ended: bool
    fast_path: FastPath[Any] | None
    kept: bool
    loop: Loop
    made_transport: ByteTransport | None
    peer: Any
    reader: RequestReader
    state: ConnectionState
    watching: int

    @property
    def host(self) -> Host[Any]: ...
    @property
    def transport(self) -> ByteTransport: ...

    def enter(self, given: ConnectionInput) -> None:
        """Enter the next state. Raises LookupError for what is impossible in this one."""

    def watch(self, events: int) -> None:
        """Wait for events of the socket."""

    def send_interim(self, data: bytes) -> None:
        """Send an interim response. Raises ClientGone."""

    def refuse(self, error: ProtocolError) -> None:
        """Respond with an error and end the connection."""

    def close(self, reason: CloseReason = ...) -> None:
        """Close at once."""

    def detach(self) -> ByteTransport:
        """Leave the loop without closing."""


C = TypeVar("C", bound=ReadingConnection)


class Reading(Generic[C]):
    """How one connection reads its requests; there as long as the connection is open."""

    __slots__ = ("_connection", "_limit")

    def __init__(self, connection: C) -> None:
        self._connection = connection
        self._limit: ReceiveLimit | None = None

    def end(self) -> None:
        """The connection is closed: forget it, so that both are free at once."""
        del self._connection

    def first_by(self, moment: float) -> None:
        """The first head has to be there at a moment: its time is that of a preamble, too, which begins now."""
        connection = self._connection
        self._limit = ReceiveLimit(connection.host.timing, connection.loop.now, moment)

    # -- receiving

    def receive(self) -> None:
        """Read what is there and run the request when it is complete."""
        connection = self._connection
        fast_path = connection.fast_path
        try:
            if fast_path is None:
                # To ask for the property costs a call more.
                transport = connection.made_transport or connection.transport
                data: bytes | memoryview | None = transport.recv(RECEIVE_BYTES)
                connection.ended = transport.ended
            else:
                data = fast_path.receive(connection, connection.peer)
        except BlockingIOError:
            if fast_path is None and connection.watching and connection.transport.record_bytes:
                # A part of a record does not put a deadline off: it could come byte by byte.
                connection.watch(READ)
            else:
                self.wait()
            return
        except ProtocolError as error:  # of what carries the requests
            connection.refuse(error)
            return
        except OSError:
            connection.close(_CLIENT)
            return
        if data is not None:
            if fast_path is None:
                connection.host.received_bytes += len(data)
            self.take(data)

    readable = receive
    """The loop has found it readable."""

    def take(self, data: bytes | memoryview) -> None:
        """Use what has been received and not been answered yet; nothing means that the client has ended."""
        connection = self._connection
        if not data:
            connection.close(_CLIENT)
            return
        reader = connection.reader
        between = reader.idle
        fresh = between and not reader.rest
        try:
            complete = reader.receive(data)
        except ProtocolError as error:
            connection.refuse(error)
            return
        except RoutedAway:
            connection.detach().close()
            return
        if complete:
            self.run()
        else:
            self._wait_for_rest(fresh if reader.idle else between)

    def resume(self) -> None:
        """Run the next request when it has been received already; else wait for it."""
        connection = self._connection
        reader = connection.reader
        connection.enter(ConnectionInput.RESUMED)
        try:
            complete = reader.resume()
        except ProtocolError as error:
            connection.refuse(error)
            return
        except RoutedAway:
            connection.detach().close()
            return
        if complete:
            self.run()
        elif reader.idle and not reader.rest:
            self.wait()
        else:
            self._wait_for_rest(True)

    def run(self) -> None:
        """Run the request that the reader holds."""
        connection = self._connection
        connection.state = ON_REQUEST[connection.state]
        connection.host.on_request(connection)

    # -- time

    def wait(self) -> None:
        """Wait for the first byte of a request, unless the client has said that it sends none."""
        connection = self._connection
        if connection.ended:
            connection.close(_CLIENT)
            return
        loop, host = connection.loop, connection.host
        # A kept one may have had a request in this turn, which took long.
        deadline = monotonic() + host.timing.keepalive_s if connection.kept else self._head_deadline()
        if connection.bucket >= 0 and deadline >= connection.deadline:
            connection.deadline = deadline
        else:
            loop.deadlines.set(connection, deadline)
        if connection.watching != READ:
            connection.watch(READ)
        if host.draining:
            host.waits(connection)

    def expired(self) -> None:
        """The deadline has passed."""
        connection = self._connection
        reader, now = connection.reader, connection.loop.now
        if has_input(connection.transport):
            # It came while the worker was busy: the client was in time.
            connection.loop.deadlines.set(connection, now + GRACE_S)
            self.receive()
        elif reader.rest or not reader.idle:
            what = "head" if reader.idle else "body"
            error = ProtocolError(408, f"the request's {what} did not arrive in time")
            error.after_s = now - self._receive_limit().began
            connection.refuse(error)
        else:
            connection.close(CloseReason.IDLE)

    def read_s(self, now: float, since: float) -> float | None:
        """How long ago the first bytes of a request came that is complete now; None for one that has come whole.

        ``since`` is when the request before it was complete, infinite if there was none.
        """
        began = self._limit.began if self._limit is not None else -math.inf
        return now - began if began > (since if since < math.inf else -math.inf) else None

    def silence_s(self, now: float) -> float:
        """For how long it has waited for its next request or the rest of a head; 0.0 in any other state."""
        connection = self._connection
        if connection.state is not _READING or not connection.reader.idle:
            return 0.0
        timing = connection.host.timing
        limit_s = timing.keepalive_s if connection.kept and not connection.reader.rest else timing.head_s
        return now - (connection.deadline - limit_s) if math.isfinite(limit_s) else 0.0

    def _head_deadline(self) -> float:
        connection = self._connection
        if self._limit is None:
            return connection.loop.now + connection.host.timing.head_s
        # What a kept connection had to do at its beginning does not concern its later requests.
        return self._limit.head_deadline(connection.loop.now, not connection.kept)

    def _receive_limit(self) -> ReceiveLimit:
        found = self._limit
        if found is None:
            found = self._limit = ReceiveLimit(self._connection.host.timing, self._connection.loop.now)
        return found

    def _wait_for_rest(self, fresh: bool) -> None:
        """Wait for more of a head or of a body, whichever it is; ``fresh`` says that its first bytes have just come."""
        connection = self._connection
        loop, reader = connection.loop, connection.reader
        if not reader.idle and connection.host.runs_early(connection):
            return
        if connection.ended:
            connection.close(_CLIENT)
            return
        limit = self._receive_limit()
        if reader.idle:
            # Empty lines before a request are dropped, and put nothing off.
            if fresh and reader.rest:
                limit.began = loop.now
                loop.deadlines.set(connection, self._head_deadline())
        else:
            if fresh:
                limit.began = loop.now
            if reader.awaits_continue and not self._send_continue():
                return
            loop.deadlines.set(connection, limit.body_deadline(loop.now, reader.body_received))
        if connection.state is _READING and connection.watching != READ:
            connection.watch(READ)

    def _send_continue(self) -> bool:
        try:
            self._connection.send_interim(CONTINUE)
        except ClientGone:
            self._connection.close(_CLIENT)
            return False
        return True
