"""Where the bodies of one worker's requests go while they arrive, and when their memory is given back.

How a body is received, and what becomes of it, is not known here.
"""

import math
from collections.abc import Callable, Collection
from typing import Protocol

from wsgicluster.http import core
from wsgicluster.http.connection import BodyStore
from wsgicluster.wsgi.input import MEMORY_BYTES, StoredBody

if core.compiled:
    from wsgicluster.worker.request._bodies import BodyBuffer, give_back_freed_memory, keep_freed_memory

IDLE_S = 2.0
"""How long no body has to arrive before the memory that is kept for the next ones is given back to the system."""

MOST_PAUSE_S = 64.0
"""How long at most until the next try, while requests are under way whose bodies may be freed at any moment."""


class BodyClock(Protocol):
    """A loop: what time it is, and who calls at another one."""

    now: float

    def call_at(self, moment: float, call: Callable[[], object]) -> None:
        """Call once at a moment of the monotonic clock."""


class BodyClient(Protocol):
    """A connection, as far as it may hold a body."""

    @property
    def between_requests(self) -> bool:
        """No request runs, and none has been received in part."""


class Bodies:
    """Opens the stores of bodies that arrive in pieces.

    The allocator keeps their memory, since having it from the system anew would cost more than to receive a body;
    `IDLE_S` after the last one has begun, ``give_back`` is called. As long as any of the ``clients`` has a request
    under way, which may be that of a body, that is done again, less and less often: what is
    freed later would stay for good. ``folder`` is for bodies that are too large for memory.
    """

    def __init__(
        self, clock: BodyClock, folder: str | None, give_back: Callable[[], object], clients: Collection[BodyClient]
    ) -> None:
        self._clock = clock
        self._folder = folder
        self._give_back = give_back
        self._clients = clients
        self._latest = 0.0
        self._due = math.inf
        self._pause_s = IDLE_S

    def open(self, length: int) -> BodyStore:
        """Where one goes; ``length`` is CHUNKED when it is not known."""
        self.note()
        if core.compiled and 0 < length <= MEMORY_BYTES:
            return BodyBuffer(length)
        return StoredBody(self._folder, length)

    def note(self) -> None:
        """A body begins to arrive, wherever it goes."""
        self._latest = now = self._clock.now
        if self._due > now + IDLE_S:
            self._pause_s = IDLE_S
            self._look_at(now + IDLE_S)

    def _look_at(self, moment: float) -> None:
        self._due = moment
        self._clock.call_at(moment, self._look)

    def _look(self) -> None:
        now = self._clock.now
        if now < self._due:
            return  # done already, when a body had come meanwhile
        if now < self._latest + IDLE_S:
            self._look_at(self._latest + IDLE_S)
            return
        self._due = math.inf
        self._give_back()
        if not all(client.between_requests for client in self._clients):
            self._pause_s = min(2 * self._pause_s, MOST_PAUSE_S)
            self._look_at(now + self._pause_s)


def worker_bodies(clock: BodyClock, folder: str | None, clients: Collection[BodyClient]) -> Bodies:
    """Those of this process, whose allocator keeps from now on what is freed of them; ``clients`` are all it has."""
    if not core.compiled:
        return Bodies(clock, folder, bool, ())  # the allocator is left as it is
    keep_freed_memory()
    return Bodies(clock, folder, give_back_freed_memory, clients)
