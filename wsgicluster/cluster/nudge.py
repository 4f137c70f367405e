"""A nudge: a packet on the hand-off socket that has one worker look at the listeners.

The kernel wakes one worker alone for a new connection. When that one cannot take it, somebody has to wake another.
"""

import contextlib
import socket

PACKET = b"\0"


def nudge(channel: socket.socket) -> None:
    """Have a worker look at the listeners; ``channel`` is the sending end of the hand-off socket."""
    # With a full queue workers are awake anyway; without any there is nobody to tell.
    with contextlib.suppress(OSError):
        channel.send(PACKET)
