"""The last phases of a connection: the rest of a response is sent; the client reads to the end.

What is said on the connection before is not known here.
"""

import socket
from time import monotonic
from typing import Any, Protocol

from wsgicluster.errors import ClientGone, ServerError
from wsgicluster.http.connection import RequestReader
from wsgicluster.ipc.reasons import CloseReason
from wsgicluster.worker.connection.host import Host
from wsgicluster.worker.connection.states import ConnectionState
from wsgicluster.worker.loop.loop import READ, WRITE, Loop
from wsgicluster.worker.request.outcome import Outcome
from wsgicluster.worker.transport.outbox import Outbox
from wsgicluster.worker.transport.timeouts import SendLimit
from wsgicluster.worker.transport.transport import RECEIVE_BYTES, ByteTransport

LINGER_S = 2.0
"""How long what a client still sends is dropped, so that it can read our last response (RFC 9112, section 9.6)."""

LAST_LINGER_S = 0.2
"""The same in a worker that leaves."""


class EndingConnection(Protocol):
    """What these phases need of their connection."""

    bucket: int
    deadline: float
    host: Host[Any]
    loop: Loop
    outbox: Outbox | None
    reader: RequestReader
    send_limit: SendLimit
    state: ConnectionState

    @property
    def transport(self) -> ByteTransport: ...

    def flush_outbox(self) -> bool:
        """Send of what waits what the client takes; True when nothing is left. Raises ClientGone or FileFault."""

    def next_request(self) -> None:
        """The response has been sent, and the connection is kept."""

    def linger(self) -> None:
        """Say that nothing more comes, and let the client read to the end before the connection is closed."""

    def watch(self, events: int) -> None:
        """Wait for events of the socket."""

    def close(self, reason: CloseReason = ...) -> None:
        """Close at once."""

    def abort(self) -> None:
        """Reset the connection."""


class Sending:
    """The rest of a response that is complete: the loop sends it as the client reads.

    ``outcome`` is what becomes of the connection after that.
    """

    __slots__ = ("_connection", "_outbox", "_outcome")

    def __init__(self, connection: EndingConnection, outbox: Outbox, outcome: Outcome) -> None:
        self._connection = connection
        self._outcome = outcome
        self._outbox = outbox
        # Not from the time of the turn, which may have begun long before the response was there.
        now = monotonic()
        connection.send_limit.restart(now)
        connection.watch(WRITE)
        self._set_deadline(now)

    def advance(self) -> None:
        """Send what the client takes."""
        connection, outbox = self._connection, self._outbox
        sent_bytes = outbox.sent_bytes
        try:
            empty = connection.flush_outbox()
        except ClientGone:
            connection.close(CloseReason.CLIENT)
            return
        except ServerError as error:
            connection.host.broken(connection, error)
            connection.abort()
            return
        if empty and self._outcome is Outcome.KEEP:
            connection.next_request()
        elif empty:
            # Nothing was received while the response was sent: what has come meanwhile, or comes while the kernel
            # still holds the response's end, would have a close reset the connection and take that end away.
            connection.linger()
        elif outbox.sent_bytes != sent_bytes:
            # Only what the client takes puts its deadline off, not that the loop has come by.
            self._set_deadline(connection.loop.now)

    def expired(self) -> None:
        """Try once more: the kernel tells of room not before a third of what it holds was sent, maybe megabytes."""
        connection, outbox = self._connection, self._outbox
        sent_bytes = outbox.sent_bytes
        self.advance()
        if connection.state is ConnectionState.SENDING and (
            outbox.sent_bytes == sent_bytes or connection.deadline <= connection.loop.now
        ):
            connection.abort()

    def _set_deadline(self, now: float) -> None:
        connection = self._connection
        deadline = connection.send_limit.deadline(now, self._outbox.sent_bytes)
        connection.loop.deadlines.set(connection, deadline)


class Lingering:
    """All has been said: the client reads to the end before the connection is closed.

    What it still sends is dropped. Closing over bytes that were not read would reset the connection.
    """

    __slots__ = ("_connection",)

    def __init__(self, connection: EndingConnection) -> None:
        self._connection = connection
        connection.reader.rest = b""
        connection.loop.deadlines.drop(connection)
        self._set_deadline(LAST_LINGER_S if connection.host.draining else LINGER_S)
        connection.watch(READ)

    def advance(self) -> None:
        """Drop what has come."""
        try:
            # An application may have made the socket block.
            if self._connection.transport.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT):
                return
        except BlockingIOError:
            return
        except OSError:
            pass  # reset by the client: nothing is left to wait for
        self._connection.close()

    def expired(self) -> None:
        """The client has had its time."""
        self._connection.close()

    def hurry(self) -> None:
        """The worker leaves and shall not be held up."""
        self._set_deadline(LAST_LINGER_S)

    def _set_deadline(self, limit_s: float) -> None:
        connection = self._connection
        connection.loop.deadlines.set(connection, monotonic() + limit_s)
