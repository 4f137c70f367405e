"""A worker's signals. A handler runs in the midst of the application, so that most of them only leave a mark."""

import faulthandler
import os
import signal
import socket
from collections.abc import Callable
from types import FrameType

from wsgicluster.process import DUMP_SIGNAL
from wsgicluster.worker.loop import Loop

IGNORED = (signal.SIGINT, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR2, signal.SIGWINCH)
"""Meant for the arbiter; a terminal or a careless ``kill`` sends them to the whole group."""


class WorkerSignals:
    """Signal handlers of one worker.

    ``drain`` is called from the handler of TERM, even while the application runs; ``abort`` from that of ABRT.
    ``reopen`` is set by USR1 and taken back by who reopens the logs.
    """

    def __init__(self, stacks_fd: int) -> None:
        self.drain_wanted = False
        self.reopen = False
        self._on_drain: Callable[[], object] = _nothing
        self._on_abort: Callable[[], object] = _nothing
        self._wake_receive, self._wake_send = socket.socketpair()
        self._wake_receive.setblocking(False)
        self._wake_send.setblocking(False)
        faulthandler.register(DUMP_SIGNAL, file=stacks_fd, all_threads=True, chain=False)

    def install(self) -> None:
        """Take all signals; those that came since the fork are handled now."""
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, self._term)
        signal.signal(signal.SIGQUIT, self._quit)
        signal.signal(signal.SIGUSR1, self._usr1)
        signal.signal(signal.SIGABRT, self._abort)
        signal.set_wakeup_fd(self._wake_send.fileno(), warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())

    def join(self, loop: Loop, on_drain: Callable[[], object], on_abort: Callable[[], object]) -> None:
        """Wake a loop for each signal; what was asked before is carried out now."""
        self._on_drain = on_drain
        self._on_abort = on_abort
        loop.add(self._wake_receive.fileno(), self._on_wake)
        if self.drain_wanted:
            on_drain()

    def _on_wake(self, _events: int) -> None:
        try:
            while self._wake_receive.recv(4096):
                pass
        except BlockingIOError:
            pass  # all bytes are read

    def _term(self, _number: int, _frame: FrameType | None) -> None:
        self.drain_wanted = True
        self._on_drain()

    def _quit(self, _number: int, _frame: FrameType | None) -> None:
        # Quick means now: neither the request in progress nor the application's clean-up is waited for.
        os._exit(0)

    def _usr1(self, _number: int, _frame: FrameType | None) -> None:
        self.reopen = True

    def _abort(self, _number: int, _frame: FrameType | None) -> None:
        self._on_abort()
        os._exit(1)


def _nothing() -> None:
    """Before there is a loop there is nothing to drain and nothing to rescue."""
