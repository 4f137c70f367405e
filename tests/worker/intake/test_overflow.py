"""What a worker without room leaves to its siblings, and to whom."""

from collections.abc import Iterator

import pytest

from wsgicluster.ipc.scoreboard import Cell, Page, Scoreboard, WorkerState

THREADS, CONNECTIONS = 4, 100


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    board = Scoreboard(None)
    yield board
    board.close()


def ready(board: Scoreboard, slot: int) -> Page:
    """A worker that takes what is new, with nothing that its page would show."""
    page = board.take(slot=slot, generation=1)
    page.cells[Cell.STATE] = WorkerState.READY
    return page


def test_a_worker_is_not_a_sibling_of_its_own(board: Scoreboard) -> None:
    own = ready(board, 1)
    # Its threads have not begun any of the requests that it has: the page shows room.
    assert not board.has_room(THREADS, CONNECTIONS, own.index)
    other = ready(board, 2)
    assert board.has_room(THREADS, CONNECTIONS, own.index)
    assert board.has_room(THREADS, CONNECTIONS, other.index)


@pytest.mark.parametrize(("cell", "value"), [(Cell.RUNNING, THREADS), (Cell.CONNECTIONS, CONNECTIONS)])
def test_nor_has_a_sibling_room_that_is_full(board: Scoreboard, cell: Cell, value: int) -> None:
    own, other = ready(board, 1), ready(board, 2)
    other.cells[cell] = value - 1
    assert board.has_room(THREADS, CONNECTIONS, own.index)
    other.cells[cell] = value
    assert not board.has_room(THREADS, CONNECTIONS, own.index)
