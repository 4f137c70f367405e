"""How a worker leaves: one code path for reload, recycling, scaling and stop.

A *retiring* worker has siblings: it stops listening at once and hands its idle connections to them. Only listeners
that no newer sibling has keep it a moment: it empties their queues before. A worker of a *stopping* server has no
siblings: it empties the accept queue, gives each kept connection the chance of one more request, which is answered
with ``Connection: close``, and then closes what stays silent.
"""

import socket
from collections.abc import Iterable
from typing import Protocol

from wsgicluster.worker.connection import Connection
from wsgicluster.worker.ending import State
from wsgicluster.worker.handoff import Handed, hand_over
from wsgicluster.worker.loop import Loop, do_nothing

SILENCE_S = 1.0
"""How long a kept connection may stay silent before a stopping server closes it."""

RETRY_S = 0.02


class Leaving(Protocol):
    """What a drain needs of its worker."""

    loop: Loop
    connections: set[Connection]
    hand_off_send: socket.socket
    listening: bool

    def stop_listening(self) -> None:
        """Close the listeners, and take nothing from siblings."""

    def leave_listeners(self) -> None:
        """Close the listeners that siblings have as well, and take nothing from siblings."""

    def accept_all(self) -> bool:
        """Empty the accept queues; False when that is not possible now."""

    def turn_away(self) -> None:
        """Answer the requests that nobody has begun to run, and nobody will."""


class Drain:
    """The end of one worker, advanced once in each turn of its loop.

    Times run from ``asked_at``, when it was told to go: it may have been in the midst of a request.
    """

    def __init__(self, worker: Leaving, retiring: bool, asked_at: float, graceful_s: float) -> None:
        self._worker = worker
        self._retiring = retiring
        self._silence_ends = asked_at + SILENCE_S
        self._deadline = asked_at + graceful_s
        self.cut = 0

    def begin(self) -> None:
        """Stop taking new work, as far as siblings are there to take it."""
        worker = self._worker
        worker.loop.call_at(self._silence_ends, do_nothing)
        worker.loop.call_at(self._deadline, do_nothing)
        if self._retiring:
            worker.leave_listeners()
        for connection in list(worker.connections):
            connection.hurry()
            self.waits(connection)

    def waits(self, connection: Connection) -> None:
        """A connection has nothing to do: it goes to a sibling when there is one."""
        if not self._retiring or not connection.between_requests or not connection.movable:
            return
        give(connection, self._worker.hand_off_send)

    def step(self) -> bool:
        """True when nothing is left to do."""
        worker = self._worker
        if worker.listening and worker.accept_all():
            worker.stop_listening()
        now = worker.loop.now
        if self._retiring and now < self._silence_ends:
            self._try_again()
        elif now >= self._silence_ends:
            self._close_silent()
        if not worker.connections:
            return not worker.listening
        if now >= self._deadline:
            worker.turn_away()
            self.cut = sum(_is_in_request(connection) for connection in worker.connections)
            return True
        return False

    def _try_again(self) -> None:
        waiting = False
        for connection in list(self._worker.connections):
            if connection.between_requests:
                self.waits(connection)
                waiting = waiting or connection.between_requests
        if waiting:
            self._worker.loop.call_at(self._worker.loop.now + RETRY_S, do_nothing)

    def _close_silent(self) -> None:
        for connection in list(self._worker.connections):
            if connection.state is State.OPENING:
                # It has had its time, and no request is lost with it.
                connection.receive_if_open()
                if connection.state is State.OPENING:
                    connection.close()
            elif connection.state is State.READING and connection.reader.idle and not connection.reader.rest:
                # A last look: what has come since the loop looked is still answered.
                connection.receive()
                if connection.state is State.READING and connection.reader.idle and not connection.reader.rest:
                    connection.close()


def _is_in_request(connection: Connection) -> bool:
    if connection.state is State.READING:
        return not connection.reader.idle or bool(connection.reader.rest)
    return connection.state in (State.RUNNING, State.SENDING)


def rescue(connections: Iterable[Connection], channel: socket.socket) -> None:
    """Give the waiting connections of a hung worker to its siblings.

    Called from a signal handler in the midst of the hung request. Bytes that clients have sent
    meanwhile are still in the sockets, and travel with them.
    """
    for connection in connections:
        if connection.movable:
            hand_over(channel, _handed(connection))


def give(connection: Connection, channel: socket.socket) -> bool:
    """Give a connection to a sibling; False when that is not possible now."""
    if not hand_over(channel, _handed(connection)):
        return False
    connection.detach().close()
    return True


def _handed(connection: Connection) -> Handed:
    return Handed(
        connection.sock, connection.listener, connection.kept, connection.reader.rest, connection.introduction
    )
