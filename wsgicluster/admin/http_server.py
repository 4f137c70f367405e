"""Serves HTTP to few clients, each in a thread: no client, however slow, keeps another one waiting.

When there are too many connections, one that is silent makes room for the one that comes. It must not know what is
answered.
"""

import contextlib
import dataclasses
import http
import io
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import BinaryIO

from wsgicluster.admin.exchange import AdminRequest, AdminResponse, error_response
from wsgicluster.dataclass import dataclass
from wsgicluster.errors import ProtocolError
from wsgicluster.http.connection import RequestReader
from wsgicluster.http.head import HTTP_11, IS_HEAD, KEEP_ALIVE
from wsgicluster.http.limits import HeadLimits

MOST_CONNECTIONS = 64
MOST_STREAMS = 16
"""Connections with a response that does not end, of those."""
IDLE_S = 75.0
"""How long a connection may be silent between two requests."""
REQUEST_S = 10.0
"""How long a request may take to arrive."""
SEND_S = 10.0
"""How long a client may take nothing of what is sent to it."""
FIRST_S = 0.3
"""How long a stop waits for the first request of a connection that was accepted just before."""
RETRY_S = 0.5
"""How soon it is tried again to accept after the system has refused to."""
_LINGER_S = 0.5
_LINGER_BYTES = 65536
_RECEIVE_BYTES = 65536
_LIMITS = HeadLimits(body_bytes=65536)


class _Body:
    """The body of one request, in memory."""

    def __init__(self, _length: int) -> None:
        self._file = io.BytesIO()

    def write(self, piece: memoryview) -> None:
        self._file.write(piece)

    def finish(self) -> BinaryIO:
        self._file.seek(0)
        return self._file

    def discard(self) -> None:
        self._file.close()


@dataclass(eq=False)
class AdminConnection:
    """One client; ``waits_since`` is since when it is the client that is waited for, None while it is not."""

    sock: socket.socket
    peer: str
    waits_since: float | None
    reads: bool = True
    """What is waited for is a request, not that a response is taken."""
    has_served: bool = False
    """It has had a response."""

    def interrupt(self, how: int = socket.SHUT_RDWR) -> None:
        """Have what waits for the client end."""
        with contextlib.suppress(OSError):  # it is closed
            self.sock.shutdown(how)


class AdminServer:
    """The connections of all listeners; ``respond`` may be called in many threads at a time."""

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        respond: Callable[[AdminRequest], AdminResponse],
        log: logging.Logger,
        most: int = MOST_CONNECTIONS,
    ) -> None:
        self._listeners = {listener.fileno(): listener for listener in listeners}
        self._respond = respond
        self._log = log
        self._most = most
        self._connections: dict[AdminConnection, None] = {}
        self._streams = 0
        self._lock = threading.Lock()
        self._stopping = False
        self._stopped_at = 0.0
        self._wake_receive, self._wake_send = os.pipe()
        self._thread = threading.Thread(target=self._accept_all, name="wsgicluster-admin", daemon=True)

    def start(self) -> None:
        """Serve from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Accept nothing more, and end connections between two requests; those with a request still get a response."""
        self._stopped_at = time.monotonic()
        self._stopping = True
        os.write(self._wake_send, b"\0")
        with self._lock:
            waiting = [each for each in self._connections if each.reads and each.has_served]
        for each in waiting:
            each.interrupt(socket.SHUT_RD)

    @property
    def is_done(self) -> bool:
        """Are all connections over, after `stop`? Those that have sent nothing yet are waited for for a moment only."""
        if self._thread.is_alive():
            return False
        with self._lock:
            connections = list(self._connections)
        return all(each.reads for each in connections) and (
            not connections or time.monotonic() - self._stopped_at > FIRST_S
        )

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._connections)

    # Accept

    def _accept_all(self) -> None:
        poll = select.poll()
        for number in (self._wake_receive, *self._listeners):
            poll.register(number, select.POLLIN)
        while not self._stopping:
            for number, _ in poll.poll():
                if number in self._listeners and not self._stopping:
                    self._accept(self._listeners[number])

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # another process has it, or the client has closed it
        except OSError as error:
            self._log.warning("Admin worker: no client can be accepted now: %s", error.strerror)
            select.select([self._wake_receive], [], [], RETRY_S)
            return
        peer = f"{address[0]}:{address[1]}" if isinstance(address, tuple) and address else "Unix socket"
        connection = AdminConnection(sock, peer, time.monotonic())
        with self._lock:
            if len(self._connections) >= self._most and not self._make_room():
                sock.close()
                return
            self._connections[connection] = None
        try:
            threading.Thread(
                target=self._serve, args=(connection,), name="wsgicluster-admin-client", daemon=True
            ).start()
        except RuntimeError as error:  # no thread is left
            self._log.warning("Admin worker: %s", error)
            self._end(connection)

    def _make_room(self) -> bool:
        """End the connection whose client has been waited for longest."""
        waiting = [each for each in self._connections if each.waits_since is not None]
        if not waiting:
            return False
        longest = min(waiting, key=lambda each: each.waits_since or 0.0)
        # Its thread notices, and closes it.
        del self._connections[longest]
        longest.interrupt()
        return True

    def _end(self, connection: AdminConnection) -> None:
        with self._lock:
            self._connections.pop(connection, None)
        connection.sock.close()

    # One connection

    def _serve(self, connection: AdminConnection) -> None:
        try:
            self._serve_all(connection)
        except OSError:
            # The client has disconnected, is too slow, or has made room for another one.
            self._log.debug("Admin worker: lost %s", connection.peer)
        except Exception:  # noqa: BLE001
            # The boundary of this thread.
            self._log.exception("Admin worker: the connection of %s failed", connection.peer)
        finally:
            self._end(connection)

    def _serve_all(self, connection: AdminConnection) -> None:
        reader = RequestReader({}, _LIMITS, _Body)
        while True:
            try:
                if not self._receive(connection, reader):
                    return
            except ProtocolError as error:
                self._send(connection, error_response(error.status, error.detail), keep=False)
                self._linger(connection)
                return
            body = reader.body.read() if reader.body is not None else b""
            response = self._response(AdminRequest.of(reader.environ, body, connection.peer))
            if reader.flags & IS_HEAD:
                self._send(connection, dataclasses.replace(response, stream=None), keep=False, only_head=True)
                return
            keep = bool(reader.flags & KEEP_ALIVE and reader.flags & HTTP_11) and not self._stopping
            keep = keep and response.stream is None
            connection.has_served = True
            if response.stream is None:
                self._send(connection, response, keep=keep)
            else:
                self._send_stream(connection, response)
            if not keep:
                self._linger(connection)
                return

    def _receive(self, connection: AdminConnection, reader: RequestReader) -> bool:
        """Read until there is a whole request; False when the client has ended, or takes too long."""
        connection.waits_since, connection.reads = time.monotonic(), True
        until = connection.waits_since + IDLE_S
        began = False
        complete = reader.resume()
        while not complete:
            if self._stopping and connection.has_served and reader.idle and not reader.rest:
                return False
            left_s = until - time.monotonic()
            if left_s <= 0:
                return False
            connection.sock.settimeout(left_s)
            data = connection.sock.recv(_RECEIVE_BYTES)
            if not data:
                return False
            if not began:
                began, until = True, time.monotonic() + REQUEST_S
            complete = reader.receive(data)
            if not complete and reader.awaits_continue:
                connection.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.waits_since, connection.reads = None, False
        return True

    def _response(self, request: AdminRequest) -> AdminResponse:
        try:
            return self._respond(request)
        except Exception:  # noqa: BLE001
            # The boundary of a request: its client learns of it, and the others are served.
            self._log.exception("Admin worker: %s %s failed", request.method, request.path)
            return error_response(http.HTTPStatus.INTERNAL_SERVER_ERROR, "internal error; the error log has more")

    def _send(
        self, connection: AdminConnection, response: AdminResponse, *, keep: bool, only_head: bool = False
    ) -> None:
        connection.waits_since = time.monotonic()
        connection.sock.settimeout(SEND_S)
        connection.sock.sendall(response.head(keep=keep) + (b"" if only_head else response.body))

    def _send_stream(self, connection: AdminConnection, response: AdminResponse) -> None:
        assert response.stream is not None
        with self._lock:
            has_room = self._streams < MOST_STREAMS
            self._streams += has_room
        if not has_room:
            message = f"{MOST_STREAMS} clients follow already"
            self._send(connection, error_response(http.HTTPStatus.SERVICE_UNAVAILABLE, message), keep=False)
            return
        try:
            connection.sock.settimeout(SEND_S)
            connection.sock.sendall(response.head(keep=False))
            for piece in response.stream:
                if self._stopping:
                    return
                connection.sock.sendall(piece)
        finally:
            with self._lock:
                self._streams -= 1

    def _linger(self, connection: AdminConnection) -> None:
        """Let the client read all of the response: what it still sends would have the kernel reset the connection."""
        connection.interrupt(socket.SHUT_WR)
        connection.sock.settimeout(_LINGER_S)
        until, received = time.monotonic() + _LINGER_S, 0
        while time.monotonic() < until and received < _LINGER_BYTES:
            data = connection.sock.recv(_RECEIVE_BYTES)
            if not data:
                return
            received += len(data)
