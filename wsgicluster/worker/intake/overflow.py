"""Leaves clients that a worker has no room for to its siblings: for a moment, since these may have less than it seems.

What a worker does without room when siblings have none either is not decided here.
"""

import math

from wsgicluster.worker.context import WorkerContext
from wsgicluster.worker.intake.listeners import WatchedListeners
from wsgicluster.worker.intake.policy import LEFT_S, Snapshot
from wsgicluster.worker.runner import Load


class Overflow:
    """What comes to one worker, and it leaves to others."""

    def __init__(self, context: WorkerContext, listeners: WatchedListeners, load: Load) -> None:
        self._context = context
        self._listeners = listeners
        self._load = load
        self._since = self._last = -math.inf
        """Since when what comes is left to others with room, and when it was so last."""

    def is_for_others(self, found: Snapshot) -> bool:
        """Whether this worker is full, while others have room for what comes and have not had the time to take it."""
        if found.room > 0 and not found.is_full:
            return False
        board, own = self._context.assignment.board, self._context.page.index
        return board.has_room(found.capacity, found.most_open, own) and self._siblings_have_time(found.now)

    def is_better_elsewhere(self, found: Snapshot) -> bool:
        """The same of a connection from a sibling, which is not passed on again and would wait for what runs here.

        Where that is slow, a sibling that is busy now may be done before, and has the time to take it, too.
        """
        if found.is_quick or found.room > 0 or not self._context.siblings_ready():
            return self.is_for_others(found)
        return self._siblings_have_time(found.now)

    def _siblings_have_time(self, now: float) -> bool:
        """Whether their time is not over, which begins anew once nothing has been left to them for as long."""
        if now - self._last > LEFT_S:
            self._since = now
        elif now - self._since >= LEFT_S:
            return False
        self._last = now
        return True

    def leave(self) -> None:
        """Leave what comes to siblings, until there is room."""
        self._listeners.saturate()
        self._load.room_awaited = True
        if self._context.siblings_ready() > 0:
            self._listeners.nudge()  # the wake-up may have been for this worker alone
