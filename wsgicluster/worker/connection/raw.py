"""Connections whose socket an application may take, to speak something else than HTTP: WebSockets, above all.

A request that asks for an upgrade finds the socket in its environ. Nothing is different until the application uses it
for the first time: from then on the server sends and receives nothing, and when the request is over it only closes.
Which protocol is used on the socket is not known here.
"""

import contextlib
import os
import socket
from _thread import allocate_lock
from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from wsgicluster.errors import Overloaded
from wsgicluster.http.connection import RequestReader
from wsgicluster.http.head import HTTP_11
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.loop.loop import READ
from wsgicluster.worker.transport.transport import ByteTransport, PlainTransport, plain_transport
from wsgicluster.wsgi.files import FileRegion
from wsgicluster.wsgi.response import Response

KEYS = ("gunicorn.socket", "werkzeug.socket")
"""Where libraries look for the socket."""

USES = (
    "detach", "dup", "fileno", "makefile", "recv", "recv_into", "recvfrom", "recvfrom_into", "recvmsg", "recvmsg_into",
    "send", "sendall", "sendfile", "sendmsg", "sendto", "setblocking", "settimeout", "shutdown",
)  # fmt: skip
"""Methods that take the socket. What only looks, or sets an option, leaves it to the server; so does ``close``."""

AGAIN_S = 1

if TYPE_CHECKING:
    _Base = socket.socket
else:
    _Base = object


class Taking(_Base):
    """What makes a socket one that is taken by its first use; see `raw_socket_class`."""

    # As of a duplicate, which is made of one that has been taken.
    _offer: "SocketOffer | None" = None
    _taken = True

    def offer(self, offer: "SocketOffer") -> None:
        """From now on the first use takes the connection."""
        self._lock = allocate_lock()
        self._offer = offer
        self._taken = False

    def __repr__(self) -> str:
        # The usual one asks for the descriptor, and error pages show whole environs.
        return f"<{type(self).__name__} {'taken' if self._taken else 'not taken'}>"

    def take(self) -> None:
        """The application speaks from now on. Raises OSError when the request is over, or its response has begun."""
        with self._lock:
            if not self._taken and self._offer is not None:
                self._offer.leave_to_application()
                self._taken = True
                # The mode is the connection's own, too: the loop must not wait any more for what it does with it.
                self.settimeout(socket.getdefaulttimeout())

    def revoke(self) -> bool:
        """The request is over: whether the socket has been taken; if not, it cannot be any more."""
        with self._lock:
            self._offer = None
            if not self._taken:
                self.close()
            return self._taken


def _use(inherited: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Taking, *arguments: Any, **named: Any) -> Any:
        if not self._taken:
            self.take()
        return inherited(self, *arguments, **named)

    return method


@cache
def raw_socket_class() -> type[Taking]:
    """A kind of ``socket.socket`` as that is in this process: gevent puts one there that lets other greenlets run."""
    base: Any = socket.socket
    uses = {name: _use(getattr(base, name)) for name in USES if hasattr(base, name)}
    return cast(type[Taking], type("RawSocket", (Taking, base), uses))


class HeadTransport(PlainTransport):
    """The socket of a connection that may be taken; made by `plain_transport`, and given a ``reader`` then.

    Of what its client sends behind a head nothing is received before that request is over. With flags, which only
    looks and a preamble give, it receives as any other.
    """

    __slots__ = ("reader",)

    reader: RequestReader

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Receive to the end of a head, or what there is of a body. Raises OSError."""
        if flags:
            return super().recv(size, flags)
        reader = self.reader
        if reader.idle:
            size = head_size(reader.rest, super().recv(size, socket.MSG_PEEK))
        return super().recv(size)


class TakenTransport:
    """What is left to the server of a socket that its application has taken: to end it."""

    __slots__ = ("_socket",)

    movable: ClassVar = False
    record_bytes: ClassVar = 0
    ended: ClassVar = False
    wants: ClassVar = READ

    def __init__(self, transport: ByteTransport) -> None:
        self._socket = transport

    def fileno(self) -> int:
        """The descriptor."""
        return self._socket.fileno()

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """As ever. Raises OSError."""
        return self._socket.recv(size, flags)

    def send(self, _data: bytes | memoryview, /) -> int:
        """Raises ConnectionError."""
        raise ConnectionError("the application has taken the socket")

    def sendmsg(self, _buffers: Iterable[bytes | memoryview], /) -> int:
        """Raises ConnectionError."""
        return self.send(b"")

    def send_file(self, _region: FileRegion) -> int:
        """Raises ConnectionError."""
        return self.send(b"")

    def peer_lost(self) -> bool:
        """Whether the client has ended or reset the connection."""
        return self._socket.peer_lost()

    def end(self, _complete: bool) -> None:
        """Threads of the application that still use the socket find its end."""
        with contextlib.suppress(OSError):  # the client has left
            self._socket.shutdown(socket.SHUT_RDWR)

    def shutdown(self, how: int, /) -> None:
        """As ever. Raises OSError."""
        self._socket.shutdown(how)

    def setsockopt(self, level: int, option: int, value: bytes, /) -> None:
        """As ever. Raises OSError."""
        self._socket.setsockopt(level, option, value)

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        """As ever. Raises OSError."""
        return self._socket.getsockopt(level, option, size)

    def close(self) -> None:
        """Close this process's descriptor of it."""
        self._socket.close()


class RawHost(Protocol):
    """What is needed of a worker."""

    def lift_deadline(self, connection: Connection) -> None:
        """The request that runs on a connection may take as long as it wants."""


class SocketOffer:
    """The socket of one request's connection, as long as its application may take it; an `Extension`."""

    __slots__ = ("_connection", "_host", "_socket")

    waits: ClassVar = False

    def __init__(self, host: RawHost, connection: Connection, descriptor: int) -> None:
        self._host = host
        self._connection = connection
        self._socket = raw_socket_class()(fileno=descriptor)
        self._socket.offer(self)
        for key in KEYS:
            connection.reader.environ[key] = self._socket

    def leave_to_application(self) -> None:
        """The socket is the application's from now on. Raises OSError when the response has begun."""
        connection = self._connection
        answer = connection.contact.answer
        if isinstance(answer, Response) and answer.head_sent:
            raise OSError("the response has begun: its socket cannot be taken any more")
        connection.transport = TakenTransport(connection.transport)
        connection.taken = True
        self._host.lift_deadline(connection)

    def wake(self) -> None:
        """It waits for nothing."""

    def expired(self, _now: float) -> bool:
        """It has no time of its own."""
        return False

    def may_keep(self) -> bool:
        """Whether the application will use the socket is known when the response is over."""
        return False

    def client_wait_s(self, _now: float) -> float:
        """The application waits for its client itself."""
        return 0.0

    def over(self) -> bool:
        """The request is over; True when its socket was taken: then it is only to be closed."""
        return self._socket.revoke()


def limit_to_heads(connection: Connection) -> None:
    """Make a new connection one whose socket may be taken."""
    connection.transport = transport = plain_transport(connection.descriptor, HeadTransport)
    transport.reader = connection.reader


def offer_socket(host: RawHost, connection: Connection) -> bool:
    """Put the socket into the environ of a complete request that asks for an upgrade (RFC 9110, section 7.8).

    False when there is no descriptor for it, and the request was refused.
    """
    reader = connection.reader
    # What a server of other settings has received before it gave the connection away cannot be put back.
    if not reader.flags & HTTP_11 or not reader.idle or reader.rest or reader.body is not None:
        return True
    try:
        descriptor = os.dup(connection.descriptor)
    except OSError as error:
        connection.refuse(
            Overloaded(f"no descriptor for the request's socket: {error.strerror}", AGAIN_S, "no_descriptor")
        )
        return False
    connection.extend(SocketOffer(host, connection, descriptor))
    return True


def head_size(rest: bytes, data: bytes) -> int:
    """How much of ``data``, which comes behind ``rest``, there is up to the end of a head, or at all."""
    seam = rest[-3:]
    end = (seam + data).find(b"\r\n\r\n")
    return len(data) if end < 0 else end + 4 - len(seam)
