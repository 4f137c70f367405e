"""Which workers keep connections."""

import math

import pytest

from wsgicluster.ipc.scoreboard import Cell, WorkerState
from wsgicluster.worker.connection.keep_alive import KeepAlive


@pytest.mark.parametrize("state", WorkerState)
@pytest.mark.parametrize(
    ("keepalive_s", "slow_s", "ran_s", "wanted"),
    [
        (75.0, math.inf, 0.0, True),
        (75.0, math.inf, 1e9, True),
        (75.0, 0.5, 0.4, True),
        (75.0, 0.5, 0.5, False),
        (0.0, math.inf, 0.0, False),
        (0.0, 0.5, 0.0, False),
    ],
)
def test_only_ready_workers_keep(
    state: WorkerState, keepalive_s: float, slow_s: float, ran_s: float, wanted: bool
) -> None:
    cells = [0] * (Cell.STATE + 1)
    keep_alive = KeepAlive(cells, keepalive_s, slow_s)
    cells[Cell.STATE] = state
    assert keep_alive.allows(ran_s) is (wanted and state is WorkerState.READY)
