"""What a child is given at its birth: its identity and the descriptors it shares with the others."""

import dataclasses
import socket

from wsgicluster.messages import Channel
from wsgicluster.scoreboard import Page, Scoreboard

HAND_OFF_FORMAT = 2
"""One more with each change of the packets on the hand-off socket: servers of two versions may share it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Assignment:
    """One worker's place in the cluster.

    ``listeners`` are non-blocking and listening; each has a number in ``listener_numbers``, the same in all workers
    that have it. ``hand_off_receive`` and ``hand_off_send`` are the two ends of one ``SOCK_SEQPACKET`` pair that all
    workers share: a worker that leaves sends its idle connections into it, the
    others take them out as they take new ones from a listener. ``stacks_fd`` is
    an empty file of this child alone, for ``faulthandler``; the arbiter reads it.
    ``rehearse`` says that this worker tries its application before it serves.
    """

    slot: int
    generation: int
    page: Page
    board: Scoreboard
    channel: Channel
    listeners: tuple[socket.socket, ...]
    hand_off_receive: socket.socket
    hand_off_send: socket.socket
    stacks_fd: int
    rehearse: bool = False
    listener_numbers: tuple[int, ...] = ()

    def descriptors(self) -> set[int]:
        """All descriptors that the child keeps; every other one above 2 (but those of the logs) is closed."""
        shared = {listener.fileno() for listener in self.listeners}
        own = {self.channel.fileno(), self.hand_off_receive.fileno(), self.hand_off_send.fileno(), self.stacks_fd}
        return shared | own
