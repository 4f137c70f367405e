"""Work that one process does for all: once in each generation of workers, or every so many seconds.

A lock says who does it, and a row in the store what was done; the death of the process that does it frees the lock.
"""

import logging
import math
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable

from wsgicluster.cluster.errors import BusDown, ClusterError, LockLost, NotInCluster
from wsgicluster.cluster.state.backend import Backend, backend
from wsgicluster.cluster.state.locks import Lock, named_lock
from wsgicluster.cluster.values.payload import Json
from wsgicluster.cluster.values.stored_values import Stored, decode, encode
from wsgicluster.ipc import membership
from wsgicluster.ipc.messages import ChannelClosed, RecycleWanted
from wsgicluster.ipc.scoreboard import Cell, WorkerState

INTERNAL = "i:"
"""What our own keys and locks begin with; those of the application begin with another letter."""

SHORTEST_POLL_S, LONGEST_POLL_S = 0.02, 0.5
"""How soon a process tries again when another one still runs a job that is due."""

ASK_AGAIN_S = 5.0
"""How soon a process looks again at a job that is not due: its row may have been lost, or its interval be shorter now.

All processes of all hosts look: 4,000 of them at each half second would ask Redis for 16,000 commands a second.
"""

BOOT_POLL_S = 0.02
FINISH_POLL_S = 0.1
RETRY_S = LONGEST_POLL_S
"""After an error of the store or the locks."""

_KEPT_RUNS = 16
_SERVING = (WorkerState.READY, WorkerState.HELD)

_log = logging.getLogger("wsgicluster.error")


# Once


def run_once(key: str, function: Callable[[], object], wait: bool) -> bool:
    """Run a function unless it has been run to its end in this generation; whether it was run here.

    Raises what the function raises; then it counts as not run.
    """
    place, state = membership.current(), backend()
    run = f"{state.scope}/{place.generation if place is not None else 0}"
    row = f"{INTERNAL}once:{key}"
    lock = named_lock(f"{INTERNAL}once:{run}:", key, backend)
    if run in _runs(state.get(row)) or not lock.acquire(blocking=wait):
        return False
    with _Releasing(lock):
        # Another process may have finished meanwhile.
        if run in _runs(state.get(row)):
            return False
        with JobTimeLimit(f"once {key!r}", place.timeout_s if place is not None else 0.0):
            function()
        _note_run(state, row, run)
    return True


def _runs(stored: Stored | None) -> list[str]:
    found = decode(stored) if stored is not None else None
    return [str(each) for each in found] if isinstance(found, list) else []


def _note_run(state: Backend, row: str, run: str) -> None:
    noted = False
    while not noted:  # another generation notes its own run
        before = state.get(row)
        runs: list[Json] = [*_runs(before), run]
        after = encode(runs[-_KEPT_RUNS:])
        noted = state.compare_and_set(row, before, after, None)


class _Releasing:
    """Releases a lock that is held already."""

    def __init__(self, lock: Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class JobTimeLimit:
    """Has a worker replaced whose job takes longer than ``limit_s`` seconds; 0.0 means without a limit.

    A thread cannot be ended, and what it holds must not be given to another one while it runs: so its stack is logged,
    and the arbiter is asked to replace the process. One that does not serve, or cannot ask, leaves as on a TERM.
    """

    def __init__(self, what: str, limit_s: float) -> None:
        self._what = what
        self._limit_s = limit_s
        self.is_over = False
        self._thread = threading.get_ident()
        self._timer = threading.Timer(limit_s, self._expired)
        self._timer.daemon = True

    def _expired(self) -> None:
        self.is_over = True
        frame = sys._current_frames().get(self._thread)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else "no stack\n"
        _log.critical(
            "cluster: %s has run for more than %g s (timeout); this worker is replaced\n%s",
            self._what, self._limit_s, stack.rstrip(),
        )  # fmt: skip
        if not self._ask_for_replacement():
            os.kill(os.getpid(), signal.SIGTERM)

    def _ask_for_replacement(self) -> bool:
        place = membership.current()
        if place is None or _state() not in _SERVING:
            return False
        try:
            return place.channel.send(
                RecycleWanted("application", f"{self._what} has run for more than {self._limit_s:g} s (timeout)")
            )
        except ChannelClosed:
            return False

    def __enter__(self) -> None:
        if self._limit_s:
            self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


# Every


def noted_tick(stored: Stored | None, seconds: float, now: float) -> tuple[float, float] | None:
    """The tick that a stored row says is next, and when it is due; None where the row has to be written anew.

    That is so for a job that is new, for one whose interval has become shorter, and after its clock was set back: no
    job waits for longer than its interval.
    """
    row = decode(stored) if stored is not None else None
    if isinstance(row, list) and len(row) == 2 and all(isinstance(each, int | float) for each in row):
        tick, due = float(row[0]), float(row[1])
        if tick <= now + seconds:
            return tick, due
    return None


def following(tick: float, seconds: float, now: float) -> float:
    """The first tick after ``now`` in the rhythm of ``tick``: all that were missed are one."""
    missed = math.floor((now - tick) / seconds) if now > tick else 0
    return tick + (missed + 1) * seconds


class PeriodicJob:
    """One job and the thread of this process that may run it."""

    def __init__(self, name: str, seconds: float, jitter: float, function: Callable[[], object]) -> None:
        self.name = name
        self._seconds = seconds
        self._jitter = jitter
        self._function = function
        self._row = f"{INTERNAL}every:{name}"
        self._lock = named_lock(f"{INTERNAL}every:", name, backend)
        self._running = threading.Lock()
        self._limit: JobTimeLimit | None = None
        self._failing = False

    def start(self) -> None:
        """Start the thread. In a gevent worker it is a greenlet: what the application uses there expects one."""
        threading.Thread(target=self._run, name=f"wsgicluster-every-{self.name}", daemon=True).start()

    def _run(self) -> None:
        while True:
            state = _state()
            if state is not None and state not in _SERVING and state is not WorkerState.BOOTING:
                return  # it drains: the others take their turns
            try:
                pause_s = BOOT_POLL_S if state is WorkerState.BOOTING else self.turn()
            except NotInCluster:
                return
            except (ClusterError, OSError) as error:
                if not threading.main_thread().is_alive():
                    return  # the interpreter ends, and the files of a process that is alone have been removed
                self._report(error)
                pause_s = RETRY_S
            else:
                if self._failing:
                    self._failing = False
                    _log.warning("cluster: the periodic job %r is run again when it is due", self.name)
            # Not all at the same time, although a tick wakes all of them.
            time.sleep(min(pause_s, ASK_AGAIN_S * random.uniform(0.8, 1.0)))

    def _report(self, error: Exception) -> None:
        """Log what keeps the job from being run, once: it is tried again for as long as that lasts."""
        if self._failing:
            return
        self._failing = True
        if isinstance(error, BusDown):
            _log.error("cluster: the periodic job %r is not run: %s; trying again until it responds", self.name, error)
        else:
            _log.error(
                "cluster: whether %r is due cannot be found out; trying again until it can", self.name, exc_info=error
            )

    def turn(self) -> float:
        """Run the job if it is due and no other process runs it; how many seconds to wait until the next turn."""
        state = backend()
        stored, now = state.get(self._row), state.clock()
        noted = noted_tick(stored, self._seconds, now)
        if noted is None:
            tick = now + self._seconds
            state.compare_and_set(self._row, stored, encode([tick, tick + self._delay()]), None)
            return self._poll_s()
        if noted[1] > now:
            return noted[1] - now
        if not self._lock.acquire(blocking=False):
            return self._poll_s()
        try:
            with _Releasing(self._lock):
                if not self._claim(state):
                    return self._poll_s()
                self._call()
        except LockLost:
            _log.warning(
                "cluster: the lock of the periodic job %r was lost while it ran: another process may have run it, too",
                self.name,
            )
        return 0.0

    def _claim(self, state: Backend) -> bool:
        """Note that the tick is taken, before it runs: a job that ends its process does not end the next at once."""
        stored, now = state.get(self._row), state.clock()
        noted = noted_tick(stored, self._seconds, now)
        if noted is None or noted[1] > now:
            return False
        after = following(noted[0], self._seconds, now)
        return state.compare_and_set(self._row, stored, encode([after, after + self._delay()]), None)

    def _delay(self) -> float:
        return random.uniform(0.0, self._jitter)

    def _poll_s(self) -> float:
        return min(LONGEST_POLL_S, max(SHORTEST_POLL_S, self._seconds / 10))

    def _call(self) -> None:
        place = membership.current()
        self._limit = JobTimeLimit(f"every {self.name!r}", place.timeout_s if place is not None else 0.0)
        try:
            with self._running, self._limit:
                self._function()
        except Exception:  # noqa: BLE001
            # The boundary of the thread: a job that fails is due again.
            _log.exception("cluster: the periodic job %r failed; it is due again in %g s", self.name, self._seconds)

    def finish(self) -> None:
        """Wait until a run is over, but for one that is over its time limit; there is no other one after it."""
        while not self._running.acquire(timeout=FINISH_POLL_S):
            if self._limit is not None and self._limit.is_over:
                return


def _state() -> WorkerState | None:
    """What this process says it is doing; None where it is alone."""
    place = membership.current()
    if place is None:
        return None
    return WorkerState(place.page.cells[Cell.STATE])


class Jobs:
    """All periodic jobs of this process."""

    def __init__(self) -> None:
        self._jobs: dict[str, PeriodicJob] = {}

    def add(self, job: PeriodicJob) -> None:
        """Register a job, and start it where jobs run. Raises ValueError when there is one of that name."""
        if job.name in self._jobs:
            raise ValueError(f"there is a periodic job of the name {job.name!r} already; give one of them another name")
        self._jobs[job.name] = job
        if not self._jobs_run_later():
            job.start()

    def take(self) -> tuple[str, ...]:
        """The names of all jobs, which are forgotten; for a process in which none has been started."""
        names = tuple(self._jobs)
        self._jobs.clear()
        return names

    def start_all(self) -> None:
        """Start the jobs that were registered before this process became a member."""
        if not self._jobs_run_later():
            for job in self._jobs.values():
                job.start()

    def finish(self) -> None:
        """At the end of a worker: let runs end, as requests may; the arbiter waits for ``graceful_timeout``."""
        if membership.current() is not None:
            for job in self._jobs.values():
                job.finish()

    @staticmethod
    def _jobs_run_later() -> bool:
        """Whether they run in another process, or in this one when it becomes a member."""
        place = membership.current()
        if place is None:
            return membership.is_expected() or membership.inherited()
        return place.jobs_elsewhere or place.role == "steward"
