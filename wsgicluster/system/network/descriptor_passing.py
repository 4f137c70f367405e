"""Receiving descriptors from another process, without losing or inheriting one unnoticed."""

import array
import os
import socket

_CLOSED_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


def receive_descriptors(channel: socket.socket, packet_bytes: int, most: int) -> tuple[bytes, list[int], bool]:
    """The next packet and the descriptors that came with it; True when some are lost, because this process has no room.

    No program that is executed later inherits them. Raises OSError.
    """
    descriptors = array.array("i")
    # Not `socket.recv_fds`, which passes no flags on.
    room = socket.CMSG_LEN(most * descriptors.itemsize)
    packet, ancillary, flags, _ = channel.recvmsg(packet_bytes, room, _CLOSED_ON_EXEC)
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    if not _CLOSED_ON_EXEC:
        for number in descriptors:
            os.set_inheritable(number, False)
    return packet, list(descriptors), bool(flags & socket.MSG_CTRUNC)
