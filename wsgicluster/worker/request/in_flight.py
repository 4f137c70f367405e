"""Requests in flight at the same time: a runner for each, and which of them is shown on the worker's page.

The page has room for one request. It shows the oldest: the one that is most likely to be asked about.
"""

import traceback
from _thread import allocate_lock
from collections import OrderedDict
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from wsgicluster.http import core
from wsgicluster.ipc.scoreboard import CLIENT_OFFSET, STORE_REQUEST, Cell, Page
from wsgicluster.worker.request.cycle import Cycle
from wsgicluster.worker.request.leaves import coalescer
from wsgicluster.worker.request.time_limit import TimeLimit
from wsgicluster.wsgi.response import Response

if TYPE_CHECKING:
    from wsgicluster.worker.request._coalesce import Coalescer

__all__ = ["STACK_FRAMES", "PythonRequestsInFlight", "RequestRunner", "RequestsInFlight", "stack_text"]

STACK_FRAMES = 200
"""The innermost ones that are shown of a stack: a recursion may have a million."""

_STARTED, _RUNNING = int(Cell.STARTED), int(Cell.RUNNING)


class PythonRequestsInFlight:
    """The requests that run now, the oldest first; that one is shown on the worker's page."""

    def __init__(self, page: Page) -> None:
        self._floats = page.floats
        self._cells = page.cells
        self._raw = page.raw
        self.seats: OrderedDict[RequestRunner, None] = OrderedDict()
        self._shown: RequestRunner | None = None
        self._lock = allocate_lock()

    def __len__(self) -> int:
        return len(self.seats)

    def __contains__(self, runner: object) -> bool:
        return runner in self.seats

    def __iter__(self) -> "Iterator[RequestRunner]":
        # Without the lock: it may be held in a process that has been forked, by a thread that is not there.
        return iter(list(self.seats))

    def oldest_at(self) -> float:
        """When the oldest request has begun; 0.0 for none."""
        return float(self._floats[_STARTED])

    def begin(self, runner: "RequestRunner") -> None:
        """A request begins."""
        with self._lock:
            self.seats[runner] = None
            self._cells[_RUNNING] = len(self.seats)
            if self._shown is None:
                self._show(runner)

    def end(self, runner: "RequestRunner") -> None:
        """A request is over."""
        with self._lock:
            del self.seats[runner]
            self._cells[_RUNNING] = len(self.seats)
            if self._shown is runner:
                self._show(next(iter(self.seats), None))

    def _show(self, runner: "RequestRunner | None") -> None:
        self._shown = runner
        if runner is None:
            self._floats[_STARTED] = 0.0
        else:
            self._floats[_STARTED] = runner.started
            STORE_REQUEST(self._raw, CLIENT_OFFSET, runner.client, runner.line)


if core.compiled:
    from wsgicluster.worker.request._leaves import RequestsInFlight
else:
    RequestsInFlight = PythonRequestsInFlight  # type: ignore[assignment,misc]


class Waiting(Protocol):
    """A connection as far as its request's time is concerned."""

    def client_wait_s(self, now: float) -> float:
        """How long the request that runs has waited for its client."""


class RequestRunner(Cycle):
    """The cycle of one request at a time, of which a worker has several.

    ``connection`` is that whose request runs now; ``client`` and ``line`` are those of the present request;
    ``reported`` says that it is known to be past its time.
    """

    def __init__(self, cycle: Cycle, running: RequestsInFlight) -> None:
        cycle.add_runner(self)  # first, so that no change of the application is missed
        # Without a beat: that is the loop's.
        super().__init__(cycle.application, cycle.page, 0.0, cycle.error_log, cycle.access)
        self.sendfile = cycle.sendfile
        self.on_failure = cycle.on_failure
        self.connection: Waiting | None = None
        self.client = self.line = b""
        self.reported = False
        self.running: RequestsInFlight = running
        self._limit: TimeLimit | None = None
        self._extension = (0.0, 0.0)
        self._coalescer: Coalescer | None = coalescer(cycle.page)
        if self._coalescer is not None:
            self.send_blocks = self._coalescer.send

    def show(self, started: float, client: bytes, line: bytes) -> None:
        """Count the request among those that run."""
        self.client = client
        self.line = line
        self.reported = False
        self.running.begin(self)

    def waited_s(self, now: float) -> float:
        """How much of the time of the request its client has taken."""
        connection = self.connection  # the loop asks, while another thread may be done with it
        return connection.client_wait_s(now) if connection is not None else 0.0

    def extend_deadline(self, deadline: float) -> None:
        """Let the request that runs go on until then, by the monotonic clock; ``math.inf`` is without limit."""
        self._extension = (self.started, deadline)

    def passed(self, now: float, limit_s: float) -> str:
        """Which limit the request that runs has passed, for people, or nothing; asked from time to time."""
        # Nothing is cleared when a request begins, which would cost each of them: what is of an earlier one shows.
        limit, started = self._limit, self.started
        if limit is None or limit.started != started:
            self._limit = limit = TimeLimit(started, limit_s)
        answer = self.contact.answer if self.contact is not None else None
        of, deadline = self._extension
        blocks = answer.blocks if isinstance(answer, Response) else 0
        if self._coalescer is not None:
            blocks += self._coalescer.gathered_blocks
        limit.look(
            now,
            blocks,
            self.waited_s(now),
            deadline if of == started else None,
        )
        return limit.passed

    def hide(self) -> None:
        """It runs no more."""
        self.running.end(self)


def stack_text(frame: FrameType | None) -> str:
    """The stack of a running request, most recent call last; None is that of one that is over meanwhile."""
    if frame is None:
        return "(over by now)"
    return "".join(traceback.format_stack(frame, STACK_FRAMES)).rstrip("\n")
