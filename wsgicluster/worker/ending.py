"""How a connection ends: closed, reset, given away, or kept open until its client has read to the end.

What is said on it before is not known here.
"""

import contextlib
import enum
import math
import socket
import struct
import time

from wsgicluster.http.connection import RequestReader
from wsgicluster.http.head import KEEP_ALIVE
from wsgicluster.worker.host import Host
from wsgicluster.worker.loop import READ
from wsgicluster.worker.sender import Sender

RECEIVE_BYTES = 64 * 1024

LINGER_S = 2.0
"""How long what a client still sends is dropped, so that it can read our last answer (RFC 9112, section 9.6)."""

LAST_LINGER_S = 0.2
"""The same in a worker that leaves."""

_RESET = struct.pack("ii", 1, 0)


class State(enum.Enum):
    """What a connection is doing.

    ``RUNNING`` means that a worker has its request, ``RESUMING`` that what came behind the last one, perhaps many
    requests more, is looked at soon; nothing is received until then.
    """

    OPENING = enum.auto()
    READING = enum.auto()
    RUNNING = enum.auto()
    RESUMING = enum.auto()
    SENDING = enum.auto()
    LINGERING = enum.auto()
    CLOSED = enum.auto()


class Ending(Sender):
    """What ends, once it has been opened; ``reader`` holds what its client has sent."""

    __slots__ = ("_host", "_loop", "_watching", "bucket", "deadline", "reader", "state")

    def __init__(self, host: Host, sock: socket.socket | int, reader: RequestReader) -> None:
        super().__init__(sock, host.upload_folder)
        self.reader = reader
        self.state = State.READING
        self.deadline = math.inf
        self.bucket = -1
        self._host = host
        self._loop = host.loop
        self._watching = 0

    def on_event(self, events: int) -> None:
        """The socket is ready for what was waited for."""
        raise NotImplementedError

    def watch(self, events: int) -> None:
        """Wait for events of the socket: READ or WRITE."""
        if self._watching == events:
            return
        if self._watching:
            self._loop.change(self.descriptor, events)
        else:
            self._loop.add(self.descriptor, self.on_event, events)
        self._watching = events

    def close(self) -> None:
        """Close at once; what was sent still reaches the client when it has sent nothing more."""
        if self.state is State.CLOSED:
            return
        self.state = State.CLOSED
        self.reader.close()
        if self._outbox is not None:
            self._outbox.close()
        self._loop.deadlines.drop(self)
        if self._watching:
            # Not left to close(): a process that the application forked may hold the socket open,
            # and its events would then come for ever.
            self._loop.remove(self.descriptor)
        self.close_socket()
        self._host.left(self)

    def abort(self) -> None:
        """Reset the connection: the client must not take what it got for a complete response."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close()

    def detach(self) -> socket.socket:
        """Leave the loop without closing: the socket goes to another process."""
        self.state = State.CLOSED
        self._loop.deadlines.drop(self)
        if self._watching:
            self._loop.remove(self.descriptor)
        self._host.left(self)
        return self.sock

    def _end(self) -> None:
        # A client that asked for the close sends nothing more. Where the close is our wish, bytes may be under way,
        # and closing before they are read would reset the connection and take the response with it.
        if self.reader.rest or self.reader.flags & KEEP_ALIVE:
            self.linger()
        else:
            self.close()

    def linger(self) -> None:
        """Say that nothing more comes, and let the client read to the end before the connection is closed."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        self.state = State.LINGERING
        self.reader.rest = b""
        self._loop.deadlines.drop(self)
        self._loop.deadlines.set(self, time.monotonic() + (LAST_LINGER_S if self._host.draining else LINGER_S))
        self.watch(READ)

    def hurry(self) -> None:
        """The worker leaves: what only lingers shall not hold it up."""
        if self.state is State.LINGERING:
            self._loop.deadlines.set(self, time.monotonic() + LAST_LINGER_S)

    def _drop_input(self) -> None:
        try:
            if self.sock.recv(RECEIVE_BYTES):
                return
        except BlockingIOError:
            return
        except OSError:
            pass  # reset by the client: nothing is left to wait for
        self.close()
