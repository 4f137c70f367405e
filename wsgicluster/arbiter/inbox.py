"""The arbiter's one inbox: signals and readable sources, handled in the order in which they came.

A signal handler only appends; what the signal means is decided later, in the loop, so that no signal is acted on in
the middle of something else. A source is whatever has a descriptor: a child's channel, the channel of an upgrade. What
is to be called when it is readable is given with it. Knows no child and no command.
"""

import collections
import contextlib
import selectors
import signal
import socket
import types
from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

from wsgicluster.system.signals import MERGED

Handle: TypeAlias = Callable[[], object]


class HasFileno(Protocol):
    """A source: what can be waited on."""

    def fileno(self) -> int:
        """The descriptor."""


class Inbox:
    """Signals and sources with what each of them leads to; to be closed by its owner.

    ``handlers`` are those of signals, which it catches from now on.
    """

    def __init__(self, handlers: Mapping[signal.Signals, Handle]) -> None:
        self._handlers = handlers
        self._caught: collections.deque[signal.Signals] = collections.deque()
        self._came: collections.deque[signal.Signals | selectors.SelectorKey] = collections.deque()
        """What `wait` has found and `handle` has not come to yet."""
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = socket.socketpair()
        for end in (self._wake_read, self._wake_write):
            end.setblocking(False)
        self.watch(self._wake_read, self._empty_wakeup)
        self._wakeup_before = signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        for number in handlers:
            signal.signal(number, self._append)
        # The process that started this one may have blocked some of them, and that is inherited.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, handlers)

    def _append(self, number: int, frame: types.FrameType | None) -> None:
        self._caught.append(signal.Signals(number))

    def watch(self, source: HasFileno, handle: Handle, *, writable: bool = False) -> None:
        """Have ``handle`` called whenever this source is readable, or instead ``writable``, until `unwatch`."""
        self._selector.register(source, selectors.EVENT_WRITE if writable else selectors.EVENT_READ, handle)

    def unwatch(self, source: HasFileno) -> None:
        """Forget a source that was not closed yet, and what has come from it; harmless when repeated."""
        with contextlib.suppress(KeyError, ValueError):  # not watched, or closed before
            self._selector.unregister(source)

    def wait(self, timeout_s: float | None) -> int:
        """Take in what came, signals first, and return how much that is; wait ``timeout_s`` at most, None forever."""
        if self._caught or self._came:
            timeout_s = 0.0
        readable = [key for key, _ in self._selector.select(timeout_s)]
        self._take_signals()
        self._came += readable
        return len(self._came)

    def _take_signals(self) -> None:
        while self._caught:
            number = self._caught.popleft()
            if number not in MERGED or number not in self._came:
                self._came.append(number)

    def handle(self) -> None:
        """Call the handlers for all that `wait` has taken in. After one that raises, the next call does the others."""
        while self._came:
            came = self._came.popleft()
            if isinstance(came, signal.Signals):
                self._handlers[came]()
            elif self._selector.get_map().get(came.fd) is came:
                # Else a handler before it has unwatched the source.
                came.data()

    def _empty_wakeup(self) -> None:
        with contextlib.suppress(BlockingIOError):  # read to the end
            while self._wake_read.recv(4096):
                pass

    def close(self) -> None:
        """Close the descriptors.

        The signal handlers stay, and what comes from now on is dropped: a second ``TERM`` must not change how a
        process ends that is about to.
        """
        signal.set_wakeup_fd(self._wakeup_before)
        self._selector.close()
        self._wake_read.close()
        self._wake_write.close()
