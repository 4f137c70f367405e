"""Whether a worker keeps connections behind their responses, now: the one place in Python that says so.

What client and application want, the response knows. The compiled fast path asks the worker's page the same.
"""

import math
from collections.abc import Sequence

from wsgicluster.ipc.scoreboard import Cell, WorkerState

_STATE, _READY = int(Cell.STATE), int(WorkerState.READY)


class KeepAlive:
    """The rule of one worker, which shows its state in the ``cells`` of its page.

    A worker that leaves, or leaves new clients to siblings, keeps none, and neither does any worker without
    ``keepalive_s`` or behind a request that has taken ``slow_s``: a client that connects anew may find a sibling.
    """

    __slots__ = ("_cells", "_quick_s")

    def __init__(self, cells: Sequence[int], keepalive_s: float, slow_s: float = math.inf) -> None:
        self._cells = cells
        self._quick_s = slow_s if keepalive_s > 0 else 0.0

    def allows(self, ran_s: float = 0.0) -> bool:
        """Whether a connection may be kept whose request has run for so long."""
        return ran_s < self._quick_s and self._cells[_STATE] == _READY
