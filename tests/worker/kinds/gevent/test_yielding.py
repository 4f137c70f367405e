"""Who of several workers takes new work: counted on the scoreboard."""

from wsgicluster.ipc.scoreboard import Cell, Scoreboard, WorkerState


def test_only_ready_workers_count_and_only_those_that_have_served_less() -> None:
    board = Scoreboard(None)
    states = [(WorkerState.READY, 10), (WorkerState.READY, 60), (WorkerState.HELD, 5), (WorkerState.BOOTING, 0)]
    for slot, (state, requests) in enumerate(states, 1):
        page = board.take(slot=slot, generation=1)
        page.cells[Cell.STATE] = state
        page.cells[Cell.REQUESTS] = requests
    board.server.cells[Cell.REQUESTS] = 1
    assert board.ready_workers() == 2
    assert board.ready_workers(60) == 1
    assert board.ready_workers(61) == 2
    assert board.ready_workers(10) == 0
    board.close()
