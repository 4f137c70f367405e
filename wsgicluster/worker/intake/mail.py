"""The slot's mailbox for connections: what a scheduling policy has decided that this worker serves.

It is watched whatever room there is: these are this worker's clients. One that leaves, or that cannot take more, passes
them on by the common hand-off socket.
"""

import socket
import time
from collections.abc import Callable
from functools import partial

from wsgicluster.ipc.handoff import give_back, nudge
from wsgicluster.worker.context import WorkerContext
from wsgicluster.worker.intake.listeners import WatchedListeners
from wsgicluster.worker.intake.policy import ACCEPT_PAUSE_S
from wsgicluster.worker.loop.loop import READ


class ConnectionMail:
    """One worker's end of it; nothing in a worker without mailboxes."""

    def __init__(self, context: WorkerContext, listeners: WatchedListeners) -> None:
        mailboxes = context.assignment.mailboxes
        self._context = context
        self._loop = context.loop
        self._listeners = listeners
        self._mailboxes = mailboxes
        self._inbox = mailboxes.connections_inbox if mailboxes is not None else None
        self._watched = False
        self._closed = self._inbox is None
        self._left_until = 0.0
        """Until then it is another worker's of this slot."""
        self._take: Callable[[], object] = self.unwatch

    def begin(self, take: Callable[[], object]) -> None:
        """Call ``take`` where something lies in it."""
        self._take = take
        self.watch()

    @property
    def inbox(self) -> socket.socket | None:
        """The receiving end, as long as this worker takes what lies there."""
        return None if self._closed else self._inbox

    def watch(self) -> None:
        """Have it looked at, unless this worker leaves."""
        if self._inbox is not None and not self._watched and not self._closed and not self._left_until:
            self._watched = True
            # For a moment two workers may have the slot: then both are woken.
            self._loop.add(self._inbox.fileno(), self._on_mail, READ)

    def unwatch(self) -> None:
        """Leave what comes where it is."""
        if self._watched and self._inbox is not None:
            self._watched = False
            self._loop.remove(self._inbox.fileno())

    def pause(self) -> None:
        """The same for a moment."""
        if self._watched:
            self.unwatch()
            self._loop.call_at(self._loop.now + ACCEPT_PAUSE_S, self.watch)

    def leave_for(self, seconds: float) -> None:
        """Leave what comes to another worker of this slot; after this time it is taken as ever."""
        self.unwatch()
        self._wake_the_other()
        self._left_until = moment = time.monotonic() + seconds
        self._loop.call_at(moment, partial(self._take_again_at, moment))

    def take_again(self) -> None:
        """It is this worker's again, whatever has been said."""
        if self._left_until:
            self._left_until = 0.0
            self.watch()

    def is_refused(self) -> bool:
        """Whether this worker takes none of them now, and has given back what could be given."""
        context = self._context
        # Clients that are bound to a worker come to it even while it leaves new ones to siblings.
        held = context.state.held and not context.in_force.binds
        if not held and len(context.connections) < context.most_open:
            return False
        if not context.siblings_ready():
            return False
        # What is given back shall not come here again by the common socket.
        self._listeners.saturate()
        return self.give_back() > 0

    def give_back(self, placed: bool = True) -> int:
        """Give what lies in it to siblings; returns how many connections those were.

        ``placed`` as `wsgicluster.ipc.handoff.give_back` has it.
        """
        mailboxes = self._mailboxes
        send = mailboxes.connections.get(self._context.slot) if mailboxes is not None else None
        if self._inbox is None or send is None:
            return 0
        return give_back((self._inbox, send), self._listeners.hand_off_send, placed=placed)

    def leave(self, siblings_stay: bool) -> None:
        """This worker leaves: its slot's next worker has what comes; without one, others have what lies in it."""
        if not siblings_stay:
            return  # until its end there is no one else
        self.unwatch()
        self._closed = True
        if self._has_successor():
            self._wake_the_other()
        else:
            # Clients that are bound belong to the next worker of the slot, which may be another server's.
            self.give_back(placed=not self._context.in_force.binds)

    def _wake_the_other(self) -> None:
        """Wake the slot's other worker: a loop that is split watches exclusively, and this one may have been woken."""
        mailboxes = self._mailboxes
        send = mailboxes.connections.get(self._context.slot) if mailboxes is not None else None
        if send is not None:
            nudge(send)

    def _has_successor(self) -> bool:
        context = self._context
        return context.assignment.board.ready_in(context.slot) > 0

    def _on_mail(self, _events: int) -> None:
        # As with listeners: connections that are open come first.
        self._loop.last.append(self._take_if_watched)

    def _take_if_watched(self) -> None:
        if self._watched:
            self._take()

    def _take_again_at(self, moment: float) -> None:
        if moment >= self._left_until:
            self.take_again()
