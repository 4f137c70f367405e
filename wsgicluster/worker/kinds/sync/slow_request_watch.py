"""Waits until something has come for a sync worker whose request is slow; compiled where that was built.

A client that speaks while a request runs may be waiting for a quick one only. So the next look is due when that request
would have become slow, until nothing is left waiting; under steady load from quick requests, where something always
waits, less and less often. Compiled, to look takes some microseconds of another processor's time. In plain Python the
thread that serves requests has to wait for the one that looks.
"""

import select
from collections.abc import Callable
from time import monotonic, sleep  # gevent, should an application patch this process, replaces the module's

from wsgicluster.http import core
from wsgicluster.ipc.scoreboard import Cell, Page
from wsgicluster.worker.intake.policy import LONGEST_LOOK_S
from wsgicluster.worker.kinds.sync.notifying_loop import NotifyingLoop

_STARTED, _REQUESTS = int(Cell.STARTED), int(Cell.REQUESTS)


class LookPlan:
    """When to look again at a worker for which something waits, and that has run ``requests`` so far.

    Times in seconds of the monotonic clock.
    """

    def __init__(self, slow_s: float, requests: int) -> None:
        self._slow_s = slow_s
        self._next_s = slow_s
        self._requests = requests
        self._looked_at = 0.0

    def pause_s(self, started: float, requests: int, now: float) -> float:
        """For how long to leave it alone: until its request would be slow; 0.0 when that is slow already.

        The request that runs began at ``started`` (0.0: none runs now), and ``requests`` have ended so far. Where more
        of them end than would be slow ones in the same time, the pauses become longer.
        """
        pause_s = started + self._slow_s - now if started else self._slow_s
        if pause_s <= 0.0:
            return 0.0
        if (requests - self._requests) * self._slow_s >= now - self._looked_at:
            pause_s, self._next_s = self._next_s, min(2 * self._next_s, LONGEST_LOOK_S)
        else:
            self._next_s = self._slow_s
        self._requests, self._looked_at = requests, now
        return pause_s


def python_wait_for_slow(
    overflow: select.epoll, loop: NotifyingLoop, page: Page, slow_s: float, wait_s: float | None
) -> float:
    """Wait until something waits for a request that has run for ``slow_s``; returns when that began.

    First for as long as ``overflow`` has nothing to tell of ``loop``, or ``wait_s``, and then for as long as requests
    are quick. It may return 0.0 where none runs. Raises ValueError or OSError once the epolls are closed.
    """
    floats, cells = page.floats, page.cells
    plan = LookPlan(slow_s, cells[_REQUESTS])
    while True:
        overflow.poll(wait_s)
        wait_s = None
        idle_at = -1
        while True:
            started, ended = floats[_STARTED], cells[_REQUESTS]
            idle = not started and not loop.has_ready()
            # Twice, with no request between: the next one may have been received that is not on the page yet.
            if idle and ended == idle_at:
                break
            idle_at = ended if idle else -1
            pause_s = plan.pause_s(started, ended, monotonic())
            if pause_s <= 0.0:
                return started
            sleep(pause_s)


wait_for_slow: Callable[[select.epoll, NotifyingLoop, Page, float, float | None], float] = python_wait_for_slow

if core.compiled:
    from wsgicluster.worker.kinds.sync import _slow_request_watch

    wait_for_slow = _slow_request_watch.wait_for_slow
