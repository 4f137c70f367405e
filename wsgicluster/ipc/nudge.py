"""A nudge: a packet on the hand-off socket that makes one worker check the listeners.

The kernel wakes only one worker for a new connection. A worker that cannot accept it has to wake another.
"""

import contextlib
import socket

PACKET = b"\0"


def nudge(channel: socket.socket) -> None:
    """Make a worker check the listeners; ``channel`` is the sending end of the hand-off socket."""
    # With a full queue workers are awake anyway; without workers there is none to wake.
    with contextlib.suppress(OSError):
        channel.send(PACKET)
