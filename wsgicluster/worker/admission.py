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
from typing import Protocol

from wsgicluster.errors import Overloaded
from wsgicluster.worker.connection import Connection
from wsgicluster.worker.loop import Loop

LOOK_S = 0.05
"""Whoever has waited for this long may have left: one look more than pays for itself."""

SAY_S = 1.0
"""However many requests are refused, there is one line in the log for each such time."""

_INFO_BYTES = 56
_LAST_RECEIVED = slice(52, 56)
"""Where Linux's ``struct tcp_info`` has ``tcpi_last_data_recv``, in milliseconds."""


class Queue(Protocol):
    """What is needed of a worker."""

    loop: Loop

    def run(self, connection: Connection) -> None:
        """Run the request that a connection holds, or put it into a queue."""

    def queued(self) -> int:
        """Requests that nobody runs yet."""

    def withdraw(self, unwanted: Callable[[Connection], bool]) -> list[Connection]:
        """Take the oldest out of the queue, as long as they are unwanted."""

    def call_soon(self, call: Callable[[], object]) -> None:
        """Have the loop call something, from whatever thread."""

    def shed(self, connection: Connection, gone: bool) -> None:
        """A request is not run, and maybe its client has ``gone``; for counters and logs."""


class Admission:
    """The rule of one worker: no request is run that has waited for more than ``limit_s``."""

    def __init__(self, queue: Queue, limit_s: float, clock: Callable[[], float] = monotonic) -> None:
        self._queue = queue
        self._limit_s = limit_s
        self._clock = clock
        self._looks = False

    def admit(self, connection: Connection) -> None:
        """Run a request that has just been received, unless it comes too late."""
        now = self._clock()
        waited_s = age_s(connection)
        if waited_s is None:
            # Nothing is known but that it was there when the loop looked last, and of a new one not even that.
            waited_s = now - self._queue.loop.now if connection.kept else 0.0
        connection.due = now + self._limit_s - waited_s
        if not self.is_wanted(connection):
            self.dismiss(connection)
            return
        self._queue.run(connection)
        if not self._looks and self._queue.queued():
            self._look_at(connection.due)

    def is_wanted(self, connection: Connection) -> bool:
        """Whether a request is still worth running, from whatever thread."""
        left_s = connection.due - self._clock()
        return left_s >= 0 and (self._limit_s - left_s < LOOK_S or not connection.lost_client())

    def dismiss(self, connection: Connection) -> None:
        """Refuse a request, or only close where nobody would hear that."""
        gone = connection.lost_client()
        self._queue.shed(connection, gone)
        if gone:
            connection.close()
        else:
            # Not all at the same moment: that would be the next pile.
            retry_s = random.randint(1, max(2, math.ceil(self._limit_s)))
            connection.refuse(Overloaded(f"waited for more than {self._limit_s:g} s", retry_s))

    def guard(self, serve: Callable[[Connection], object]) -> Callable[[Connection], object]:
        """The same for a thread that takes requests out of the queue; ``serve`` is what it does with them."""

        def serve_if_wanted(connection: Connection) -> None:
            if self.is_wanted(connection):
                serve(connection)
            else:
                self._queue.call_soon(partial(self.dismiss, connection))

        return serve_if_wanted

    def _look_at(self, moment: float) -> None:
        self._looks = True
        self._queue.loop.call_at(moment, self._look)

    def _look(self) -> None:
        """Answer those whose time is over while they wait, and not only when somebody has time for them."""
        self._looks = False
        now = self._clock()
        for connection in self._queue.withdraw(lambda waiting: waiting.due <= now):
            self.dismiss(connection)
        if self._queue.queued():
            # None is in the queue that is due sooner than this, but for the fraction that it has waited elsewhere.
            self._look_at(now + min(self._limit_s, LOOK_S))


class Tally:
    """Says how many requests were not run, once in a while."""

    def __init__(self, loop: Loop, say: Callable[[int], object]) -> None:
        self._loop = loop
        self._say = say
        self._count = 0

    def add(self) -> None:
        """One more."""
        if not self._count:
            self._loop.call_at(self._loop.now + SAY_S, self._tell)
        self._count += 1

    def _tell(self) -> None:
        count, self._count = self._count, 0
        self._say(count)


def age_s(connection: Connection) -> float | None:
    """How long ago the last byte of a request has come; None where the kernel does not tell, as it does for TCP."""
    try:
        info = connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    except OSError:
        return None
    return int.from_bytes(info[_LAST_RECEIVED], sys.byteorder) / 1000
