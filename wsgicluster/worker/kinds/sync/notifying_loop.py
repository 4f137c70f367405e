"""A loop whose input a second epoll learns of, but only while the loop itself does not wait for it.

Descriptors of clients stand in both epolls with ``EPOLLEXCLUSIVE``: for each piece of input the kernel wakes the first
of them on which a thread waits. The loop's comes first, so that the second one hears nothing while the loop takes all
that comes, and costs nothing then. It reports each piece of input once (``EPOLLET``): what stays where it is wakes no
thread again. Listeners and the hand-off socket stand in the loop's alone: while that does not wait, the kernel wakes a
sibling for them.

What has been received with an earlier request of its connection shows in neither. So the second one hears, by an
eventfd, of the first call that is put off to the next turn.

The order decides: were the second epoll the first, it would be woken and the loop would not. So both are changed here
together, in this order, and nowhere else.
"""

import os
import select
from collections import deque
from collections.abc import Callable

from wsgicluster.ipc.scoreboard import Page
from wsgicluster.worker.loop.loop import EXCLUSIVE_READ, READ, Loop, do_nothing, new_epoll

_OVERFLOW_READ = EXCLUSIVE_READ | select.EPOLLET


class NotifyingQueue(deque[Callable[[], object]]):
    """Calls for the next turn; ``descriptor`` is an eventfd that is written to when there is a first one."""

    def __init__(self, calls: deque[Callable[[], object]], descriptor: int) -> None:
        super().__init__(calls)
        self._descriptor = descriptor

    def append(self, call: Callable[[], object], /) -> None:
        """Leave a call to the next turn."""
        if not self:
            os.eventfd_write(self._descriptor, 1)
        super().append(call)


class NotifyingLoop(Loop):
    """A loop that calls ``told`` in turns in which something has come, until it is `split` into two epolls."""

    def __init__(self, page: Page, beat_s: float) -> None:
        super().__init__(page, beat_s)
        self.closed = False
        self._told: Callable[[], object] = do_nothing
        self._overflow: select.epoll | None = None
        self._put_off = -1
        self._in_both: set[int] = set()

    def tell(self, told: Callable[[], object]) -> None:
        """Call ``told`` before the handlers of a turn; not any more once the loop is split."""
        self._told = told
        self._poll = self._wait

    def split(self) -> select.epoll:
        """Have what comes while the loop does not wait show in a second epoll, which is returned.

        It hears of descriptors that are added for reading from now on. Raises OSError without a free descriptor.
        """
        overflow = new_epoll()
        try:
            self._put_off = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        except OSError:
            overflow.close()
            raise
        # Each write is an event of its own: it need not be read.
        overflow.register(self._put_off, READ | select.EPOLLET)
        self.soon = NotifyingQueue(self.soon, self._put_off)
        self._overflow = overflow
        self._poll = self._epoll.poll
        return overflow

    def close(self) -> None:
        """Close both epolls, for good."""
        self.closed = True
        super().close()
        overflow, self._overflow = self._overflow, None
        if overflow is not None:
            overflow.close()
            os.close(self._put_off)

    def add(self, descriptor: int, handler: Callable[[int], object], events: int = READ) -> None:
        """Call ``handler(events)`` whenever the descriptor is ready."""
        if events != READ or self._overflow is None:
            super().add(descriptor, handler, events)
            return
        super().add(descriptor, handler, EXCLUSIVE_READ)
        self._overflow.register(descriptor, _OVERFLOW_READ)
        self._in_both.add(descriptor)

    def change(self, descriptor: int, events: int) -> None:
        """Wait for other events."""
        if descriptor not in self._in_both and (events != READ or self._overflow is None):
            super().change(descriptor, events)
            return
        # What is registered exclusively cannot be changed.
        handler = self._handlers[descriptor]
        self.remove(descriptor)
        self.add(descriptor, handler, events)

    def remove(self, descriptor: int) -> None:
        """Wait for the descriptor no more; it must still be open."""
        super().remove(descriptor)
        if self._overflow is not None and descriptor in self._in_both:
            self._in_both.discard(descriptor)
            self._overflow.unregister(descriptor)

    def _wait(self, timeout_s: float | None, most: int) -> list[tuple[int, int]]:
        events = self._epoll.poll(timeout_s, most)
        if events:
            self._told()
        return events

    # -- for another thread, while a request keeps the loop's own

    def has_ready(self) -> bool:
        """Whether anything is ready that the loop has not taken."""
        return bool(self._epoll.poll(0, 1))
