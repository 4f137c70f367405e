"""Where connections lie on their way from one worker to another: the hand-off socket and the mailboxes of the slots.

The arbiter never reads them. It keeps a mailbox for each slot, and gives connections to others that no worker takes.
"""

import contextlib
import math
import socket
from collections.abc import Callable, Collection, Sequence

from wsgicluster.arbiter.children.link import ChildLink
from wsgicluster.arbiter.children.mail_watch import MailWatch
from wsgicluster.arbiter.plan.child import Role
from wsgicluster.ipc.mailbox import MailboxRegistry
from wsgicluster.ipc.nudge import nudge
from wsgicluster.ipc.scoreboard import Cell, Scoreboard, WorkerState

VACANT_S = 1.0
"""How long connections wait in the mailbox of a slot for its next worker, before others may have them."""

VACANT_BALANCED_S = 0.1
"""The same where clients do not belong to workers."""


def _non_blocking(ends: tuple[socket.socket, socket.socket]) -> tuple[socket.socket, socket.socket]:
    for end in ends:
        end.setblocking(False)
    return ends


class MailboxKeeper:
    """The hand-off socket, receiving end first, and the mailboxes of one server; to be closed by its owner.

    ``links`` returns those to all children.
    """

    def __init__(self, board: Scoreboard, links: Callable[[], Collection[ChildLink]]) -> None:
        self.hand_off = _non_blocking(socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        self.registry = MailboxRegistry()
        self.hands_on = False
        """This server stops, and another one that shares its hand-off socket keeps serving."""
        self._board = board
        self._links = links
        self._watch = MailWatch(board, self.registry)
        self._vacant_s = VACANT_S
        self._vacant: dict[int, float] = {}
        """Since when a slot has had no worker that takes connections."""
        self._served = False
        """Some worker has taken connections: before that none can lie in a mailbox."""

    def share_hand_off(self, ends: tuple[socket.socket, socket.socket]) -> None:
        """Use the hand-off socket of another server; before there is any child."""
        for end in self.hand_off:
            end.close()
        self.hand_off = _non_blocking(ends)

    def clients_belong_to_workers(self, belong: bool) -> None:
        """Connections wait for the next worker of their slot; where clients do not belong to it, only for a moment."""
        self._vacant_s = VACANT_S if belong else VACANT_BALANCED_S

    def expect(self, now: float) -> None:
        """A worker has put a connection into the mailbox of another one."""
        self._watch.begin(now)

    def next_due(self) -> float:
        """When `keep` has something to do that no event will announce; infinite if never."""
        return min(self._watch.next_due, min(self._vacant.values(), default=math.inf) + self._vacant_s)

    def keep(self, slots: Sequence[int], now: float) -> None:
        """Have mailboxes for these slots, and for those whose workers have not exited; tell children of changes.

        Without descriptors left it is done as soon as there are some; the workers that need them cannot be made before.
        Connections that lie in the mailbox of a slot without a worker go to others; those of clients that belong there
        after `VACANT_S`, since until then the next worker of the slot may come and take them. Those that a living
        worker does not take go to others as well.
        """
        self._board.server.cells[Cell.WANTED] = len(slots)
        pages = {link.child.slot: link.page for link in self._workers() if link.child.ready}
        wanted = {link.child.slot for link in self._workers()}.union(slots)
        self._served = self._served or bool(pages)
        for slot in self.registry.slots() if self._served else ():
            if slot in pages:
                self._vacant.pop(slot, None)
            elif slot not in wanted or now - self._vacant.setdefault(slot, now) >= self._vacant_s:
                self._vacant[slot] = now
                self.registry.give_back(slot, self.hand_off[1])
        for slot in self._vacant.keys() - wanted:
            del self._vacant[slot]
        with contextlib.suppress(OSError):
            self.registry.keep_slots(wanted)
        for link in self._links():
            link.update_mailboxes(self.registry)
        self._watch.look(pages, self.hand_off[1], now)

    def _workers(self) -> list[ChildLink]:
        return [link for link in self._links() if link.child.role is Role.WORKER]

    def hand_on(self) -> None:
        """The server stops, and another one keeps serving: its workers take what lies in mailboxes without a reader."""
        if not self.hands_on:
            return
        read = {link.child.slot for link in self._links() if link.page.cells[Cell.STATE] == WorkerState.READY}
        for slot in self.registry.slots():
            if slot not in read:
                self.registry.give_back(slot, self.hand_off[1], placed=False)

    def nudge(self) -> None:
        """Have a worker look for new connections: the one that was woken for a connection may never accept it."""
        nudge(self.hand_off[1])

    def close(self) -> None:
        """Close the hand-off socket and all mailboxes."""
        for end in self.hand_off:
            end.close()
        self.registry.close()
