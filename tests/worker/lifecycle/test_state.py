"""The state of a worker on its page: which pairs there are, and that leaving is never taken back."""

from collections.abc import Iterator

import pytest

from wsgicluster.ipc.scoreboard import Cell, Page, Scoreboard, WorkerState
from wsgicluster.worker.lifecycle.state import LEAVING, NEXT, StateCell


@pytest.fixture
def page() -> Iterator[Page]:
    board = Scoreboard(None)
    yield board.take(slot=1, generation=1)
    board.close()


PAIRS = [(before, after) for before in WorkerState for after in WorkerState]


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_what_is_in_the_table_is_entered_and_nothing_else(page: Page, before: WorkerState, after: WorkerState) -> None:
    state = StateCell(page)
    if before in LEAVING:
        state.enter(before)
    page.cells[Cell.STATE] = before
    if after not in NEXT[before]:
        with pytest.raises(ValueError, match=f"that is {before.name} cannot become {after.name}"):
            state.enter(after)
        assert state.current is before
        return
    stays = before in LEAVING and (after not in LEAVING or before is WorkerState.ORPHANED)
    entered = before is not after and not stays
    assert state.enter(after) is entered
    assert state.current is (before if stays else after)
    assert state.held is (state.current is WorkerState.HELD)
    assert state.leaving is (state.current in LEAVING)
    assert state.orphaned is (state.current is WorkerState.ORPHANED)


class Interrupted:
    """The cells of a page on which a signal's handler is called before the first store."""

    def __init__(self, cells: memoryview) -> None:
        self._cells = cells
        self.handler: StateCell | None = None

    def __getitem__(self, index: int) -> int:
        return int(self._cells[index])

    def __setitem__(self, index: int, value: int) -> None:
        handler, self.handler = self.handler, None
        if handler is not None:
            handler.enter(WorkerState.DRAINING)
        self._cells[index] = value


def test_a_signal_between_two_steps_is_not_lost(page: Page) -> None:
    cells = Interrupted(page.cells)

    class Watched:
        """A page as far as a state needs it."""

        def __init__(self) -> None:
            self.cells = cells

    page.cells[Cell.STATE] = WorkerState.READY
    state = StateCell(Watched())  # type: ignore[arg-type]
    cells.handler = state
    assert not state.enter(WorkerState.HELD)
    assert state.current is WorkerState.DRAINING
    assert page.cells[Cell.STATE] == WorkerState.DRAINING
