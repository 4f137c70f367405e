"""Finds connections in the mailboxes of workers that do not take them, because they hang or are stopped, for others.

Since when something lies there stands on the workers' pages. The arbiter only looks while that is so: a worker that
puts the first one into a mailbox sends a message.
"""

import math
import socket
from collections.abc import Mapping

from wsgicluster.ipc.mailbox import MailboxRegistry
from wsgicluster.ipc.scoreboard import Cell, Page, Scoreboard, WorkerState

UNTAKEN_S = 1.0
"""How long a connection waits for the worker of its slot to take it."""

_TAKING = frozenset((WorkerState.READY, WorkerState.HELD))


class MailWatch:
    """The mailboxes of one server; `next_due` is when to `look`, infinite while nothing lies in any."""

    def __init__(self, board: Scoreboard, mailboxes: MailboxRegistry) -> None:
        self.next_due = math.inf
        self._cells = board.server.cells
        self._mailboxes = mailboxes

    def begin(self, now: float) -> None:
        """A connection has been put into a mailbox."""
        if self.next_due == math.inf:
            self._look_at(now + UNTAKEN_S)

    def look(self, pages: Mapping[int, Page], hand_off: socket.socket, now: float) -> None:
        """Put what has not been taken in time into ``hand_off``; ``pages`` are those of the workers by their slots."""
        if now < self.next_due:
            return
        self.next_due = math.inf
        # Before the pages are read: a worker that writes there afterwards sends a message.
        self._cells[Cell.MAIL_WATCHED] = 0
        for slot, page in pages.items():
            since = page.floats[Cell.MAIL_SINCE]
            if not self._mailboxes.has_connections(slot):
                # Another worker of the slot has taken it, or the one that noted it could not put it there.
                if since:
                    page.floats[Cell.MAIL_SINCE] = 0.0
            elif not since:
                # It was noted on the page of the worker that had the slot before.
                page.floats[Cell.MAIL_SINCE] = now
                self._look_at(now + UNTAKEN_S)
            elif now < since + UNTAKEN_S:
                self._look_at(since + UNTAKEN_S)
            else:
                if any(_takes(other, now) for number, other in pages.items() if number != slot):
                    self._mailboxes.withdraw(slot, hand_off)
                self._look_at(now + UNTAKEN_S)

    def _look_at(self, moment: float) -> None:
        self.next_due = min(self.next_due, moment)
        self._cells[Cell.MAIL_WATCHED] = 1


def _takes(page: Page, now: float) -> bool:
    since = page.floats[Cell.MAIL_SINCE]
    return page.cells[Cell.STATE] in _TAKING and not (since and since + UNTAKEN_S <= now)
