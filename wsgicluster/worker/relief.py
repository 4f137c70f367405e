"""A thread beside a sync worker's only one, so that a slow request keeps no other client of the worker waiting.

While the application runs for longer than a moment, the connections on which something has come meanwhile are
given to siblings. The thread looks from time to time while there are requests, and sleeps while there are none.
"""

import signal
import time
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable

from wsgicluster.scoreboard import Cell, Page
from wsgicluster.worker.loop import Loop, do_nothing

PATIENCE_S = 0.005
"""A request that takes longer is slow: others do not wait for it."""

LOOK_S = 0.01

END_S = 0.1
"""How long a signal handler waits for the thread; what it has interrupted may hold the lock itself."""

_STARTED, _REQUESTS = int(Cell.STARTED), int(Cell.REQUESTS)


class ToldLoop(Loop):
    """A loop that calls ``told`` when something has come, while ``tells`` is set; ``waits`` says that it waits now."""

    def __init__(self, page: Page, beat_s: float) -> None:
        super().__init__(page, beat_s)
        self.tells = self.waits = False
        self.told: Callable[[], object] = do_nothing
        self._poll = self._wait

    def _wait(self, timeout_s: float | None, most: int) -> list[tuple[int, int]]:
        self.waits = True
        events = self._epoll.poll(timeout_s, most)
        self.waits = False
        if self.tells and events:
            self.told()
        return events


class Relief:
    """The thread, once there is one, and what it and the worker's own agree on.

    ``relieve`` is called in the thread, while the application has the other one: nothing of the worker's changes
    before it returns. While the thread rests the loop ``tells``, and `wake` is to be called.
    """

    def __init__(self, page: Page, loop: ToldLoop, relieve: Callable[[], object]) -> None:
        self.begun = False
        self._loop = loop
        self._lock = allocate_lock()
        self._floats = page.floats
        self._cells = page.cells
        self._relieve = relieve
        self._gate = allocate_lock()
        self._gate.acquire()
        loop.tells = True

    def wake(self) -> None:
        """There is work; called by the worker's own thread, between two requests."""
        self._loop.tells = False
        if self.begun:
            if self._gate.locked():
                self._gate.release()
            return
        self.begun = True
        # A signal that went to this thread would not interrupt what the other one waits for.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            start_new_thread(self._run, ())
        except RuntimeError:
            pass  # the system has no room for one: requests wait for each other, as in the only worker of a server
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def over(self) -> None:
        """The request has run; said instead of writing it on the page, once there is the thread."""
        with self._lock:
            self._floats[_STARTED] = 0.0

    def end(self) -> None:
        """Relieve nobody any more; may be called from a signal handler."""
        mine = self._lock.acquire(timeout=END_S)
        self._relieve = do_nothing
        if mine:
            self._lock.release()

    def _run(self) -> None:
        while True:
            served = self._cells[_REQUESTS]
            time.sleep(LOOK_S)
            if self._floats[_STARTED]:
                self._look()
            elif served == self._cells[_REQUESTS]:
                self._loop.tells = True
                # What came before that was said has woken nobody.
                if self._loop.waits:
                    self._gate.acquire()
                self._loop.tells = False

    def _look(self) -> None:
        with self._lock:
            started = self._floats[_STARTED]
            if started and time.monotonic() - started > PATIENCE_S:
                self._relieve()
