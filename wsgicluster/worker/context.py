"""What all parts of one worker share: settings, its place among the others, loop, state, connections."""

import dataclasses
import logging
import sys

from wsgicluster.dataclass import dataclass
from wsgicluster.ipc.assignment import Assignment
from wsgicluster.ipc.scheduling import load_scheduling
from wsgicluster.ipc.scoreboard import Page
from wsgicluster.logs.logs import Logs
from wsgicluster.settings import Settings
from wsgicluster.settings.types.scheduling import SHARED, STICKY_POLICY, Sticky
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.lifecycle.state import StateCell
from wsgicluster.worker.loop.loop import Loop
from wsgicluster.wsgi.error_stream import ErrorStream


class PolicyInForce:
    """The scheduling policy that a worker follows now: its ``settings`` with those on the server's page.

    ``binds`` says that clients belong to their workers, ``places`` that connections are given to slots, and to others
    where these are busy.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._follow(settings)

    def look(self, page: Page) -> bool:
        """Take over what stands on the server's page; whether that is another policy than before."""
        found = load_scheduling(page)
        now = self.settings
        in_force = (now.scheduling, now.weights, now.sticky.form, now.sticky.name)
        if in_force == (found.policy, found.weights, found.form, found.name):
            return False
        sticky = Sticky(found.form, found.name)
        self._follow(dataclasses.replace(now, scheduling=found.policy, weights=found.weights, sticky=sticky))
        return True

    def _follow(self, settings: Settings) -> None:
        self.settings = settings
        self.binds = settings.scheduling == STICKY_POLICY
        self.places = settings.scheduling not in (SHARED, STICKY_POLICY)


@dataclass(frozen=True)
class WorkerContext:
    """One worker as its parts see it; ``connections`` are those that are open."""

    settings: Settings
    assignment: Assignment
    logs: Logs
    loop: Loop
    state: StateCell
    error_stream: ErrorStream
    in_force: PolicyInForce
    connections: set[Connection] = dataclasses.field(default_factory=set)
    most_open: int = sys.maxsize
    """Connections that there may be at once."""

    @property
    def page(self) -> Page:
        """The worker's page of the scoreboard."""
        return self.assignment.page

    @property
    def slot(self) -> int:
        """The worker's number."""
        return self.assignment.slot

    @property
    def log(self) -> logging.Logger:
        """The error log."""
        return self.logs.error

    def siblings_ready(self) -> int:
        """Other workers that take what is new."""
        return self.assignment.board.ready_workers() - self.state.ready
