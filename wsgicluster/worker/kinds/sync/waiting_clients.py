"""The clients that would wait for a sync worker's slow request, and how they get to siblings; carries the policy out.

What can go is a connection on which no request runs and of which no byte is lost on the way: what has been received
and not used goes with it, be it the part of a head or the next pipelined requests. What cannot go waits: the rest of
a body, the rest of a response, and a TLS connection once its handshake has begun, since its keys are in this process.

All of this is called in the monitor's thread, while the worker's own one runs a request.
"""

from collections.abc import Callable, Iterable, Sequence

from wsgicluster.ipc.handoff import give_back
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.connection.host import FastPath
from wsgicluster.worker.connection.states import ConnectionState
from wsgicluster.worker.context import WorkerContext
from wsgicluster.worker.hosting.hand_off import give
from wsgicluster.worker.intake.listeners import WatchedListeners
from wsgicluster.worker.intake.policy import HANDED_OFF_AT_ONCE, SIBLINGS_S, Decision, Occasion, Serve, decide
from wsgicluster.worker.intake.snapshot import snapshot
from wsgicluster.worker.loop.loop import READ
from wsgicluster.worker.runner import Load


class WaitingClients:
    """Those of one worker. ``fast_path`` returns the one that is in use, if any."""

    def __init__(
        self,
        context: WorkerContext,
        listeners: WatchedListeners,
        load: Load,
        fast_path: Callable[[], FastPath[Connection] | None],
    ) -> None:
        self._context = context
        self._loop = context.loop
        self._listeners = listeners
        self._load = load
        self._fast_path = fast_path
        self._siblings_at = 0.0
        self._in_force = context.in_force
        self._mailboxes = context.assignment.mailboxes
        """Where connections may lie that a policy has given to this worker, and that may be served elsewhere."""

    # -- in the worker's own thread

    def may_have_to_wait(self) -> bool:
        """Whether there are clients, and siblings that may serve them; siblings are looked for now and then."""
        # One is enough: the slow request may be that of a client who is only about to come in.
        now, in_force = self._loop.now, self._in_force
        if now < self._siblings_at or in_force.binds or not (self._context.connections or in_force.places):
            return False
        self._siblings_at = now + SIBLINGS_S
        return self._context.assignment.board.ready_workers() > 1

    def watch_anew(self) -> None:
        """Add the connections to the loop once more: what that does with new ones has changed."""
        for connection in self._context.connections:
            if connection.watching == READ:
                connection.watch(0)
                connection.watch(READ)

    # -- in the other one

    def count(self) -> int:
        """How many there are."""
        return len(self._context.connections)

    def decide(self, now: float) -> Decision:
        """What to do with those that wait, at a moment of the monotonic clock."""
        context = self._context
        if self._in_force.binds:
            return Serve()
        found = snapshot(context, self._load, now, context.siblings_ready())
        return decide(Occasion.REQUEST_RUNS, found._replace(siblings_idle=context.assignment.board.idle_workers()))

    def release_responses(self) -> None:
        """Send responses that the loop holds until its turn is over: their clients may have sent more."""
        if self._loop.batch is not None:
            self._loop.batch.end_batch()

    def leave_to_sibling(self) -> None:
        """Leave clients and connections of siblings to another worker, should the kernel have woken only this one."""
        self._listeners.leave_to_sibling()

    def waiting(self) -> Sequence[Callable[..., object]]:
        """Methods of connections whose next request has been received, or that have something to receive.

        Of the latter not more than `HANDED_OFF_AT_ONCE`; then there may be others.
        """
        self._give_mail_back()
        return [*self._loop.soon, *self._loop.ready(HANDED_OFF_AT_ONCE)]

    def hand_off(self, methods: Iterable[Callable[..., object]]) -> bool:
        """Give those connections to siblings that can go; False when some of these could not be given now."""
        fast_path, channel = self._fast_path(), self._context.assignment.hand_off_send
        complete = True
        for method in methods:
            connection = getattr(method, "__self__", None)
            if (
                isinstance(connection, Connection)
                and connection.movable
                and (connection.between_requests or connection.state is ConnectionState.OPENING)
                and not (fast_path is not None and (fast_path.serving is connection or fast_path.holds(connection)))
            ):
                complete = give(connection, channel) and complete
        return complete

    def _give_mail_back(self) -> None:
        """Give connections in the mailbox to siblings: this worker has not taken them yet."""
        mailboxes = self._mailboxes
        if mailboxes is None or mailboxes.connections_inbox is None:
            return
        send = mailboxes.connections.get(self._context.slot)
        if send is not None:
            give_back((mailboxes.connections_inbox, send), self._context.assignment.hand_off_send, HANDED_OFF_AT_ONCE)
