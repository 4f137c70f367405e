"""The request to exit that a worker has got: when, from what, and whether siblings keep serving."""

import time

from wsgicluster.ipc.scoreboard import ServerState, WorkerState
from wsgicluster.system import parent_death
from wsgicluster.worker.lifecycle.state import StateCell


class ExitRequest:
    """The request to leave, if there has been one; ``asked_at`` is when, on the monotonic clock.

    ``retiring`` says that siblings stay and take what this worker passes on; the drain finds that out as it begins.
    """

    def __init__(self, state: StateCell, graceful_s: float, stacks_fd: int) -> None:
        self.asked_at = 0.0
        self.retiring = False
        self._state = state
        self._graceful_s = graceful_s
        self._stacks_fd = stacks_fd

    def drain(self) -> None:
        """Leave; called from a signal handler too, so that the request in progress is already told."""
        if not self._state.leaving:
            self.asked_at = time.monotonic()
        self._state.enter(WorkerState.DRAINING)

    def orphan(self) -> None:
        """The arbiter has exited: leave; called from a signal handler too, as soon as that is so."""
        if not self._state.leaving:
            self.asked_at = time.monotonic()
        if self._state.enter(WorkerState.ORPHANED):
            parent_death.end_after(self._graceful_s, self._stacks_fd)

    def may_retire(self, server: ServerState) -> bool:
        """Whether siblings stay, as far as is known: the arbiter is there, and has not said that the server stops."""
        return not self._state.orphaned and server is not ServerState.STOPPING
