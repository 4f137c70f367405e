"""The worker's event loop: descriptors, deadlines, calls at a time, and the beat.

The beat deadline stands on the scoreboard while the loop works and is taken off
while it only waits, so that a worker without work is never suspected and never
wakes to say that it lives. The loop does not know what its handlers do.
"""

import heapq
import itertools
import select
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from wsgicluster.ipc.scoreboard import Cell, Page
from wsgicluster.worker.loop.deadlines import Deadlines, Watched

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
EXCLUSIVE_READ = select.EPOLLIN | select.EPOLLEXCLUSIVE

_DEADLINE = int(Cell.DEADLINE)
# As it is now: gevent takes the name out of its module.
new_epoll = select.epoll


class Batch(Protocol):
    """Somebody who does better when told that several descriptors are ready."""

    def begin_batch(self, count: int) -> None:
        """The handlers of ``count`` descriptors are called next."""

    def end_batch(self) -> None:
        """They have been called."""


class Loop:
    """One epoll and everything that waits on it.

    ``now`` is the monotonic time at which the current turn began. A handler in ``soon`` is called in the
    next turn, one in ``last`` at the end of the current one.
    """

    most_events = 256
    """Descriptors that are looked at in one turn."""

    def __init__(self, page: Page, beat_s: float) -> None:
        self.now = time.monotonic()
        self.soon: deque[Callable[[], object]] = deque()
        self.last: list[Callable[[], object]] = []
        self.deadlines = Deadlines()
        self.batch: Batch | None = None
        self._beat_s = beat_s
        self._floats = page.floats
        self._epoll = new_epoll()
        # Others may wait in another way, or say something before they do.
        self._poll: Callable[[float | None, int], list[tuple[int, int]]] = self._epoll.poll
        self._handlers: dict[int, Callable[[int], object]] = {}
        self._calls: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._looked_at = 0
        """Descriptors that have been ready since the last turn that had room for more."""

    def descriptors(self) -> frozenset[int]:
        """All that are its own."""
        return frozenset((self._epoll.fileno(),))

    def fileno(self) -> int:
        """The epoll's descriptor."""
        return self._epoll.fileno()

    def close(self) -> None:
        """Give the epoll's descriptor back."""
        self._epoll.close()

    def add(self, descriptor: int, handler: Callable[[int], object], events: int = READ) -> None:
        """Call ``handler(events)`` whenever the descriptor is ready."""
        self._epoll.register(descriptor, events)
        self._handlers[descriptor] = handler

    def change(self, descriptor: int, events: int) -> None:
        """Wait for other events."""
        self._epoll.modify(descriptor, events)

    def remove(self, descriptor: int) -> None:
        """Wait for the descriptor no more; it must still be open."""
        del self._handlers[descriptor]
        self._epoll.unregister(descriptor)

    def ready(self, most: int) -> list[Callable[[int], object]]:
        """The handlers of descriptors that are ready; for another thread, while nobody waits or turns."""
        return [self._handlers[found] for found, _ in self._epoll.poll(0, most) if found in self._handlers]

    def call_at(self, moment: float, call: Callable[[], object]) -> None:
        """Call once at a moment of the monotonic clock."""
        heapq.heappush(self._calls, (moment, next(self._order), call))

    def call_soon(self, call: Callable[[], object]) -> None:
        """Call once in the next turn; from whatever thread or greenlet, where the loop can be woken by one."""
        self.soon.append(call)

    def beat(self, now: float) -> None:
        """Put the beat deadline off: work has begun at ``now``."""
        if self._beat_s:
            self._floats[_DEADLINE] = now + self._beat_s

    def turn(self, expire: Callable[[Watched], object]) -> None:
        """Wait until there is something to do and do it; ``expire`` is called for each item past its deadline."""
        timeout = 0 if self.soon else self._wait_s()
        self._floats[_DEADLINE] = 0.0
        most = self.most_events
        events = self._poll(timeout, most)
        self.now = now = time.monotonic()
        self.beat(now)
        handlers = self._handlers
        waiting = len(self.soon)
        batch = self.batch if len(events) > 1 else None
        if batch is not None:
            batch.begin_batch(len(events))
        for descriptor, mask in events:
            # An earlier handler of this turn may have closed a later one's descriptor.
            if handler := handlers.get(descriptor):
                handler(mask)
        if batch is not None:
            batch.end_batch()
        for _ in range(waiting):
            self.soon.popleft()()
        if len(events) == most:
            self._looked_at += most
        # A client that has sent in time but stands behind the last event has not been served yet. The kernel shows
        # those who are ready in turn.
        if len(events) < most or self._looked_at > len(handlers):
            self._looked_at = 0
            if self._calls or self.deadlines.next() is not None:
                self._expire(now, expire)
        if self.last:
            calls, self.last = self.last, []
            for call in calls:
                call()

    def _wait_s(self) -> float | None:
        moment = self.deadlines.next()
        if self._calls and (moment is None or self._calls[0][0] < moment):
            moment = self._calls[0][0]
        return None if moment is None else max(0.0, moment - time.monotonic())

    def _expire(self, now: float, expire: Callable[[Watched], object]) -> None:
        while self._calls and self._calls[0][0] <= now:
            heapq.heappop(self._calls)[2]()
        for item in self.deadlines.due(now):
            expire(item)


def do_nothing() -> None:
    """A call for `Loop.call_at` that only wakes the loop."""
