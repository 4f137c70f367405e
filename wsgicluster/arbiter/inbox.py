"""The arbiter's one inbox: signals and readable channels, in the order they came.

A signal handler only appends; what the signal means is decided later, in the loop,
so that no signal is ever answered in the middle of something. Knows no child.
"""

import collections
import contextlib
import dataclasses
import selectors
import signal
import socket
import types
from collections.abc import Iterable
from typing import Protocol, TypeAlias

MERGED = frozenset({signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGTERM})
"""Signals of which one in a turn says as much as ten."""


@dataclasses.dataclass(frozen=True, slots=True)
class Signalled:
    """A signal came."""

    number: signal.Signals


@dataclasses.dataclass(frozen=True, slots=True)
class Readable:
    """The channel of the child with this key has something to read."""

    key: int


Event: TypeAlias = Signalled | Readable


class HasFileno(Protocol):
    """What can be waited on."""

    def fileno(self) -> int:
        """The descriptor."""


class Inbox:
    """Signals and channels; to be closed by who opened it."""

    def __init__(self, numbers: Iterable[signal.Signals]) -> None:
        self._came: collections.deque[signal.Signals] = collections.deque()
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = socket.socketpair()
        for end in (self._wake_read, self._wake_write):
            end.setblocking(False)
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)
        self._wakeup_before = signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        taken = list(numbers)
        for number in taken:
            signal.signal(number, self._append)
        # Whoever started this process may have blocked some of them, and that is inherited.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, taken)

    def _append(self, number: int, frame: types.FrameType | None) -> None:
        self._came.append(signal.Signals(number))

    def watch(self, channel: HasFileno, key: int) -> None:
        """Tell when this channel is readable."""
        self._selector.register(channel, selectors.EVENT_READ, key)

    def unwatch(self, channel: HasFileno) -> None:
        """Forget a channel that was not closed yet; harmless when repeated."""
        with contextlib.suppress(KeyError, ValueError):  # not watched, or closed before
            self._selector.unregister(channel)

    def wait(self, timeout_s: float | None) -> list[Event]:
        """What came, signals first; waits for at most ``timeout_s``, for ever with None."""
        if self._came:
            timeout_s = 0.0
        readable: list[Event] = []
        for chosen, _ in self._selector.select(timeout_s):
            if chosen.data is None:
                self._empty_wakeup()
            else:
                readable.append(Readable(chosen.data))
        return [*self._signals(), *readable]

    def _empty_wakeup(self) -> None:
        with contextlib.suppress(BlockingIOError):  # read to the end
            while self._wake_read.recv(4096):
                pass

    def _signals(self) -> list[Event]:
        events: list[Event] = []
        while self._came:
            event = Signalled(self._came.popleft())
            if event.number not in MERGED or event not in events:
                events.append(event)
        return events

    def close(self) -> None:
        """Give the descriptors back.

        The handlers stay, and what comes from now on is dropped: a second ``TERM`` shall
        not change how a process ends that is about to.
        """
        signal.set_wakeup_fd(self._wakeup_before)
        self._selector.close()
        self._wake_read.close()
        self._wake_write.close()
