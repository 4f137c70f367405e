"""Keeps descriptors free for the application: has new clients wait, and closes silent ones. `descriptors` counts."""

import errno
import math

from wsgicluster.counting import count_of
from wsgicluster.ipc.reasons import CloseReason
from wsgicluster.ipc.scoreboard import Cell
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.connection.host import Arrivals
from wsgicluster.worker.context import WorkerContext
from wsgicluster.worker.intake.descriptors import Descriptors, silent_longest
from wsgicluster.worker.intake.listeners import WatchedListeners
from wsgicluster.worker.intake.load_shedding import Tally
from wsgicluster.worker.intake.policy import ACCEPT_PAUSE_S, CONNECTIONS_PART, SILENT_S

NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

FULL_AGAIN_S = 5.0
"""A worker that has found room for this long, and then none again, logs so again."""


class DescriptorReserve:
    """Watches how many descriptors are left; ``scarce`` says that this turn accepts no more."""

    def __init__(
        self, context: WorkerContext, listeners: WatchedListeners, arrivals: Arrivals[Connection] | None
    ) -> None:
        self.scarce = False
        self.descriptors = Descriptors()
        self._context = context
        self._loop = context.loop
        self._connections = context.connections
        self._listeners = listeners
        self._arrivals = arrivals
        self._made_room_at = -math.inf
        self._full_at = -math.inf
        self._most_connections: float = math.inf
        """With more than these descriptors are scarce, as far as is known."""
        if arrivals is not None:
            arrivals.mark = self.descriptors.mark
        self._evicted = Tally(context.loop, self._log_evicted, FULL_AGAIN_S)

    def note(self, connection: Connection) -> None:
        """A connection is new: if few descriptors are left, accept no more in this turn, and look after that."""
        few = connection.descriptor >= self.descriptors.mark or len(self._connections) > self._most_connections
        if few and not self.scarce:
            self.scarce = True
            self._loop.soon.append(self._keep)
            if self._arrivals is not None:
                self._arrivals.mark = 0

    def cannot_accept(self, error: OSError) -> bool:
        """Whether an error says that nothing can be accepted now; else it was one client, who has left already."""
        if error.errno not in NO_DESCRIPTORS:
            return False  # ECONNABORTED, EPROTO and the like; the next client may be there
        # Once a turn: where it is the whole system that has no more, closing all would not be enough.
        if self._made_room_at < self._loop.now and self._make_room(self.descriptors.reserved // 2 + 1):
            return False
        self.pause(error.strerror or str(error))
        return True

    def has_spare(self) -> bool:
        """Is there a descriptor for a connection from a sibling? Else it stays in the queue for one that has."""
        spare = self.descriptors
        return spare.keep_spare() or (self._make_room(1 + spare.reserved // 2) > 0 and spare.keep_spare())

    def pause(self, reason: str) -> None:
        """Accept nothing until there are descriptors again."""
        self._listeners.watch(False)
        # The wake-up that has led here was for one worker alone: a sibling with room has to be woken.
        self._listeners.nudge()
        now = self._loop.now
        logged, self._full_at = now - self._full_at < FULL_AGAIN_S, now
        if not logged:
            self._context.log.error(
                "worker %d: cannot accept: %s, with %s open; accepting again as soon as that is over "
                "(raise the limit on open files, or lower keepalive)",
                self._context.slot, reason, count_of(len(self._connections), "connection"),
            )  # fmt: skip
        self._loop.call_at(now + ACCEPT_PAUSE_S, self._retry)

    def _keep(self) -> None:
        self.scarce = False
        if not self._listeners.paused and not self._is_kept():
            self.pause("few descriptors are left")

    def _retry(self) -> None:
        if self._is_kept():
            self._listeners.resume()
        else:
            self._loop.call_at(self._loop.now + ACCEPT_PAUSE_S, self._retry)

    def _is_kept(self) -> bool:
        """Whether the application has descriptors left; silent clients make room for that. Else new ones shall wait."""
        excess = self.descriptors.excess()
        if excess >= 0:
            excess -= self._make_room(excess + self.descriptors.reserved // 2 + 1)
        if self._arrivals is not None:
            self._arrivals.mark = self.descriptors.mark
        self._most_connections = len(self._connections) - excess
        return excess < 0 or len(self._connections) * CONNECTIONS_PART < self.descriptors.mark

    def _make_room(self, most: int) -> int:
        """Close connections that have been silent for longest, and return how many there were."""
        self._made_room_at = self._loop.now
        silent = silent_longest(self._connections, most, self._loop.now)
        for connection in silent:
            connection.close(CloseReason.EVICTED)
        if silent:
            self._context.page.cells[Cell.EVICTED] += len(silent)
            self._evicted.add(len(silent))
        return len(silent)

    def _log_evicted(self, count: int) -> None:
        self._context.log.warning(
            "worker %d: closed %s silent for %g s or longer, the longest first, to make room for others: "
            "descriptors had run out (raise the limit on open files)",
            self._context.slot, count_of(count, "connection that was", "connections that were"), SILENT_S,
        )  # fmt: skip
