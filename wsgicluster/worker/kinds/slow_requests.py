"""Requests that take long are logged while they run, with their stack: what they wait for is seen then and never later.

The kinds whose loop turns meanwhile look from there. A sync worker's loop does not; a thread looks in its place, which
sleeps otherwise, and which is there only where such requests are to be logged.
"""

import logging
import signal
import sys
from _thread import allocate_lock, get_ident, start_new_thread
from collections.abc import Callable, Collection
from time import monotonic

from wsgicluster.ipc.scoreboard import Page
from wsgicluster.system.threads import mark_as_own
from wsgicluster.worker.request.in_flight import RequestRunner, stack_text

LOOKS = 4
"""So many times in the time after which a request is slow it is looked for."""

LEAST_LOOK_S = 0.05


def look_s(slow_s: float) -> float:
    """How often to look for requests that have run for so long."""
    return max(LEAST_LOOK_S, slow_s / LOOKS)


class SlowRequests:
    """Says of each request that it is slow, once; ``slow_s`` is from when on."""

    def __init__(self, slow_s: float, slot: int, log: logging.Logger) -> None:
        self._slow_s = slow_s
        self._slot = slot
        self._log = log
        self._said: dict[RequestRunner, float] = {}
        """When those began that have been reported and may still run."""

    def look(self, running: Collection[RequestRunner], now: float, stack_of: Callable[[RequestRunner], str]) -> None:
        """Report those of several requests that have become slow."""
        for runner in running:
            started = runner.started
            took_s = now - started - runner.waited_s(now)
            if took_s >= self._slow_s and self._said.get(runner) != started:
                self._said[runner] = started
                self.say(runner.line, runner.client, took_s, stack_of(runner))
        if len(self._said) > len(running):
            self._said = {runner: started for runner, started in self._said.items() if runner in running}

    def say(self, line: bytes, client: bytes, took_s: float, stack: str) -> None:
        """Log one request."""
        self._log.warning(
            "worker %d: slow request: %s from %s has run for %.1f s, and still runs\n%s",
            self._slot, line.decode("latin-1")[:512], client.decode("latin-1"), took_s, stack,
        )  # fmt: skip


class SlowRequestThread:
    """Looks for slow requests of the thread that calls `begin`, which runs one at a time and shows it on ``page``."""

    def __init__(self, slow_s: float, page: Page, requests: SlowRequests) -> None:
        self._slow_s = slow_s
        self._page = page
        self._requests = requests
        self._looked_at = 0
        self._said = 0.0
        self._end = allocate_lock()

    def begin(self) -> None:
        """Start the thread; called by the one that runs requests."""
        self._looked_at = get_ident()
        self._end.acquire()
        # A signal that went to this thread would not interrupt what the other one waits for.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            start_new_thread(self._run, ())
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def end(self) -> None:
        """End the thread."""
        self._end.release()

    def look(self, now: float) -> None:
        """Report the request that runs, if it has become slow."""
        facts = self._page.facts()
        started = facts.started
        if not started or now - started < self._slow_s or started == self._said:
            return
        frame = sys._current_frames().get(self._looked_at)
        text = stack_text(frame)
        if self._page.facts().started != started:
            return  # over meanwhile: the stack may be that of the next one
        self._said = started
        self._requests.say(facts.request_line.encode("latin-1"), facts.client.encode("latin-1"), now - started, text)

    def _run(self) -> None:
        mark_as_own()
        pause_s = look_s(self._slow_s)
        while not self._end.acquire(True, pause_s):
            self.look(monotonic())
