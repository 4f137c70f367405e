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
from collections.abc import Callable, Sized
from functools import partial
from time import monotonic
from typing import Any, Generic, TypeVar

from wsgicluster.ipc.scoreboard import Cell, Page
from wsgicluster.settings.types.worker import KINDS
from wsgicluster.worker.connection.offloaded import OffloadedConnection
from wsgicluster.worker.connection.states import ConnectionState
from wsgicluster.worker.context import WorkerContext
from wsgicluster.worker.kinds.offloading import OffloadedLoad, Offloading
from wsgicluster.worker.kinds.parts import KindParts, RunnerParts
from wsgicluster.worker.kinds.request_timeouts import RequestCalls, SharedLoop
from wsgicluster.worker.loop.loop import READ
from wsgicluster.worker.request.cycle import Cycle, Outcome
from wsgicluster.worker.request.in_flight import RequestRunner, RequestsInFlight, stack_text
from wsgicluster.worker.runner import KindRunner
from wsgicluster.wsgi.response import Response

Item = TypeVar("Item")

_QUEUED = int(Cell.QUEUED)

THREAD_NAMES = "wsgicluster-request-"
"""How the names of all begin that run requests."""

END_S = 2.0
"""How long is waited for their end where a mold is to be forked: what the application keeps for them is released."""

IDLE_S = 20.0
"""A thread without work for this long ends, unless it is the only one without."""


class ThreadedLoop(SharedLoop):
    """A loop that other threads may wake."""

    def __init__(self, page: Page, beat_s: float) -> None:
        super().__init__(page, beat_s)
        self._asleep = False
        self.queue: Sized = ()
        """The requests that wait for a thread, for the page."""
        self._cells = page.cells
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        # Each ring is an edge of its own, and needs no reading.
        self.add(self._bell, _rung, READ | select.EPOLLET)
        self._poll = self._sleep

    def _sleep(self, timeout_s: float | None, most: int) -> list[tuple[int, int]]:
        self._asleep = True
        self._cells[_QUEUED] = len(self.queue)
        if self.soon:  # from now on a thread that adds something rings
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

    def descriptors(self) -> frozenset[int]:
        """All that are its own."""
        return super().descriptors() | {self._bell}

    def close(self) -> None:
        """Close the descriptors."""
        super().close()
        os.close(self._bell)


class ThreadRequestRunner(RequestRunner):
    """The runner of one thread; what is counted together is behind a lock."""

    def __init__(self, cycle: Cycle, running: RequestsInFlight, lock: LockType) -> None:
        super().__init__(cycle, running)
        self._counters = lock

    def add(self, cell: int) -> None:
        """Add one to a counter on the page."""
        with self._counters:
            super().add(cell)

    def record(self, response: Response, snapshot: dict[str, Any] | None, line: bytes) -> None:
        """Count and log a request whose response is done with, however it went."""
        with self._counters:
            super().record(response, snapshot, line)


class ThreadPool(Generic[Item]):
    """Threads that take items from one queue; at most ``most``, made when needed, ended after ``idle_s`` without work.

    One stays: to wait without a limit costs less, and a worker with little to do needs no other.

    ``begin`` is called in each new thread and returns what serves an item; ``rested`` is called in a thread
    that has found nothing more to do. ``interrupted`` is called with an exception that is none of ours, and with the
    item that the thread had or None; it returns whether that is still to be served.
    """

    def __init__(
        self,
        most: int,
        begin: Callable[[], Callable[[Item], object]],
        rested: Callable[[], object],
        idle_s: float = IDLE_S,
        interrupted: Callable[[Item | None], bool] = bool,
    ) -> None:
        self.waiting: deque[Item] = deque()
        self.threads = 0
        self._most = most
        self._idle_s = idle_s
        self._begin = begin
        self._rested = rested
        self._interrupted = interrupted
        self._idle: list[LockType] = []
        self._lock = allocate_lock()
        self._made: list[threading.Thread] = []
        self._ended = False
        self._rousing = False
        """A thread has been woken and has not looked at the queue yet: it will see all that is there."""

    def put(self, item: Item) -> None:
        """Have a thread serve an item."""
        self.waiting.append(item)
        if not self._rousing:
            self._rouse()

    def end(self, limit_s: float) -> None:
        """End all threads that have nothing to do, and wait for that, but not for longer."""
        with self._lock:
            self._ended = True
            idle, self._idle = self._idle, []
            for sleeper in idle:
                sleeper.release()
        until = monotonic() + limit_s
        for thread in self._made:
            thread.join(max(0.0, until - monotonic()))

    def withdraw(self, unwanted: Callable[[Item], bool]) -> list[Item]:
        """Return what no thread has taken, and forget it: the oldest items, as long as they are unwanted."""
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
        thread = threading.Thread(target=self._run, name=f"{THREAD_NAMES}{self.threads}", daemon=True)
        self._made = [*filter(threading.Thread.is_alive, self._made), thread]
        try:
            thread.start()
        except RuntimeError:
            self._made.remove(thread)
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
        item: Item | None = None
        while True:
            try:
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
                    item = None  # it shall not live as long as the thread has nothing else to do
            except BaseException:  # noqa: BLE001
                # Raised here by another thread (PyThreadState_SetAsyncExc), too late for the request it was meant for.
                self._recover(sleeper, item)
                item = None

    def _recover(self, sleeper: LockType, item: Item | None) -> None:
        """In an `except`: have everything as it is before a thread looks at the queue."""
        with self._lock:
            if sleeper in self._idle:
                self._idle.remove(sleeper)
            sleeper.acquire(False)  # it may have been released to wake this thread
            self._rousing = False
            if self._interrupted(item) and item is not None:
                self.waiting.appendleft(item)

    def _rest(self, sleeper: LockType) -> bool:
        """Wait for work; False when there has been none for long, and the thread is to end."""
        with self._lock:
            if self.waiting:
                return True
            if self._ended:
                self.threads -= 1
                return False
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


class ThreadOffloading(Offloading):
    """Runs requests in a pool of threads."""

    loop: ThreadedLoop

    def __init__(self, context: WorkerContext, parts: RunnerParts) -> None:
        loop, threads = context.loop, context.settings.threads
        assert isinstance(loop, ThreadedLoop), "as the kind says"
        self._pool = ThreadPool(threads, self._begin, self._rested, interrupted=self._interrupted)
        load = OffloadedLoad(context.page, threads, self._pool)
        super().__init__(context, parts, loop, load, RequestCalls(stack_of))
        self._context = context
        self._cells = context.page.cells
        self._cells[Cell.THREADS] = threads
        loop.queue = self._pool.waiting
        self._offers_logs = context.logs.access is not None
        self._counters = allocate_lock()
        self.submit = self._pool.put  # type: ignore[method-assign,assignment]  # called for each request: nothing in between

    def end_threads(self) -> None:
        """What the application keeps for each of them is released with them, such as connections to a database."""
        self._pool.end(END_S)

    def _rested(self) -> None:
        self._cells[_QUEUED] = len(self._pool.waiting)
        # What else a turn of the loop would do has time until the next request, or until the loop looks by itself.
        if self._offers_logs or self.load.room_awaited:
            self.loop.wake()

    def _interrupted(self, connection: OffloadedConnection | None) -> bool:
        self._context.log.error(
            "worker %d: an exception was raised in a thread outside of its request; the worker keeps serving",
            self._context.slot,
            exc_info=sys.exc_info(),
        )
        return connection is not None and connection.waits_for_turn

    def _outside(self, runner: ThreadRequestRunner, connection: OffloadedConnection) -> Callable[[], object] | None:
        """In an `except`: the application's boundary has not met the exception, which is another thread's or ours."""
        if self._interrupted(connection):
            return partial(self._pool.put, connection)
        if runner in self.load.running:
            self.load.running.end(runner)
        # How much of the response has been sent is not known, unless the connection reads again already.
        return partial(connection.finished, Outcome.ABORT) if connection.state is ConnectionState.RUNNING else None

    def _begin(self) -> Callable[[OffloadedConnection], object]:
        runner = ThreadRequestRunner(self._parts.cycle, self.load.running, self._counters)
        answer, load = self.answer, self.load

        def serve(connection: OffloadedConnection) -> None:
            try:
                left = connection.settle(self.variables.copy().run(answer, runner, connection))
            except BaseException:  # noqa: BLE001
                left = self._outside(runner, connection)
            if left is not None:
                self.loop.call_soon(left)
            elif load.room_awaited:
                self.loop.wake()

        return serve if self.admission is None else self.admission.guard(serve)  # type: ignore[arg-type]


def stack_of(runner: RequestRunner) -> str:
    """The stack of the thread that runs a runner's request."""
    return stack_text(sys._current_frames().get(runner.thread_id))


def thread_runner(context: WorkerContext, parts: RunnerParts) -> KindRunner:
    """What gthread gives to one worker."""
    return ThreadOffloading(context, parts).offered()


def _rung(_events: int) -> None:
    """The loop is awake: that was all."""


PARTS = KindParts(
    row=KINDS["gthread"],
    loop=ThreadedLoop,
    connection=OffloadedConnection,
    runner=thread_runner,
    thread_names=THREAD_NAMES,
)
