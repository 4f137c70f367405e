"""What a worker without room leaves to its siblings, and to whom."""

import types
from collections.abc import Iterator
from typing import Any

import pytest

from wsgicluster.ipc.scoreboard import Cell, Page, Scoreboard, WorkerState
from wsgicluster.worker.intake.overflow import Overflow
from wsgicluster.worker.intake.policy import LEFT_S, SLOW_S, Snapshot

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


def overflow(board: Scoreboard, own: Page, siblings: int) -> Overflow:
    context: Any = types.SimpleNamespace(
        assignment=types.SimpleNamespace(board=board), page=own, siblings_ready=lambda: siblings
    )
    unused: Any = None
    return Overflow(context, unused, unused)


def test_what_would_wait_for_a_slow_request_is_left_to_a_sibling_that_is_busy(board: Scoreboard) -> None:
    """It has a moment: a connection that has been passed on is not passed on again."""
    own, other = ready(board, 1), ready(board, 2)
    other.cells[Cell.RUNNING] = 1
    left = overflow(board, own, siblings=1)
    full = Snapshot(now=10.0, running=1, capacity=1, oldest_s=SLOW_S)
    assert left.is_better_elsewhere(full)
    assert not left.is_for_others(full), "a new client may still be passed on"
    assert left.is_better_elsewhere(full._replace(now=10.0 + LEFT_S / 2))
    assert not left.is_better_elsewhere(full._replace(now=10.0 + LEFT_S)), "the sibling has had its time"


def test_it_is_taken_where_it_does_not_wait_for_long(board: Scoreboard) -> None:
    own, other = ready(board, 1), ready(board, 2)
    other.cells[Cell.RUNNING] = 1
    slow = Snapshot(now=10.0, running=1, capacity=1, oldest_s=SLOW_S)
    assert not overflow(board, own, siblings=1).is_better_elsewhere(slow._replace(oldest_s=SLOW_S / 2))
    assert not overflow(board, own, siblings=1).is_better_elsewhere(slow._replace(capacity=2))
    assert not overflow(board, own, siblings=0).is_better_elsewhere(slow), "there is no one else"
