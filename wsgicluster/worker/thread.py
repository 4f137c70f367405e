"""The gthread worker: the application runs in threads of a pool, the loop stays in the main one.

A thread sees only complete requests. It serves one after the other as long as there are any, so that quick ones
cost no change of threads; another one is woken whenever requests still wait, and runs as soon as the first one waits
for something.
"""

import os
import select
import sys
import threading
from _thread import LockType, allocate_lock
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, Generic, TypeVar

from wsgicluster.scoreboard import Page
from wsgicluster.worker.concurrent import ConcurrentWorker, SharedLoop, reraise
from wsgicluster.worker.connection import Connection
from wsgicluster.worker.cycle import Cycle
from wsgicluster.worker.loop import READ
from wsgicluster.worker.seats import Running, Seat, stack_text
from wsgicluster.worker.shared import Sharing
from wsgicluster.wsgi.response import Response

Item = TypeVar("Item")

IDLE_S = 20.0
"""A thread without work for this long ends, unless it is the only one without."""


class ThreadedLoop(SharedLoop):
    """A loop that other threads may wake."""

    def __init__(self, page: Page, beat_s: float) -> None:
        super().__init__(page, beat_s)
        self._asleep = False
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        # Each ring is an edge of its own, and needs no reading.
        self.add(self._bell, _rung, READ | select.EPOLLET)
        self._poll = self._sleep

    def _sleep(self, timeout_s: float | None, most: int) -> list[tuple[int, int]]:
        self._asleep = True
        if self.soon:  # from now on whoever adds something rings
            timeout_s = 0
        if self.occupied:
            self.beat(monotonic())
        events = self._epoll.poll(timeout_s, most)
        self._asleep = False
        return events

    def wake(self) -> None:
        """End the wait, from any thread."""
        if self._asleep:
            self._asleep = False
            os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        """Give the descriptors back."""
        super().close()
        os.close(self._bell)


class ThreadSeat(Seat):
    """The seat of one thread; what is counted together is behind a lock."""

    def __init__(self, cycle: Cycle, running: Running, lock: LockType) -> None:
        super().__init__(cycle, running)
        self._counters = lock

    def record(self, response: Response, snapshot: dict[str, Any] | None, line: bytes) -> None:
        """Count and log a request whose response is done with, however it went."""
        with self._counters:
            super().record(response, snapshot, line)


class Pool(Generic[Item]):
    """Threads that take items from one queue; at most ``most``, made when needed, ended after ``idle_s`` without work.

    One stays: to wait without a limit costs less, and a worker with little to do needs no other.

    ``begin`` is called in each new thread and answers what serves an item; ``rested`` is called in a thread
    that has found nothing more to do.
    """

    def __init__(
        self,
        most: int,
        begin: Callable[[], Callable[[Item], object]],
        rested: Callable[[], object],
        idle_s: float = IDLE_S,
    ) -> None:
        self.waiting: deque[Item] = deque()
        self.threads = 0
        self._most = most
        self._idle_s = idle_s
        self._begin = begin
        self._rested = rested
        self._idle: list[LockType] = []
        self._lock = allocate_lock()
        self._rousing = False
        """A thread has been woken and has not looked at the queue yet: it will see all that is there."""

    def put(self, item: Item) -> None:
        """Have a thread serve an item."""
        self.waiting.append(item)
        if not self._rousing:
            self._rouse()

    def withdraw(self, unwanted: Callable[[Item], bool]) -> list[Item]:
        """Take back what no thread has taken: the oldest items, as long as they are unwanted."""
        found: list[Item] = []
        waiting = self.waiting
        try:
            while unwanted(waiting[0]):
                item = waiting.popleft()
                if not unwanted(item):
                    # A thread was quicker, and this is the one behind.
                    waiting.appendleft(item)
                    self._rouse()
                    break
                found.append(item)
        except IndexError:
            pass  # that was the last one
        return found

    def _rouse(self) -> None:
        with self._lock:
            if self._rousing or not self.waiting:
                return
            if self._idle:
                # The one that was busy last: its memory is warm, and those behind it may end.
                self._rousing = True
                self._idle.pop().release()
            elif self.threads < self._most:
                self._rousing = True
                self.threads += 1
                self._start()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name=f"wsgicluster-request-{self.threads}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # The system has no room for one more: those that are there have to do.
            self._rousing = False
            self.threads -= 1
            if not self.threads:
                raise

    def _run(self) -> None:
        serve = self._begin()
        waiting = self.waiting
        sleeper = allocate_lock()
        sleeper.acquire()
        self._rousing = False
        while True:
            try:
                item = waiting.popleft()
            except IndexError:
                if self._rest(sleeper):
                    continue
                return
            if waiting and not self._rousing:
                self._rouse()
            serve(item)
            del item  # it shall not live as long as the thread has nothing else to do

    def _rest(self, sleeper: LockType) -> bool:
        """Wait for work; False when there has been none for long, and the thread is to end."""
        with self._lock:
            if self.waiting:
                return True
            limit_s = self._idle_s if self._idle else -1  # none
            self._idle.append(sleeper)
        self._rested()
        if not sleeper.acquire(True, limit_s):
            with self._lock:
                if sleeper in self._idle:
                    self._idle.remove(sleeper)
                    self.threads -= 1
                    return False
            sleeper.acquire()  # woken at the last moment
        self._rousing = False
        return True


class ThreadWorker(ConcurrentWorker):
    """A loop and a pool of threads."""

    loop_class = ThreadedLoop
    loop: ThreadedLoop

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._counters = allocate_lock()
        self._pool = Pool(self.settings.threads, self._begin, self._rested)
        self.capacity = self.places = self.settings.threads

    def submit(self, connection: Sharing) -> None:
        """Put the connection into the queue of the threads."""
        self._pool.put(connection)

    def queued(self) -> int:
        """Requests that no thread has taken yet."""
        return len(self._pool.waiting)

    def withdraw(self, unwanted: Callable[[Connection], bool]) -> list[Connection]:
        """Take the oldest out of the queue, as long as they are unwanted."""
        return [*self._pool.withdraw(unwanted)]

    def has_room(self) -> bool:
        """Whether a new connection would be served without having to wait for others."""
        return len(self.running.seats) + len(self._pool.waiting) < self.capacity

    def _rested(self) -> None:
        # What else a turn of the loop would do has time until the next request, or until the loop looks by itself.
        if self._access is not None or self._aside or self.crowded:
            self.loop.wake()

    def _begin(self) -> Callable[[Sharing], object]:
        seat = ThreadSeat(self.cycle, self.running, self._counters)

        def serve(connection: Sharing) -> None:
            try:
                left = connection.settle(self.answer(seat, connection))
            except BaseException as error:  # noqa: BLE001
                # A fault of our own, which the application's boundary has not met: it ends the worker, as in the loop.
                left = partial(reraise, error)
            if left is not None:
                self.call_soon(left)
            elif self.crowded:
                self.loop.wake()

        return serve if self.admission is None else self.admission.guard(serve)  # type: ignore[arg-type]

    def stack_of(self, seat: Seat) -> str:
        """The stack of the thread that runs the seat's request."""
        assert isinstance(seat, ThreadSeat)
        return stack_text(sys._current_frames().get(seat.thread_id))


def _rung(_events: int) -> None:
    """The loop is awake: that was all."""
