"""The packets in which a connection is handed off: its descriptor, and the bytes that were read and not used yet.

All workers share one ``SOCK_SEQPACKET`` pair, and each slot has one of its own, see `wsgicluster.ipc.mailbox`. A
packet is a fixed head (the number of the listener, what is known of the connection, the length of its PROXY header),
that header, then the bytes; the descriptor travels beside it
(``SCM_RIGHTS``). The kernel keeps packets in transit even when the sender exits.

A change of the packets raises `wsgicluster.ipc.assignment.HAND_OFF_FORMAT`:
during an upgrade the workers of an older version may be at the other end.
"""

import functools
import socket
import struct
import sys
from os import close as _close  # gevent replaces it by one that closes only when its hub runs
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from wsgicluster.dataclass import dataclass
from wsgicluster.ipc.nudge import PACKET, nudge
from wsgicluster.system.network import descriptor_passing

__all__ = ["PACKET_BYTES", "Handed", "Lost", "Nudge", "give_back", "hand_over", "nudge", "packet_of", "take_over"]

_HEAD = struct.Struct("=QBH")
_KNOWN_AT = 8
"""Where the byte stands in a head that says what is known of the connection."""
_KEPT, _FRESH, _PLACED = 1, 2, 4
# Bound now: gevent replaces it by a class that waits.
_Socket = socket.socket
PACKET_BYTES = 96 * 1024
"""Largest packet; a connection with more unused bytes than this is served to its end where it is."""


class Nudge:
    """A packet without a connection: clients may be waiting at the listeners that the sender has no room for."""


class Lost:
    """A connection whose descriptor did not arrive, since this process had no free one."""


class HasDescriptor(Protocol):
    """A socket, or what stands for one."""

    def fileno(self) -> int:
        """The descriptor."""


S_co = TypeVar("S_co", bound=HasDescriptor, covariant=True)


@dataclass(frozen=True, slots=True)
class Handed(Generic[S_co]):
    """A connection that was handed off; ``proxy_header`` is the PROXY header as sent, or empty.

    ``listener`` is the number of the listener that it was accepted on, which the receiver need not have. ``fresh``
    says that what comes before the first request is still to come: a PROXY header unless there is one, a TLS
    handshake. ``placed`` says that a scheduling policy has been asked: the worker that takes it serves its next
    request.
    """

    sock: S_co
    listener: int
    kept: bool
    rest: bytes
    proxy_header: bytes = b""
    fresh: bool = False
    placed: bool = False


Message: TypeAlias = Handed[socket.socket] | Nudge | Lost | None
"""What a packet means; None where there is none."""


def packet_of(connection: Handed[Any]) -> bytes:
    """The packet that goes with the descriptor of a connection."""
    proxy_header = connection.proxy_header
    known = connection.kept * _KEPT | connection.fresh * _FRESH | connection.placed * _PLACED
    return _HEAD.pack(connection.listener, known, len(proxy_header)) + proxy_header + connection.rest


@functools.lru_cache
def unread_packet(listener: int) -> bytes:
    """The packet of a connection that has been accepted from a listener, and of which nothing has been read."""
    return _HEAD.pack(listener, _FRESH, 0)


def hand_over(channel: socket.socket, connection: Handed[Any]) -> bool:
    """Send a connection to a sibling with room; False when it cannot be sent now.

    The caller closes its own descriptor afterwards.
    """
    packet = packet_of(connection)
    if len(packet) > PACKET_BYTES:
        return False
    try:
        socket.send_fds(channel, [packet], [connection.sock.fileno()])
    except OSError:
        # The queue is full (EAGAIN), too many descriptors are in transit (ETOOMANYREFS), or no process reads (EPIPE).
        return False
    return True


def take_over(channel: socket.socket) -> Message:
    """The next packet of a sibling, or None.

    The packet leaves the queue whether or not there is a free descriptor for its connection: the caller has to
    ensure that there is one.
    """
    try:
        packet, descriptors, _ = descriptor_passing.receive_descriptors(channel, PACKET_BYTES, 1)
    except OSError:
        # None queued, or a sibling was faster.
        return None
    return meaning(packet, descriptors[0] if descriptors else -1)


def meaning(packet: bytes, descriptor: int) -> Message:
    """What has come with a packet, and with its descriptor (-1: none); None at the end of the stream."""
    if packet == PACKET:
        return Nudge()
    if not packet:
        return None  # no process can send any more
    if descriptor < 0:
        return Lost()
    listener, known, size = _HEAD.unpack_from(packet)
    rest = _HEAD.size + size
    # All is said, so that the kernel need not be asked four times. The family only decides how long an address may be.
    sock = _Socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, descriptor)
    sock.setblocking(False)
    return Handed(
        sock,
        listener,
        bool(known & _KEPT),
        packet[rest:],
        packet[_HEAD.size : rest],
        bool(known & _FRESH),
        bool(known & _PLACED),
    )


def give_back(
    mailbox: tuple[socket.socket, socket.socket], hand_off: socket.socket, most: int = sys.maxsize, placed: bool = True
) -> int:
    """Give connections that lie in a slot's mailbox (its receiving and sending end) to the first worker with room.

    Unless ``placed``, that asks its own policy about them: it is another server's. Returns how many there were. What
    the hand-off socket does not take now stays in the mailbox.
    """
    receive, send = mailbox
    for count in range(most):
        try:
            packet, descriptors, _ = descriptor_passing.receive_descriptors(receive, PACKET_BYTES, 1)
        except OSError:
            return count  # none is left
        if not packet:
            return count
        if not descriptors:
            continue  # this process had none left: the connection is lost
        known = packet[_KNOWN_AT] | _PLACED if placed else packet[_KNOWN_AT] & ~_PLACED
        marked = packet[:_KNOWN_AT] + bytes((known,)) + packet[_KNOWN_AT + 1 :]
        taken = _send(hand_off, marked, descriptors)
        if not taken:
            _send(send, packet, descriptors)
        _close(descriptors[0])
        if not taken:
            return count
    return most


def _send(channel: socket.socket, packet: bytes, descriptors: list[int]) -> bool:
    try:
        socket.send_fds(channel, [packet], descriptors)
    except OSError:
        return False
    return True
