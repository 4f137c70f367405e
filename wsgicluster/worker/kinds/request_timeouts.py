"""Requests that run beside each other and have timed out: found by the loop, which turns meanwhile, and reported."""

from collections.abc import Callable

from wsgicluster.dataclass import dataclass
from wsgicluster.ipc.messages import RecycleWanted
from wsgicluster.ipc.scoreboard import Cell
from wsgicluster.worker.context import WorkerContext
from wsgicluster.worker.kinds.slow_requests import SlowRequests, look_s
from wsgicluster.worker.lifecycle.arbiter_channel import ArbiterChannel
from wsgicluster.worker.loop.loop import Loop
from wsgicluster.worker.request.in_flight import RequestRunner
from wsgicluster.worker.runner import Load

LOOK_S = 1.0
"""While requests run, the loop wakes at least this often: it beats, and looks for those that have timed out."""

LOOKS = 8
"""It looks at least so many times in each ``timeout``."""


class SharedLoop(Loop):
    """A loop that others may wake; ``occupied`` says that requests run, so that even its waiting has a beat."""

    # No more than the processor's caches hold: a request that was collected long before it runs is cold again.
    most_events = 16
    occupied = False

    def wake(self) -> None:
        """End its wait, from whatever thread or greenlet."""
        raise NotImplementedError

    def call_soon(self, call: Callable[[], object]) -> None:
        """Call something in the next turn, which begins at once; from whatever thread or greenlet."""
        self.soon.append(call)
        self.wake()


def leave_alone(_seat: RequestRunner, _passed: str) -> None:
    """A request that runs in a thread cannot be ended."""


@dataclass(frozen=True)
class RequestCalls:
    """What a kind can tell of a request that runs, by its runner, and do to it.

    ``stack_of`` returns where it is now; ``cancel`` ends it, and is given which limit it has passed.
    """

    stack_of: Callable[[RequestRunner], str]
    cancel: Callable[[RequestRunner, str], object] = leave_alone


class RequestTimeouts:
    """Looks from time to time while ``active``, which it is as long as there are requests."""

    def __init__(
        self, context: WorkerContext, loop: SharedLoop, load: Load, calls: RequestCalls, channel: ArbiterChannel
    ) -> None:
        self.active = False
        self._context = context
        self._loop = loop
        self._load = load
        self._calls = calls
        self._channel = channel
        self._timeout_s = timeout_s = context.settings.timeout
        self._look_s = min(LOOK_S, timeout_s / LOOKS) if timeout_s else LOOK_S
        self._slow: SlowRequests | None = None
        if slow_s := context.settings.slow_request:
            self._slow = SlowRequests(slow_s, context.slot, context.log)
            self._look_s = min(self._look_s, look_s(slow_s))
        self._look_at = 0.0
        self._asked = False

    def begin(self, now: float) -> None:
        """There are requests."""
        self.active = self._loop.occupied = True
        self._look_at = now + self._look_s
        self._loop.call_at(self._look_at, self._look)

    def _look(self) -> None:
        """How late the loop is, and which requests have timed out."""
        now = self._loop.now
        cells = self._context.page.cells
        if not self._load.running and not self._load.queue.waiting:
            self.active = self._loop.occupied = False
            cells[Cell.LAG] = 0
            return
        cells[Cell.LAG] = int((now - self._look_at) * 1_000_000)
        if self._timeout_s:
            self._report_new(now)
        if self._slow is not None:
            self._slow.look(self._load.running, now, self._calls.stack_of)
        self.begin(now)

    def _report_new(self, now: float) -> None:
        for runner in self._load.running:
            if not runner.reported and (passed := runner.passed(now, self._timeout_s)):
                runner.reported = True
                self._report(runner, now, passed)
                self._calls.cancel(runner, passed)
                self._ask_to_be_replaced()

    def _report(self, runner: RequestRunner, now: float, passed: str) -> None:
        self._context.log.error(
            "worker %d: stuck in %s from %s for %.1f s: %s; other requests are served\n%s",
            self._context.slot, runner.line.decode("latin-1")[:512], runner.client.decode("latin-1"),
            now - runner.started, passed, self._calls.stack_of(runner),
        )  # fmt: skip

    def _ask_to_be_replaced(self) -> None:
        # A thread cannot be ended, and what was cancelled may have left anything behind. Other requests are not
        # in danger: the worker leaves when its replacement is ready, and finishes them.
        if not self._asked:
            self._asked = self._channel.send(RecycleWanted("hang", "a request has timed out"))
