"""Hands connections of this worker off to siblings, in the packets of `wsgicluster.ipc.handoff`."""

import socket
from collections.abc import Iterable

from wsgicluster.ipc.handoff import Handed, hand_over
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.connection.states import ConnectionState
from wsgicluster.worker.transport.transport import ByteTransport


def give(connection: Connection, channel: socket.socket) -> bool:
    """Give a connection to a sibling; False when that is not possible now."""
    if not hand_over(channel, _handed(connection)):
        return False
    connection.detach().close()
    return True


def rescue(connections: Iterable[Connection], channel: socket.socket) -> None:
    """Give the waiting connections of a hung worker to its siblings.

    Called from a signal handler in the middle of the hung request. Bytes that clients have sent
    meanwhile are still in the sockets, and travel with them.
    """
    for connection in connections:
        if connection.movable:
            hand_over(channel, _handed(connection))


def _handed(connection: Connection) -> Handed[ByteTransport]:
    return Handed(
        connection.transport,
        connection.listener,
        connection.kept,
        connection.reader.rest,
        connection.proxy_header,
        fresh=connection.state is ConnectionState.OPENING,
    )
