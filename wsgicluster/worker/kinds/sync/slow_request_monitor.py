"""A thread beside a sync worker's only one, so that a slow request keeps no other client of the worker waiting.

It waits for input that comes while the loop does not wait for any, see `NotifyingLoop`: the kernel wakes it for that
and for nothing else. So it sleeps while the loop takes what comes, however many requests that are; and what has come
in the middle of a quick request costs no more than a look at it (`wait_for_slow`). While a request is slow each
further piece of input wakes it at once, and `WaitingClients` hands that connection off.

The worker's own thread does nothing for this in a request that is quick. Only one that the monitor has found to be
slow tells of its end (`SlowRequestMonitor.over`), and waits there for a hand-off that is under way.

Python runs one thread at a time: this one has its turn when the application waits, or after `SWITCH_S` of its Python
code. C code of the application that keeps Python's global lock keeps it from this thread, too.
"""

import select
import signal
import sys
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable
from time import monotonic

from wsgicluster.ipc.scoreboard import Cell, Page
from wsgicluster.system.threads import mark_as_own
from wsgicluster.worker.intake.policy import HAND_OFF_S, HANDED_OFF_AT_ONCE, Defer, PassOn
from wsgicluster.worker.kinds.sync.notifying_loop import NotifyingLoop
from wsgicluster.worker.kinds.sync.slow_request_watch import wait_for_slow
from wsgicluster.worker.kinds.sync.waiting_clients import WaitingClients

END_S = 0.1
"""How long a signal handler waits for the thread; what it has interrupted may hold the lock itself."""

RETRY_S = 0.02
"""How often it is tried again to hand off what no sibling could be given."""

DEFAULT_SWITCH_S = 0.005
"""How long Python lets a thread that computes continue while another one waits, unless that is changed."""

SWITCH_S = 0.0005
"""The same in a worker that has this thread."""

HURRIED_SWITCH_S = 0.00005
"""The same during a hand-off: each of its system calls lets the application have its turn."""

_STARTED = int(Cell.STARTED)


class SlowRequestMonitor:
    """The thread, once there is one, and what it and the worker's own agree on.

    ``tell_end(call)`` has ``call`` called at the end of the request that runs, in place of marking that on the page;
    with None nothing is called. While the thread holds the lock, and the request that it has found still runs,
    nothing of the worker's changes.
    """

    def __init__(
        self,
        page: Page,
        loop: NotifyingLoop,
        clients: WaitingClients,
        tell_end: Callable[[Callable[[], object] | None], object],
    ) -> None:
        self.begun = False
        self._loop = loop
        self._clients = clients
        self._tell_end = tell_end
        self._lock = allocate_lock()
        self._page = page
        self._floats = page.floats
        self._ended = False
        self._found = 0.0
        """When the request began that was the last to be found slow."""

    def begin(self) -> None:
        """Start the thread; called by the worker's own thread, between two requests."""
        try:
            overflow = self._loop.split()
        except OSError:
            return  # no descriptor is free: perhaps later
        self.begun = True
        self._clients.watch_anew()
        if sys.getswitchinterval() == DEFAULT_SWITCH_S:
            sys.setswitchinterval(SWITCH_S)
        # A signal that went to this thread would not interrupt what the other one waits for.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            start_new_thread(self._run, (overflow,))
        except RuntimeError:
            pass  # the system has no room for one: requests wait for each other, as in the only worker of a server
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def over(self) -> None:
        """The request has run that the thread has found to be slow."""
        with self._lock:
            self._floats[_STARTED] = 0.0
            self._tell_end(None)

    def undisturbed(self, call: Callable[[], object]) -> None:
        """Call while a request runs, in the worker's own thread, something that changes what the other one looks at."""
        with self._lock:
            call()

    def end(self) -> None:
        """Hand nothing off any more; may be called from a signal handler."""
        mine = self._lock.acquire(timeout=END_S)
        self._ended = True
        if mine:
            self._lock.release()

    def _run(self, overflow: select.epoll) -> None:
        mark_as_own()
        wait_s: float | None = None
        while not (self._ended or self._loop.closed):
            try:
                started = wait_for_slow(overflow, self._loop, self._page, HAND_OFF_S, wait_s)
            except (ValueError, OSError):
                return  # the loop has just been closed
            wait_s = self._attend(started) if started else 0.0

    def _attend(self, started: float) -> float | None:
        """Something waits for the slow request that began then: hand it off, if the policy says so.

        Returns when to look at it again although nothing more has come; None for never.
        """
        now = monotonic()
        decision = self._clients.decide(now)
        if not isinstance(decision, PassOn):
            return max(0.0, decision.until - now) if isinstance(decision, Defer) else RETRY_S
        # The order matters: from here on the request does not end without the lock, unless it has ended before.
        self._tell_end(self.over)
        interval_s = sys.getswitchinterval()
        sys.setswitchinterval(min(interval_s, HURRIED_SWITCH_S))
        try:
            return self._hand_off(started)
        finally:
            sys.setswitchinterval(interval_s)

    def _hand_off(self, started: float) -> float | None:
        # Not all at once: a request that ends does not wait for the hand-off of hundreds.
        looks = 1 + self._clients.count() // HANDED_OFF_AT_ONCE
        complete = True
        while looks > 0:
            with self._lock:
                if self._ended or self._floats[_STARTED] != started:
                    return 0.0
                if started != self._found:
                    self._clients.release_responses()
                found = self._clients.waiting()
                complete = self._clients.hand_off(found) and complete
                if started != self._found:
                    self._found = started
                    self._clients.leave_to_sibling()
            looks = looks - 1 if len(found) >= HANDED_OFF_AT_ONCE else 0
        return None if complete else RETRY_S
