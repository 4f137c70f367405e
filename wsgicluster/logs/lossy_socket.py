"""A socket that lines or metrics are sent through, which never waits and never raises: what cannot be sent is lost.

Host names are looked up once, when it is made. Each process opens a socket of its own, with the first thing it sends.
"""

import os
import select
import socket
from collections.abc import Callable
from time import monotonic
from typing import TypeAlias

Target: TypeAlias = tuple[str, str, int]
"""``udp``, ``tcp``, ``unix``, ``unix-stream`` or ``unix-dgram``; host or path; port."""

RETRY_S = 5.0
"""A socket that could not be opened, or was lost, is tried again after this."""

CONNECT_S = 0.02
"""How long the first line that is sent over TCP may wait for the connection; later ones do not wait."""

MOST_WAITING_BYTES = 1 << 16
"""So much of a stream is kept while it does not take more."""

# Gevent replaces both in a worker: by what switches to another greenlet in place of returning at once.
_Socket, _Poll = socket.socket, select.poll

_Address: TypeAlias = tuple[int, int, object]


class LossySocket:
    """Sends to ``target``; ``lookup_error`` is why its host name is not known, or empty."""

    def __init__(self, target: Target, clock: Callable[[], float] = monotonic) -> None:
        self.lookup_error = ""
        self._clock = clock
        self._socket: socket.socket | None = None
        self._pid = 0
        self._retry_at = 0.0
        self._waiting = b""
        self._choices = self._look_up(target)

    def send(self, data: bytes) -> None:
        """Send a datagram, or a line of a stream, which gets its line end here."""
        if self._pid != os.getpid():
            self._forget()
        opened = self._socket or self._open()
        if opened is None:
            return
        try:
            if opened.type == socket.SOCK_DGRAM:
                opened.send(data)
            else:
                self._send_stream(opened, data + b"\n")
        except BlockingIOError:
            pass  # its buffer is full: this datagram is lost
        except OSError:
            self.close()

    def close(self) -> None:
        """Close the socket; it is opened again after a while, if more is sent."""
        if self._socket is not None:
            if self._pid == os.getpid():
                self._socket.close()
            else:
                self._socket.detach()
        self._socket, self._waiting = None, b""
        self._retry_at = self._clock() + RETRY_S

    def _send_stream(self, opened: socket.socket, line: bytes) -> None:
        # A line is whole or lost: what was begun is continued before anything else.
        if len(self._waiting) + len(line) <= MOST_WAITING_BYTES:
            self._waiting += line
        try:
            while self._waiting:
                self._waiting = self._waiting[opened.send(self._waiting) :]
        except BlockingIOError:
            pass  # later

    def _forget(self) -> None:
        """In a new process: its parent's socket is not its own, and its number may be another file's by now."""
        if self._socket is not None:
            self._socket.detach()
        self._socket, self._waiting, self._retry_at, self._pid = None, b"", 0.0, os.getpid()

    def _open(self) -> socket.socket | None:
        if self._clock() < self._retry_at:
            return None
        for family, kind, address in self._choices:
            try:
                self._socket = _connected(family, kind, address)
            except OSError:
                continue
            return self._socket
        self._retry_at = self._clock() + RETRY_S
        return None

    def _look_up(self, target: Target) -> list[_Address]:
        kind, host, port = target
        datagram, stream = socket.SOCK_DGRAM, socket.SOCK_STREAM
        if kind.startswith("unix"):
            kinds = {"unix-dgram": [datagram], "unix-stream": [stream]}.get(kind, [datagram, stream])
            return [(socket.AF_UNIX, each, host) for each in kinds]
        try:
            found = socket.getaddrinfo(host, port, type=datagram if kind == "udp" else stream)
        except (OSError, UnicodeError) as error:
            self.lookup_error = f"{host}: {getattr(error, 'strerror', None) or error}"
            return []
        # Where a datagram goes cannot be tried: a server that has only one of both listens for IPv4.
        found.sort(key=lambda entry: entry[0] != socket.AF_INET)
        return [(int(family), int(of), address) for family, of, _, _, address in found]


def _connected(family: int, kind: int, address: object) -> socket.socket:
    made = _Socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        made.connect(address)  # type: ignore[arg-type]  # as getaddrinfo has it
    except BlockingIOError:
        poll = _Poll()
        poll.register(made, select.POLLOUT)
        poll.poll(CONNECT_S * 1000)
    except OSError:
        made.close()
        raise
    return made
