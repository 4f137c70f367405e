"""Requests that have waited for too long, or whose clients have left meanwhile: not worth running any more.

It is asked about each whole request, by the worker's loop and once more by who takes it out of a queue; and only where
``queue_timeout`` is set.
"""

import math
import random
import socket
import sys
from collections.abc import Callable
from functools import partial
from time import monotonic

from wsgicluster.counting import count_of
from wsgicluster.dataclass import dataclass
from wsgicluster.errors import Overloaded
from wsgicluster.ipc.reasons import CloseReason, ShedReason
from wsgicluster.ipc.scoreboard import Cell
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.context import WorkerContext
from wsgicluster.worker.intake.policy import QUEUE_LOOK_S
from wsgicluster.worker.loop.loop import Loop
from wsgicluster.worker.runner import RequestQueue, Step

SAY_S = 1.0
"""However many requests are refused, there is one line in the log for each such time."""

_INFO_BYTES = 56
_LAST_RECEIVED = slice(52, 56)
"""Where Linux's ``struct tcp_info`` has ``tcpi_last_data_recv``, in milliseconds."""


@dataclass(frozen=True)
class AdmissionParts:
    """What an `Admission` stands between.

    ``run`` runs a request or puts it into the ``queue``; ``shed`` is called with a connection whose request is not run,
    and with whether its client has left.
    """

    loop: Loop
    run: Step
    shed: Callable[[Connection, bool], object]
    queue: RequestQueue


class Admission:
    """The rule of one worker: no request is run that has waited for more than ``limit_s``."""

    def __init__(self, parts: AdmissionParts, limit_s: float, clock: Callable[[], float] = monotonic) -> None:
        self._loop = parts.loop
        self._run = parts.run
        self._shed = parts.shed
        self._queue = parts.queue
        self._limit_s = limit_s
        self._clock = clock
        self._looks = False

    def admit(self, connection: Connection) -> None:
        """Run a request that has just been received, unless it comes too late."""
        now = self._clock()
        waited_s = age_s(connection)
        if waited_s is None:
            # Nothing is known but that it was there when the loop looked last, and of a new one not even that.
            waited_s = now - self._loop.now if connection.kept else 0.0
        connection.due = now + self._limit_s - waited_s
        if not self.is_wanted(connection):
            self.dismiss(connection)
            return
        self._run(connection)
        if not self._looks and self._queue.waiting:
            self._look_at(connection.due)

    def is_wanted(self, connection: Connection) -> bool:
        """Whether a request is still worth running, from whatever thread."""
        left_s = connection.due - self._clock()
        return left_s >= 0 and (self._limit_s - left_s < QUEUE_LOOK_S or not connection.lost_client())

    def dismiss(self, connection: Connection) -> None:
        """Refuse a request, or only close where the client has left."""
        gone = connection.lost_client()
        self._shed(connection, gone)
        if gone:
            connection.close(CloseReason.CLIENT)
        else:
            # Not all at the same moment: that would be the next pile.
            retry_s = random.randint(1, max(2, math.ceil(self._limit_s)))
            error = Overloaded(f"waited for more than {self._limit_s:g} s", retry_s)
            error.after_s = max(0.0, self._clock() - connection.due + self._limit_s)
            connection.refuse(error)

    def guard(self, serve: Callable[[Connection], object]) -> Callable[[Connection], object]:
        """The same for a thread that takes requests out of the queue; ``serve`` is what it does with them."""

        def serve_if_wanted(connection: Connection) -> None:
            if self.is_wanted(connection):
                serve(connection)
            else:
                self._loop.call_soon(partial(self.dismiss, connection))

        return serve_if_wanted

    def _look_at(self, moment: float) -> None:
        self._looks = True
        self._loop.call_at(moment, self._look)

    def _look(self) -> None:
        """Answer those whose time is over while they wait, and not only when there is room to run them."""
        self._looks = False
        now = self._clock()
        for connection in self._queue.withdraw(lambda waiting: waiting.due <= now):
            self.dismiss(connection)
        if self._queue.waiting:
            # None is in the queue that is due sooner than this, but for the fraction that it has waited elsewhere.
            self._look_at(now + min(self._limit_s, QUEUE_LOOK_S))


class Tally:
    """Says how many there were; ``pause_s`` is how long it then waits at least before it says so again.

    Without a pause the first line comes after `SAY_S`, with one it comes in the loop's next turn.
    """

    def __init__(self, loop: Loop, say: Callable[[int], object], pause_s: float = 0.0) -> None:
        self._loop = loop
        self._say = say
        self._pause_s = pause_s
        self._count = 0
        self._next_at = 0.0

    def add(self, count: int = 1) -> None:
        """So many more."""
        if not self._count:
            now = self._loop.now
            self._loop.call_at(max(now, self._next_at) if self._pause_s else now + SAY_S, self._tell)
        self._count += count

    def _tell(self) -> None:
        count, self._count = self._count, 0
        self._next_at = self._loop.now + self._pause_s
        self._say(count)


class ShedCounter:
    """Counts and logs the requests that are not run, since they have waited for too long."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._tally = Tally(context.loop, self._log)

    def add(self, connection: Connection, gone: bool) -> None:
        """One more, whose client may be ``gone``."""
        self._tally.add()
        if gone:
            self._context.page.cells[Cell.SHED + ShedReason.CLIENT_LEFT] += 1
            self._context.log.debug("%s: has left while its request waited", connection.client.decode("latin-1"))

    def _log(self, count: int) -> None:
        self._context.log.warning(
            "worker %d: overloaded: %s not run after having waited for more than %g s (queue_timeout), or until the "
            "client had left",
            self._context.slot, count_of(count, "request"), self._context.settings.queue_timeout,
        )  # fmt: skip


def admission_of(context: WorkerContext, run: Step, queue: RequestQueue) -> Admission | None:
    """That of a worker, as its settings say; None where requests may wait without a limit."""
    limit_s = context.settings.queue_timeout
    parts = AdmissionParts(context.loop, run, ShedCounter(context).add, queue)
    return Admission(parts, limit_s) if limit_s else None


def age_s(connection: Connection) -> float | None:
    """How long ago the last byte of a request has come; None where the kernel does not tell, as it does for TCP."""
    try:
        info = connection.transport.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    except OSError:
        return None
    return int.from_bytes(info[_LAST_RECEIVED], sys.byteorder) / 1000
