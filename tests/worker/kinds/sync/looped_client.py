"""A client whose socket waits in the loop of the worker that it talks to."""

import contextlib
import enum
import select
import socket
import struct
import time
from typing import Any

from wsgicluster.worker.loop.loop import READ, WRITE, Loop

DEADLINE_S = 5.0
"""How long anything may take; a conversation takes a thousandth of that."""

FIN = None
"""As a segment: the client has nothing more to send."""

Segment = bytes | None

MSS, WINDOW_BYTES = 1400, 8192
"""Of a client that pauses, so that little fits into the kernel."""

_RESET = struct.pack("ii", 1, 0)


class Ending(enum.Enum):
    """How a conversation ended, as the client saw it."""

    KEPT = enum.auto()
    """One more request was answered on the same connection."""
    FIN = enum.auto()
    RESET = enum.auto()
    LEFT = enum.auto()
    """The client itself broke it off."""


class Client:
    """A client that sends what it is given and reads what comes, whenever the loop finds that possible.

    One that pauses reads nothing before that ends.
    """

    def __init__(self, loop: Loop, address: Any, host: str, pauses: bool = False) -> None:
        self.port = 0
        self.pauses = pauses
        if pauses:
            self.sock = socket.socket()
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, MSS)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW_BYTES)
            self.sock.connect(address[:2])
            self.port = self.sock.getsockname()[1]
        elif isinstance(address, str):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(address)
        else:
            # Only a stranger's port is bound: thousands of them would exhaust the system's.
            self.sock = socket.create_connection(address[:2], DEADLINE_S, (host, 0) if host else None)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.port = self.sock.getsockname()[1]
        self.sock.setblocking(False)
        self.received = bytearray()
        self.sent_bytes = 0
        self.ending: Ending | None = None
        self._loop = loop
        self._unsent = memoryview(b"")
        self._open = True
        if not pauses:
            loop.add(self.sock.fileno(), self._on_event)

    def go_on(self) -> None:
        """Pause no longer."""
        self.pauses = False
        if self._open:
            self._loop.add(self.sock.fileno(), self._on_event)
            self._push()

    @property
    def sent_all(self) -> bool:
        """Whether the kernel has taken all that there is to send."""
        return not self._unsent

    def send(self, segment: Segment) -> None:
        """Send bytes, as far as the socket takes them at once; the rest is sent by the loop."""
        if segment is FIN:
            with contextlib.suppress(OSError):  # ended by the server already
                self.sock.shutdown(socket.SHUT_WR)
            return
        self._unsent = memoryview(segment)
        self._push()

    def leave(self) -> None:
        """Break the conversation off."""
        self.ending = Ending.LEFT
        self.close()

    def wait_for(self, end: bytes) -> None:
        """Within the application, where the loop cannot turn: read until what has come ends like this."""
        deadline = time.monotonic() + DEADLINE_S
        while not self.received.endswith(end):
            assert select.select([self.sock], [], [], deadline - time.monotonic())[0], f"{end!r} has not come"
            self._on_event(READ)
            assert self.ending is None, f"{end!r} will not come"

    def close(self) -> None:
        """Reset the connection, which leaves nothing of it behind in the kernel."""
        if self._open:
            self._open = False
            if not self.pauses:
                self._loop.remove(self.sock.fileno())
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.sock.close()

    def _on_event(self, events: int) -> None:
        if events & WRITE:
            self._push()
        while self.ending is None:
            try:
                data = self.sock.recv(1 << 20)
            except BlockingIOError:
                return
            except ConnectionResetError:
                self.ending = Ending.RESET
                return
            if not data:
                self.ending = Ending.FIN
            self.received += data

    def _push(self) -> None:
        while self._unsent:
            try:
                count = self.sock.send(self._unsent)
            except BlockingIOError:
                break
            except (BrokenPipeError, ConnectionResetError):
                # What the server has done to the connection is what reading shows.
                self._unsent = memoryview(b"")
                break
            self.sent_bytes += count
            self._unsent = self._unsent[count:]
        if not self.pauses:
            self._loop.change(self.sock.fileno(), READ | WRITE if self._unsent else READ)
