"""The scheduling policy on the server's page."""

import threading
from collections.abc import Iterator

import pytest

from wsgicluster.ipc.scheduling import MOST_WEIGHTS, Scheduling, load_scheduling, store_scheduling
from wsgicluster.ipc.scoreboard import Cell, Scoreboard


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    made = Scoreboard(None, 1)
    yield made
    made.close()


def test_where_nothing_was_written_no_policy_is_asked(board: Scoreboard) -> None:
    assert load_scheduling(board.server) == Scheduling("shared")


@pytest.mark.parametrize(
    "wanted",
    [
        Scheduling("weighted", (3, 0, 1000)),
        Scheduling("least-connections", tuple(range(MOST_WEIGHTS))),
        Scheduling("sticky", (), "header", "X" * 200),
    ],
)
def test_what_is_written_is_read(board: Scoreboard, wanted: Scheduling) -> None:
    store_scheduling(board.server, Scheduling("sticky", (1,) * MOST_WEIGHTS, "cookie", "longer than the next one"))
    store_scheduling(board.server, wanted)
    assert load_scheduling(board.server) == wanted
    assert board.server.cells[Cell.SCHEDULING_SERIAL] == 4


def test_a_reader_waits_for_the_end_of_a_change(board: Scoreboard) -> None:
    store_scheduling(board.server, Scheduling("weighted", (1, 2)))
    board.server.cells[Cell.SCHEDULING_SERIAL] += 1
    found: list[Scheduling] = []
    reader = threading.Thread(target=lambda: found.append(load_scheduling(board.server)))
    reader.start()
    reader.join(0.05)
    assert not found
    board.server.cells[Cell.SCHEDULING_SERIAL] += 1
    reader.join(10)
    assert found == [Scheduling("weighted", (1, 2))]
