"""A worker's signals. A handler runs in the middle of the application, so that most of them only leave a mark."""

import contextlib
import faulthandler
import os
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import Protocol

from wsgicluster.system import forks
from wsgicluster.system.signals import (
    BY_DEFAULT,
    DUMP_STACKS,
    IGNORED_BY_WORKERS,
    WORKER_ACTIONS,
    ignore,
    set_handler,
    stop_ignoring,
)
from wsgicluster.worker.loop.loop import Loop


class SignalReceiver(Protocol):
    """What signals do to a worker; called from handlers, even while the application runs."""

    def begin_drain(self) -> object:
        """TERM: leave."""

    def flush_logs(self) -> object:
        """QUIT: the process ends in a moment."""

    def rescue(self) -> object:
        """ABRT: the process hangs and ends in a moment."""


class WorkerSignals:
    """Signal handlers of one worker; ``reopen`` is set by USR1 and cleared by what reopens the logs."""

    def __init__(self, stacks_fd: int) -> None:
        self.drain_wanted = False
        self.reopen = False
        self._on_drain: Callable[[], object] = _nothing
        self._on_quit: Callable[[], object] = _nothing
        self._on_abort: Callable[[], object] = _nothing
        self._quit_hook: Callable[[], object] = _nothing
        self._abort_hook: Callable[[], object] = _nothing
        self._handlers = {number: getattr(self, f"_{action}") for number, action in WORKER_ACTIONS.items()}
        self._wake_receive, self._wake_send = socket.socketpair()
        self._wake_receive.setblocking(False)
        self._wake_send.setblocking(False)
        faulthandler.register(DUMP_STACKS, file=stacks_fd, all_threads=True, chain=False)
        # Where a fault in C code ends the process; the arbiter puts it in its record.
        faulthandler.enable(stacks_fd)

    def install(self) -> None:
        """Take all signals; those that came since the fork are handled now."""
        for number in IGNORED_BY_WORKERS:
            # What is ignored by the system would be in every program that the application starts, too.
            ignore(number)
        set_handler(signal.SIGCHLD, BY_DEFAULT)
        for handled, handler in self._handlers.items():
            set_handler(handled, handler)
        signal.set_wakeup_fd(self._wake_send.fileno(), warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())

    def forget(self) -> None:
        """In a process that the application has forked: default handlers, and no descriptor of the worker."""
        signal.set_wakeup_fd(-1)
        for number, handler in self._handlers.items():
            if signal.getsignal(number) == handler:
                signal.signal(number, signal.SIG_DFL)
        stop_ignoring(IGNORED_BY_WORKERS)
        faulthandler.unregister(DUMP_STACKS)
        faulthandler.disable()
        self._wake_receive.close()
        self._wake_send.close()

    def call_hooks(self, on_quit: Callable[[], object], on_abort: Callable[[], object]) -> None:
        """Call these, too, before the process ends for QUIT, and for ABRT."""
        self._quit_hook, self._abort_hook = on_quit, on_abort

    def explain(self, stalled: Callable[[], object]) -> None:
        """Call this for ABRT as long as there is no loop: the process hangs and ends in a moment."""
        self._on_abort = stalled

    def join(self, loop: Loop, worker: SignalReceiver) -> None:
        """Wake a loop for each signal; what was asked before is carried out now."""
        self._on_drain = worker.begin_drain
        self._on_quit = worker.flush_logs
        self._on_abort = worker.rescue
        loop.add(self._wake_receive.fileno(), self._on_wake)
        if self.drain_wanted:
            worker.begin_drain()

    def _on_wake(self, _events: int) -> None:
        try:
            while self._wake_receive.recv(4096):
                pass
        except BlockingIOError:
            pass  # all bytes are read

    def reinstall(self) -> list[str]:
        """Take the signals back that the application has taken while it was imported; their names."""
        taken = [number.name for number, handler in self._handlers.items() if signal.getsignal(number) != handler]
        if taken:
            self.install()
        return taken

    def _wake(self) -> None:
        # Python writes to the wake-up descriptor by itself, unless the application has set another one.
        with contextlib.suppress(BlockingIOError):  # then the loop has more than enough to wake up for
            self._wake_send.send(b"\0")

    def _drain(self, _number: int, _frame: FrameType | None) -> None:
        self.drain_wanted = True
        self._on_drain()
        self._wake()

    def _quit(self, _number: int, _frame: FrameType | None) -> None:
        # Quick means now: neither the request in progress nor the application's clean-up is waited for.
        self._on_quit()
        self._quit_hook()
        forks.end_children()
        os._exit(0)

    def _reopen_logs(self, _number: int, _frame: FrameType | None) -> None:
        self.reopen = True
        self._wake()

    def _rescue(self, _number: int, _frame: FrameType | None) -> None:
        self._on_abort()
        self._abort_hook()
        forks.end_children()
        os._exit(1)


def _nothing() -> None:
    """Before there is a loop there is nothing to drain and nothing to rescue."""
