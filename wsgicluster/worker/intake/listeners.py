"""The listeners of one worker and its end of the hand-off socket: watched or not, and closed when it leaves.

Who accepts from them, and when, is not decided here.
"""

import select
import socket
from collections.abc import Callable, Iterable
from functools import partial

from wsgicluster.ipc.assignment import Assignment
from wsgicluster.ipc.handoff import nudge
from wsgicluster.worker.lifecycle.state import StateCell
from wsgicluster.worker.loop.loop import EXCLUSIVE_READ, Loop


class WatchedListeners:
    """The sockets that clients come from.

    ``listening`` says that some are open, ``paused`` that none is watched, ``saturated`` that there is no room for new
    clients. ``last_here`` are numbers of listeners that newer siblings do not have: nothing else empties their queues.
    """

    def __init__(self, assignment: Assignment, loop: Loop, state: StateCell) -> None:
        self.listening = False
        self.paused = True
        self.adopting = False
        """Connections are taken from siblings."""
        self.saturated = False
        self.last_here: set[int] = set()
        self.open: dict[int, socket.socket] = dict(enumerate(assignment.listeners))
        """Those that are open, by their index: 0 is the first that the worker was given."""
        self.hand_off_send = assignment.hand_off_send
        self.hand_off_receive = assignment.hand_off_receive
        self._numbers = list(assignment.listener_numbers or range(len(assignment.listeners)))
        self._loop = loop
        self._state = state
        self._accept: Callable[[int, socket.socket], object] = _ignore
        self._take_over: Callable[[], object] = _ignore

    def begin(self, accept: Callable[[int, socket.socket], object], take_over: Callable[[], object]) -> None:
        """Watch them. ``accept(index, listener)`` is called where clients wait, ``take_over()`` for a sibling's."""
        self._accept, self._take_over = accept, take_over
        self.listening = self.adopting = True
        self.watch(True)

    def answer_with(self, accept: Callable[[int, socket.socket], object]) -> None:
        """From now on call this where clients wait."""
        watched = not self.paused
        self.watch(False)
        self._accept = accept
        self.watch(watched)

    def close_all(self) -> None:
        """Close this process's copies of the listeners, and take no connection from siblings any more."""
        if self.listening:
            self._close(list(self.open))

    def close_shared(self) -> None:
        """The same, but for the listeners whose queues are this worker's alone."""
        if self.listening:
            self._close([index for index in self.open if self._numbers[index] not in self.last_here])

    def accept_now(self, index: int, listener: socket.socket) -> None:
        """Clients may wait at a listener, although it has not been said to be ready."""
        self._accept(index, listener)

    def nudge(self) -> None:
        """Wake a sibling: what this worker was woken for, and maybe it alone, is left to it."""
        nudge(self.hand_off_send)

    def leave_to_sibling(self) -> None:
        """Wake a sibling if something is there that this worker was woken for, and has no time to take."""
        if self.paused or not self.adopting:
            return
        poll = select.poll()
        for sock in (self.hand_off_receive, *self.open.values()):
            poll.register(sock, select.POLLIN)
        if poll.poll(0):
            self.nudge()

    def saturate(self) -> None:
        """Leave new connections to siblings, until there is room or they have had the time to take them."""
        if not self.saturated:
            self.saturated = True
            self.watch(False)

    def resume(self) -> None:
        """Watch them again, unless there is another reason not to."""
        if not (self.saturated or self._state.held):
            self.watch(True)

    def watch(self, wanted: bool) -> None:
        """Watch them, or leave what comes to siblings for now."""
        if not self.listening or wanted is not self.paused:
            return
        self.paused = not wanted
        # Without room for a descriptor a connection from a sibling would be lost on its way.
        if self.adopting and wanted:
            self._loop.add(self.hand_off_receive.fileno(), self._on_hand_off, EXCLUSIVE_READ)
        elif self.adopting:
            self._loop.remove(self.hand_off_receive.fileno())
        for index, listener in self.open.items():
            if wanted:
                accept = partial(self._accept, index, listener)
                self._loop.add(listener.fileno(), partial(self._on_clients, accept), EXCLUSIVE_READ)
            else:
                self._loop.remove(listener.fileno())

    def _close(self, indexes: Iterable[int]) -> None:
        self.watch(False)
        # Wake-ups that were for this worker alone, and came too late for it, are a sibling's now.
        self.nudge()
        for index in indexes:
            self.open.pop(index).close()
        self.listening = bool(self.open)
        self.adopting = False
        self.hand_off_receive.close()

    def _on_clients(self, accept: Callable[[], object], _events: int) -> None:
        # Connections that are open come first: what is accepted now must not wait behind them
        # while a sibling has nothing to do.
        self._loop.last.append(accept)

    def _on_hand_off(self, _events: int) -> None:
        self._loop.last.append(self._take_over)


def _ignore(*_: object) -> None:
    """Before they are watched nothing comes."""
