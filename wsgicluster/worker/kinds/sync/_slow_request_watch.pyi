import select

from wsgicluster.ipc.scoreboard import Page
from wsgicluster.worker.kinds.sync.notifying_loop import NotifyingLoop

def wait_for_slow(
    overflow: select.epoll, loop: NotifyingLoop, page: Page, slow_s: float, wait_s: float | None
) -> float: ...
