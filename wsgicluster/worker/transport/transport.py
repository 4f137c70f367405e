"""What carries the bytes of a connection: a socket as it is, or something that stands before one.

A transport never waits: what would block raises BlockingIOError. Requests and responses are not known here. TLS is
another transport, in `wsgicluster.worker.transport.tls`.
"""

import _socket
import os
import select
import socket
from collections.abc import Iterable
from typing import Any, ClassVar, Protocol

from wsgicluster.worker.loop.loop import READ
from wsgicluster.wsgi.files import FileRegion

RECEIVE_BYTES = 64 * 1024

SENDFILE_BYTES = 1024 * 1024
"""Largest piece given to sendfile at a time, so that one fast reader does not keep the loop."""

# As it is now: gevent puts one there that lets other greenlets run.
new_poll = select.poll

_LOOK = socket.MSG_PEEK | socket.MSG_DONTWAIT
"""An application that has taken the socket may have made it block."""


class HandshakeError(Exception):
    """The TLS handshake has failed, for the reason that is the text."""


class ByteTransport(Protocol):
    """What a connection needs of a socket.

    ``movable`` says whether another process can continue with it. ``record_bytes`` is the size of its records, or 0.
    With records a readable socket may have no data, what is sent together is best joined up to that size, and the
    client sends a last one before it closes; ``ended`` says that this one has been received. ``wants`` is the event
    that it waits for before it can receive: READ or WRITE.
    """

    @property
    def movable(self) -> bool: ...
    @property
    def record_bytes(self) -> int: ...
    @property
    def ended(self) -> bool: ...
    @property
    def wants(self) -> int: ...

    def fileno(self) -> int:
        """The descriptor."""

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Receive; empty at the end. With flags of the socket itself, as it came. Raises OSError, ProtocolError."""

    def send(self, data: bytes | memoryview, /) -> int:
        """Send what the socket takes now; the number of bytes. Raises OSError."""

    def sendmsg(self, buffers: Iterable[bytes | memoryview], /) -> int:
        """The same for buffers, one after the other."""

    def send_file(self, region: FileRegion) -> int:
        """Send the beginning of a part of a file; the bytes sent, 0 when the file ends before it. Raises OSError."""

    def peer_lost(self) -> bool:
        """Whether the client has ended or reset the connection; receives nothing."""

    def end(self, complete: bool) -> None:
        """Tell the client, as far as this transport does, that the connection is about to be closed.

        ``complete`` says that it has got all there is.
        """

    def shutdown(self, how: int, /) -> None:
        """As of a socket; what is received from now on is only there to be dropped. Raises OSError."""

    def setsockopt(self, level: int, option: int, value: bytes, /) -> None:
        """As of a socket."""

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        """As of a socket."""

    def close(self) -> None:
        """Close the socket, and tell the client nothing."""


class PlainTransport(_socket.socket):
    """The socket itself; made by `plain_transport`.

    It is derived from the class that does the system calls, so that to send and to receive costs no call of ours, and
    not from that of the socket module: this one costs less to make, and gevent replaces that one.
    """

    __slots__ = ()

    movable: ClassVar = True
    record_bytes: ClassVar = 0
    ended: ClassVar = False
    wants: ClassVar = READ

    def send_file(self, region: FileRegion) -> int:
        """Have the kernel send the beginning of a part of a file; see `ByteTransport.send_file`."""
        return os.sendfile(self.fileno(), region.descriptor, region.offset, min(region.size, SENDFILE_BYTES))

    def peer_lost(self) -> bool:
        """Whether the client has ended or reset the connection; what it has sent before is still to be received."""
        try:
            return not self.recv(1, _LOOK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def end(self, complete: bool) -> None:
        """Nothing: closing the socket says it."""


def plain_transport(descriptor: int, kind: type[PlainTransport] = PlainTransport) -> Any:
    """A transport that owns a descriptor of a stream socket, of whatever family."""
    transport = kind(_socket.AF_INET, _socket.SOCK_STREAM, 0, descriptor)
    transport.setblocking(False)
    return transport


def has_input(transport: ByteTransport) -> bool:
    """Whether the client has sent something that was not received yet."""
    try:
        return bool(transport.recv(1, _LOOK))
    except OSError:
        return False
