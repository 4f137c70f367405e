"""Requests that would have to wait here, and are passed to siblings instead; carries the intake policy out.

Only workers that run several requests at a time ask for it: of one with a single thread it is the slow request monitor
that looks meanwhile.
"""

from time import monotonic

from wsgicluster.worker.connection.offloaded import OffloadedConnection
from wsgicluster.worker.context import WorkerContext
from wsgicluster.worker.hosting.hand_off import give
from wsgicluster.worker.intake.listeners import WatchedListeners
from wsgicluster.worker.intake.policy import Defer, Occasion, PassOn, decide
from wsgicluster.worker.intake.snapshot import snapshot
from wsgicluster.worker.runner import Load


class SiblingOffers:
    """Connections on which a request has come while every place that could run it is taken.

    ``deferred`` are those that wait for a moment with the request still in their sockets. Where clients belong to their
    workers, none is given away.
    """

    def __init__(self, context: WorkerContext, listeners: WatchedListeners, load: Load) -> None:
        self.deferred: list[OffloadedConnection] = []
        self._context = context
        self._loop = context.loop
        self._listeners = listeners
        self._load = load

    def offer(self, connection: OffloadedConnection) -> bool:
        """Give a connection to a sibling, or have it wait for a moment; False when it is to be served here."""
        if (
            self._context.in_force.binds
            or connection.guest
            or not connection.movable
            or not connection.reader.idle
            or connection.reader.rest
        ):
            return False
        siblings_ready = self._context.siblings_ready()
        if not siblings_ready:
            return False  # there is nothing to decide, and a busy worker comes here for each request
        found = snapshot(self._context, self._load, monotonic(), siblings_ready)
        decision = decide(Occasion.REQUEST_COMES, found)
        if isinstance(decision, Defer):
            connection.pause()
            if not self.deferred:
                self._loop.call_at(decision.until, self.retry)
            self.deferred.append(connection)
            self._load.room_awaited = True
            return True
        if not isinstance(decision, PassOn):
            return False
        # The first worker with room takes it. That may be this one again, but not before it has some.
        if not found.held:
            self._listeners.saturate()
            self._load.room_awaited = True
        return give(connection, self._listeners.hand_off_send)

    def retry(self) -> None:
        """Look anew at those that wait: there is room, or their moment is over."""
        deferred, self.deferred = self.deferred, []
        for connection in deferred:
            connection.wait_if_reading()
