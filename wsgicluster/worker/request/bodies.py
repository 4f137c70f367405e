"""Where the bodies of one worker's requests go while they arrive, and when their memory is given back.

How a body is received, and what becomes of it, is not known here.
"""

from collections.abc import Callable
from typing import Protocol

from wsgicluster.http import core
from wsgicluster.http.connection import BodyStore
from wsgicluster.wsgi.input import MEMORY_BYTES, StoredBody

if core.compiled:
    from wsgicluster.worker.request._bodies import BodyBuffer, give_back_freed_memory, keep_freed_memory

IDLE_S = 2.0
"""How long no body has to arrive before the memory that is kept for the next ones is given back to the system."""


class BodyClock(Protocol):
    """A loop: what time it is, and who calls at another one."""

    now: float

    def call_at(self, moment: float, call: Callable[[], object]) -> None:
        """Call once at a moment of the monotonic clock."""


class Bodies:
    """Opens the stores of bodies that arrive in pieces.

    The allocator keeps their memory, since having it from the system anew would cost more than to receive a body;
    `IDLE_S` after the last one, ``give_back`` is called. ``folder`` is for those that are too large for memory.
    """

    def __init__(self, clock: BodyClock, folder: str | None, give_back: Callable[[], object]) -> None:
        self._clock = clock
        self._folder = folder
        self._give_back = give_back
        self._latest = 0.0
        self._looks = False

    def open(self, length: int) -> BodyStore:
        """Where one goes; ``length`` is CHUNKED when it is not known."""
        clock = self._clock
        self._latest = clock.now
        if not self._looks:
            self._looks = True
            clock.call_at(clock.now + IDLE_S, self._look)
        if core.compiled and 0 < length <= MEMORY_BYTES:
            return BodyBuffer(length)
        return StoredBody(self._folder, length)

    def _look(self) -> None:
        clock, due = self._clock, self._latest + IDLE_S
        if clock.now < due:
            clock.call_at(due, self._look)
            return
        self._looks = False
        self._give_back()


def worker_bodies(clock: BodyClock, folder: str | None) -> Bodies:
    """Those of this process, whose allocator keeps from now on what is freed of them."""
    if not core.compiled:
        return Bodies(clock, folder, bool)  # the allocator is left as it is
    keep_freed_memory()
    return Bodies(clock, folder, give_back_freed_memory)
