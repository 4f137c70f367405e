"""A filter on a listener that drops new connections while those in its queue are still accepted."""

import socket
import struct

_NO_NEWCOMERS = (
    (0x30, 0, 0, 13),  # load the byte of the TCP header that holds its flags
    (0x54, 0, 0, 0x12),  # of these, SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 0),  # drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # take everything else
)
"""A classic BPF program, as ``struct sock_filter``: code, jump if true, jump if false, operand."""

_SO_ATTACH_FILTER = 26
_SO_DETACH_FILTER = 27


def drop_newcomers(sock: socket.socket) -> None:
    """Have the kernel drop what begins a new TCP connection to a listener, in whatever process it is open.

    Connections that have begun still come in. Clients whose beginning was dropped try it again, for a second or so
    after which they are refused, or find another process that listens. Raises OSError where that is not possible.
    """
    import ctypes

    program = b"".join(struct.pack("=HBBI", *step) for step in _NO_NEWCOMERS)
    buffer = ctypes.create_string_buffer(program, len(program))
    packed = struct.pack("@HP", len(_NO_NEWCOMERS), ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, packed)


def take_newcomers(sock: socket.socket) -> None:
    """Undo `drop_newcomers`. Raises OSError."""
    sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
