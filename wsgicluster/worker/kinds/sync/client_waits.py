"""What the only thread of a sync worker does while its application waits for a client."""

import select
import time
from collections.abc import Callable, Mapping
from functools import partial

from wsgicluster.ipc.scoreboard import Cell
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.connection.states import ConnectionState
from wsgicluster.worker.context import WorkerContext

CLIENT_LOOK_S = 1.0
"""How long the application waits for its client at a time. The kernel does not tell of room before a third of what it
holds has been sent, which a slow client may take minutes for, and which may be more than its application waits for."""

_DEADLINE = int(Cell.DEADLINE)


class InlineWaits:
    """The waits of one worker, whose requests run in its loop: a `wsgicluster.worker.runner.ClientWaits`.

    ``undisturbed`` calls something while no connection of the worker is given to a sibling; ``write_logs`` writes what
    has been logged.
    """

    spools_responses = True

    def __init__(
        self,
        context: WorkerContext,
        undisturbed: Callable[[Callable[[], object]], object],
        write_logs: Callable[[], object],
    ) -> None:
        self._context = context
        self._floats = context.page.floats
        self._undisturbed = undisturbed
        self._write_logs = write_logs

    def is_crowded(self) -> bool:
        """Other requests always wait for the one that runs."""
        return True

    def wait_for_client(self, poll: select.poll, limit_s: float) -> None:
        """The application's time stands still while it waits for its client: it does not hang, its client is slow.

        Others who are to take the rest of their responses are not made to wait with it.
        """
        floats, timeout_s = self._floats, self._context.settings.timeout
        others = {c.descriptor: c for c in self._context.connections if c.state is ConnectionState.SENDING}
        for descriptor in others:
            poll.register(descriptor, select.POLLOUT)
        left_s = floats[_DEADLINE] - time.monotonic()
        counts = timeout_s > 0 and left_s > 0
        if counts:
            floats[_DEADLINE] += CLIENT_LOOK_S + timeout_s
        found = poll.poll(min(limit_s, CLIENT_LOOK_S) * 1000)
        self._context.loop.now = now = time.monotonic()
        if counts:
            floats[_DEADLINE] = now + left_s
        for descriptor in others:
            poll.unregister(descriptor)
        events = {descriptor: event for descriptor, event in found if descriptor in others}
        if events:
            self._undisturbed(partial(_tell, others, events))
        if not found:
            self._write_logs()

    def has_waited(self, seconds: float) -> None:
        """The application has waited for its client: its time has stood still."""
        if self._floats[_DEADLINE]:
            self._floats[_DEADLINE] += seconds

    def lift_deadline(self, _connection: Connection) -> None:
        """The request that runs on a connection may take as long as it wants."""
        self._floats[_DEADLINE] = 0.0


def _tell(connections: Mapping[int, Connection], events: Mapping[int, int]) -> None:
    for descriptor, event in events.items():
        connections[descriptor].on_event(event)
