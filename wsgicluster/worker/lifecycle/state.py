"""The one state of a worker, on its page, where Python, compiled code, siblings and the arbiter read it.

`StateCell.enter` is the only place that writes it once the worker serves.
"""

from collections.abc import Mapping

from wsgicluster.ipc.scoreboard import Cell, Page, WorkerState

_STATE, _READY = int(Cell.STATE), int(WorkerState.READY)
_HELD, _DRAINING = int(WorkerState.HELD), int(WorkerState.DRAINING)

_BEGINNING = frozenset((WorkerState.READY, WorkerState.DRAINING, WorkerState.ORPHANED))
_SERVING = _BEGINNING | {WorkerState.HELD}

NEXT: Mapping[WorkerState, frozenset[WorkerState]] = {
    WorkerState.FREE: _BEGINNING,
    WorkerState.BOOTING: _BEGINNING,
    WorkerState.READY: _SERVING,
    WorkerState.HELD: _SERVING,
    # A worker that leaves never serves again: what the loop was about to enter when the signal came is ignored.
    WorkerState.DRAINING: _SERVING,
    WorkerState.ORPHANED: _SERVING,
}
"""What may be entered from each state; any other pair is a fault of ours."""

LEAVING = frozenset((WorkerState.DRAINING, WorkerState.ORPHANED))


class StateCell:
    """The state on one page. `enter` may be called from a signal handler, even between two steps of another `enter`."""

    def __init__(self, page: Page) -> None:
        self._cells = page.cells
        self._left_as = WorkerState.FREE
        """DRAINING or ORPHANED once that has been entered, which no other state replaces."""

    @property
    def current(self) -> WorkerState:
        """As it stands on the page."""
        return WorkerState(self._cells[_STATE])

    @property
    def ready(self) -> bool:
        """Whether the worker takes what is new."""
        return self._cells[_STATE] == _READY

    @property
    def held(self) -> bool:
        """Whether the worker leaves new clients to its siblings for now."""
        return self._cells[_STATE] == _HELD

    @property
    def leaving(self) -> bool:
        """Whether the worker serves what it has, and nothing after that."""
        return self._cells[_STATE] >= _DRAINING

    def is_leaving(self) -> bool:
        """`leaving`, to be called later."""
        return self.leaving

    @property
    def orphaned(self) -> bool:
        """Whether the worker leaves because its arbiter has exited."""
        return self._left_as is WorkerState.ORPHANED

    def enter(self, state: WorkerState) -> bool:
        """Enter a state; False when the worker is in it already, or leaves and would serve again.

        Raises ValueError for a pair of states that is not in the table.
        """
        before = self.current
        if state not in NEXT[before]:
            raise ValueError(f"a worker that is {before.name} cannot become {state.name}")
        if state in LEAVING and self._left_as is not WorkerState.ORPHANED:
            self._left_as = state
        self._cells[_STATE] = state
        if self._left_as is not WorkerState.FREE:
            # Read after the page was written: a handler may have been called just before.
            self._cells[_STATE] = self._left_as
        return self._cells[_STATE] == state != before
