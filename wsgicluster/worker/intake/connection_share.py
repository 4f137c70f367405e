"""Gives connections that clients keep here to a worker on probation, which gets few clients otherwise.

They go through the mailbox of that worker's slot. How many, and when, the arbiter decides.
"""

import time
from collections.abc import Sequence

from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.context import WorkerContext
from wsgicluster.worker.hosting.hand_off import give
from wsgicluster.worker.intake.mail import ConnectionMail

HEARD_S = 0.01
"""A worker that has the same mailbox has this long to hear that it leaves to the other what will lie there."""

GIVEN_S = 0.2
"""How long it is tried to give as many as are to be given."""

LEFT_S = 0.3
"""How long it does: until it is said anew, if need be. Should the other one not take it, this worker does then."""


class ConnectionShare:
    """What one worker gives."""

    def __init__(self, context: WorkerContext, mail: ConnectionMail) -> None:
        self._context = context
        self._loop = context.loop
        self._mail = mail
        self._slot = 0
        self._count = 0
        """How many are still to be given, until a moment."""
        self._until = 0.0
        self._is_due = False

    def note(self, count: int, slot: int) -> None:
        """Give so many soon to the worker on probation in this slot; 0 for none, nor any more mail in this slot."""
        self._slot, self._count = slot, count
        self._until = time.monotonic() + GIVEN_S
        if slot == self._context.slot:
            self._mail.leave_for(LEFT_S)
        elif not slot:
            self._mail.take_again()
        self._give_later()

    def _give_later(self) -> None:
        if self._count > 0 and not self._is_due:
            # Not in the middle of a turn: responses may be held until its end.
            self._is_due = True
            self._loop.call_at(self._loop.now + HEARD_S, self._give)

    def _give(self) -> None:
        self._is_due = False
        mailboxes = self._context.assignment.mailboxes
        mailbox = mailboxes.connections.get(self._slot) if mailboxes is not None else None
        if mailbox is None or self._context.state.leaving or time.monotonic() > self._until:
            return
        kept = [connection for connection in self._context.connections if connection.kept]
        self._close_settled([connection for connection in kept if not connection.movable])
        idle = [connection for connection in kept if connection.movable and connection.between_requests]
        for connection in spread(idle, self._count):
            self._count -= give(connection, mailbox)
        # Clients that ask without a pause are idle for moments, and a full mailbox is empty soon.
        self._give_later()

    def _close_settled(self, settled: Sequence[Connection]) -> None:
        """Those that cannot move come anew, and each new client may be the other worker's.

        Those that have been asked to before, and whose clients have said nothing since, count for the next time, too.
        """
        asked = sum(connection.may_keep is _never for connection in settled)
        for connection in spread([c for c in settled if c.may_keep is not _never], self._count - asked):
            connection.may_keep = _never
        self._count -= min(self._count, len(settled))


def spread(connections: Sequence[Connection], count: int) -> list[Connection]:
    """So many of them, some that have just been used and some that have not: proxies use the same ones again first."""
    latest = sorted(connections, key=lambda connection: connection.deadline, reverse=True)
    count = max(0, min(count, len(latest)))
    return [latest[turn * len(latest) // count] for turn in range(count)]


def _never() -> bool:
    """The connection is closed behind its next response."""
    return False
