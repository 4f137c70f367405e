"""Has the parts of one worker follow the scheduling policy on the server's page, from its beginning on.

Connections that are open, whatever they are in the middle of, are asked about from their next request on, or no more.
"""

from collections.abc import Callable

from wsgicluster.dataclass import dataclass
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.connection.host import FastPath
from wsgicluster.worker.connection.preamble import PreambleSettings
from wsgicluster.worker.context import WorkerContext
from wsgicluster.worker.hosting.factory import ConnectionFactory
from wsgicluster.worker.hosting.host import ConnectionHost
from wsgicluster.worker.intake.acceptor import Acceptor
from wsgicluster.worker.request.cycle import Application, Cycle
from wsgicluster.worker.scheduling.placement import Asked
from wsgicluster.worker.scheduling.scheduler import Scheduler


@dataclass(frozen=True)
class SwitchParts:
    """What a `PolicySwitch` changes.

    ``fast_path`` is used unless each head is asked about, ``wrap`` is what comes around the application whatever the
    policy.
    """

    scheduler: Scheduler
    acceptor: Acceptor
    factory: ConnectionFactory
    host: ConnectionHost
    fast_path: FastPath[Connection] | None
    cycle: Cycle
    preamble: PreambleSettings | None
    wrap: Callable[[Application], Application]


class PolicySwitch:
    """The switch of one worker; ``application`` is as the policy finds it."""

    def __init__(self, context: WorkerContext, parts: SwitchParts, application: Application) -> None:
        self._context = context
        self._parts = parts
        self._application = application
        self._routed = False

    def look(self) -> None:
        """There may be another policy on the server's page."""
        if self._context.in_force.look(self._context.assignment.board.server):
            self.follow()

    def follow(self) -> None:
        """Do as the policy in force says."""
        parts, scheduler = self._parts, self._parts.scheduler
        scheduler.follow(self._context.in_force.settings)
        asked = scheduler.asked
        parts.acceptor.follow(asked, scheduler.stickiness is not None)
        if parts.preamble is not None:
            parts.preamble.place = scheduler.place if asked is Asked.AFTER_PROXY_HEADER else None
        if self._routed is not (asked is Asked.AFTER_HEAD):
            self._routed = not self._routed
            self._route_connections()
        parts.cycle.replace_application(parts.wrap(scheduler.binding(self._application)))

    def _route_connections(self) -> None:
        parts = self._parts
        # Fast paths receive more than a head.
        parts.host.fast_path = None if self._routed else parts.fast_path
        prepare = parts.scheduler.prepare if self._routed else parts.scheduler.release
        parts.factory.route(prepare if self._routed else None)
        for connection in list(self._context.connections):
            connection.receive_through(parts.host.fast_path)
            prepare(connection)
