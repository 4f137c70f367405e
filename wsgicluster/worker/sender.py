"""The sending half of a connection: now what the socket takes, later what it does not.

A response is given to it in pieces, in whatever order the application makes them, and
never waits for a client that reads slowly. When the rest is sent is the loop's business.
"""

import os
import select
import socket
from typing import ClassVar

from wsgicluster.errors import ClientGone
from wsgicluster.worker.outbox import MEMORY_BYTES, Outbox
from wsgicluster.wsgi.files import FileRegion

# As it is now: gevent puts one there that lets other greenlets run.
new_poll = select.poll

PACE_S = 0.001, 0.008
"""How long, at least and at most, a response may wait for a client that reads as fast as the application writes, before
it is stored. That costs as much as sending it twice, but whoever reads slowly must not keep the worker."""


class Patience:
    """How long this process waits for a client now: less after each one that was slow, more after each that was not.

    However many slow clients there are, they soon cost the worker no more than the least time each.
    """

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = PACE_S[1]

    def in_vain(self) -> None:
        """A client has read nothing in this time."""
        self.seconds = max(PACE_S[0], self.seconds / 2)

    def rewarded(self) -> None:
        """A client was worth the time."""
        self.seconds = min(PACE_S[1], self.seconds * 2)


_patience = Patience()


class Sender:
    """Sends over one socket; ``folder`` takes the temp files of responses that wait (None: the system's).

    A connection that only compiled code uses never needs more than its ``descriptor``: the socket object
    around it is made when it is first asked for.
    """

    __slots__ = ("_folder", "_outbox", "_quick", "_sock", "descriptor")

    outbox_class: ClassVar[type[Outbox]] = Outbox

    def __init__(self, connection: socket.socket | int, folder: str | None) -> None:
        self._sock = None if isinstance(connection, int) else connection
        self.descriptor = connection if isinstance(connection, int) else connection.fileno()
        self._folder = folder
        self._outbox: Outbox | None = None
        self._quick = True

    @property
    def sock(self) -> socket.socket:
        """The socket of the connection; owns the descriptor from now on."""
        sock = self._sock
        if sock is None:
            sock = self._sock = socket.socket(fileno=self.descriptor)
            sock.setblocking(False)
        return sock

    def close_socket(self) -> None:
        """Give the descriptor back."""
        if self._sock is None:
            os.close(self.descriptor)
        else:
            self._sock.close()

    @property
    def sends_later(self) -> bool:
        """Whether something waits for the socket to take it."""
        return self._outbox is not None

    def has_input(self) -> bool:
        """Whether the client has sent something that was not received yet."""
        try:
            return bool(self.sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def lost_client(self) -> bool:
        """Whether the client has ended or reset the connection; what it has sent before is still to be received."""
        try:
            return not self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def send_interim(self, data: bytes) -> None:
        """Send an interim response, if the socket takes it now. Raises ClientGone."""
        try:
            self.sock.send(data)
        except BlockingIOError:
            pass  # a client that has not read its last response will not miss this
        except OSError as error:
            raise ClientGone(str(error)) from error

    def send(self, data: bytes | memoryview) -> None:
        """Send now, or keep what the socket does not take. Raises ClientGone."""
        if self._outbox is None or self._flush_outbox():
            try:
                sent = (self._sock or self.sock).send(data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                raise ClientGone(str(error)) from error
            if sent == len(data):
                return
            data = memoryview(data)[sent:]
        self.store(data)

    def send_pair(self, head: bytes, body: bytes) -> None:
        """Send two buffers without joining them. Raises ClientGone."""
        if self._outbox is not None:
            self.send(head)
            self.send(body)
            return
        try:
            sent = self.sock.sendmsg((head, body))
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise ClientGone(str(error)) from error
        if sent < len(head):
            self.store(memoryview(head)[sent:])
            self.store(memoryview(body))
        elif sent < len(head) + len(body):
            self.store(memoryview(body)[sent - len(head) :])

    def send_file(self, head: bytes, region: FileRegion) -> None:
        """Send a head and let the kernel send the file. Raises ClientGone."""
        outbox = self._outbox
        if outbox is None:
            outbox = self._outbox = self.outbox_class(self._folder)
        outbox.put(head)
        outbox.put_file(region)
        self._flush_outbox()

    def store(self, data: memoryview | bytes) -> None:
        """Keep data until the socket takes it."""
        outbox = self._outbox
        if outbox is None:
            outbox = self._outbox = self.outbox_class(self._folder)
        if self._quick and outbox.memory_bytes + len(data) > MEMORY_BYTES:
            self._pace(outbox)
        outbox.put(data)

    def _pace(self, outbox: Outbox) -> None:
        # A client that reads as fast as we write needs no temp file, only a moment. One that
        # lets such a moment pass without reading is slow for the rest of this response.
        poll = select.poll()
        poll.register(self.sock, select.POLLOUT)
        while outbox.memory_bytes > MEMORY_BYTES // 2:
            if not poll.poll(_patience.seconds * 1000):
                self._quick = False
                _patience.in_vain()
                return
            _patience.rewarded()
            if outbox.flush(self.sock):
                return

    def _flush_outbox(self) -> bool:
        outbox = self._outbox
        if outbox is None or outbox.flush(self.sock):
            self._outbox = None
            return True
        return False
