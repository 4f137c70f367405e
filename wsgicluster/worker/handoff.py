"""Passing a connection between processes: its descriptor, and the bytes that were read and not used yet.

All workers share one ``SOCK_SEQPACKET`` pair. A packet is a fixed head (the number
of the listener, whether the connection was kept, how long its introduction is),
the introduction, then the bytes; the descriptor travels beside it
(``SCM_RIGHTS``). The kernel keeps what is under way even when the sender ends.

A change of the packets is one more in `wsgicluster.cluster.assignment.HAND_OFF_FORMAT`:
during an upgrade the workers of an older version may be at the other end.
"""

import dataclasses
import socket
import struct

from wsgicluster.cluster.nudge import PACKET, nudge

__all__ = ["PACKET_BYTES", "Handed", "Nudge", "hand_over", "nudge", "take_over"]

_HEAD = struct.Struct("=Q?H")
# As it is now: gevent puts a class that waits in its place.
_Socket = socket.socket
PACKET_BYTES = 96 * 1024
"""Largest packet; a connection with more unused bytes than this is served to its end where it is."""


class Nudge:
    """A packet without a connection: there may be clients at the listeners that the sender has no room for."""


@dataclasses.dataclass(frozen=True, slots=True)
class Handed:
    """A connection as it arrives; ``introduction`` is what a proxy said of whom it is, as sent.

    ``listener`` is the number of the listener it came by, which the receiver need not have.
    """

    sock: socket.socket
    listener: int
    kept: bool
    rest: bytes
    introduction: bytes = b""


def hand_over(channel: socket.socket, connection: Handed) -> bool:
    """Send a connection to whoever takes it; False when it cannot be sent now.

    The caller closes its own descriptor afterwards.
    """
    introduction = connection.introduction
    packet = _HEAD.pack(connection.listener, connection.kept, len(introduction)) + introduction + connection.rest
    if len(packet) > PACKET_BYTES:
        return False
    try:
        socket.send_fds(channel, [packet], [connection.sock.fileno()])
    except OSError:
        # The queue is full (EAGAIN), too many descriptors are under way (ETOOMANYREFS), or nobody reads (EPIPE).
        return False
    return True


def take_over(channel: socket.socket) -> Handed | Nudge | None:
    """What a sibling has sent next, or None."""
    try:
        packet, descriptors, _, _ = socket.recv_fds(channel, PACKET_BYTES, 1)
    except OSError:
        # None there, or a sibling was quicker.
        return None
    if packet == PACKET:
        return Nudge()
    if not descriptors:
        return None
    listener, kept, size = _HEAD.unpack_from(packet)
    rest = _HEAD.size + size
    sock = _Socket(fileno=descriptors[0])
    sock.setblocking(False)
    return Handed(sock, listener, kept, packet[rest:], packet[_HEAD.size : rest])
